//! What `/metrics` tells of connections that came and went.

use bobolink::client::Incoming;

use crate::support::{OPEN, SOON, Server, eventually, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_and_a_goodbye_are_counted_as_what_they_are() {
    let settings = format!(
        "{OPEN}prometheus.enabled = true\nclient.ping_interval = \"2s\"\nclient.pong_timeout = \"1s\"\n"
    );
    let server = Server::start(&settings).await;
    let mut client = server.subscribed("ann", "news").await;
    // It is answered by the client itself.
    assert!(matches!(client.next(SOON).await, Ok(Incoming::Ping)));
    let round_trips = "client_ping_pong_duration_seconds_count{transport=\"websocket\"}";
    eventually("the round trip is counted", SOON, async || {
        value(&server, round_trips).await == Some(1.0)
    })
    .await;

    let subscriptions = "client_subscriptions_inflight{client_name=\"unnamed\"}";
    assert_eq!(value(&server, subscriptions).await, Some(1.0));
    client.close().await.expect("closed");
    eventually("the subscription is gone", SOON, async || {
        value(&server, subscriptions).await == Some(0.0)
    })
    .await;
    let disconnects = "client_num_server_disconnects{code=\"3000\"}";
    assert_eq!(value(&server, disconnects).await.unwrap_or(0.0), 0.0, "the client left by itself");
}

/// The value of a sample, by its name without the prefix and with its labels.
async fn value(server: &Server, sample: &str) -> Option<f64> {
    let metrics = get(server.address(), "/metrics").await.body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("bobolink_")?.strip_prefix(sample));
    line.and_then(|value| value.trim().parse().ok())
}
