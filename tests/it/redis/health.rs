//! Health tells the truth: what is published and does not arrive is known, whose fault it is, and
//! who is to do something about it.

use std::time::Duration;

use bobolink::client::Client;
use bobolink::hub::Delivery;
use rustix::process::Signal;
use serde_json::Value;

use super::contract::Backend;
use super::gateways::{OPEN, data_until, gateway, recover};
use super::group::Group;
use super::masters::TestCluster;
use super::outages::FAILOVER;
use super::process::{RedisServer, settings_of};
use super::tap::{Lost, Tap};
use crate::support::{Answer, SOON, Server, eventually, get};

/// Short enough not to wait for, long enough for a machine that has other work.
pub const TIMEOUT: Duration = Duration::from_secs(3);
const GRACE: Duration = Duration::from_secs(8);
/// Twice as long as it takes to know that something is lost, and whose fault that is.
const LOST: Duration = Duration::from_secs(6);
const WATCHED: &str = "
prometheus.enabled = true
health.canary_interval = \"200ms\"
health.canary_timeout = \"3s\"
health.lb_grace = \"8s\"
";
/// The same for tests in which nobody may have lost patience.
pub const PATIENT: &str = "
prometheus.enabled = true
health.canary_interval = \"200ms\"
health.canary_timeout = \"3s\"
health.lb_grace = \"10m\"
";

pub async fn ask(server: &Server, what: &str) -> (u16, Value) {
    let Answer { status, body, .. } = get(server.address(), &format!("/health{what}")).await;
    (status, serde_json::from_str(&body).expect("JSON"))
}

pub async fn status(server: &Server, what: &str) -> u16 {
    ask(server, what).await.0
}

/// Waits until an answer has this status; its body.
pub async fn until(server: &Server, what: &str, expected: u16, within: Duration) -> Value {
    let mut body = Value::Null;
    eventually(&format!("{what} is {expected}"), within, async || {
        let (status, answer) = ask(server, what).await;
        body = answer;
        status == expected
    })
    .await;
    body
}

/// The value of a sample by its name without the prefix, with its labels.
pub async fn metric(server: &Server, sample: &str) -> f64 {
    let metrics = get(server.address(), "/metrics").await.body;
    let line =
        metrics.lines().find_map(|line| line.strip_prefix("bobolink_")?.strip_prefix(sample));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
}

pub fn reason(body: &Value) -> &str {
    body["faults"][0]["reason"].as_str().unwrap_or_default()
}

