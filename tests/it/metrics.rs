//! What `/metrics` tells of connections that came and went.

use bobolink::client::Incoming;
use bobolink::protocol::command::{Command, UnsubscribeRequest};

use crate::support::{OPEN, SOON, Server, eventually, get};

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_and_a_goodbye_are_counted_as_what_they_are() {
    let settings = format!(
        "{OPEN}prometheus.enabled = true\nclient.ping_interval = \"6s\"\nclient.pong_timeout = \"5s\"\n"
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

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_subscriptions_are_counted_once_and_taken_off_again() {
    let settings = format!("{OPEN}prometheus.enabled = true\nprometheus.prefix = \"centrifugo\"\n");
    let server = Server::start(&settings).await;
    let mut ann = server.subscribed("ann", "news").await;
    ann.subscribe("weather").await.expect("subscribed");
    let bob = server.subscribed("bob", "news").await;
    let scrape = Scrape::of(&server).await;
    for (metric, value) in [
        ("centrifugo_node_num_clients", 2),
        ("centrifugo_node_num_users", 2),
        ("centrifugo_node_num_channels", 2),
        ("centrifugo_node_num_subscriptions", 3),
        ("centrifugo_client_connections_accepted", 2),
        ("centrifugo_client_connections_inflight", 2),
        ("centrifugo_client_subscriptions_accepted", 3),
        ("centrifugo_client_subscriptions_inflight", 3),
    ] {
        assert_eq!(scrape.sum(metric), value, "{metric}");
    }
    let channel = "weather".to_owned();
    let unsubscribe = Some(UnsubscribeRequest { channel });
    ann.request(Command { unsubscribe, ..Command::default() }).await.expect("unsubscribed");
    assert_eq!(Scrape::of(&server).await.sum("centrifugo_client_subscriptions_inflight"), 2);

    drop((ann, bob));
    for metric in [
        "centrifugo_node_num_clients",
        "centrifugo_client_connections_inflight",
        "centrifugo_client_subscriptions_inflight",
    ] {
        let is_zero = async || Scrape::of(&server).await.sum(metric) == 0;
        eventually(&format!("all are gone from {metric}"), SOON, is_zero).await;
    }
    assert_eq!(
        Scrape::of(&server).await.sum("centrifugo_client_num_server_disconnects"),
        0,
        "they left by themselves"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_counted_for_each_who_gets_them() {
    let server = Server::start(&format!("{OPEN}prometheus.enabled = true\n")).await;
    let mut ann = server.subscribed("ann", "news").await;
    let mut bob = server.subscribed("bob", "news").await;
    ann.publish("news", "{}").await.expect("published");
    for subscriber in [&mut ann, &mut bob] {
        subscriber.publication(SOON).await.expect("a publication");
    }
    // What is sent may be there before it is counted.
    let publications = r#"frame_type="push_publication""#;
    eventually("both are counted", SOON, async || {
        Scrape::of(&server).await.sum_of("bobolink_transport_messages_sent", publications) == 2
    })
    .await;
    let scrape = Scrape::of(&server).await;
    assert_eq!(scrape.sum_of("bobolink_transport_messages_received", r#"frame_type="publish""#), 1);
    assert_eq!(scrape.sum_of("bobolink_node_messages_sent_count", r#"type="publication""#), 1);
}

/// The value of a sample, by its name without the prefix and with its labels.
async fn value(server: &Server, sample: &str) -> Option<f64> {
    let metrics = get(server.address(), "/metrics").await.body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("bobolink_")?.strip_prefix(sample));
    line.and_then(|value| value.trim().parse().ok())
}

/// All samples at one moment.
struct Scrape(String);

impl Scrape {
    async fn of(server: &Server) -> Self {
        let answer = get(server.address(), "/metrics").await;
        Self(answer.body)
    }

    /// All children of a metric together.
    fn sum(&self, metric: &str) -> u64 {
        self.sum_of(metric, "")
    }

    /// Those children of a metric that have a label.
    fn sum_of(&self, metric: &str, label: &str) -> u64 {
        let of_metric = |line: &&str| {
            line.strip_prefix(metric).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && line.contains(label)
        };
        let values = self.0.lines().filter(of_metric).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().expect("a whole number")).sum()
    }
}
