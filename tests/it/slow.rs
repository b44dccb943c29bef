//! Subscribers that do not read: they are sent away, and the others wait for nobody.

use std::time::Duration;

use bobolink::client::{Client, Error};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::{OPEN, SOON, Server, eventually, get, token};

/// Publications of a test and the bytes of each: far more than a slow consumer's queue and the
/// kernel's buffers take.
const PUBLICATIONS: usize = 400;
const SIZE: usize = 8 * 1_024;

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_is_closed_as_slow_and_the_others_get_everything() {
    // Writes may be stuck for long, so that it is the queue that decides.
    let server = Server::start(&format!(
        "{OPEN}client.queue_max_size = 65536\n\
         websocket.write_timeout = \"15s\"\n\
         prometheus.enabled = true\n"
    ))
    .await;
    let mut stalled = subscribed_with_a_buffer(&server, 4 * 1_024).await;
    let mut others = Vec::new();
    for _ in 0..20 {
        let mut other = server.subscribed("ann", "news").await;
        others.push(tokio::spawn(async move {
            for number in 0..PUBLICATIONS {
                let (_, publication) = other.publication(SOON).await.expect("a publication");
                assert_eq!(publication.data, data(number));
            }
        }));
    }
    publish_all(&server).await;
    for other in others {
        other.await.expect("every publication, once and in order");
    }
    eventually("it is closed as slow", SOON, async || closed_with(&server, 3008).await).await;
    let received = received(&mut stalled).await;
    assert!(received < PUBLICATIONS, "it got everything");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_stuck_for_too_long_ends_the_connection() {
    let settings = "prometheus.enabled = true\nwebsocket.write_timeout = \"1s\"\n";
    let server = Server::start(&format!("{OPEN}{settings}")).await;
    let mut stalled = subscribed_with_a_buffer(&server, 4 * 1_024).await;
    let mut publisher = server.connected("bob").await;
    // Enough to fill the kernel's buffers, too little for the queue.
    for number in 0..100 {
        publisher.publish("news", data(number)).await.expect("published");
    }
    eventually("it is given up", SOON, async || closed_with(&server, 3009).await).await;
    assert!(received(&mut stalled).await < 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_keeps_reading_is_not_given_up() {
    let server = Server::start(&format!(
        "{OPEN}websocket.write_timeout = \"6s\"\nclient.queue_max_size = 16777216\n"
    ))
    .await;
    let mut slow = subscribed_with_a_buffer(&server, 32 * 1_024).await;
    let mut publisher = server.connected("bob").await;
    let publishing = async {
        for number in 0..800 {
            publisher.publish("news", data(number)).await.expect("published");
        }
    };
    // More than twice the timeout for all of it, and a small part of it for what the kernel takes at
    // once, which is about 100 KB: both may stand still for seconds in between.
    let reading = async {
        let mut pace = tokio::time::interval(Duration::from_millis(18));
        for number in 0..800 {
            pace.tick().await;
            let (_, publication) = slow.publication(SOON).await.expect("a publication");
            assert_eq!(publication.data, data(number));
        }
    };
    tokio::join!(publishing, reading);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_may_be_stuck_for_ever_where_there_is_no_limit() {
    let server = Server::start(&format!("{OPEN}websocket.write_timeout = \"0s\"\n")).await;
    let mut stalled = subscribed_with_a_buffer(&server, 4 * 1_024).await;
    let mut publisher = server.connected("bob").await;
    for number in 0..100 {
        publisher.publish("news", data(number)).await.expect("published");
    }
    for number in 0..100 {
        let (_, publication) = stalled.publication(SOON).await.expect("a publication");
        assert_eq!(publication.data, data(number));
    }
}

/// A subscriber for which its kernel takes about so many bytes.
async fn subscribed_with_a_buffer(server: &Server, bytes: usize) -> Client<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(bytes).expect("a small buffer");
    socket.set_nonblocking(true).expect("a socket for tokio");
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(server.address());
    let stream = connecting.await.expect("a connection");
    let mut client = Client::open_on(stream, &server.endpoint()).await.expect("a WebSocket");
    client.connect(&token("carl")).await.expect("connected");
    client.subscribe("news").await.expect("subscribed");
    client
}

async fn publish_all(server: &Server) {
    let mut publisher = server.connected("bob").await;
    for number in 0..PUBLICATIONS {
        publisher.publish("news", data(number)).await.expect("published");
    }
}

/// Reads to the end; how many publications there were.
async fn received(stalled: &mut Client<TcpStream>) -> usize {
    let mut count = 0;
    loop {
        match stalled.publication(Duration::from_secs(20)).await {
            Ok(_) => count += 1,
            Err(Error::Closed(close)) => {
                assert!(matches!(close.code, None | Some(3008)), "{close:?}");
                return count;
            }
            Err(other) => panic!("{other}"),
        }
    }
}

async fn closed_with(server: &Server, code: u16) -> bool {
    let metrics = get(server.address(), "/metrics").await.body;
    metrics.lines().any(|line| {
        line.contains("disconnects")
            && line.contains(&format!("\"{code}\""))
            && line.ends_with(" 1")
    })
}

fn data(number: usize) -> String {
    format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(SIZE))
}
