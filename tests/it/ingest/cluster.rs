//! Consumers and a cluster: while one of its masters is away, and after a long time without anything.

use std::sync::Arc;

use bobolink::config::redis::Addresses;
use bobolink::redis::{Command, Route, slot_of, slot_tag};
use bobolink::telemetry::health::{Health, Limits, QueueLimits};
use bobolink::telemetry::metrics::Metrics;
use bobolink::telemetry::metrics::labels::RedisShard;
use bobolink::time::Clock;
use tokio_util::sync::CancellationToken;

use super::{EPOCH, Stage, entry};
use crate::redis::masters::TestCluster;
use crate::support::{SOON, eventually};

async fn stage_on(cluster: &TestCluster, prefix: &str) -> Stage {
    let (addresses, prefix) = (Addresses(vec![cluster.addresses()]), prefix.to_owned());
    let stage = Stage::reaching(|redis| {
        redis.cluster_address = addresses;
        redis.prefix = prefix;
    });
    stage.await
}

/// A prefix of its own whose set of slots is at this master.
fn prefix_at(cluster: &TestCluster, master: usize) -> String {
    let prefixes = std::iter::repeat_with(|| uuid::Uuid::new_v4().to_string());
    let is_there =
        |prefix: &String| cluster.master_of(&format!("{prefix}.archive.slots")) == master;
    prefixes.into_iter().find(is_there).expect("a prefix")
}

/// Appends once the cluster takes it.
async fn append(stage: &Stage, channel: &str, offset: u64) {
    let add = |route: &Route| entry(route, channel, EPOCH, offset);
    eventually("it is appended", 3 * SOON, async || {
        stage.redis.shard(channel).call(channel, add).await.is_ok()
    })
    .await;
}

async fn announce(stage: &Stage, prefix: &str, channel: &str) {
    let set = format!("{prefix}.archive.slots");
    let add = |_: &Route| Command::new("SADD").arg(&set).number(slot_of(channel).into());
    stage.call(&set, add).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_master_that_has_the_set_of_slots_the_others_drain_and_are_measured() {
    let mut cluster = TestCluster::start(0).await;
    let prefixes = [prefix_at(&cluster, 0), prefix_at(&cluster, 0)];
    let (drained, measured) =
        tokio::join!(stage_on(&cluster, &prefixes[0]), stage_on(&cluster, &prefixes[1]));
    let channel = cluster.channel_at(1, "a");
    announce(&drained, &prefixes[0], &channel).await;
    announce(&measured, &prefixes[1], &channel).await;
    let (_ingest, _) = drained.consumer("one");
    let (health, metrics) = (
        Arc::new(Health::new(measured.clock.clone(), Limits::default())),
        Arc::<Metrics>::default(),
    );
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    let limits = QueueLimits { entries: 1_000, lag: SOON };
    bobolink::ingest::watch(&measured.redis, &measured.clock, (&health, limits), &metrics, &stop);
    let waiting = || metrics.history.queue.with(RedisShard::from(0)).get();
    for offset in 1..=5 {
        append(&drained, &channel, offset).await;
        append(&measured, &channel, offset).await;
    }
    drained.until_empty(&channel).await;
    eventually("it is measured", SOON, async || waiting() == 5).await;

    cluster.nodes[0].kill();
    for offset in 6..=10 {
        append(&drained, &channel, offset).await;
        append(&measured, &channel, offset).await;
    }
    drained.until_empty(&channel).await;
    drained.has_all(&channel, 10).await;
    // Some may be there twice: their answers were lost with the master.
    eventually("it is measured still", SOON, async || waiting() >= 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_a_slot_is_read_at_once_however_long_nothing_came_there() {
    let cluster = TestCluster::shared().await;
    let prefix = uuid::Uuid::new_v4().to_string();
    let mut stage = stage_on(&cluster, &prefix).await;
    // Its time stands still, so once it has looked it never looks again by itself.
    stage.clock = Clock::manual(1_800_000_000);
    let known = "known";
    announce(&stage, &prefix, known).await;
    stage.append(known, 1..=5).await;
    let (_ingest, _) = stage.consumer("one");
    stage.until_empty(known).await;

    let tell = async |channel: &str| {
        let name = format!("{prefix}.archive.arrived");
        let text = format!("0 {}", slot_of(channel));
        stage.call(channel, |_| Command::new("PUBLISH").arg(&name).arg(&text)).await;
    };
    stage.append(known, 6..=10).await;
    tell(known).await;
    stage.until_empty(known).await;
    stage.has_all(known, 10).await;
    // Not in the set, and none of those that are looked at first.
    let unlisted = slot_tag(9_999);
    stage.append(unlisted, 1..=5).await;
    tell(unlisted).await;
    stage.until_empty(unlisted).await;
    stage.has_all(unlisted, 5).await;
}
