//! What the wire may and may not hold, in both codecs.

use super::*;
use crate::protocol::codes::ErrorCode;
use crate::protocol::command::Request;
use crate::protocol::publication::{ClientInfo, StreamPosition};
use crate::protocol::reply::{
    ConnectResult, HistoryResult, PresenceResult, PublishResult, ServerSideSub, SubscribeResult,
};

const BOTH: [Codec; 2] = [Codec::Json, Codec::Protobuf];

fn json(frame: &'static str) -> Vec<Result<Command, DecodeError>> {
    Codec::Json.commands(Bytes::from_static(frame.as_bytes())).collect()
}

fn protobuf(frame: &'static [u8]) -> Vec<Result<Command, DecodeError>> {
    Codec::Protobuf.commands(Bytes::from_static(frame)).collect()
}

fn as_json(reply: &Reply) -> String {
    let message = Codec::Json.encode_reply(reply).expect("encodes");
    String::from_utf8(message.to_vec()).expect("is UTF-8")
}

fn publication(data: &'static str) -> Publication {
    Publication { data: Bytes::from_static(data.as_bytes()), ..Default::default() }
}

#[test]
fn commands_of_one_frame_come_in_order() {
    let commands = json("{\"connect\":{\"token\":\"t\"},\"id\":1}\n{\"subscribe\":{},\"id\":2}");
    let methods: Vec<_> = commands
        .into_iter()
        .map(|command| command.and_then(Command::request).expect("is a request").method())
        .collect();
    assert_eq!(methods, ["connect", "subscribe"]);
}

#[test]
fn an_empty_frame_is_an_error() {
    for codec in BOTH {
        let commands: Vec<_> = codec.commands(Bytes::new()).collect();
        assert_eq!(commands, [Err(DecodeError::EmptyFrame)]);
    }
}

#[test]
fn one_trailing_newline_is_fine_but_an_empty_line_is_not() {
    assert_eq!(json("{}\n"), [Ok(Command::default())]);
    assert_eq!(json("\n"), [Err(DecodeError::EmptyLine)]);
    assert_eq!(json("{}\n\n"), [Ok(Command::default()), Err(DecodeError::EmptyLine)]);
    assert_eq!(json("{}\n\n{}"), [Ok(Command::default()), Err(DecodeError::EmptyLine)]);
    assert_eq!(json("{}\n \r\n{}"), [Ok(Command::default()), Err(DecodeError::EmptyLine)]);
    assert_eq!(json("\n{}"), [Err(DecodeError::EmptyLine)]);
}

#[test]
fn what_follows_the_object_on_a_line_is_ignored() {
    let numbered = |id| Ok(Command { id, ..Default::default() });
    assert_eq!(json("{\"id\":1}{\"id\":2} x\r\n{\"id\":3}]"), [numbered(1), numbered(3)]);
}

