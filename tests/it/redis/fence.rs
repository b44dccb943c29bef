//! No client is told that it has everything when the master may have lost something.
//!
//! Each test first shows that something was lost: that an offset was answered for which the master
//! of later does not know. A test that could not show that would prove nothing.

use std::sync::Arc;
use std::time::Duration;

use super::contract::{Backend, keeping};
use super::gateways::{data_until, gateway, recover};
use super::process::{RedisServer, settings_of};
use super::proxy::{Pair, Proxy};
use crate::support::{SOON, eventually};
use bobolink::broker::{BrokerError, PublishOptions, Range};
use bobolink::config::redis::Addresses;
use bobolink::hub::Delivery;
use bobolink::protocol::publication::StreamPosition;
use rustix::process::Signal;

const META: &str = "centrifugo.stream.meta.a";
/// As long as any of it may take.
const TTL: Duration = Duration::from_secs(600);

/// A broker that reaches its master through a proxy.
async fn backend_through(proxy: &Proxy) -> Backend {
    let address = Addresses(vec![proxy.address.to_string()]);
    Backend::reaching(|redis| redis.address = address).await
}

/// Publishes as soon as that works, once whatever became of attempts before.
pub async fn publish_when_back(backend: &Backend, data: &str, options: &PublishOptions) -> u64 {
    let options = PublishOptions { idempotency_key: data.to_owned(), ..options.clone() };
    let mut offset = 0;
    eventually("publishing works again", SOON, async || {
        let published = backend.try_publish("a", data, &options).await;
        published.is_ok_and(|published| {
            offset = published.offset;
            true
        })
    })
    .await;
    offset
}

