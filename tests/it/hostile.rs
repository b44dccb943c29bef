//! Peers that send what no client would: each costs its own connection, and nobody else notices.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bobolink::client::{Client, Close, Incoming, publish_request};
use bobolink::protocol::command::{Command, UnsubscribeRequest};
use bobolink::protocol::frame::Codec;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{OPEN, SOON, Server, expired_token, token};

/// What the server's memory may grow by under any of these attacks: far below what they send or
/// announce, far above what the allocator keeps for itself.
const MAX_GROWTH: u64 = 32 * 1_024 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn random_frames_close_with_3501() {
    let mut scene = Scene::new("").await;
    let mut random = Random(7);
    for round in 0..60 {
        let endpoint = match round % 2 {
            0 => scene.server.endpoint(),
            _ => scene.server.endpoint().protobuf(),
        };
        let mut client = Client::open(&endpoint).await.expect("a WebSocket");
        client.connect(&token("mallory")).await.expect("connected");
        let len = random.below(3_000) + 1;
        client.send_payload(random.bytes(len)).await.expect("sent");
        assert_eq!(code(client.closed(SOON).await), Some(3501), "round {round}, {len} bytes");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_bytes_end_a_connection_before_and_behind_the_handshake() {
    let mut scene = Scene::new("").await;
    let mut random = Random(11);
    for _ in 0..60 {
        let mut stream = TcpStream::connect(scene.server.address()).await.expect("a connection");
        let len = random.below(3_000) + 1;
        // The server may be done with us before it has read all.
        let _ = stream.write_all(&random.bytes(len)).await;
        let _ = stream.shutdown().await;
        until_ended(&mut stream).await;

        let mut client = scene.server.connected("mallory").await;
        let _ = client.stream_mut().write_all(&random.bytes(len)).await;
        let _ = client.stream_mut().shutdown().await;
        until_ended(client.stream_mut()).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_cut_short_anywhere_close_with_3501() {
    let mut scene = Scene::new("").await;
    let publish = publish_request("news", "{\"text\":\"hello\"}");
    let command = Command { id: 9, publish: Some(publish), ..Command::default() };
    for codec in [Codec::Json, Codec::Protobuf] {
        let whole = codec.encode_command(&command).expect("encoded");
        for len in 1..whole.len() {
            let endpoint = match codec {
                Codec::Json => scene.server.endpoint(),
                Codec::Protobuf => scene.server.endpoint().protobuf(),
            };
            let mut client = Client::open(&endpoint).await.expect("a WebSocket");
            client.connect(&token("mallory")).await.expect("connected");
            client.send_payload(whole.slice(..len)).await.expect("sent");
            assert_eq!(code(client.closed(SOON).await), Some(3501), "{codec:?}, {len} bytes");
        }
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_announces_more_than_it_may_closes_with_1009_and_costs_nothing() {
    let mut scene = Scene::new("").await;
    for _ in 0..50 {
        let mut client = scene.server.connected("mallory").await;
        // A masked binary frame of 2^62 bytes.
        let mut head = vec![0x82, 0xff];
        head.extend_from_slice(&(1_u64 << 62).to_be_bytes());
        head.extend_from_slice(&[1, 2, 3, 4]);
        client.stream_mut().write_all(&head).await.expect("sent");
        assert_eq!(code(client.closed(SOON).await), Some(1009));
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_no_client_may_send_close_with_1002() {
    let mut scene = Scene::new("").await;
    let unmasked = [0x81, 0x02, b'{', b'}'].as_slice();
    let unknown_kind = [0x83, 0x80, 0, 0, 0, 0].as_slice();
    let compressed = [0xc1, 0x80, 0, 0, 0, 0].as_slice();
    let continuation_of_nothing = [0x80, 0x80, 0, 0, 0, 0].as_slice();
    for frame in [unmasked, unknown_kind, compressed, continuation_of_nothing] {
        let mut client = scene.server.connected("mallory").await;
        client.stream_mut().write_all(frame).await.expect("sent");
        assert_eq!(code(client.closed(SOON).await), Some(1002), "{frame:?}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_fragments_is_limited_as_a_whole() {
    let mut scene = Scene::new("").await;
    let mut client = scene.server.connected("mallory").await;
    // Text of no end in fragments of 1,000 bytes, masked with zero.
    let mut fragment = vec![0x01, 0xfe];
    fragment.extend_from_slice(&1_000_u16.to_be_bytes());
    fragment.extend_from_slice(&[0; 4]);
    fragment.extend_from_slice(&[b' '; 1_000]);
    for _ in 0..70 {
        let _ = client.stream_mut().write_all(&fragment).await;
        // From the second on they are continuations.
        fragment[0] = 0x00;
    }
    assert_eq!(code(client.closed(SOON).await), Some(1009));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_head_without_end_is_cut_off() {
    let mut scene = Scene::new("").await;
    let mut stream = TcpStream::connect(scene.server.address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\n").await.expect("sent");
    let line = format!("X-Header: {}\r\n", "x".repeat(1_000));
    let mut sent = 0;
    while stream.write_all(line.as_bytes()).await.is_ok() {
        sent += line.len();
        assert!(sent < 64 * 1_024 * 1_024, "the server takes it all");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_nested_without_end_closes_with_3501() {
    let mut scene = Scene::new("").await;
    let deep = 20_000;
    let (open, close) = ("[".repeat(deep), "]".repeat(deep));
    let nodes = "{\"nodes\":[".repeat(3_000);
    let ends = "]}".repeat(3_000);
    for frame in [
        open.clone(),
        format!("{open}{close}"),
        format!("{{\"id\":2,\"unknown\":{open}{close}}}"),
        format!("{{\"id\":2,\"publish\":{{\"channel\":\"news\",\"data\":{open}"),
        format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"news\",\"tf\":{nodes}{ends}}}}}"),
    ] {
        let mut client = scene.server.connected("mallory").await;
        let start = frame[..40].to_owned();
        client.send_payload(frame).await.expect("sent");
        assert_eq!(code(client.closed(SOON).await), Some(3501), "{start}");
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nested_data_is_carried_as_it_is() {
    let mut scene = Scene::new("").await;
    let mut reader = scene.server.subscribed("ann", "deep").await;
    let mut client = scene.server.connected("mallory").await;
    let data = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    client.publish("deep", data.clone()).await.expect("published");
    let (_, publication) = reader.publication(SOON).await.expect("the publication");
    assert_eq!(publication.data, data);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_full_of_commands_is_worked_through_in_order() {
    let mut scene = Scene::new("").await;
    let mut client = scene.server.connected("mallory").await;
    let unsubscribe = UnsubscribeRequest { channel: "a".to_owned() };
    let commands = (0..1_300)
        .map(|_| Command { unsubscribe: Some(unsubscribe.clone()), ..Command::default() });
    let ids = client.send_many(commands).await.expect("sent");
    for id in ids {
        let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") else {
            panic!("not a reply")
        };
        assert_eq!((reply.id, reply.error), (id, None));
    }
    // 20,000 pongs: the first one is one too many.
    client.send_payload(["{}"; 20_000].join("\n")).await.expect("sent");
    assert_eq!(code(client.closed(SOON).await), Some(3501));
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_tiny_frames_are_answered_one_by_one() {
    const FRAMES: u32 = 5_000;
    let mut scene = Scene::new("").await;
    let mut client = scene.server.connected("mallory").await;
    for id in 1..=FRAMES {
        let frame = format!("{{\"id\":{},\"unsubscribe\":{{\"channel\":\"a\"}}}}", id + 1);
        client.send_payload(frame).await.expect("sent");
    }
    for id in 1..=FRAMES {
        let Incoming::Reply(reply) = client.next(SOON).await.expect("a reply") else {
            panic!("not a reply")
        };
        assert_eq!(reply.id, id + 1);
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pings_of_a_peer_that_reads_no_pongs_do_not_fill_the_memory() {
    let mut scene = Scene::new("").await;
    let mut client = scene.server.connected("mallory").await;
    flood_with_pings(&mut client).await;
    let mut refused = scene.server.open().await;
    refused.connect(&expired_token("mallory")).await.expect_err("an expired token");
    flood_with_pings(&mut refused).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_peer_that_reads_no_replies_do_not_fill_the_memory() {
    let mut scene = Scene::new("websocket.write_timeout = \"1s\"\n").await;
    let mut client = scene.server.connected("mallory").await;
    let mut sent = 0;
    let commands = ["{\"id\":5,\"unsubscribe\":{\"channel\":\"a\"}}"; 1_500].join("\n");
    while sent < 128 * 1_024 * 1_024 {
        let sending = client.send_payload(commands.clone());
        if !tokio::time::timeout(SOON, sending).await.is_ok_and(|sent| sent.is_ok()) {
            break;
        }
        sent += commands.len();
    }
    assert!(sent < 128 * 1_024 * 1_024, "the server took all of it");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_handshake_and_one_that_drips_are_given_up() {
    let mut scene = Scene::new("").await;
    let address = scene.server.address();
    let head = b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: web";
    let mut halves = Vec::new();
    for _ in 0..100 {
        halves.push(connected_with(address, head).await);
    }
    let drips = connected_with(address, head).await;
    let (mut reading, mut writing) = drips.into_split();
    let dripping = tokio::spawn(async move {
        let mut drops = tokio::time::interval(Duration::from_millis(50));
        while writing.write_all(b"s").await.is_ok() {
            drops.tick().await;
        }
    });
    until_ended(&mut reading).await;
    dripping.await.expect("its end");
    for mut half in halves {
        until_ended(&mut half).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_frame_that_drips_is_stale_in_time() {
    // Those who do connect have the time to, on a machine that stands still too.
    let mut scene = Scene::new("client.stale_close_delay = \"5s\"\n").await;
    let mut client = scene.server.open().await;
    // A masked text frame of 60,000 bytes, of which one comes now and then.
    let mut head = vec![0x81, 0xfe];
    head.extend_from_slice(&60_000_u16.to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    client.stream_mut().write_all(&head).await.expect("sent");
    let close = loop {
        let _ = client.stream_mut().write_all(b" ").await;
        if let Ok(close) = client.closed(Duration::from_millis(50)).await {
            break close;
        }
    };
    assert_eq!(close.code, Some(3502));
    scene.end().await;
}

/// A server on which two well-behaved clients talk to each other for as long as the test runs.
struct Scene {
    server: Server,
    stop: Arc<AtomicBool>,
    talk: JoinHandle<u32>,
    memory_before: u64,
}

impl Scene {
    async fn new(settings: &str) -> Self {
        let server = Server::start(&format!("{OPEN}{settings}")).await;
        let mut ann = server.subscribed("ann", "talk").await;
        let mut bob = server.connected("bob").await;
        exchange(&mut bob, &mut ann, 0).await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let talk = tokio::spawn(async move {
            let mut exchanged = 0;
            loop {
                exchanged += 1;
                exchange(&mut bob, &mut ann, exchanged).await;
                if stopped.load(Ordering::Relaxed) {
                    return exchanged;
                }
            }
        });
        let memory_before = server.resident_bytes();
        Self { server, stop, talk, memory_before }
    }

    /// Every message of the two arrived, once and in order; the server lives and is as large as
    /// before.
    async fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let exchanged = (&mut self.talk).await.expect("the two were not disturbed");
        assert!(exchanged > 0);
        assert!(self.server.is_alive());
        let grown = self.server.resident_bytes().saturating_sub(self.memory_before);
        assert!(grown < MAX_GROWTH, "{grown} bytes more than before");
    }
}

/// Sends pings and reads nothing, until the server stops to read, gives up, or has got 128 MB.
async fn flood_with_pings(client: &mut Client) {
    let ping = Message::Ping(Bytes::from_static(&[7; 125]));
    let mut sent = 0;
    while sent < 128 * 1_024 * 1_024 {
        let sending =
            tokio::time::timeout(Duration::from_secs(2), client.send_message(ping.clone()));
        if !sending.await.is_ok_and(|sent| sent.is_ok()) {
            return;
        }
        sent += 131;
    }
}

async fn exchange(from: &mut Client, to: &mut Client, number: u32) {
    from.publish("talk", number.to_string()).await.expect("published");
    let (channel, publication) = to.publication(SOON).await.expect("the publication");
    assert_eq!((channel.as_str(), &publication.data[..]), ("talk", number.to_string().as_bytes()));
}

async fn connected_with(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// Reads on until the server has ended the connection.
async fn until_ended(stream: &mut (impl AsyncReadExt + Unpin)) {
    let mut unread = [0; 1_024];
    let reading = async { while stream.read(&mut unread).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(SOON, reading).await.expect("the server ends the connection");
}

fn code(close: Result<Close, bobolink::client::Error>) -> Option<u16> {
    close.expect("a close").code
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 32) as u8).collect()
    }
}
