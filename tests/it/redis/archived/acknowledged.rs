//! Publishes that are answered once they are stored.

use std::time::Duration;

use bobolink::broker::{Archiving, BrokerError, Overflow, PublishOptions};
use bobolink::config::redis::Addresses;
use bobolink::redis::shard_of;
use bobolink::time::Clock;
use rustix::process::Signal;

use super::super::process::RedisServer;
use super::{Archiver, archived};
use crate::support::{SOON, eventually};

async fn archiver(redis: &RedisServer) -> Archiver {
    let address = Addresses(vec![redis.address().to_string()]);
    Archiver::reaching(100, |settings| settings.address = address).await
}

fn until_stored() -> PublishOptions {
    let archive = Some(Archiving { overflow: Overflow::Fail, until_stored: true });
    PublishOptions { archive, idempotency_key: "k".into(), ..archived(Overflow::Fail) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_comes_with_the_store_and_not_before() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis).await;
    let options = until_stored();
    let mut publishing = Box::pin(archiver.try_publish("a", &options));
    eventually("it is queued", SOON, async || {
        assert!(futures_util::poll!(&mut publishing).is_pending());
        !archiver.queued("a").await.is_empty()
    })
    .await;
    // A repeat waits for the same entry.
    let mut again = Box::pin(archiver.try_publish("a", &options));
    let early = tokio::time::timeout(Duration::from_millis(700), &mut again).await;
    assert!(early.is_err() && futures_util::poll!(&mut publishing).is_pending());
    assert_eq!(archiver.ingest("a").await, 1);
    let published = publishing.await.expect("stored");
    assert_eq!(published.offset, 1);
    assert_eq!(again.await.expect("stored").offset, 1);
    let tail = archiver.store.tail("a").await.expect("read").expect("a tail");
    assert_eq!(tail.offset, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_the_outcome_is_unknown() {
    let redis = RedisServer::start();
    let address = Addresses(vec![redis.address().to_string()]);
    let soon = Duration::from_millis(500);
    let archiver = Archiver::with_ack_timeout(soon, 100, |settings| settings.address = address);
    let archiver = archiver.await;
    let unanswered = archiver.try_publish("a", &until_stored()).await;
    assert_eq!(unanswered, Err(BrokerError::OutcomeUnknown));
    assert_eq!(archiver.queued("a").await.len(), 1, "it is published");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_another_master_does_not_have_was_not_stored() {
    let redis = &mut RedisServer::start();
    let archiver = archiver(redis).await;
    let options = until_stored();
    let mut publishing = Box::pin(archiver.try_publish("a", &options));
    eventually("it is queued", SOON, async || {
        assert!(futures_util::poll!(&mut publishing).is_pending());
        redis.ask(&["XLEN", "centrifugo.archive.stream"]) == "1"
    })
    .await;
    redis.revive();
    assert_eq!(redis.ask(&["XLEN", "centrifugo.archive.stream"]), "0", "it was lost");
    assert_eq!(publishing.await, Err(BrokerError::OutcomeUnknown));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_hangs_keeps_nobody_waiting_who_publishes_at_another() {
    let servers = [RedisServer::start(), RedisServer::start()];
    let addresses = Addresses(servers.iter().map(|one| one.address().to_string()).collect());
    let archiver = Archiver::with_ack_timeout(SOON, 100, |settings| {
        settings.address = addresses;
        // Longer than a publish waits to be stored.
        settings.io_timeout = 3 * SOON;
    });
    let archiver = archiver.await;
    let channel_of = |shard| {
        let names = (0..).map(|number| format!("c{number}"));
        names.into_iter().find(|name| shard_of(name, 2) == shard).expect("a channel")
    };
    let (hung, sound) = (channel_of(0), channel_of(1));
    let options = until_stored();
    let mut stuck = Box::pin(archiver.try_publish(&hung, &options));
    eventually("it is queued", SOON, async || {
        assert!(futures_util::poll!(&mut stuck).is_pending());
        !archiver.queued(&hung).await.is_empty()
    })
    .await;
    servers[0].signal(Signal::STOP);
    // So long that everything that waits is asked for meanwhile, of the one that hangs too.
    let clock = Clock::real();
    let until = clock.now() + Duration::from_secs(3);
    while clock.now() < until {
        let options = PublishOptions { idempotency_key: String::new(), ..until_stored() };
        let mut publishing = Box::pin(archiver.try_publish(&sound, &options));
        eventually("it is queued", SOON, async || {
            assert!(futures_util::poll!(&mut publishing).is_pending());
            !archiver.queued(&sound).await.is_empty()
        })
        .await;
        assert_eq!(archiver.ingest(&sound).await, 1);
        publishing.await.expect("stored");
    }
    servers[0].signal(Signal::CONT);
}
