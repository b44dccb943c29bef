//! Redis Cluster while something is wrong or on purpose otherwise: planned failovers, masters that hang,
//! nodes that do not hear of each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bobolink::broker::{BrokerError, Published, Range};
use bobolink::config::redis::{Addresses, Redis};
use bobolink::hub::Delivery;
use bobolink::protocol::publication::StreamPosition;
use bobolink::time::Clock;
use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::contract::{Backend, Subscriber, keeping};
use super::fence::recover_from;
use super::masters::TestCluster;
use super::outages::FAILOVER;
use super::process::RedisServer;
use crate::support::{SOON, eventually};

/// Publishers of one channel, and what each of them waits before the next publication.
const PUBLISHERS: usize = 4;
const PACE: Duration = Duration::from_millis(5);
/// What is read at once of a long stream: a page is answered well within `io_timeout`.
const PAGE: usize = 1_000;

async fn backend_on(cluster: &TestCluster, adapt: impl FnOnce(&mut Redis)) -> Backend {
    let addresses = Addresses(vec![cluster.addresses()]);
    let backend = Backend::reaching(|redis| {
        redis.cluster_address = addresses;
        adapt(redis);
    });
    backend.await
}

fn positioned() -> Delivery {
    Delivery { positioned: true, ..Delivery::default() }
}

async fn publishes(backend: &Backend, channel: &str, data: &str) -> bool {
    backend.try_publish(channel, data, &keeping(100)).await.is_ok()
}

/// A publication that was answered with success, and when.
#[derive(Debug)]
struct Acknowledged {
    at: Instant,
    data: String,
    published: Published,
}

/// Publishes on a channel until told to stop; not held up by whatever else the test does.
fn load(
    backend: &Arc<Backend>,
    channel: &str,
    stop: &watch::Receiver<bool>,
) -> JoinHandle<Vec<Acknowledged>> {
    let (backend, channel, stop) = (Arc::clone(backend), channel.to_owned(), stop.clone());
    tokio::spawn(async move { published_until(&backend, &channel, &stop).await })
}

async fn published_until(
    backend: &Backend,
    channel: &str,
    stop: &watch::Receiver<bool>,
) -> Vec<Acknowledged> {
    let clock = Clock::real();
    let publisher = async |name: usize| {
        let mut acknowledged = Vec::new();
        let mut number = 0;
        while !*stop.borrow() {
            number += 1;
            let data = format!("{name}.{number}");
            let answer = backend.try_publish(channel, &data, &keeping(100_000)).await;
            if let Ok(published) = answer {
                acknowledged.push(Acknowledged { at: clock.now(), data, published });
            }
            tokio::time::sleep(PACE).await;
        }
        acknowledged
    };
    let mut all: Vec<_> =
        join_all((0..PUBLISHERS).map(publisher)).await.into_iter().flatten().collect();
    all.sort_by_key(|acknowledged| acknowledged.at);
    all
}

/// The longest for which nothing was answered with success.
fn silence(all: &[Acknowledged]) -> Duration {
    all.windows(2).map(|two| two[1].at.duration_since(two[0].at)).max().unwrap_or_default()
}

/// The offsets under which a stream has each text.
async fn kept(backend: &Backend, channel: &str) -> HashMap<String, Vec<u64>> {
    let mut kept: HashMap<_, Vec<_>> = HashMap::new();
    let mut offset = 0;
    loop {
        // An empty epoch is any.
        let since = Some(StreamPosition { offset, epoch: String::new() });
        let range = Range { since, limit: Some(PAGE), ..Range::default() };
        let page = backend.history(channel, range).await;
        let Some((last, _)) = page.last() else { return kept };
        offset = *last;
        for (offset, data) in page {
            kept.entry(data).or_default().push(offset);
        }
    }
}

/// What was answered with success is there, once, under the offset that was told.
async fn are_kept(backend: &Backend, channel: &str, all: &[Acknowledged]) {
    let kept = kept(backend, channel).await;
    for Acknowledged { data, published, .. } in all {
        let offsets = kept.get(data).map(Vec::as_slice).unwrap_or_default();
        assert_eq!(offsets, [published.offset], "{data} of {channel}");
    }
}

