//! `bobolink bench` on gateways that use Redis: what Redis did for them is told with what they did.

use super::{Run, SETTINGS, bench, bench_at};
use crate::redis::process::RedisServer;
use crate::support::{SOON, Server, eventually, get};

/// A gateway on a Redis, once that takes what is published.
async fn gateway(redis: &RedisServer, more: &str) -> Server {
    let settings = format!("health.enabled = true\n{}{SETTINGS}{more}", redis.settings());
    let server = Server::start(&settings).await;
    let is_ready = async || get(server.address(), "/health/ready").await.status == 200;
    eventually("it is ready", SOON, is_ready).await;
    server
}

/// Panics unless the row says what Redis used.
fn assert_tells_of_redis(run: &Run, label: &str) {
    let redis = &run.row(label)["redis"];
    assert!(redis["rss_bytes"].as_u64() > Some(0), "{run}");
    assert!(redis["commands"].as_u64() > Some(0), "{run}");
    assert!(redis["scripts"].as_u64() <= redis["commands"].as_u64(), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing_tells_what_a_publication_costs_redis() {
    let redis = RedisServer::start();
    let server = gateway(&redis, "").await;
    let args = format!(
        "publish --connections 4 --redis {} --pid {} --beside {}",
        redis.address(),
        server.id(),
        std::process::id()
    );
    let run = bench(&server, &args).await;
    run.assert_sound();
    if run.was_measured("publish max") {
        assert_tells_of_redis(&run, "publish max");
        assert!(run.metric("publish max", "redis_cpu_us_per_publication") >= 0.0);
        // The script and the six steps of it, and a little around them.
        let commands = run.metric("publish max", "redis_commands_per_publication");
        assert!(commands > 6.0, "{run}");
    }
    let table = String::from_utf8_lossy(&run.output.stdout);
    assert!(table.contains("Redis commands"), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_publishes_is_relayed_and_checked() {
    let redis = RedisServer::start();
    let (publisher, server) = (gateway(&redis, "").await, gateway(&redis, "").await);
    let args = format!(
        "fanout --channels 3 --subscribers 2 --rate 40 --redis {} --pid {} --beside {}",
        redis.address(),
        server.id(),
        publisher.id()
    );
    let run = bench_at(&publisher, server.address(), &args).await;
    run.assert_sound();
    run.assert_whole("40 pub/s", 40.0, 2.0);
    if run.was_measured("40 pub/s") {
        assert_tells_of_redis(&run, "40 pub/s");
        assert!(run.metric("40 pub/s", "redis_commands_per_publication") > 6.0, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_at_rest_and_a_storm_tell_how_much_redis_was_asked() {
    let redis = RedisServer::start();
    let server = gateway(&redis, "client.presence_update_interval = \"1s\"\n").await;
    let args = format!("--redis {} --pid {}", redis.address(), server.id());
    let idle = format!(
        "idle --connections 20 --subscriptions 4 --channels 4 --settle 0 --seconds 3 {args}"
    );
    let run = bench(&server, &idle).await;
    run.assert_sound();
    assert_tells_of_redis(&run, "idle");
    let scripts = run.metric("summary", "idle_redis_scripts_per_s");
    assert!(scripts > 0.0, "{run}");
    // Each of them runs commands.
    assert!(run.metric("summary", "idle_redis_commands_per_s") > scripts, "{run}");

    let run = bench(&server, &format!("storm --connections 30 --missed 20 {args}")).await;
    run.assert_sound();
    assert_tells_of_redis(&run, "round 1");
    assert!(run.metric("round 1", "redis_commands") > 0.0, "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_cannot_be_asked_ends_the_run_with_the_reason() {
    let server = Server::start(SETTINGS).await;
    let redis = RedisServer::start_with(&["--requirepass", "secret"]);
    for (address, text) in [
        (redis.address().to_string(), "NOAUTH"),
        ("127.0.0.1:1".to_owned(), "--redis 127.0.0.1:1"),
        ("nowhere".to_owned(), "cannot find nowhere"),
    ] {
        let run = bench(&server, &format!("fanout --redis {address}")).await;
        let stderr = String::from_utf8_lossy(&run.output.stderr).into_owned();
        assert!(!run.output.status.success() && stderr.contains(text), "{address}: {run}");
    }
}
