//! Tests of the scanner against the protocol's own codecs.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::protocol::publication::ClientInfo;
use crate::protocol::reply::{ConnectResult, Error, Join, PublishResult, Push, SubscribeResult};

const CODECS: [Codec; 2] = [Codec::Json, Codec::Protobuf];

fn mark(sequence: u32) -> Mark {
    Mark { run: 7, channel: 3, voice: 1, sequence, due_ns: 123_456_789 }
}

fn publication(sequence: u32, offset: u64) -> Publication {
    let mut data = Vec::new();
    mark(sequence).write(128, &mut data);
    Publication { data: data.into(), offset, ..Publication::default() }
}

/// The message as it stands in a frame, without a length in front.
fn looked(codec: Codec, encoded: &[u8]) -> Result<Message, String> {
    let mut scanner = Scanner::new(codec);
    let (message, rest) = scanner.split_first(encoded).unwrap().unwrap_or_default();
    assert_eq!(rest, b"");
    scanner.look(message)
}

#[test]
fn pings_and_confirmations_are_known() {
    for codec in CODECS {
        assert_eq!(looked(codec, &codec.ping()), Ok(Message::Ping));
        let reply = Reply { id: 300, publish: Some(PublishResult {}), ..Reply::default() };
        let encoded = codec.encode_reply(&reply).unwrap();
        assert_eq!(looked(codec, &encoded), Ok(Message::Acknowledged(300)));
    }
}

#[test]
fn successes_of_connect_and_subscribe_are_known() {
    for codec in CODECS {
        let connected = ConnectResult { client: "c".into(), ..Default::default() };
        let subscribed =
            SubscribeResult { publications: vec![publication(1, 1)], ..Default::default() };
        for reply in [
            Reply { id: 1, connect: Some(connected.clone()), ..Reply::default() },
            Reply { id: 200, subscribe: Some(subscribed.clone()), ..Reply::default() },
            Reply { id: 2, subscribe: Some(SubscribeResult::default()), ..Reply::default() },
        ] {
            let encoded = codec.encode_reply(&reply).unwrap();
            assert_eq!(looked(codec, &encoded), Ok(Message::Made), "{reply:?}");
        }
    }
}

#[test]
fn what_is_rare_is_left_to_the_decoder() {
    let error = Error { code: 103, message: "permission denied".into(), temporary: false };
    let join = Join { info: Some(ClientInfo::default()) };
    let foreign = Publication { data: Bytes::from_static(b"{\"a\":1}"), ..Publication::default() };
    let replies = [
        Reply { id: 3, error: Some(error), ..Reply::default() },
        Reply { push: Some(Push { join: Some(join), ..Push::default() }), ..Reply::default() },
        Reply {
            push: Some(Push { publication: Some(foreign), ..Push::default() }),
            ..Reply::default()
        },
    ];
    for (codec, reply) in CODECS.into_iter().flat_map(|it| replies.iter().map(move |r| (it, r))) {
        let encoded = codec.encode_reply(reply).unwrap();
        assert_eq!(looked(codec, &encoded), Ok(Message::Other), "{reply:?}");
    }
}

#[test]
fn a_frame_of_several_is_split_where_they_end() {
    for codec in CODECS {
        let messages =
            [1, 2, 3].map(|at| codec.encode_publication("news", &publication(at, at.into())));
        let messages = messages.map(Result::unwrap);
        let frame = codec.join(&messages);
        let mut scanner = Scanner::new(codec);
        let (mut rest, mut seen) = (&frame[..], Vec::new());
        while let Some((message, behind)) = scanner.split_first(rest).unwrap() {
            seen.push(scanner.look(message).unwrap());
            rest = behind;
        }
        let expected = [1, 2, 3].map(|at| Message::Published { mark: mark(at), offset: at.into() });
        assert_eq!(seen, expected);
    }
}

#[test]
fn an_offset_is_found_in_front_of_the_payload_too() {
    let data = publication(1, 0).data;
    let text = String::from_utf8(data.to_vec()).unwrap();
    let message = format!(r#"{{"push":{{"pub":{{"offset":17,"data":{text}}},"channel":"a"}}}}"#);
    let expected = Message::Published { mark: mark(1), offset: 17 };
    assert_eq!(looked(Codec::Json, message.as_bytes()), Ok(expected));
}

#[test]
fn the_number_of_a_channel_is_read_from_its_name() {
    for codec in CODECS {
        let number = |channel: &str| {
            let encoded = codec.encode_publication(channel, &publication(1, 1)).unwrap();
            let scanner = Scanner::new(codec);
            let (message, _) = scanner.split_first(&encoded).unwrap().unwrap();
            scanner.channel(message, b"room1")
        };
        assert_eq!(number("room10"), Some(0));
        assert_eq!(number("room1234"), Some(234));
        for other in ["room1", "room2", "room1x", "bench-1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}

#[test]
fn a_sample_that_decodes_to_something_else_is_an_error() {
    // The scan takes the first marker that it sees, the decoder knows that it stands in the tags.
    let text = String::from_utf8(publication(1, 0).data.to_vec()).unwrap();
    let message = format!(r#"{{"push":{{"pub":{{"x":{text},"data":{{}}}}}}}}"#);
    looked(Codec::Json, message.as_bytes()).unwrap_err();
}

proptest! {
    #[test]
    fn a_publication_is_seen_as_the_decoder_sees_it(
        sequence in any::<u32>(),
        offset in any::<u64>(),
        channel in "[a-z:]{0,20}",
        user in prop::option::of("[a-z]{0,9}"),
        tag in prop::option::of("[a-z]{1,9}"),
    ) {
        let info = user.map(|user| ClientInfo { user, ..ClientInfo::default() });
        let tags = tag.map(|tag| BTreeMap::from([(tag.clone(), tag)])).unwrap_or_default();
        let publication = Publication { info, tags, ..publication(sequence, offset) };
        for codec in CODECS {
            let encoded = codec.encode_publication(&channel, &publication).unwrap();
            let expected = Message::Published { mark: mark(sequence), offset };
            prop_assert_eq!(looked(codec, &encoded), Ok(expected));
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        start in prop::sample::select(vec![&b""[..], b"{\"push\":{", b"{\"id\":9", b"\x22", b"\x08"]),
    ) {
        for codec in CODECS {
            let message = [start, &bytes].concat();
            let _ = Scanner::new(codec).look(&message);
            let _ = Scanner::new(codec).split_first(&message);
        }
    }
}
