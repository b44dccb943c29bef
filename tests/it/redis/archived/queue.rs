//! What is put into the queue, and when nothing is.

use bobolink::broker::{BrokerError, Overflow, PublishOptions};
use bobolink::config::redis::Addresses;
use bobolink::redis::slot_of;

use super::super::masters::TestCluster;
use super::super::process::RedisServer;
use super::{Archiver, archived};
use crate::support::{SOON, Server, eventually, get};

const META: &str = "centrifugo.stream.meta.a";

async fn archiver(redis: &RedisServer, backlog: usize) -> Archiver {
    let address = Addresses(vec![redis.address().to_string()]);
    Archiver::reaching(backlog, |settings| settings.address = address).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_is_in_the_queue_as_it_is_in_its_stream() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis, 100).await;
    let options = archived(Overflow::Fail);
    for number in 1..=3 {
        assert_eq!(archiver.publish("a", &options).await.offset, number);
    }
    archiver.publish("b", &options).await;
    let queued = archiver.queued("a").await;
    let (_, epoch) = archiver.top("a", &options).await;
    let of_a: Vec<_> = queued.iter().filter(|(_, record)| &*record.channel == "a").collect();
    assert_eq!((queued.len(), of_a.len()), (4, 3));
    for (number, (_, record)) in (1..).zip(of_a) {
        assert_eq!((record.message.offset(), &*record.message.epoch), (number, &*epoch));
        assert_eq!(&record.message.publication.data[..], b"1");
        let age = record.message.id.time() - record.message.publication.time;
        assert!(age.abs() < 60_000, "{age} ms between the id and the publication");
    }
    assert!(queued.windows(2).all(|pair| pair[0].1.channel != pair[1].1.channel
        || pair[0].1.message.id < pair[1].1.message.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_rise_past_what_floating_numbers_can_hold() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis, 100).await;
    let options = archived(Overflow::Fail);
    archiver.publish("a", &options).await;
    for (last, next) in [
        // The clock of the last one was ahead.
        ("9007199254740992123", "9007199254740992124"),
        ("9007199254740999999", "9007199254741000000"),
        ("8999999999999999999", "9000000000000000000"),
        ("9223372036854775806", "9223372036854775807"),
        ("9223372036854775807", "9223372036854775807"),
    ] {
        redis.ask(&["HSET", META, "i", last]);
        archiver.publish("a", &options).await;
        let queued = archiver.queued("a").await;
        let id = queued.last().expect("an entry").1.message.id;
        assert_eq!(id.to_string(), next, "behind {last}");
        assert_eq!(redis.ask(&["HGET", META, "i"]), next);
    }
    // Offsets that somebody else gave, who knows nothing of ids, keep room for ids of their own.
    redis.ask(&["HSET", META, "i", "9000000000000000000"]);
    redis.ask(&["HINCRBY", META, "s", "5"]);
    redis.ask(&["DEL", "centrifugo.stream.a"]);
    archiver.publish("a", &options).await;
    assert_eq!(redis.ask(&["HGET", META, "i"]), "9000000000000000006");
    // An id from the clock.
    redis.ask(&["HSET", META, "i", "7"]);
    archiver.publish("a", &options).await;
    let id = archiver.queued("a").await.pop().expect("an entry").1.message.id;
    let now: Vec<i64> = redis.cli(&["TIME"]).iter().map(|n| n.parse().expect("a number")).collect();
    let now_ms = now[0] * 1_000 + now[1] / 1_000;
    assert!((now_ms - 60_000..=now_ms).contains(&id.time()), "{id}");
    assert_eq!(id.number() % (1 << 20), 0, "the first of its millisecond");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_before_anything_is_written() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis, 3).await;
    let options = archived(Overflow::Fail);
    for _ in 0..3 {
        archiver.publish("a", &options).await;
    }
    let before = redis.cli(&["HGETALL", META]);
    for channel in ["a", "new"] {
        let refused = archiver.try_publish(channel, &options).await;
        assert_eq!(refused, Err(BrokerError::ArchiveUnavailable));
    }
    assert_eq!(redis.cli(&["HGETALL", META]), before);
    assert_eq!(redis.ask(&["XLEN", "centrifugo.stream.a"]), "3");
    assert_eq!(redis.ask(&["EXISTS", "centrifugo.stream.meta.new"]), "0");
    assert_eq!(archiver.ingest("a").await, 3);
    assert_eq!(archiver.publish("a", &options).await.offset, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_queue_does_not_take_is_published_where_that_is_wanted() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis, 2).await;
    let options = archived(Overflow::Drop);
    for number in 1..=3 {
        assert_eq!(archiver.publish("a", &options).await.offset, number);
    }
    assert_eq!(archiver.queued("a").await.len(), 2);
    let metrics = archiver.node.broker.archive().expect("an archive").metrics();
    assert_eq!(metrics.history.dropped.get(), 1);
    let told = archiver.health.delivery();
    assert!(
        String::from_utf8_lossy(&told.body).contains("delivered and missing"),
        "{:?}",
        told.body
    );
    // The archive does not know offset 3, so nothing may make it go on behind 2.
    assert_eq!(redis.ask(&["TTL", META]), "-1");
    let (_, epoch) = archiver.top("a", &options).await;
    assert_eq!(redis.ask(&["TTL", META]), "-1", "nor may a read");
    assert_eq!(archiver.since("a", 0, &epoch, &options).await, Ok(vec![1, 2, 3]));
    archiver.ingest("a").await;
    assert_eq!(archiver.publish("a", &options).await.offset, 4);
    assert_ne!(redis.ask(&["TTL", META]), "-1");
    let ids = archiver.queued("a").await;
    let tail = archiver.store.tail("a").await.expect("read").expect("a tail");
    assert!(ids[0].1.message.id.number() > tail.last_id.number() + 1, "room for what was dropped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_and_a_stale_version_put_nothing_into_the_queue() {
    let redis = RedisServer::start();
    let archiver = archiver(&redis, 100).await;
    let keyed = PublishOptions { idempotency_key: "k".into(), ..archived(Overflow::Fail) };
    let first = archiver.publish("a", &keyed).await;
    let again = archiver.publish("a", &keyed).await;
    assert_eq!((again.offset, &again.epoch), (first.offset, &first.epoch));
    let versioned = PublishOptions { version: 5, ..archived(Overflow::Fail) };
    archiver.publish("a", &versioned).await;
    assert!(archiver.publish("a", &versioned).await.suppressed.is_some());
    assert_eq!(archiver.queued("a").await.len(), 2);
}

