//! The WebSocket endpoint: what it answers, what it closes for, and when it pings.

use std::time::Duration;

use bobolink::client::{Client, Error, Incoming, publish_request};
use bobolink::protocol::command::{
    Command, ConnectRequest, HistoryRequest, PresenceRequest, RpcRequest, SendRequest,
    SubscribeRequest, UnsubscribeRequest,
};
use bobolink::protocol::frame::Codec;
use bobolink::time::Clock;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{OPEN, SOON, Server, expired_token, token, token_signed_with};

/// Pings fast enough for a test, and a pong that may be as late as a machine that stands still makes it.
const FAST_PINGS: &str = "
client.ping_interval = \"4s\"
client.pong_timeout = \"3500ms\"
";
const INTERVAL: Duration = Duration::from_secs(4);
const PONG: Duration = Duration::from_millis(3_500);

/// What a busy machine may add to a deadline. Well below the deadlines that hold unless a test sets others.
const SLACK: Duration = Duration::from_secs(6);

/// What the gateway may be early by, which keeps deadlines in turns of 50 ms.
const EARLY: Duration = Duration::from_millis(100);

/// Rounds in which first pings may come at once for once, after a machine stood still.
const ROUNDS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn the_subprotocol_or_the_query_chooses_the_codec() {
    let server = Server::start(OPEN).await;
    let offering = |offer: &'static str| {
        server.endpoint().header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(offer))
    };
    for (endpoint, codec, answered) in [
        (server.endpoint(), Codec::Json, None),
        (server.endpoint().protobuf(), Codec::Protobuf, Some("centrifuge-protobuf")),
        (offering("centrifuge-json"), Codec::Json, Some("centrifuge-json")),
        (offering("other, centrifuge-json"), Codec::Json, Some("centrifuge-json")),
        (server.endpoint_with("?format=protobuf"), Codec::Protobuf, None),
        (server.endpoint_with("?a=b&cf_protocol=protobuf"), Codec::Protobuf, None),
        (server.endpoint_with("?format=json&cf_protocol_version=v2"), Codec::Json, None),
    ] {
        let what = format!("{endpoint:?}");
        let mut client = Client::open(&endpoint.codec(codec)).await.expect(&what);
        let subprotocol = client.headers().get(SEC_WEBSOCKET_PROTOCOL);
        assert_eq!(subprotocol.map(HeaderValue::as_bytes), answered.map(str::as_bytes), "{what}");
        let connected = client.connect(&token("ann")).await.expect(&what);
        assert_eq!((connected.ping, connected.pong), (25, true), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_codecs_carry_the_same_publications() {
    let server = Server::start(OPEN).await;
    let mut json = server.subscribed("ann", "news").await;
    let mut protobuf = Client::open(&server.endpoint().protobuf()).await.expect("a WebSocket");
    protobuf.connect(&token("bob")).await.expect("connected");
    protobuf.subscribe("news").await.expect("subscribed");
    protobuf.publish("news", "{\"from\": \"protobuf\"}").await.expect("published");
    json.publish("news", "{\"from\":\"json\"}").await.expect("published");
    for client in [&mut json, &mut protobuf] {
        let (channel, first) = client.publication(SOON).await.expect("the first");
        let (_, second) = client.publication(SOON).await.expect("the second");
        let from = |data: &[u8]| serde_json::from_slice::<serde_json::Value>(data).expect("JSON");
        assert_eq!(channel, "news");
        assert_eq!(from(&first.data)["from"], "protobuf");
        assert_eq!(from(&second.data)["from"], "json");
        assert_eq!(first.info.expect("its publisher").user, "bob");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_not_allowed_gets_403() {
    let server = Server::start("client.allowed_origins = [\"https://*.example.org\"]\n").await;
    let from = |origin: &str| server.endpoint().origin(origin).expect("an origin");
    Client::open(&from("https://www.example.org")).await.expect("an allowed origin");
    Client::open(&server.endpoint()).await.expect("no origin, so no browser");
    let refused = Client::open(&from("https://example.com")).await;
    assert!(matches!(refused, Err(Error::Status(status)) if status == 403), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_limit_get_503_until_one_leaves() {
    let server = Server::start("client.connection_limit = 2\n").await;
    let (first, _second) = (server.open().await, server.open().await);
    let refused = Client::open(&server.endpoint()).await;
    assert!(matches!(refused, Err(Error::Status(status)) if status == 503), "{refused:?}");
    drop(first);
    crate::support::eventually("a place becomes free", SOON, async || {
        Client::open(&server.endpoint()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_over_the_rate_get_503_with_no_other_limit_set() {
    let server = Server::start("client.connection_rate_limit = 5\n").await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..60 {
        match Client::open(&server.endpoint()).await {
            Ok(client) => open.push(client),
            Err(Error::Status(status)) if status == 503 => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(open.len() >= 5, "{} were let in", open.len());
    assert!(refused > 0, "none was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_peer_sees_1009_for_a_message_too_big() {
    let server = Server::start("websocket.message_size_limit = 1000\n").await;
    // Much more than fits any buffer, so that the peer is still writing when it is refused.
    for size in [1_001, 100_000, 8 * 1_024 * 1_024] {
        let mut client = server.connected("ann").await;
        let _ = client.send_payload(vec![b' '; size]).await;
        let close = client.closed(SOON).await.expect("a close");
        assert_eq!((close.code, close.reason.as_str()), (Some(1009), ""), "{size} bytes");
    }
    let mut client = server.connected("ann").await;
    client.send_payload(vec![b' '; 1_000]).await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3501), "it was looked at");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_not_of_the_protocol_close_with_3501() {
    let server = Server::start(OPEN).await;
    let json: [&[u8]; 12] = [
        b"",
        b"\n",
        b"\n\n",
        b"{\"id\":2,\"publish\":{\"channel\":\"a\",\"data\":{}}}\n\n{\"id\":3}",
        b"{\"id\":2}",
        b"{\"id\":2,\"dance\":{}}",
        b"{\"id\":2,\"ping\":{}}",
        b"{\"id\":0,\"subscribe\":{\"channel\":\"a\"}}",
        b"{\"id\":-1,\"subscribe\":{\"channel\":\"a\"}}",
        b"{\"id\":2,\"subscribe\":{\"channel\":\"\"}}",
        b"[]",
        b"\xff\xfe",
    ];
    for frame in json {
        let mut client = server.connected("ann").await;
        client.send_payload(frame).await.expect("sent");
        let close = client.closed(SOON).await.expect("a close");
        let what = String::from_utf8_lossy(frame);
        assert_eq!((close.code, close.reason.as_str()), (Some(3501), "bad request"), "{what:?}");
    }
    let protobuf: [&[u8]; 4] = [b"", b"\x05\x08", b"\x02\x08\x02", b"\xff\xff\xff\xff\xff\xff\xff"];
    for frame in protobuf {
        let mut client = Client::open(&server.endpoint().protobuf()).await.expect("a WebSocket");
        client.connect(&token("ann")).await.expect("connected");
        client.send_payload(frame).await.expect("sent");
        assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3501), "{frame:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn text_that_is_not_utf8_closes_with_3501() {
    let server = Server::start("").await;
    let mut client = server.connected("ann").await;
    // A masked text frame of two bytes with the mask zero, as no library would write it.
    let frame = [0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe];
    tokio::io::AsyncWriteExt::write_all(client.stream_mut(), &frame).await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3501));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pong_with_no_ping_closes_with_3501() {
    let server = Server::start("").await;
    let mut client = server.connected("ann").await;
    client.send_pong().await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3501));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_come_only_after_a_connect_and_connects_only_once() {
    let server = Server::start(OPEN).await;
    let mut early = server.open().await;
    let refused = early.subscribe("news").await;
    assert!(matches!(refused, Err(Error::Closed(close)) if close.code == Some(3501)));

    let mut twice = server.connected("ann").await;
    let refused = twice.connect(&token("ann")).await;
    assert!(matches!(refused, Err(Error::Closed(close)) if close.code == Some(3501)));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_nobody_listens_to_close_with_3508_and_calls_get_error_108() {
    let server = Server::start("").await;
    let mut client = server.connected("ann").await;
    let rpc = Command { rpc: Some(RpcRequest::default()), ..Command::default() };
    let reply = client.request(rpc).await.expect("a reply");
    assert_eq!(reply.error.expect("an error").code, 108);
    let send = Command { send: Some(SendRequest::default()), ..Command::default() };
    client.send(send).await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3508));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_one_frame_are_answered_in_their_order() {
    let server = Server::start(OPEN).await;
    for endpoint in [server.endpoint(), server.endpoint().protobuf()] {
        let mut client = Client::open(&endpoint).await.expect("a WebSocket");
        let connect = bobolink::protocol::command::ConnectRequest {
            token: token("ann"),
            ..Default::default()
        };
        let mut commands = vec![Command { connect: Some(connect), ..Command::default() }];
        for channel in 0..50 {
            let channel = format!("channel-{channel}");
            let publish = Some(publish_request(&channel, "{}"));
            let subscribe = Some(SubscribeRequest { channel, ..SubscribeRequest::default() });
            commands.push(Command { subscribe, ..Command::default() });
            commands.push(Command { publish, ..Command::default() });
        }
        let ids = client.send_many(commands).await.expect("sent");
        let mut seen = Vec::new();
        while seen.len() < ids.len() {
            if let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") {
                assert_eq!(reply.error, None);
                seen.push(reply.id);
            }
        }
        assert_eq!(seen, ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newline_may_end_a_frame() {
    let server = Server::start(OPEN).await;
    let mut client = server.connected("ann").await;
    let frame = "{\"id\":7,\"publish\":{\"channel\":\"news\",\"data\":{}}}\n";
    client.send_payload(frame).await.expect("sent");
    let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") else {
        panic!("not a reply")
    };
    assert_eq!((reply.id, reply.error), (7, None));
    client.publish("news", "{}").await.expect("the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_may_come_in_binary_frames() {
    let server = Server::start(OPEN).await;
    let mut client = server.connected("ann").await;
    let frame = &b"{\"id\":7,\"publish\":{\"channel\":\"news\",\"data\":{}}}"[..];
    client.send_message(Message::binary(frame)).await.expect("sent");
    let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") else {
        panic!("not a reply")
    };
    assert_eq!((reply.id, reply.error), (7, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_ping_comes_in_the_second_half_of_the_interval_and_then_each_interval() {
    let server = Server::start(FAST_PINGS).await;
    for round in 1.. {
        let pings = first_two_pings(&server).await;
        for (first, second) in &pings {
            assert!((INTERVAL / 2 - EARLY..=INTERVAL + SLACK).contains(first), "first: {first:?}");
            let earliest = INTERVAL / 2 + INTERVAL - EARLY;
            assert!((earliest..=2 * INTERVAL + SLACK).contains(second), "second: {second:?}");
        }
        let firsts = || pings.iter().map(|(first, _)| *first);
        let spread = firsts().max().expect("some") - firsts().min().expect("some");
        // Read late, they look as if they had come together.
        if spread > INTERVAL / 8 {
            return;
        }
        assert!(round < ROUNDS, "all first pings at once: {pings:?}");
    }
}

/// How long after the beginning of each of twelve connections its first two pings were there. What stands
/// still makes that longer, and never shorter.
async fn first_two_pings(server: &Server) -> Vec<(Duration, Duration)> {
    let clock = Clock::real();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let since = clock.now();
        let mut client = server.connected("ann").await;
        let clock = clock.clone();
        waits.push(tokio::spawn(async move {
            assert_eq!(client.next(SOON).await.expect("a ping"), Incoming::Ping);
            let first = clock.now() - since;
            assert_eq!(client.next(SOON).await.expect("a ping"), Incoming::Ping);
            (first, clock.now() - since)
        }));
    }
    let pings = futures_util::future::join_all(waits).await;
    pings.into_iter().map(|wait| wait.expect("both pings")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pong_closes_with_3012() {
    let server = Server::start(FAST_PINGS).await;
    let clock = Clock::real();
    let mut client = Client::open(&server.endpoint().ignoring_pings()).await.expect("a WebSocket");
    let begun = clock.now();
    client.connect(&token("ann")).await.expect("connected");
    assert_eq!(client.next(SOON).await.expect("a ping"), Incoming::Ping);
    let close = client.closed(SOON).await.expect("a close");
    let took = clock.now() - begun;
    assert_eq!((close.code, close.reason.as_str()), (Some(3012), "no pong"));
    // The ping is read late where this process stands still, so that time counts from before.
    let (earliest, latest) = (INTERVAL / 2 + PONG - EARLY, INTERVAL + PONG + SLACK);
    assert!((earliest..=latest).contains(&took), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pong_for_one_ping_closes_with_3501() {
    let server = Server::start(FAST_PINGS).await;
    let mut client = server.connected("ann").await;
    assert_eq!(client.next(SOON).await.expect("a ping"), Incoming::Ping);
    client.send_pong().await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3501));
}

#[tokio::test(flavor = "multi_thread")]
async fn native_pings_take_the_place_of_the_protocols() {
    let server = Server::start(FAST_PINGS).await;
    let endpoint = server.endpoint_with("?cf_ws_frame_ping_pong=true");
    let mut client = Client::open(&endpoint).await.expect("a WebSocket");
    let connected = client.connect(&token("ann")).await.expect("connected");
    assert_eq!((connected.ping, connected.pong), (0, false));
    for _ in 0..2 {
        assert_eq!(client.next(SOON).await.expect("a ping"), Incoming::NativePing);
    }

    let mut deaf = Client::open(&endpoint).await.expect("a WebSocket");
    deaf.connect(&token("ann")).await.expect("connected");
    crate::support::eventually("the connection that answers no ping is closed", SOON, async || {
        // Looking at the socket without reading it: the ping stays where it is, unanswered.
        let mut bytes = [0; 64];
        let seen = deaf.stream_mut().peek(&mut bytes).await.unwrap_or_default();
        bytes[..seen].windows(2).any(|pair| pair == 3012_u16.to_be_bytes())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stale_timer_counts_from_the_open_transport_whatever_is_sent() {
    let server = Server::start("client.stale_close_delay = \"1s\"\n").await;
    let clock = Clock::real();
    let opened = clock.now();
    let mut silent = server.open().await;
    let mut pinging = server.open().await;
    let waiting = tokio::spawn(async move { silent.closed(SOON).await.expect("a close") });
    // Bytes keep coming, none of them a connect.
    while pinging.send_message(Message::Ping(Default::default())).await.is_ok() {
        if clock.now() - opened > SOON || pinging.next(Duration::from_millis(50)).await.is_ok() {
            break;
        }
    }
    let close = pinging.closed(SOON).await.expect("a close");
    assert_eq!((close.code, close.reason.as_str()), (Some(3502), "stale"));
    assert_eq!(waiting.await.expect("the silent one").code, Some(3502));
    let took = clock.now() - opened;
    assert!(
        took >= Duration::from_millis(900) && took <= Duration::from_secs(1) + SLACK,
        "{took:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_failed_leaves_a_dead_connection() {
    let server = Server::start(OPEN).await;
    let mut client = server.open().await;
    let refused = client.connect(&expired_token("ann")).await;
    assert!(matches!(refused, Err(Error::Refused(error)) if error.code == 109));
    client.send_payload("{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}").await.expect("sent");
    let connect = format!("{{\"id\":3,\"connect\":{{\"token\":\"{}\"}}}}", token("ann"));
    client.send_payload(connect).await.expect("sent");
    // Neither a reply nor a code: the server just waits for the client to leave, not for long.
    assert_eq!(client.next(SOON).await.expect("the end"), Incoming::Closed(closed_silently()));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_behind_a_failed_connect_in_its_frame_are_not_looked_at() {
    let server = Server::start(OPEN).await;
    let mut client = server.open().await;
    let connect = format!("{{\"id\":1,\"connect\":{{\"token\":\"{}\"}}}}", expired_token("ann"));
    client.send_payload(format!("{connect}\nnot JSON at all")).await.expect("sent");
    let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") else {
        panic!("not a reply")
    };
    assert_eq!(reply.error.expect("an error").code, 109);
    assert_eq!(client.next(SOON).await.expect("the end"), Incoming::Closed(closed_silently()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_closes_with_3500_and_a_close_frame_is_all_there_is() {
    let server = Server::start("").await;
    let mut client = server.open().await;
    let frame =
        format!("{{\"id\":1,\"connect\":{{\"token\":\"{}\"}}}}", token_signed_with("?", "a"));
    client.send_payload(frame).await.expect("sent");
    let Incoming::Closed(close) = client.next(SOON).await.expect("a close") else {
        panic!("something came before the close frame")
    };
    assert_eq!((close.code, close.reason.as_str()), (Some(3500), "invalid token"));
}

fn closed_silently() -> bobolink::client::Close {
    bobolink::client::Close { code: None, reason: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_cannot_be_closes_with_the_code_of_websocket() {
    let server = Server::start(OPEN).await;
    let mut client = server.connected("mallory").await;
    // A text frame of one byte without the mask that clients owe.
    client.stream_mut().write_all(&[0x81, 0x01, b'x']).await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(1002));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_clients_may_not_use_is_refused_whatever_they_want_with_it() {
    let server = Server::start(OPEN).await;
    let mut client = server.connected("ann").await;
    for channel in ["caf\u{e9}".to_owned(), "x".repeat(256)] {
        let presence = Some(PresenceRequest { channel: channel.clone() });
        let history = Some(HistoryRequest { channel: channel.clone(), ..Default::default() });
        let subscribe = Some(SubscribeRequest { channel: channel.clone(), ..Default::default() });
        for command in [
            Command { publish: Some(publish_request(&channel, "{}")), ..Default::default() },
            Command { presence, ..Default::default() },
            Command { history, ..Default::default() },
            Command { subscribe, ..Default::default() },
        ] {
            let answer = client.request(command.clone()).await.expect("an answer");
            assert_eq!(answer.error.map(|error| error.code), Some(107), "{command:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_without_content_is_there_all_the_same() {
    let server = Server::start(OPEN).await;
    let mut client = server.subscribed("ann", "news").await;
    let publish = Some(publish_request("news", "{}"));
    let answer = client.request(Command { publish, ..Default::default() }).await.expect("answer");
    assert!(answer.publish.is_some(), "{answer:?}");
    let unsubscribe = Some(UnsubscribeRequest { channel: "news".into() });
    let answer =
        client.request(Command { unsubscribe, ..Default::default() }).await.expect("answer");
    assert!(answer.unsubscribe.is_some(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_with_too_many_channels_closes_with_3505() {
    let server = Server::start(&format!("{OPEN}client.channel_limit = 1\n")).await;
    let mut client = server.open().await;
    let wish = |name: &str| (name.to_owned(), SubscribeRequest::default());
    let subs = [wish("news"), wish("weather")].into_iter().collect();
    let connect = Some(ConnectRequest { token: token("ann"), subs, ..Default::default() });
    client.send(Command { connect, ..Default::default() }).await.expect("sent");
    assert_eq!(client.closed(SOON).await.expect("a close").code, Some(3505));
}
