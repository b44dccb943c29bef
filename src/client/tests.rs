//! A client against a server that says what the test tells it to.

use tokio::io::DuplexStream;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

const SOON: Duration = Duration::from_secs(10);

type Pipe = DuplexStream;

/// A client, and the other end of its connection.
async fn pair(endpoint: Endpoint) -> (Client<Pipe>, WebSocketStream<Pipe>) {
    let (near, far) = tokio::io::duplex(64 * 1_024);
    let (client, server) = tokio::join!(Client::open_on(near, &endpoint), accept_async(far));
    (client.unwrap(), server.unwrap())
}

fn endpoint() -> Endpoint {
    Endpoint::new("ws://localhost/connection/websocket").unwrap()
}

async fn say(server: &mut WebSocketStream<Pipe>, text: &'static str) {
    server.send(Message::text(text)).await.unwrap();
}

async fn heard(server: &mut WebSocketStream<Pipe>) -> String {
    server.next().await.unwrap().unwrap().into_text().unwrap().to_string()
}

#[tokio::test]
async fn pushes_that_come_before_a_reply_are_kept_in_order() {
    let (mut client, mut server) = pair(endpoint()).await;
    say(&mut server, "{\"push\":{\"channel\":\"a\",\"pub\":{\"data\":1}}}\n{\"push\":{\"channel\":\"b\",\"pub\":{\"data\":2}}}").await;
    say(&mut server, "{\"id\":1,\"subscribe\":{\"offset\":7}}").await;
    assert_eq!(client.subscribe("a").await.unwrap().offset, 7);
    say(&mut server, "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":3}}}").await;
    for channel in ["a", "b", "c"] {
        assert_eq!(client.publication(SOON).await.unwrap().0, channel);
    }
    assert_eq!(heard(&mut server).await, "{\"id\":1,\"subscribe\":{\"channel\":\"a\"}}");
}

#[tokio::test]
async fn more_pushes_than_may_be_kept_are_an_error() {
    let (mut client, mut server) = pair(endpoint().max_pushes(1)).await;
    say(&mut server, "{\"push\":{}}\n{\"push\":{}}\n{\"id\":1,\"connect\":{}}").await;
    assert!(matches!(client.connect("").await, Err(Error::TooManyPushes(1))));
}

#[tokio::test]
async fn ids_rise_and_commands_sent_together_share_a_frame() {
    let (mut client, mut server) = pair(endpoint()).await;
    let connect = Command { connect: Some(ConnectRequest::default()), ..Command::default() };
    let message = Command { send: Some(Default::default()), ..Command::default() };
    let ids = client.send_many([connect.clone(), message, connect]).await.unwrap();
    assert_eq!(ids, [1, 0, 2]);
    let frame = heard(&mut server).await;
    assert_eq!(frame, "{\"id\":1,\"connect\":{}}\n{\"send\":{}}\n{\"id\":2,\"connect\":{}}");
}

#[tokio::test]
async fn pings_are_answered_unless_told_otherwise() {
    let (mut client, mut server) = pair(endpoint()).await;
    say(&mut server, "{}").await;
    assert_eq!(client.next(SOON).await.unwrap(), Incoming::Ping);
    assert_eq!(heard(&mut server).await, "{}");

    let (mut client, mut server) = pair(endpoint().ignoring_pings()).await;
    say(&mut server, "{}").await;
    assert_eq!(client.next(SOON).await.unwrap(), Incoming::Ping);
    client.send_payload("last").await.unwrap();
    assert_eq!(heard(&mut server).await, "last", "and no pong before it");
}

#[tokio::test]
async fn an_error_reply_refuses_a_helper_and_is_a_reply_to_a_request() {
    let (mut client, mut server) = pair(endpoint()).await;
    say(&mut server, "{\"id\":1,\"error\":{\"code\":109,\"message\":\"token expired\"}}").await;
    say(&mut server, "{\"id\":2,\"error\":{\"code\":103,\"message\":\"permission denied\"}}").await;
    let refused = client.connect("old").await.unwrap_err();
    assert_eq!(refused.to_string(), "the server refused with 109 token expired");
    let reply = client.request(Command::default()).await.unwrap();
    assert_eq!(reply.error.unwrap().code, 103);
}

#[tokio::test]
async fn the_close_code_is_told_again_and_again() {
    let (mut client, mut server) = pair(endpoint()).await;
    let frame = CloseFrame { code: 3_001.into(), reason: "shutdown".into() };
    server.close(Some(frame)).await.unwrap();
    let close = Close { code: Some(3_001), reason: "shutdown".to_owned() };
    assert_eq!(client.closed(SOON).await.unwrap(), close);
    assert_eq!(client.next(SOON).await.unwrap(), Incoming::Closed(close.clone()));
    assert!(matches!(client.push(SOON).await, Err(Error::Closed(seen)) if seen == close));
}

#[tokio::test]
async fn a_connection_that_just_ends_has_no_code() {
    let (mut client, server) = pair(endpoint()).await;
    drop(server);
    assert_eq!(client.closed(SOON).await.unwrap().code, None);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_and_what_comes_later_is_not_lost() {
    let (mut client, mut server) = pair(endpoint()).await;
    assert!(matches!(client.push(SOON).await, Err(Error::Timeout(SOON))));
    say(&mut server, "{\"push\":{\"channel\":\"late\"}}").await;
    assert_eq!(client.push(SOON).await.unwrap().channel, "late");
}