/// Of a gateway with an archived namespace.
const SETTINGS: &str = "health.enabled = true\nhealth.canary_interval = \"100ms\"\n\
    health.canary_timeout = \"500ms\"\nhealth.lb_grace = \"1s\"\nhistory.path = \"history.db\"\n\
    [[channel.namespaces]]\nname = \"long\"\nhistory_archive = true\nhistory_size = 10\n\
    history_ttl = \"60s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_drops_keys_is_an_error_at_the_start_and_later_not_used() {
    let redis = RedisServer::start_with(&["--maxmemory-policy", "allkeys-lru"]);
    let settings = format!("{}{SETTINGS}", redis.settings());
    let (status, text) = Server::fails_to_start(&settings, &[]).await;
    assert!(!status.success() && text.contains("noeviction"), "{text}");

    let mut redis = RedisServer::start();
    let used = gateway_on(&redis).await;
    redis.ask(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    used.log()
        .wait_for(|line| line["error"].as_str().is_some_and(|e| e.contains("noeviction")))
        .await;
    eventually("it is not ready", SOON, async || {
        get(used.address(), "/health/ready").await.status != 200
    })
    .await;
    redis.revive();
    eventually("it is ready again", SOON, async || {
        get(used.address(), "/health/ready").await.status == 200
    })
    .await;
}

async fn gateway_on(redis: &RedisServer) -> Server {
    let server = Server::start(&format!("{}{SETTINGS}", redis.settings())).await;
    let is_ready = async || get(server.address(), "/health/ready").await.status == 200;
    eventually("it is ready", SOON, is_ready).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_each_slot_has_a_queue_and_is_announced() {
    let cluster = TestCluster::shared().await;
    let addresses = Addresses(vec![cluster.addresses()]);
    let prefix = uuid::Uuid::new_v4().to_string();
    let archiver = Archiver::reaching(100, |settings| {
        settings.cluster_address = addresses;
        settings.prefix.clone_from(&prefix);
    });
    let archiver = archiver.await;
    let options = archived(Overflow::Fail);
    let channels: Vec<_> = (0..30).map(|number| format!("room:{number}")).collect();
    for channel in &channels {
        archiver.publish(channel, &options).await;
        archiver.publish(channel, &options).await;
    }
    let slots = format!("{prefix}.archive.slots");
    let members = archiver.call(&slots, |_| bobolink::redis::Command::new("SMEMBERS").arg(&slots));
    let members = members.await.expect("slots");
    let members: Vec<_> =
        members.list().expect("a set").iter().filter_map(|m| m.number()).collect();
    for channel in &channels {
        assert!(members.contains(&u64::from(slot_of(channel))), "{channel}");
        assert_eq!(archiver.ingest(channel).await, 2);
        let tail = archiver.store.tail(channel).await.expect("read").expect("a tail");
        assert_eq!(tail.offset, 2);
    }
}