/// Waits until a client is told that it misses something.
async fn told_to_recover(client: &mut Client) {
    loop {
        let push = client.push(SOON).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            return assert_eq!(unsubscribe.code, 2500);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_an_alarm_soon_and_empties_no_load_balancer_before_the_grace() {
    let redis = RedisServer::start();
    let one = gateway(&format!("{}{WATCHED}", redis.settings())).await;
    assert_eq!(status(&one, "/delivery").await, 200);
    assert_eq!(metric(&one, "redis_connections{kind=\"pub_sub\",shard=\"0\"}").await, 2.0);
    assert!(metric(&one, "redis_last_canary_timestamp_seconds{shard=\"0\"}").await > 1e9);
    assert!(metric(&one, "redis_canary_round_trip_seconds_count{shard=\"0\"}").await > 0.0);

    redis.signal(Signal::STOP);
    until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    let (ready, body) = ask(&one, "/ready").await;
    assert_eq!(ready, 200, "{body}");
    assert!(body["reason"].as_str().is_some_and(|reason| reason.contains("stay here")), "{body}");
    let body = until(&one, "/ready", 503, GRACE + SOON).await;
    assert_eq!(body["status"], "broken");
    assert!(body["faults"][0]["seconds"].as_u64() >= Some(GRACE.as_secs()), "{body}");
    assert_eq!(body["faults"][0]["this_node_only"], false);
    assert!(reason(&body).starts_with("no connection to Redis: "), "{body}");
    assert_eq!(status(&one, "/live").await, 200);
    assert_eq!(status(&one, "").await, 200, "as Centrifugo has it");
    assert_eq!(metric(&one, "redis_connections{kind=\"commands\",shard=\"0\"}").await, 0.0);

    redis.signal(Signal::CONT);
    until(&one, "/ready", 200, SOON).await;
    until(&one, "/delivery", 200, SOON).await;
    assert!(metric(&one, "redis_reconnects{shard=\"0\"}").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_alone_cannot_publish_is_left_at_once_and_the_others_are_not() {
    let redis = RedisServer::start();
    let tap = Tap::to(redis.address()).await;
    let (cut, whole) = (settings_of(tap.address), redis.settings());
    let (cut, whole) = (format!("{cut}{PATIENT}"), format!("{whole}{PATIENT}"));
    let (cut, whole) = tokio::join!(gateway(&cut), gateway(&whole));
    tap.lose(Lost::Answers);
    let body = until(&cut, "/ready", 503, TIMEOUT + SOON).await;
    assert_eq!(body["status"], "cut off");
    assert_eq!(body["faults"][0]["this_node_only"], true);
    assert_eq!(status(&cut, "/delivery").await, 503);
    // Its connections are closed in the meantime, so that it hears the other one no more.
    cut.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    assert_eq!(status(&cut, "/ready").await, 503);
    assert_eq!(status(&whole, "/ready").await, 200);
    assert_eq!(status(&whole, "/delivery").await, 200);

    tap.lose(Lost::Nothing);
    until(&cut, "/ready", 200, SOON).await;
    until(&cut, "/delivery", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_hears_nobody_blames_itself_only_after_the_grace() {
    let redis = RedisServer::start();
    let tap = Tap::to(redis.address()).await;
    let (cut, whole) = (settings_of(tap.address), redis.settings());
    let (cut, whole) = (format!("{cut}{WATCHED}"), format!("{whole}{WATCHED}"));
    let (cut, whole) = tokio::join!(gateway(&cut), gateway(&whole));
    tap.lose(Lost::Everything);
    until(&cut, "/delivery", 503, TIMEOUT + SOON).await;
    let (ready, body) = ask(&cut, "/ready").await;
    assert_eq!((ready, &body["faults"][0]["this_node_only"]), (200, &Value::from(false)), "{body}");
    let body = until(&cut, "/ready", 503, GRACE + SOON).await;
    assert_eq!(body["status"], "broken");
    for what in ["/ready", "/delivery"] {
        assert_eq!(status(&whole, what).await, 200, "{what}");
    }
    tap.lose(Lost::Nothing);
    until(&cut, "/ready", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_publications_and_delivers_none_is_an_alarm_and_is_left() {
    let redis = RedisServer::start();
    let tap = Tap::to(redis.address()).await;
    let one = gateway(&format!("{}{PATIENT}", settings_of(tap.address))).await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    let start = ann.subscribe("chat:a").await.expect("subscribed");
    bob.publish("chat:a", "1").await.expect("published");
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);

    tap.lose(Lost::Messages);
    bob.publish("chat:a", "2").await.expect("taken, and that is the trouble");
    until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    assert_eq!(status(&one, "/ready").await, 200, "nobody knows of a node that does better");
    let error = "the server takes canaries, but PUB/SUB does not deliver them";
    one.log().wait_for(|line| line["message"] == "Redis was lost" && line["error"] == error).await;
    // It is tried anew, and found to be so still.
    let is_tried =
        |line: &Value| line["message"] == "cannot use Redis, trying on" && line["error"] == error;
    one.log().wait_for(is_tried).await;
    assert!(bob.publish("chat:a", "lost").await.is_err(), "nothing is taken meanwhile");
    assert_eq!(status(&one, "/delivery").await, 503);

    tap.lose(Lost::Nothing);
    until(&one, "/delivery", 200, SOON).await;
    // The canary that proves the connections is heard a moment before they are there for others.
    eventually("it publishes again", SOON, async || bob.publish("chat:a", "3").await.is_ok()).await;
    told_to_recover(&mut ann).await;
    let result = recover(&mut ann, "chat:a", 1, &start.epoch).await;
    let missed: Vec<_> = result.publications.iter().map(|publication| &*publication.data).collect();
    assert!(result.recovered);
    assert_eq!(missed, [&b"2"[..], b"3"]);
    bob.publish("chat:a", "4").await.expect("published");
    assert_eq!(data_until(&mut ann, "4").await, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_redis_has_forgotten_is_subscribed_to_again_and_the_gap_is_seen() {
    const NAME: &str = "centrifugo.client.chat:a";
    let redis = RedisServer::start();
    let tap = Tap::to(redis.address()).await;
    let one = gateway(&format!("{}{PATIENT}", settings_of(tap.address))).await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    let start = ann.subscribe("chat:a").await.expect("subscribed");
    let is_heard = || redis.cli(&["PUBSUB", "NUMSUB", NAME])[1] == "1";
    assert!(is_heard());
    // The other reader forgets it as well, without having known it: what it holds stays right.
    tap.lose(Lost::Channel(NAME.to_owned()));
    eventually("Redis has forgotten it", SOON, async || !is_heard()).await;
    bob.publish("chat:a", "1").await.expect("published");
    tap.lose(Lost::Nothing);
    let error = "the server has forgotten channels that we subscribed to";
    one.log().wait_for(|line| line["message"] == "Redis was lost" && line["error"] == error).await;
    eventually("it is heard again", SOON, async || is_heard()).await;
    assert_eq!(metric(&one, "broker_redis_pub_sub_errors{error=\"forgotten\"}").await, 1.0);

    eventually("it publishes again", SOON, async || bob.publish("chat:a", "2").await.is_ok()).await;
    told_to_recover(&mut ann).await;
    let result = recover(&mut ann, "chat:a", start.offset, &start.epoch).await;
    assert!(result.recovered);
    assert_eq!(result.publications.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_whom_the_node_itself_has_forgotten_is_heard_for_again() {
    let redis = RedisServer::start();
    let address = redis.address().to_string();
    let backend = Backend::reaching(|redis| {
        redis.address = bobolink::config::redis::Addresses(vec![address]);
    });
    let backend = backend.await;
    let delivery = Delivery { positioned: true, ..Delivery::default() };
    let _forgotten = backend.unheard_subscriber("a", delivery).await;
    let is_heard = || redis.cli(&["PUBSUB", "NUMSUB", "centrifugo.client.a"])[1] == "1";
    eventually("it is heard", SOON, async || is_heard()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_refuses_to_write_is_an_alarm_and_keeps_its_connections() {
    let redis = RedisServer::start();
    let one = gateway(&format!("{}{PATIENT}", redis.settings())).await;
    assert_eq!(redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    let body = until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    assert!(reason(&body).starts_with("Redis refuses to write: NOREPLICAS"), "{body}");
    assert_eq!(status(&one, "/ready").await, 200);
    assert_eq!(metric(&one, "redis_reconnects{shard=\"0\"}").await, 0.0);
    assert_eq!(redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    until(&one, "/delivery", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_redis_lives_and_says_what_it_waits_for() {
    let mut redis = RedisServer::start();
    redis.kill();
    let strict = format!("{}health.strict = true\n{OPEN}", redis.settings());
    let one = Server::start(&strict).await;
    one.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    for what in ["/ready", "/delivery", ""] {
        let (status, body) = ask(&one, what).await;
        assert_eq!((status, &body["status"]), (503, &Value::from("starting")), "{what}");
        assert!(reason(&body).contains("Connection refused"), "{body}");
    }
    assert_eq!(status(&one, "/live").await, 200);
    redis.revive();
    for what in ["/ready", "/delivery", ""] {
        until(&one, what, 200, SOON).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_is_not_ready_and_delivers_to_those_who_are_still_there() {
    let redis = RedisServer::start();
    let settings = format!(
        "{}shutdown.drain_window = \"20s\"\nshutdown.timeout = \"30s\"\n\
         http_server.internal_port = 0\n{OPEN}",
        redis.settings()
    );
    let one = Server::start(&settings).await;
    let internal = one.address_of("internal").await;
    let is_ready = async || get(internal, "/health/ready").await.status == 200;
    eventually("it is ready", SOON, is_ready).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(one.connected("ann").await);
    }
    one.signal(Signal::TERM);
    eventually("it drains", SOON, async || {
        get(internal, "/health/ready").await.body.contains("draining")
    })
    .await;
    assert_eq!(get(internal, "/health/delivery").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_of_sentinel_empties_no_load_balancer_and_is_counted() {
    let mut group = Group::start().await;
    // The times are those that everybody has.
    let one = gateway(&format!("{}prometheus.enabled = true\n", group.settings())).await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    ann.subscribe("chat:a").await.expect("subscribed");
    bob.publish("chat:a", "1").await.expect("published");
    group.kill_master().await;
    one.log().wait_for(|line| line["message"] == "Redis was lost").await;
    eventually("it publishes again", FAILOVER, async || {
        let (ready, body) = ask(&one, "/ready").await;
        let past = body["faults"][0]["seconds"].as_u64().is_some_and(|seconds| seconds >= 30);
        assert!(ready == 200 || past, "{body}");
        bob.publish("chat:a", "2").await.is_ok()
    })
    .await;
    until(&one, "/delivery", 200, SOON).await;
    told_to_recover(&mut ann).await;
    for counted in ["master_changes{shard=\"0\"}", "voided_positions", "fence_epoch_changes"] {
        // Sentinels may have chosen another one before, unasked.
        assert!(metric(&one, &format!("redis_{counted}")).await >= 1.0, "{counted}");
    }
    assert!(metric(&one, "redis_calls{outcome=\"unavailable\"}").await > 0.0);
    assert!(metric(&one, "redis_calls{outcome=\"done\"}").await > 0.0);
    assert!(metric(&one, "redis_call_duration_seconds_count").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_shards_the_one_that_is_away_is_named() {
    let mut shards = [RedisServer::start(), RedisServer::start()];
    let [first, second] = shards.each_ref().map(|shard| shard.address().to_string());
    let settings =
        format!("engine.type = \"redis\"\nengine.redis.address = [\"{first}\", \"{second}\"]\n");
    let one = gateway(&format!("{settings}{PATIENT}")).await;
    shards[1].kill();
    let body = until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    assert_eq!(body["faults"].as_array().map(Vec::len), Some(1), "{body}");
    assert_eq!(body["faults"][0]["shard"], 1);
    assert!(reason(&body).contains("Connection refused"), "{body}");
    assert_eq!(metric(&one, "redis_connections{kind=\"commands\",shard=\"0\"}").await, 1.0);
    assert_eq!(metric(&one, "redis_connections{kind=\"commands\",shard=\"1\"}").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_master_of_a_cluster_has_canaries_of_its_own() {
    let mut cluster = TestCluster::start(0).await;
    let addresses = cluster.addresses();
    let settings =
        format!("engine.type = \"redis\"\nengine.redis.cluster_address = \"{addresses}\"\n");
    let settings = format!("{settings}{PATIENT}");
    let (one, two) = tokio::join!(gateway(&settings), gateway(&settings));
    for node in [&one, &two] {
        until(node, "/delivery", 200, SOON).await;
        let links = metric(node, "redis_connections{kind=\"commands\",shard=\"0\"}").await;
        assert_eq!(links, 3.0);
    }
    cluster.nodes[2].kill();
    // They hear each other over the masters that are left, which says nothing of the one that is not.
    for node in [&one, &two] {
        eventually("only the other masters are heard, for long", LOST + SOON, async || {
            let (ready, body) = ask(node, "/ready").await;
            assert_eq!(ready, 200, "{body}");
            let faults = body["faults"].as_array().map(Vec::as_slice).unwrap_or_default();
            let [fault] = faults else { return false };
            fault["seconds"].as_u64() >= Some(LOST.as_secs())
                && reason(&body).starts_with("no connection to Redis: ")
        })
        .await;
        assert_eq!(status(node, "/delivery").await, 503);
    }
    cluster.nodes[2].revive();
    until(&one, "/delivery", 200, FAILOVER).await;

    // They are written at each, in a slot that it has.
    for node in &cluster.nodes {
        eventually("there is one", SOON, async || {
            let keys = node.cli(&["KEYS", "*canary*"]);
            keys.iter().any(|key| key.starts_with("centrifugo.bobolink.canary.0.{"))
        })
        .await;
    }
    let refusing = &cluster.nodes[1];
    assert_eq!(refusing.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]), "OK");
    let body = until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    assert!(reason(&body).starts_with("Redis refuses to write: NOREPLICAS"), "{body}");
    assert_eq!(refusing.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]), "OK");
    until(&one, "/delivery", 200, SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn canaries_are_nobodys_channels() {
    let redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let heard = redis.cli(&["PUBSUB", "CHANNELS"]);
    let expected = |name: &String| name.starts_with("centrifugo.bobolink.canary.0.");
    assert_eq!(heard.iter().filter(|name| expected(name)).count(), 2, "{heard:?}");
    assert!(!heard.iter().any(|name| name.starts_with("centrifugo.client.")), "{heard:?}");
    assert_eq!(redis.cli(&["KEYS", "*canary*"]), ["centrifugo.bobolink.canary.0"]);
    let body = crate::support::http(one.address(), hyper::Method::POST, "/api/channels", &[], "{}");
    assert_eq!(body.await.body, r#"{"result":{"channels":{}}}"#);
}
