//! Consumers while Redis fails over, comes back empty, or is there and full.

use std::sync::Arc;
use std::time::Duration;

use bobolink::config::redis::Addresses;
use bobolink::redis::Command;
use bobolink::telemetry::health::{Health, Limits, Phase, QueueLimits};
use tokio_util::sync::CancellationToken;

use super::{EPOCH, Stage, entry};
use crate::redis::group::Group;
use crate::redis::process::RedisServer;
use crate::support::{SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn consumers_go_on_with_a_promoted_replica() {
    let mut group = Group::start().await;
    let addresses = Addresses(vec![group.addresses()]);
    let stage = Stage::reaching(|redis| {
        redis.sentinel_address = addresses;
        redis.sentinel_master_name = "main".to_owned();
    });
    let stage = stage.await;
    let (_ingest, metrics) = stage.consumer("one");
    stage.append("a", 1..=200).await;
    stage.until_empty("a").await;
    group.kill_master().await;
    eventually("another master is there", 3 * SOON, async || {
        let add = |route: &bobolink::redis::Route| entry(route, "a", EPOCH, 201);
        stage.redis.shard("a").call("a", add).await.is_ok()
    })
    .await;
    stage.append("a", 202..=400).await;
    stage.until_empty("a").await;
    stage.has_all("a", 400).await;
    assert_eq!(metrics.history.holes.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_made_anew_in_a_redis_that_came_back_empty() {
    let mut server = RedisServer::start();
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    let (_ingest, _) = stage.consumer("one");
    stage.append("a", 1..=20).await;
    stage.until_empty("a").await;
    server.revive();
    eventually("it is connected again", SOON, async || {
        stage.redis.shard("a").call("a", |_| Command::new("PING")).await.is_ok()
    })
    .await;
    stage.append("a", 21..=40).await;
    stage.until_empty("a").await;
    server.ask(&["FLUSHALL"]);
    stage.append("a", 41..=60).await;
    stage.until_empty("a").await;
    stage.has_all("a", 60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_tells_when_too_much_waits_or_for_too_long() {
    let server = RedisServer::start();
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    let health = Arc::new(Health::new(stage.clock.clone(), Limits::default()));
    health.enter(Phase::Ready);
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let limits = QueueLimits { entries: 15, lag: Duration::from_secs(1) };
    let metrics = Arc::default();
    bobolink::ingest::watch(&stage.redis, &stage.clock, (&health, limits), &metrics, &stop);
    let is_told = |words: &str| {
        let body = health.delivery().body;
        String::from_utf8_lossy(&body).contains(words)
    };
    stage.append("a", 1..=20).await;
    eventually("it is full", SOON, async || is_told("20 publications wait")).await;
    eventually("it is late", SOON, async || is_told("a publication waits for")).await;
    let (_ingest, _) = stage.consumer("one");
    eventually("all is well", SOON, async || health.delivery().status.is_success()).await;
}
