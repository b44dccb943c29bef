//! Consumers that were killed and never come back.

use std::time::Duration;

use bobolink::config::redis::Addresses;
use bobolink::redis::{Command, Route, Value, slot_of};

use super::{CLAIM_AFTER, Stage};
use crate::redis::masters::TestCluster;
use crate::redis::process::RedisServer;
use crate::support::{SOON, eventually};

const CHANNEL: &str = "a";

async fn command(stage: &Stage, words: &[&str], behind: &[&str]) -> Value {
    let make = |route: &Route| {
        let (name, first) = words.split_first().expect("a command");
        let stream = route.keys().archive_stream(CHANNEL);
        Command::new(name).args(first).arg(stream).args(behind)
    };
    stage.call(CHANNEL, make).await
}

/// Names, and for how many milliseconds nothing was heard of the one that was heard of last.
async fn consumers(stage: &Stage) -> (Vec<String>, u64) {
    let answer = command(stage, &["XINFO", "CONSUMERS"], &["history"]).await;
    let (mut names, mut idle) = (Vec::new(), u64::MAX);
    for consumer in answer.list().expect("consumers").iter().filter_map(Value::list) {
        for pair in consumer.chunks_exact(2) {
            match pair[0].str() {
                Some("name") => names.extend(pair[1].str().map(str::to_owned)),
                Some("idle") => idle = idle.min(pair[1].number().expect("a number")),
                _ => {}
            }
        }
    }
    names.sort();
    (names, idle)
}

/// Those who have something in their hands stay, or that would be lost.
async fn only_the_idle_are_forgotten(stage: &Stage) {
    command(stage, &["XGROUP", "CREATE"], &["history", "0", "MKSTREAM"]).await;
    command(stage, &["XGROUP", "CREATECONSUMER"], &["history", "gone"]).await;
    stage.append(CHANNEL, 1..=5).await;
    let read = ["XREADGROUP", "GROUP", "history", "holder", "STREAMS"];
    command(stage, &read, &[">"]).await;
    let is_silent = async || consumers(stage).await.1 > CLAIM_AFTER.as_millis() as u64;
    eventually("both are silent for long", SOON, is_silent).await;
    let (_ingest, _) = stage.consumer_after(Duration::from_secs(3_600), "new");
    let expected = ["holder", "new"];
    eventually("one is gone", SOON, async || consumers(stage).await.0 == expected).await;
    assert_eq!(stage.waiting(CHANNEL).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_that_are_silent_for_long_leave_the_group_unless_they_hold_something() {
    let server = RedisServer::start();
    let address = Addresses(vec![server.address().to_string()]);
    only_the_idle_are_forgotten(&Stage::reaching(|redis| redis.address = address).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_they_do_in_a_cluster() {
    let cluster = TestCluster::shared().await;
    let addresses = Addresses(vec![cluster.addresses()]);
    let prefix = uuid::Uuid::new_v4().to_string();
    let stage = Stage::reaching(|redis| {
        redis.cluster_address = addresses;
        redis.prefix = prefix.clone();
    });
    let (stage, set) = (stage.await, format!("{prefix}.archive.slots"));
    let slot = u64::from(slot_of(CHANNEL));
    let add = |_: &Route| Command::new("SADD").arg(&set).number(slot);
    stage.redis.shard("").call(&set, add).await.expect("added");
    only_the_idle_are_forgotten(&stage).await;
}