#[test]
fn unknown_fields_are_ignored() {
    let numbered = Command { id: 7, ..Default::default() };
    assert_eq!(json(r#"{"id":7,"later":{"a":[1,null]}}"#), [Ok(numbered.clone())]);
    assert_eq!(protobuf(b"\x06\x08\x07\xfa\x01\x01\x00"), [Ok(numbered)]);
}

#[test]
fn null_stands_for_any_zero_value() {
    assert_eq!(json("null"), [Ok(Command::default())]);
    assert_eq!(json(r#"{"id":null,"connect":null}"#), [Ok(Command::default())]);
    let commands = json(
        r#"{"id":1,"connect":{"token":null,"subs":{"a":null},"headers":null,"flag":null},
        "sub_refresh":{"track":[null],"untrack":null}}"#
            .replace('\n', "")
            .leak(),
    );
    let command = commands.into_iter().next().expect("one").expect("decodes");
    assert_eq!(command.connect.map(|connect| connect.subs.len()), Some(1));
    assert_eq!(command.sub_refresh.map(|refresh| refresh.track.len()), Some(1));
}

#[test]
fn a_payload_of_null_is_its_four_bytes() {
    let command = json(r#"{"send":{"data": null }}"#).remove(0).expect("decodes");
    assert_eq!(command.send.expect("is a send").data, "null");
}

#[test]
fn payloads_keep_their_exact_bytes() {
    let command = json(r#"{"send":{"data": {"b" : 1.50,  "a":"\u00e9"} }}"#).remove(0);
    let data = command.expect("decodes").send.expect("is a send").data;
    assert_eq!(data, r#"{"b" : 1.50,  "a":"\u00e9"}"#);
}

#[test]
fn an_array_is_not_a_command() {
    assert!(matches!(json(" [1]")[..], [Err(DecodeError::Json(_))]));
}

#[test]
fn errors_do_not_quote_what_the_client_sent() {
    for frame in [r#"{"id":"s3cret"}"#, r#"{"connect":"s3cret"}"#, "s3cret"] {
        let error = json(frame).remove(0).expect_err("is refused").to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_never_a_stack_overflow() {
    let deep = "{\"nodes\":[".repeat(100_000);
    let frame = format!("{{\"id\":1,\"subscribe\":{{\"tf\":{deep}");
    let commands: Vec<_> = Codec::Json.commands(Bytes::from(frame)).collect();
    assert!(matches!(commands[..], [Err(DecodeError::Json(_))]));

    // Payloads and unknown fields are skipped level by level without recursion.
    for field in ["later", "send\":{\"data"] {
        let open = format!("{{\"{field}\":{}", "[".repeat(100_000));
        let commands: Vec<_> = Codec::Json.commands(Bytes::from(open)).collect();
        assert!(matches!(commands[..], [Err(DecodeError::Json(_))]));
    }
    let whole = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let publication = Publication { data: Bytes::from(whole), ..Default::default() };
    assert!(Codec::Json.encode_publication("c", &publication).is_ok());

    let mut nested = Vec::new();
    for _ in 0..2_000 {
        let mut outer = vec![0x32];
        prost::encoding::encode_varint(nested.len() as u64, &mut outer);
        outer.append(&mut nested);
        nested = outer;
    }
    assert!(protobuf::decode::<crate::protocol::filter::FilterNode>(&nested).is_err());
}

#[test]
fn a_zero_length_protobuf_message_is_an_empty_command() {
    assert_eq!(protobuf(b"\0"), [Ok(Command::default())]);
    assert_eq!(protobuf(b"\0\x02\x08\x01\0").len(), 3);
}

#[test]
fn broken_protobuf_lengths_are_errors_that_end_the_frame() {
    let cut = DecodeError::CutShort { announced: 5, present: 1 };
    assert_eq!(protobuf(b"\0\x05\x08"), [Ok(Command::default()), Err(cut)]);
    assert_eq!(protobuf(b"\x80"), [Err(DecodeError::LengthPrefix)]);
    assert_eq!(protobuf(&[0xff; 12]), [Err(DecodeError::LengthPrefix)]);
    assert!(matches!(
        protobuf(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")[..],
        [Err(DecodeError::CutShort { announced: u64::MAX, .. })]
    ));
    assert!(matches!(protobuf(b"\x01\xff\0")[..], [Err(DecodeError::Protobuf(_))]));
}

#[test]
fn payloads_do_not_keep_the_frame_they_came_in() {
    let command = Command {
        send: Some(crate::protocol::command::SendRequest { data: Bytes::from_static(b"[1]") }),
        ..Default::default()
    };
    for codec in BOTH {
        let frame = codec.encode_command(&command).expect("encodes");
        let within = frame.as_ptr_range();
        let decoded = codec.commands(frame.clone()).next().expect("one").expect("decodes");
        let data = decoded.send.expect("is a send").data;
        assert_eq!(data, "[1]");
        assert!(!within.contains(&data.as_ptr()));
    }
}

#[test]
fn pings_and_pongs_are_empty_messages() {
    for codec in BOTH {
        assert_eq!(codec.ping(), codec.encode_reply(&Reply::default()).expect("encodes"));
        let pong = codec.commands(codec.ping()).next().expect("one").expect("decodes");
        assert_eq!(pong.request(), Ok(Request::Pong));
    }
    assert_eq!(Codec::Protobuf.ping(), Bytes::from_static(&[0]));
}

#[test]
fn empty_results_stay_in_the_reply() {
    let reply = Reply { id: 5, publish: Some(PublishResult {}), ..Default::default() };
    assert_eq!(as_json(&reply), r#"{"id":5,"publish":{}}"#);
    let reply = Reply { presence: Some(PresenceResult::default()), ..Default::default() };
    assert_eq!(as_json(&reply), r#"{"presence":{"presence":{}}}"#);
    let reply = Reply { history: Some(HistoryResult::default()), ..Default::default() };
    assert_eq!(as_json(&reply), r#"{"history":{"publications":[],"epoch":"","offset":0}}"#);
}

#[test]
fn zero_values_are_left_out_of_json() {
    let reply = Reply { id: 2, subscribe: Some(SubscribeResult::default()), ..Default::default() };
    assert_eq!(as_json(&reply), r#"{"id":2,"subscribe":{}}"#);
    let reply = Reply { id: 3, error: Some(ErrorCode::PERMISSION_DENIED.into()), ..reply };
    assert!(as_json(&reply).contains(r#""error":{"code":103,"message":"permission denied"}"#));
}

#[test]
fn offsets_are_json_numbers_up_to_the_last_one() {
    let frame = r#"{"history":{"since":{"offset":18446744073709551615}}}"#;
    let command = json(frame).remove(0).expect("decodes");
    let since = command.history.as_ref().and_then(|history| history.since.clone());
    assert_eq!(since, Some(StreamPosition { offset: u64::MAX, epoch: String::new() }));
    assert_eq!(Codec::Json.encode_command(&command).expect("encodes"), frame);
}

#[test]
fn clients_in_pushes_always_have_user_and_client() {
    let publication = Publication { info: Some(ClientInfo::default()), ..publication("{\"a\":1}") };
    let message = Codec::Json.encode_publication("news", &publication).expect("encodes");
    assert_eq!(
        message,
        r#"{"push":{"channel":"news","pub":{"data":{"a":1},"info":{"user":"","client":""}}}}"#
    );
}

#[test]
fn both_ways_to_encode_a_publication_agree() {
    for (codec, channel) in BOTH.into_iter().zip(["news", "x".repeat(300).leak()]) {
        for channel in [channel, ""] {
            let publication = Publication { offset: 300, ..publication("\"text\"") };
            let push = Push {
                channel: channel.to_owned(),
                publication: Some(publication.clone()),
                ..Default::default()
            };
            let reply = Reply { push: Some(push.clone()), ..Default::default() };
            let expected = codec.encode_reply(&reply).expect("encodes");
            assert_eq!(codec.encode_push(&push).expect("encodes"), expected);
            assert_eq!(codec.encode_publication(channel, &publication).expect("encodes"), expected);
        }
    }
}

#[test]
fn newlines_in_payloads_do_not_break_the_frame() {
    let publication = publication("{\n  \"a\": [\r\n1,\n2 ],\n\"b\": \"x\\ny\"\n}");
    let message = Codec::Json.encode_publication("c", &publication).expect("encodes");
    assert_eq!(message, r#"{"push":{"channel":"c","pub":{"data":{  "a": [1,2 ],"b": "x\ny"}}}}"#);
}

#[test]
fn a_payload_that_is_not_json_fails_json_clients_only() {
    for data in ["{", "a", "{}{}", "\"\n\"", "1 2", " ", "[1,\n]", "nul\nl"] {
        let publication = publication(data);
        assert_eq!(Codec::Json.encode_publication("c", &publication), Err(EncodeError), "{data}");
        assert!(Codec::Protobuf.encode_publication("c", &publication).is_ok());
    }
    let latin = Publication { data: Bytes::from_static(b"\"\xe9\""), ..Default::default() };
    assert_eq!(Codec::Json.encode_publication("c", &latin), Err(EncodeError));
}

#[test]
fn joined_messages_are_read_back_one_by_one() {
    for codec in BOTH {
        let replies: Vec<_> = (0..3).map(|id| Reply { id, ..Default::default() }).collect();
        let messages: Vec<_> =
            replies.iter().map(|reply| codec.encode_reply(reply).expect("encodes")).collect();
        let read: Result<Vec<_>, _> = codec.replies(codec.join(&messages)).collect();
        assert_eq!(read, Ok(replies));
    }
}

#[test]
fn a_single_message_is_sent_without_copying_it() {
    for codec in BOTH {
        let message = codec.encode_reply(&Reply { id: 1, ..Default::default() }).expect("ok");
        assert_eq!(codec.join(std::slice::from_ref(&message)).as_ptr(), message.as_ptr());
    }
}

#[test]
fn an_empty_result_of_a_server_side_subscription_is_there_in_both_codecs() {
    let sub = ServerSideSub { channel: "c".into(), result: Some(SubscribeResult::default()) };
    let connect = ConnectResult { subs: vec![sub], ..Default::default() };
    let reply = Reply { id: 1, connect: Some(connect), ..Default::default() };
    assert_eq!(as_json(&reply), r#"{"id":1,"connect":{"subs":{"c":{}}}}"#);
    // Field 6 of the result: key "c", then a value of length 0 rather than none.
    let bytes = Codec::Protobuf.encode_reply(&reply).unwrap();
    assert!(bytes.ends_with(&[0x32, 5, 0x0a, 1, b'c', 0x12, 0]), "{bytes:?}");
    for codec in [Codec::Json, Codec::Protobuf] {
        let frame = codec.encode_reply(&reply).unwrap();
        assert_eq!(codec.replies(frame).next().unwrap().unwrap(), reply);
    }
}
