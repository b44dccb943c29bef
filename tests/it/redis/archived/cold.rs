//! Recovery from further back than the streams in Redis reach.

use std::net::SocketAddr;
use std::time::Duration;

use bobolink::broker::{Overflow, PublishOptions};
use bobolink::client::{Client, Error};
use bobolink::config::redis::Addresses;
use bobolink::protocol::publication::Publication;
use bobolink::protocol::reply::SubscribeResult;

use super::super::process::RedisServer;
use super::gateway::{connected, serve};
use super::{Archiver, archived};
use crate::support::{SOON, eventually, recovering};

const CHANNEL: &str = "long:a";
const META: &str = "centrifugo.stream.meta.long:a";
const STREAM: &str = "centrifugo.stream.long:a";

struct Stage {
    redis: RedisServer,
    archiver: Archiver,
    address: SocketAddr,
    options: PublishOptions,
}

impl Stage {
    async fn with_backlog(backlog: usize) -> Self {
        let redis = RedisServer::start();
        let address = Addresses(vec![redis.address().to_string()]);
        let archiver = Archiver::reaching(backlog, |settings| settings.address = address).await;
        let address = serve(&archiver.node).await;
        let mut options = archived(Overflow::Drop);
        if let Some(history) = &mut options.history {
            history.ttl = Duration::from_secs(60);
        }
        Self { redis, archiver, address, options }
    }

    async fn start() -> Self {
        Self::with_backlog(100_000).await
    }

    /// Publishes those numbers, which are their offsets.
    async fn publish(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let data = format!("{{\"n\":{number}}}").into();
            let publication = Publication { data, ..Publication::default() };
            let broker = &self.archiver.node.broker;
            let published = broker.publish(CHANNEL, publication, &self.options).await;
            assert_eq!(published.expect("published").offset, number);
        }
    }

    async fn epoch(&self) -> String {
        self.archiver.top(CHANNEL, &self.options).await.1
    }

    async fn recover(&self, offset: u64, epoch: &str) -> (Client, Result<SubscribeResult, Error>) {
        let mut client = connected(self.address, "ann").await;
        let made = client.subscribe_with(recovering(CHANNEL, offset, epoch)).await;
        (client, made)
    }

    /// Recovers and expects everything up to `last` in order, then what is published now.
    async fn expect_all(&self, from: u64, epoch: &str, last: u64) -> Client {
        let (mut client, made) = self.recover(from, epoch).await;
        let made = made.expect("subscribed");
        assert!(made.recovered, "from {from}");
        assert_eq!(made.offset, from);
        let mut offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
        while (offsets.len() as u64) < last - from {
            let (_, publication) = client.publication(SOON).await.expect("a publication");
            let data = format!("{{\"n\":{}}}", publication.offset);
            assert_eq!(&publication.data[..], data.as_bytes());
            offsets.push(publication.offset);
        }
        assert_eq!(offsets, (from + 1..=last).collect::<Vec<_>>());
        client
    }

    async fn outcome(&self, offset: u64, epoch: &str) -> Result<bool, u32> {
        match self.recover(offset, epoch).await.1 {
            Ok(made) => Ok(made.recovered),
            Err(Error::Refused(error)) => Err(error.code),
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_far_back_gets_what_is_stored_what_is_not_yet_and_the_present() {
    let stage = Stage::start().await;
    stage.publish(1..=700).await;
    let epoch = stage.epoch().await;
    stage.archiver.ingest(CHANNEL).await;
    // These are only in Redis.
    stage.publish(701..=706).await;
    for from in [0, 255, 256, 690, 699, 700, 703] {
        stage.expect_all(from, &epoch, 706).await;
    }
    let mut client = stage.expect_all(300, &epoch, 706).await;
    stage.publish(707..=708).await;
    for offset in 707..=708 {
        let (_, live) = client.publication(SOON).await.expect("a publication");
        assert_eq!(live.offset, offset);
    }
    let recoveries = stage.archiver.node.metrics.history.recoveries.get();
    assert!(recoveries >= 3, "the archive served {recoveries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_that_come_while_a_client_catches_up_are_neither_lost_nor_doubled() {
    let stage = Stage::start().await;
    stage.publish(1..=2_000).await;
    let epoch = stage.epoch().await;
    stage.archiver.ingest(CHANNEL).await;
    let catching_up = stage.expect_all(100, &epoch, 2_300);
    let going_on = async {
        for first in (2_001..=2_300).step_by(5) {
            stage.publish(first..first + 5).await;
            stage.archiver.ingest(CHANNEL).await;
        }
    };
    tokio::join!(catching_up, going_on);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_late_is_asked_for_again_and_is_no_loss() {
    let stage = Stage::start().await;
    stage.publish(1..=30).await;
    let epoch = stage.epoch().await;
    // The stream has 21 to 30, the archive nothing.
    assert_eq!(stage.outcome(5, &epoch).await, Err(100));
    assert_eq!(stage.outcome(20, &epoch).await, Ok(true));
    stage.archiver.ingest(CHANNEL).await;
    stage.expect_all(5, &epoch, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_stored_is_a_loss() {
    let stage = Stage::with_backlog(20).await;
    stage.publish(1..=25).await;
    let epoch = stage.epoch().await;
    assert_eq!(stage.archiver.ingest(CHANNEL).await, 20, "five were left out");
    stage.publish(26..=50).await;
    stage.archiver.ingest(CHANNEL).await;
    stage.publish(51..=52).await;
    // Nothing that waits is as old, and neither the archive nor the stream has 21 to 25.
    stage.archiver.ingest(CHANNEL).await;
    assert_eq!(stage.outcome(10, &epoch).await, Ok(false));
    assert_eq!(stage.outcome(24, &epoch).await, Ok(false));
    assert_eq!(stage.outcome(42, &epoch).await, Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_stream_recovers_from_the_archive_alone() {
    let stage = Stage::start().await;
    stage.publish(1..=30).await;
    let epoch = stage.epoch().await;
    stage.archiver.ingest(CHANNEL).await;
    assert_eq!(stage.redis.ask(&["DEL", META, STREAM]), "2");
    let mut client = stage.expect_all(3, &epoch, 30).await;
    stage.publish([31]).await;
    assert_eq!(client.publication(SOON).await.expect("live").1.offset, 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lost_everything_recovers_nobody_from_the_archive() {
    let mut stage = Stage::start().await;
    stage.publish(1..=30).await;
    let epoch = stage.epoch().await;
    stage.archiver.ingest(CHANNEL).await;
    // Delivered, acknowledged, and gone with Redis.
    stage.publish(31..=33).await;
    let identity = |stage: &Stage| {
        let attached = stage.archiver.redis.shards()[0].attachment().ok()?;
        Some(attached.link.identity().id.clone())
    };
    let before = identity(&stage);
    stage.redis.revive();
    eventually("the empty one is attached to", SOON, async || {
        identity(&stage).is_some_and(|now| Some(now) != before)
    })
    .await;
    for offset in [5, 25, 30, 31, 33] {
        assert_eq!(stage.outcome(offset, &epoch).await, Ok(false), "from {offset}");
    }
    let now = stage.epoch().await;
    assert_ne!(now, epoch);
    // The counter goes on behind what is stored, under another name.
    stage.publish(31..=45).await;
    for offset in [5, 30, 31, 33, 40] {
        assert_eq!(stage.outcome(offset, &epoch).await, Ok(false), "from {offset}");
    }
    stage.archiver.ingest(CHANNEL).await;
    assert_eq!(stage.outcome(33, &epoch).await, Ok(false), "the old epoch stays open");
    stage.expect_all(31, &now, 45).await;
}
