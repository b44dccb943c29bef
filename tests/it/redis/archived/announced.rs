//! What consumers are told of the slots of clusters.

use std::sync::Arc;

use bobolink::broker::Overflow;
use bobolink::config::redis::{Addresses, Redis as Settings};
use bobolink::redis::{Keys, Receive, Redis, shard_of, slot_of};
use bobolink::time::Clock;
use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::super::masters::TestCluster;
use super::{Archiver, archived};
use crate::support::{SOON, eventually};

/// A channel of each of two shards, in one slot.
fn channels_of_one_slot() -> [String; 2] {
    let names = |shard| {
        let names = (0..).map(|number| format!("room:{number}"));
        names.filter(move |name| shard_of(name, 2) == shard)
    };
    let first = names(0).next().expect("a channel");
    let second = names(1).find(|name| slot_of(name) == slot_of(&first)).expect("a channel");
    [first, second]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_announced_once_in_each_of_several_clusters() {
    let (one, two) = tokio::join!(TestCluster::start(0), TestCluster::start(0));
    let clusters = [one, two];
    let addresses = Addresses(clusters.iter().map(TestCluster::addresses).collect());
    let archiver = Archiver::reaching(100, |settings| settings.cluster_address = addresses).await;
    let channels = channels_of_one_slot();
    for _ in 0..5 {
        for channel in &channels {
            archiver.publish(channel, &archived(Overflow::Fail)).await;
        }
    }
    let slot = slot_of(&channels[0]).to_string();
    for cluster in &clusters {
        let set = "centrifugo.archive.slots";
        let keeper = &cluster.nodes[cluster.master_of(set)];
        assert_eq!(keeper.cli(&["SMEMBERS", set]), [slot.as_str()]);
        assert_eq!(keeper.calls("sadd"), 1);
    }
}

/// Keeps what is said on one PUB/SUB channel.
struct Ears {
    name: CompactString,
    heard: Mutex<Vec<String>>,
}

impl Receive for Ears {
    fn message(&self, name: &str, message: &Bytes) {
        if name == self.name {
            self.heard.lock().push(String::from_utf8_lossy(message).into_owned());
        }
    }

    fn is_wanted(&self, _: &str) -> bool {
        true
    }

    fn wanted(&self, _: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
    }

    fn interrupted(&self, _: usize, _: bool, _: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _: usize) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_told_where_something_comes_after_a_while() {
    let cluster = TestCluster::shared().await;
    let addresses = Addresses(vec![cluster.addresses()]);
    let prefix = uuid::Uuid::new_v4().to_string();
    let settings =
        Settings { cluster_address: addresses, prefix: prefix.clone(), ..Settings::default() };
    let name = Keys::new(&prefix).archive_arrived();
    let ears = Arc::new(Ears { name: name.clone(), heard: Mutex::default() });
    let receive: Arc<dyn Receive> = ears.clone();
    let redis = Redis::new(&settings, &Clock::real(), &receive).expect("settings");
    let stop = CancellationToken::new();
    let _guard = stop.clone().drop_guard();
    redis.start(&stop);
    tokio::time::timeout(SOON, redis.reached()).await.expect("connected to Redis");
    redis.shards()[0].hear(&name).await.expect("heard");

    let archiver = Archiver::reaching(10_000, |redis| *redis = settings).await;
    let options = archived(Overflow::Fail);
    let first = format!("0 {}", slot_of("room:1"));
    archiver.publish("room:1", &options).await;
    eventually("they are told", SOON, async || *ears.heard.lock() == [first.as_str()]).await;
    let clock = Clock::real();
    let started = clock.now();
    for _ in 0..100 {
        archiver.publish("room:1", &options).await;
    }
    // Half a second without anything is what makes them be told again.
    let most = 1 + (clock.now() - started).as_millis() / 500 + 1;
    archiver.publish("room:2", &options).await;
    let second = format!("0 {}", slot_of("room:2"));
    eventually("and of others", SOON, async || ears.heard.lock().contains(&second)).await;
    let told = ears.heard.lock().iter().filter(|text| **text == first).count();
    assert!(told as u128 <= most, "{told} times");
}