/// What recovery from a position in the former epoch gives.
pub async fn recover_from(
    backend: &Backend,
    channel: &str,
    offset: u64,
    epoch: &str,
) -> Result<usize, BrokerError> {
    let since = Some(StreamPosition { offset, epoch: epoch.into() });
    let range = Range { since, ..Range::default() };
    backend.broker.history(channel, &range, TTL).await.map(|history| history.publications.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_replica_that_lacks_something_recovers_nobody() {
    let mut pair = Pair::start().await;
    let way = Proxy::to(pair.master.address()).await;
    let backend = backend_through(&way).await;
    let options = keeping(100);
    for number in 1..=11 {
        backend.publish("a", &number.to_string(), &options).await;
    }
    pair.catch_up().await;
    pair.cut();
    for number in 12..=13 {
        assert_eq!(backend.publish("a", &number.to_string(), &options).await.offset, number);
    }
    let (_, epoch) = backend.top("a").await;
    pair.fail_over();
    assert_eq!(pair.replica.ask(&["HGET", META, "s"]), "11", "something was lost");
    assert_eq!(pair.replica.ask(&["HGET", META, "e"]), epoch, "and the epoch does not show it");

    way.turn(Some(pair.replica.address()));
    assert_eq!(publish_when_back(&backend, "12 again", &options).await, 12);
    for number in 13..=14 {
        backend.publish("a", &format!("{number} again"), &options).await;
    }
    for offset in [10, 11, 12, 13, 14] {
        let recovered = recover_from(&backend, "a", offset, &epoch).await;
        assert_eq!(recovered, Err(BrokerError::UnrecoverablePosition), "from {offset}");
    }
    let (top, now) = backend.top("a").await;
    assert_eq!(top, 14, "the counter goes on");
    assert_ne!(now, epoch);
    assert_eq!(recover_from(&backend, "a", 12, &now).await, Ok(2));

    // Without the fence the same read would have been a lie.
    pair.replica.ask(&["HSET", META, "e", &epoch]);
    assert_eq!(
        recover_from(&backend, "a", 13, &epoch).await,
        Ok(1),
        "13 of the first master is not there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_redis_that_wakes_up_in_the_past_recovers_nobody() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    let options = keeping(100);
    for number in 1..=11 {
        backend.publish("a", &number.to_string(), &options).await;
    }
    assert_eq!(redis.ask(&["SAVE"]), "OK");
    for number in 12..=13 {
        backend.publish("a", &number.to_string(), &options).await;
    }
    let (_, epoch) = backend.top("a").await;
    redis.revive();
    assert_eq!(redis.ask(&["HGET", META, "s"]), "11", "something was lost");
    assert_eq!(redis.ask(&["HGET", META, "e"]), epoch, "and the epoch does not show it");
    eventually("a position of before is refused", SOON, async || {
        recover_from(&backend, "a", 11, &epoch).await == Err(BrokerError::UnrecoverablePosition)
    })
    .await;
    assert_eq!(publish_when_back(&backend, "12 again", &options).await, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_wakes_up_empty_begins_anew() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    let before = backend.publish("a", "1", &keeping(9)).await;
    redis.revive();
    assert_eq!(publish_when_back(&backend, "1 again", &keeping(9)).await, 1);
    let (_, epoch) = backend.top("a").await;
    assert_ne!(epoch, *before.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_first_under_another_master_begins_another_epoch() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    let before = backend.publish("a", "1", &keeping(9)).await;
    assert_eq!(redis.ask(&["SAVE"]), "OK");
    redis.revive();
    // Nobody reads it in between, which would do the same.
    assert_eq!(publish_when_back(&backend, "2", &keeping(9)).await, 2);
    assert_ne!(redis.ask(&["HGET", META, "e"]), *before.epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_another_software_keeps_its_epoch_until_the_first_failover() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    redis.ask(&["HSET", META, "e", "theirs", "s", "0"]);
    assert_eq!(backend.top("a").await, (0, "theirs".to_owned()));
    assert_eq!(redis.ask(&["HEXISTS", META, "f"]), "1", "it is ours as well now");

    let other = "centrifugo.stream.meta.b";
    redis.ask(&["HSET", other, "e", "theirs", "s", "0"]);
    assert_eq!(redis.ask(&["SAVE"]), "OK");
    redis.revive();
    publish_when_back(&backend, "1", &keeping(9)).await;
    assert_ne!(backend.top("b").await.1, "theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_identity_that_no_replica_has_counts_for_nothing() {
    let pair = Pair::start().await;
    pair.master.ask(&["HSET", META, "e", "theirs", "s", "0"]);
    let name = "centrifugo.bobolink.identity";
    pair.replica.signal(Signal::STOP);
    let way = Proxy::to(pair.master.address()).await;
    let backend = backend_through(&way).await;
    assert_ne!(backend.top("a").await.1, "theirs");
    assert_eq!(pair.master.ask(&["EXISTS", name]), "0", "the next one tries again");
    pair.replica.signal(Signal::CONT);
    pair.catch_up().await;
    way.turn(Some(pair.master.address()));
    eventually("it is kept", SOON, async || pair.replica.ask(&["EXISTS", name]) == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_position_is_told_at_once_that_it_is_void() {
    let mut redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    backend.publish("a", "1", &keeping(9)).await;
    let positioned = Delivery { positioned: true, ..Delivery::default() };
    let subscriber = backend.subscriber_with("a", positioned).await;
    let bystander = backend.subscriber("a").await;
    assert_eq!(redis.ask(&["SAVE"]), "OK");
    redis.revive();
    eventually("it is told", SOON, async || subscriber.has_lost_its_position()).await;
    assert!(!bystander.has_lost_its_position(), "it has none");
    publish_when_back(&backend, "2", &keeping(9)).await;
    assert_eq!(bystander.publications(1).await, ["2"]);
    assert!(subscriber.pushes(0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_alone_voids_no_position() {
    let redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    let (_, epoch) = backend.top("a").await;
    let positioned = Delivery { positioned: true, ..Delivery::default() };
    let subscriber = backend.subscriber_with("a", positioned).await;
    way.turn(Some(redis.address()));
    publish_when_back(&backend, "1", &keeping(9)).await;
    assert_eq!(subscriber.publications(1).await, ["1"]);
    assert_eq!(backend.top("a").await.1, epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_missed_something_while_the_connection_was_lost_is_told_soon() {
    let redis = RedisServer::start();
    let way = Proxy::to(redis.address()).await;
    let backend = backend_through(&way).await;
    for channel in ["a", "b"] {
        assert_eq!(backend.publish(channel, "1", &keeping(9)).await.offset, 1);
    }
    let positioned = Delivery { positioned: true, ..Delivery::default() };
    let missing = backend.subscriber_with("a", positioned.clone()).await;
    let whole = backend.subscriber_with("b", positioned).await;
    // Another node publishes while this one hears nothing.
    let other = Proxy::to(redis.address()).await;
    let other = backend_through(&other).await;
    way.turn(None);
    assert_eq!(other.publish("a", "2", &keeping(9)).await.offset, 2);
    way.turn(Some(redis.address()));
    eventually("it is told", SOON, async || missing.has_lost_its_position()).await;
    assert!(missing.pushes_now().is_empty());
    assert_eq!(backend.publish("b", "2", &keeping(9)).await.offset, 2);
    assert_eq!(whole.publications(1).await, ["2"]);
    assert!(!whole.has_lost_its_position(), "it has missed nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_gateway_recover_from_a_failover_that_lost_something() {
    let mut pair = Pair::start().await;
    let way = Arc::new(Proxy::to(pair.master.address()).await);
    let settings = settings_of(way.address) + "engine.redis.failover_spread = \"100ms\"\n";
    let one = gateway(&settings).await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    let start = ann.subscribe("chat:a").await.expect("subscribed");
    bob.publish("chat:a", "1").await.expect("published");
    pair.catch_up().await;
    pair.cut();
    bob.publish("chat:a", "2").await.expect("published");
    assert_eq!(data_until(&mut ann, "2").await, ["1", "2"]);
    pair.fail_over();
    assert_eq!(pair.replica.ask(&["HGET", "centrifugo.stream.meta.chat:a", "s"]), "1");
    way.turn(Some(pair.replica.address()));

    let push = loop {
        let push = ann.push(SOON).await.expect("a push");
        if push.unsubscribe.is_some() {
            break push;
        }
        assert!(push.publication.is_none(), "nothing of the new master before that: {push:?}");
    };
    assert_eq!(push.unsubscribe.map(|unsubscribe| unsubscribe.code), Some(2500));
    let result = recover(&mut ann, "chat:a", 2, &start.epoch).await;
    assert!(result.was_recovering && !result.recovered);
    assert_ne!(result.epoch, start.epoch);
    bob.publish("chat:a", "3").await.expect("published");
    assert_eq!(data_until(&mut ann, "3").await, ["3"]);
}