/// Waits until a subscriber behind `last` has got everything up to `top`, or was told that it may lack
/// something; the last that it has got. A publication is answered before it comes over PUB/SUB.
pub async fn followed_to(subscriber: &Subscriber, mut last: u64, top: u64) -> u64 {
    eventually("all of it arrives, or is known to be missing", SOON, async || {
        last = followed(subscriber, last);
        last == top || subscriber.has_lost_its_position()
    })
    .await;
    last
}

/// The last offset that a subscriber has got since the one given; there may be no gap before it.
fn followed(subscriber: &Subscriber, mut last: u64) -> u64 {
    for push in subscriber.pushes_now() {
        assert_eq!(push["pub"]["offset"], last + 1, "a gap");
        last += 1;
    }
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_under_load_loses_nothing_and_recovers_nobody_falsely() {
    let cluster = TestCluster::start(1).await;
    let backend = Arc::new(backend_on(&cluster, |redis| redis.force_resp2 = true).await);
    let (hit, spared) = (cluster.channel_at(0, "a"), cluster.channel_at(1, "a"));
    for channel in [&hit, &spared] {
        assert!(publishes(&backend, channel, "0").await);
    }
    let ((_, epoch), (_, spared_epoch)) = (backend.top(&hit).await, backend.top(&spared).await);
    let loser = backend.subscriber_with(&hit, positioned()).await;
    let keeper = backend.subscriber_with(&spared, positioned()).await;

    let (stop, stopped) = watch::channel(false);
    let loads = [&hit, &spared].map(|channel| load(&backend, channel, &stopped));
    let successor = &cluster.nodes[3];
    let offset = |node: &RedisServer| node.ask(&["HGET", &meta_of(&hit), "s"]).parse::<u64>();
    let has_begun = async || offset(&cluster.nodes[0]).is_ok_and(|offset| offset > 100);
    eventually("there is some load", SOON, has_begun).await;
    let (clock, asked) = (Clock::real(), Clock::real().now());
    cluster.hand_over(3).await;
    let of_cluster = clock.now().duration_since(asked);
    let epoch_of = || successor.ask(&["HGET", &meta_of(&hit), "e"]);
    eventually("it is published to", FAILOVER, async || epoch_of() != epoch).await;
    let before = offset(successor).expect("an offset");
    let goes_on = async || offset(successor).is_ok_and(|offset| offset > before + 100);
    eventually("and again", FAILOVER, goes_on).await;
    stop.send_replace(true);
    let [of_hit, of_spared] = join_all(loads).await.try_into().expect("two");
    let (of_hit, of_spared) = (of_hit.expect("no panic"), of_spared.expect("no panic"));

    are_kept(&backend, &hit, &of_hit).await;
    are_kept(&backend, &spared, &of_spared).await;
    let (silence, beside) = (silence(&of_hit), silence(&of_spared));
    println!("silent for {silence:?}, for {beside:?} elsewhere; the cluster took {of_cluster:?}");

    // Another master may have lost something, whatever was planned.
    eventually("who has a position is told", SOON, async || loser.has_lost_its_position()).await;
    for offset in [0, 1, of_hit[0].published.offset, of_hit[of_hit.len() - 1].published.offset] {
        let recovered = recover_from(&backend, &hit, offset, &epoch).await;
        assert_eq!(recovered, Err(BrokerError::UnrecoverablePosition), "from {offset}");
    }
    assert!(followed(&loser, 1) > 1);
    let (top, now) = backend.top(&spared).await;
    assert_eq!(now, spared_epoch, "the other master is the one it was");
    let last = followed_to(&keeper, 1, top).await;
    let missed = recover_from(&backend, &spared, last, &spared_epoch).await;
    assert_eq!(missed, Ok((top - last) as usize));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_hung_and_was_replaced_wakes_up_and_nobody_listens_to_it() {
    let cluster = TestCluster::start(1).await;
    let backend = backend_on(&cluster, |_| {}).await;
    let channel = cluster.channel_at(0, "a");
    for number in 1..=5 {
        assert!(publishes(&backend, &channel, &number.to_string()).await);
    }
    let (_, epoch) = backend.top(&channel).await;
    let subscriber = backend.subscriber_with(&channel, positioned()).await;

    let hung = &cluster.nodes[0];
    hung.signal(Signal::STOP);
    cluster.take_over(3).await;
    eventually("who has a position is told", FAILOVER, async || subscriber.has_lost_its_position())
        .await;
    eventually("it publishes again", FAILOVER, async || publishes(&backend, &channel, "x").await)
        .await;
    let (mut top, now) = backend.top(&channel).await;
    assert_ne!(now, epoch);
    let fresh = backend.subscriber_with(&channel, positioned()).await;

    hung.signal(Signal::CONT);
    let mut expected = Vec::new();
    let mut is_replica = false;
    let clock = Clock::real();
    let until = clock.now() + FAILOVER;
    while !is_replica {
        assert!(clock.now() < until, "it stays a master");
        // Also once more after it has become one.
        is_replica = hung.ask(&["ROLE"]) == "slave";
        let data = expected.len().to_string();
        let published = backend.publish(&channel, &data, &keeping(10_000)).await;
        top += 1;
        assert_eq!((published.offset, &*published.epoch), (top, now.as_str()), "a fork");
        expected.push(data);
    }
    assert_eq!(fresh.publications(expected.len()).await, expected);
    assert!(!fresh.has_lost_its_position());
    for offset in 1..=6 {
        let recovered = recover_from(&backend, &channel, offset, &epoch).await;
        assert_eq!(recovered, Err(BrokerError::UnrecoverablePosition), "from {offset}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readers_would_not_hear_is_not_taken() {
    let cluster = TestCluster::start(0).await;
    let backend = backend_on(&cluster, |_| {}).await;
    let [lonely, other] = [0, 1].map(|master| cluster.channel_at(master, "a"));
    let subscriber = backend.subscriber_with(&other, positioned()).await;
    assert!(publishes(&backend, &other, "1").await);
    assert_eq!(subscriber.publications(1).await, ["1"]);
    // The first does not notice that it is told nothing any more: the others answer its pings.
    let id = cluster.id(0);
    for node in [1, 2] {
        assert_eq!(cluster.nodes[node].ask(&["CLUSTER", "FORGET", &id]), "OK");
    }
    eventually("only what is heard at the first is taken", FAILOVER, async || {
        publishes(&backend, &lonely, "2").await && !publishes(&backend, &other, "2").await
    })
    .await;
    // What was taken before that was heard, or is known to be missing as soon as it can be asked for.
    let top = cluster.nodes[1].ask(&["HGET", &meta_of(&other), "s"]);

    for node in [1, 2] {
        cluster.nodes[node].meet(&cluster.nodes[0]);
    }
    eventually("it is taken again", FAILOVER, async || publishes(&backend, &other, "3").await)
        .await;
    let mut seen = 1;
    eventually("nothing is missing without a word", SOON, async || {
        seen += subscriber.pushes_now().len();
        seen > top.parse().expect("an offset") || subscriber.has_lost_its_position()
    })
    .await;
    let again = backend.subscriber_with(&other, positioned()).await;
    assert!(publishes(&backend, &other, "4").await);
    assert_eq!(again.publications(1).await, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_start_anew_change_no_epochs_but_once_those_of_another_software() {
    let cluster = TestCluster::start(0).await;
    let (own, foreign) = (cluster.channel_at(0, "own"), cluster.channel_at(0, "foreign"));
    cluster.nodes[0].ask(&["HSET", &meta_of(&foreign), "e", "theirs", "s", "3"]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let backend = backend_on(&cluster, |_| {}).await;
        assert!(publishes(&backend, &own, "1").await);
        seen.push((backend.top(&own).await.1, backend.top(&foreign).await));
    }
    assert_eq!(seen[0], seen[1]);
    let (top, epoch) = &seen[0].1;
    assert_eq!(*top, 3, "the counter goes on");
    assert_ne!(epoch, "theirs");
}

fn meta_of(channel: &str) -> String {
    format!("centrifugo.stream.meta.{{{channel}}}")
}
