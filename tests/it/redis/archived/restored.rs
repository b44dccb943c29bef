//! Streams that are gone from Redis, and go on where the archive ends or begin a new epoch.

use std::time::Duration;

use bobolink::broker::{BrokerError, Overflow, PublishOptions};
use bobolink::config::redis::Addresses;

use super::super::process::RedisServer;
use super::{Archiver, archived};
use crate::support::{SOON, eventually};

const META: &str = "centrifugo.stream.meta.a";
const STREAM: &str = "centrifugo.stream.a";

async fn archiver(redis: &RedisServer) -> Archiver {
    let address = Addresses(vec![redis.address().to_string()]);
    Archiver::reaching(1_000, |settings| settings.address = address).await
}

fn with_meta_ttl(seconds: u64) -> PublishOptions {
    let mut options = archived(Overflow::Fail);
    if let Some(history) = &mut options.history {
        history.meta_ttl = Duration::from_secs(seconds);
    }
    options
}

/// As if it had expired.
fn expire(redis: &RedisServer) {
    assert_eq!(redis.ask(&["DEL", META, STREAM]), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_stream_goes_on_where_the_archive_ends() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = archived(Overflow::Fail);
    for _ in 0..5 {
        archiver.publish("a", &options).await;
    }
    let (_, epoch) = archiver.top("a", &options).await;
    archiver.ingest("a").await;
    let last = archiver.store.tail("a").await.expect("read").expect("a tail").last_id;
    // First touched by a read, then by a publish.
    expire(&redis);
    assert_eq!(archiver.top("a", &options).await, (5, epoch.clone()));
    let next = archiver.publish("a", &options).await;
    assert_eq!((next.offset, &*next.epoch), (6, &*epoch));
    archiver.ingest("a").await;
    expire(&redis);
    let next = archiver.publish("a", &options).await;
    assert_eq!((next.offset, &*next.epoch), (7, &*epoch));
    let id = archiver.queued("a").await.pop().expect("an entry").1.message.id;
    assert!(id > last);
    assert_eq!(archiver.since("a", 6, &epoch, &options).await, Ok(vec![7]));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_find_a_stream_expired_restore_it_once() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = archived(Overflow::Fail);
    for _ in 0..5 {
        archiver.publish("a", &options).await;
    }
    let (_, epoch) = archiver.top("a", &options).await;
    archiver.ingest("a").await;
    expire(&redis);
    let publishing = (0..40).map(|_| archiver.publish("a", &options));
    let published = futures_util::future::join_all(publishing).await;
    let mut offsets: Vec<_> = published.iter().map(|published| published.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (6..=45).collect::<Vec<_>>(), "no offset twice");
    assert!(published.iter().all(|published| published.epoch == *epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meta_that_was_lost_begins_a_new_epoch() {
    let redis = &mut RedisServer::start();
    let archiver = archiver(redis).await;
    let options = archived(Overflow::Fail);
    for _ in 0..5 {
        archiver.publish("a", &options).await;
        archiver.publish("b", &options).await;
    }
    let (_, epoch) = archiver.top("a", &options).await;
    archiver.ingest("a").await;
    // Acknowledged, and never stored.
    archiver.publish("a", &options).await;
    let identity =
        archiver.redis.shards()[0].attachment().expect("attached").link.identity().clone();
    redis.revive();
    assert_eq!(
        redis.ask(&["DBSIZE"]).parse::<u64>().map(|n| n < 4),
        Ok(true),
        "it came back empty"
    );
    eventually("another master is there", SOON, async || {
        let attached = archiver.redis.shards()[0].attachment();
        attached.is_ok_and(|attached| *attached.link.identity() != identity)
    })
    .await;
    let next = archiver.publish("a", &options).await;
    assert_ne!(*next.epoch, *epoch, "offset 6 was given before under that one");
    assert_eq!(next.offset, 6, "the counter goes on");
    let refused = archiver.since("a", 5, &epoch, &options).await;
    assert_eq!(refused, Err(BrokerError::UnrecoverablePosition));
    // Another channel of that time, touched long after the first.
    let (_, of_b) = archiver.top("b", &options).await;
    assert_ne!(of_b, epoch);
    let tail = archiver.store.tail("b").await.expect("read").expect("a tail");
    assert_ne!(of_b, tail.epoch);

    // With that epoch in the archive as of now it would have gone on: the name alone tells them apart.
    let state = redis.ask(&["HGET", "centrifugo.archive.state", "g"]);
    assert!(next.epoch.ends_with(&state) && !epoch.ends_with(&state));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_flushed_begins_new_epochs() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = archived(Overflow::Fail);
    archiver.publish("a", &options).await;
    let (_, epoch) = archiver.top("a", &options).await;
    archiver.ingest("a").await;
    archiver.publish("a", &options).await;
    redis.ask(&["FLUSHALL"]);
    let next = archiver.publish("a", &options).await;
    assert_ne!(*next.epoch, *epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_or_restarted_master_begins_a_new_epoch_and_keeps_counting() {
    let redis = &mut RedisServer::start();
    let archiver = archiver(redis).await;
    let options = archived(Overflow::Fail);
    for _ in 0..5 {
        archiver.publish("a", &options).await;
    }
    let (_, epoch) = archiver.top("a", &options).await;
    assert_eq!(redis.ask(&["SAVE"]), "OK");
    archiver.publish("a", &options).await;
    // Begun behind what is saved, and in the archive but for its last.
    let lost = archiver.publish("lost", &options).await;
    archiver.ingest("lost").await;
    archiver.publish("lost", &options).await;
    redis.revive();
    assert_eq!(redis.ask(&["HGET", META, "s"]), "5", "something was lost");
    let mut now = String::new();
    eventually("it is there again", SOON, async || {
        let range = bobolink::broker::Range { limit: Some(0), ..Default::default() };
        let history = options.history.expect("history");
        let read = archiver.node.broker.archived_history("a", &range, &history).await;
        read.is_ok_and(|read| {
            now = read.top.epoch.to_string();
            now != epoch
        })
    })
    .await;
    let next = archiver.publish("a", &options).await;
    assert_eq!((next.offset, &*next.epoch), (6, &*now));
    let again = archiver.publish("lost", &options).await;
    assert_eq!(again.offset, 2);
    assert_ne!(again.epoch, lost.epoch, "offset 2 was given before under that one");
    // And that one expires in peace.
    archiver.ingest("a").await;
    expire(redis);
    assert_eq!(archiver.top("a", &options).await, (6, now));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_stream_waits_for_an_archive_that_is_behind() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let lasting = archived(Overflow::Fail);
    archiver.publish("a", &lasting).await;
    let (_, epoch) = archiver.top("a", &lasting).await;
    archiver.ingest("a").await;
    // The archive does not have this one when its stream expires.
    let options = with_meta_ttl(1);
    archiver.publish("a", &options).await;
    eventually("the stream has expired", SOON, async || redis.ask(&["EXISTS", META]) == "0").await;
    let refused = archiver.since("a", 1, &epoch, &options).await;
    assert_eq!(refused, Err(BrokerError::ArchiveUnavailable));
    let published = archiver.try_publish("a", &options).await;
    assert_eq!(published, Err(BrokerError::ArchiveUnavailable));
    // A channel that never was has nothing to wait for.
    assert_eq!(archiver.publish("new", &options).await.offset, 1);
    archiver.ingest("a").await;
    let next = archiver.publish("a", &options).await;
    assert_eq!((next.offset, &*next.epoch), (3, &*epoch));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_from_before_the_archive_goes_on() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = archived(Overflow::Fail);
    let plain = PublishOptions { archive: None, ..options.clone() };
    for _ in 0..3 {
        archiver.publish("a", &plain).await;
    }
    let next = archiver.publish("a", &options).await;
    assert_eq!(next.offset, 4);
    assert_eq!(archiver.since("a", 0, &next.epoch, &options).await, Ok(vec![1, 2, 3, 4]));
    assert_eq!(archiver.queued("a").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_is_enough_to_have_an_epoch() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = archived(Overflow::Fail);
    let (offset, epoch) = archiver.top("a", &options).await;
    assert_eq!((offset, epoch.len()), (0, 14));
    let first = archiver.publish("a", &options).await;
    assert_eq!((first.offset, &*first.epoch), (1, &*epoch));
}
