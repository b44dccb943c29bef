//! Redis Cluster: it is found, its masters fail one by one, and its slots move.

use std::time::Duration;

use bobolink::broker::BrokerError;
use bobolink::config::redis::{Addresses, Redis};
use bobolink::hub::Delivery;

use super::cluster_faults::followed_to;
use super::contract::{Backend, data_of, keeping};
use super::fence::recover_from;
use super::gateways::{data_until, gateway, recover};
use super::masters::TestCluster;
use super::outages::FAILOVER;
use crate::support::{SOON, eventually};

async fn backend_on(cluster: &TestCluster) -> Backend {
    backend_with(cluster, |_| {}).await
}

async fn backend_with(cluster: &TestCluster, adapt: impl FnOnce(&mut Redis)) -> Backend {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_found_through_any_address() {
    let cluster = TestCluster::start(0).await;
    let [first, second, third] = [0, 1, 2].map(|node| cluster.nodes[node].address().to_string());
    let settings = [
        format!("engine.redis.address = \"{first}\"\n"),
        format!("engine.redis.address = \"redis+cluster://127.0.0.1:1?addr={second}\"\n"),
        format!("engine.redis.cluster_address = \"{third},{first}\"\n"),
    ];
    let mut gateways = Vec::new();
    for settings in settings {
        gateways.push(gateway(&format!("engine.type = \"redis\"\n{settings}")).await);
    }
    let mut ann = gateways[0].connected("ann").await;
    let mut bob = gateways[1].connected("bob").await;
    let mut eve = gateways[2].connected("eve").await;
    for master in 0..3 {
        let channel = cluster.channel_at(master, "chat:");
        ann.subscribe(&channel).await.expect("subscribed");
        bob.subscribe(&channel).await.expect("subscribed");
        eve.publish(&channel, master.to_string()).await.expect("published");
        assert_eq!(data_until(&mut ann, &master.to_string()).await.len(), 1);
        assert_eq!(data_until(&mut bob, &master.to_string()).await.len(), 1);
        let result = recover(&mut eve, &channel, 0, "").await;
        assert_eq!((result.recovered, result.publications.len()), (true, 1));
        let stream = format!("centrifugo.stream.{{{channel}}}");
        assert_eq!(cluster.nodes[master].cli(&["KEYS", "centrifugo.stream.{*"]), [stream]);
        let data = format!("centrifugo.presence.data.{{{channel}}}");
        eventually("all are present", SOON, async || {
            cluster.nodes[master].ask(&["HLEN", &data]) == "3"
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_voids_the_channels_of_one_master_and_no_others() {
    let mut cluster = TestCluster::start(1).await;
    let backend = backend_on(&cluster).await;
    let (hit, spared) = (cluster.channel_at(0, "a"), cluster.channel_at(1, "a"));
    for number in 1..=11 {
        assert_eq!(backend.publish(&hit, &number.to_string(), &keeping(100)).await.offset, number);
        backend.publish(&spared, &number.to_string(), &keeping(100)).await;
    }
    let (_, epoch) = backend.top(&hit).await;
    let (_, spared_epoch) = backend.top(&spared).await;
    let loser = backend.subscriber_with(&hit, positioned()).await;
    let keeper = backend.subscriber_with(&spared, positioned()).await;

    // The replica dies with what it has, and comes back when the master is gone.
    let written = cluster.nodes[0].offset();
    let has_all = async || cluster.nodes[3].offset() >= written;
    eventually("the replica has everything", SOON, has_all).await;
    assert_eq!(cluster.nodes[3].ask(&["SAVE"]), "OK");
    cluster.nodes[3].kill();
    for number in 12..=13 {
        assert_eq!(backend.publish(&hit, &number.to_string(), &keeping(100)).await.offset, number);
    }
    assert_eq!(loser.publications(2).await, ["12", "13"]);
    cluster.nodes[0].kill();
    cluster.nodes[3].revive();
    let meta = format!("centrifugo.stream.meta.{{{hit}}}");
    cluster.take_over(3).await;
    let replica = &cluster.nodes[3];
    assert_eq!(replica.ask(&["HGET", &meta, "s"]), "11", "something was lost");
    assert_eq!(replica.ask(&["HGET", &meta, "e"]), epoch, "and the epoch does not show it");

    eventually("who has a position is told", FAILOVER, async || loser.has_lost_its_position())
        .await;
    eventually("it publishes again", FAILOVER, async || publishes(&backend, &hit, "x").await).await;
    for offset in 10..=13 {
        let recovered = recover_from(&backend, &hit, offset, &epoch).await;
        assert_eq!(recovered, Err(BrokerError::UnrecoverablePosition), "from {offset}");
    }
    eventually("the other channel goes on", SOON, async || {
        publishes(&backend, &spared, "end").await
    })
    .await;
    let (top, now) = backend.top(&spared).await;
    assert_eq!(now, spared_epoch);
    let last = followed_to(&keeper, 11, top).await;
    let recovered = recover_from(&backend, &spared, last, &spared_epoch).await;
    assert_eq!(recovered, Ok((top - last) as usize), "its positions are as good as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_that_move_while_publishing_lose_and_double_nothing() {
    let cluster = TestCluster::start(0).await;
    let backend = backend_on(&cluster).await;
    let channel = cluster.channel_at(0, "a");
    let slot = cluster.slot(&channel);
    let other = (0..).map(|number| format!("b{number}"));
    let plain = other.into_iter().find(|name| cluster.slot(name) == slot).expect("a channel");
    assert!(publishes(&backend, &channel, "0").await);
    let (_, epoch) = backend.top(&channel).await;
    let subscriber = backend.subscriber_with(&channel, positioned()).await;
    let bystander = backend.subscriber(&plain).await;
    // What moves is known to be whole only between masters that were there for two maps before.
    for master in 0..3 {
        assert!(publishes(&backend, &cluster.channel_at(master, "c"), "0").await);
    }
    let before = maps_asked_for(&cluster);
    eventually("maps are read", SOON, async || maps_asked_for(&cluster) >= before + 4).await;

    let (moved, mut is_moved) = tokio::sync::watch::channel(0);
    let (done, mut is_done) = tokio::sync::watch::channel(0);
    let publishing = async {
        let mut count = 0;
        // A while longer than anything moves.
        let mut more = 20;
        while more > 0 {
            count += 1;
            let data = count.to_string();
            let published = backend.try_publish(&channel, &data, &keeping(10_000)).await;
            assert_eq!(published.expect("published").offset, count + 1);
            backend.publish(&plain, &data, &Default::default()).await;
            done.send_replace(count);
            more -= i32::from(*is_moved.borrow_and_update() == 3);
        }
        count
    };
    let moving = async {
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            cluster.move_slot(slot, from, to, Duration::from_millis(30)).await;
            // What began after the move was sent on by its old master, so the map is known that has it.
            // Two moves between two maps would be no proof that nothing was lost.
            let until = *is_done.borrow_and_update() + 2;
            is_done.wait_for(|count| *count >= until).await.expect("publishing goes on");
            moved.send_modify(|moves| *moves += 1);
        }
    };
    let (count, ()) = tokio::join!(publishing, moving);
    let expected: Vec<_> = (1..=count).map(|number| number.to_string()).collect();
    // While a slot moves, messages of its old and its new master come over two ways and can overtake
    // each other. Who has offsets sees that; who has none gets each once, and no more is promised.
    let mut seen = Vec::new();
    let mut is_lost = false;
    eventually("all of it arrives, or is known to be missing", SOON, async || {
        seen.extend(subscriber.pushes_now().iter().map(data_of));
        is_lost |= subscriber.has_lost_its_position();
        is_lost || seen.len() >= expected.len()
    })
    .await;
    assert_eq!(seen, expected[..seen.len()], "lost: {is_lost}");
    let mut heard = bystander.publications(expected.len()).await;
    heard.sort_by_key(|data| data.parse::<usize>().expect("a number"));
    assert_eq!(heard, expected);
    assert_eq!(backend.top(&channel).await, (count + 1, epoch.clone()));
    assert_eq!(recover_from(&backend, &channel, 1, &epoch).await, Ok(expected.len()));
}

/// How often nodes were asked who has which slot.
fn maps_asked_for(cluster: &TestCluster) -> u64 {
    let calls = |line: &str| {
        let told = line.strip_prefix("cmdstat_cluster|slots:calls=")?;
        told.split(',').next()?.parse::<u64>().ok()
    };
    let stats = cluster.nodes.iter().flat_map(|node| node.cli(&["INFO", "commandstats"]));
    stats.filter_map(|line| calls(&line)).sum()
}

/// The node where the readers of a backend are.
fn home_of(cluster: &TestCluster) -> usize {
    let hears = |node: &usize| {
        let heard = cluster.nodes[*node].cli(&["PUBSUB", "CHANNELS", "*.bobolink.canary.*"]);
        heard.iter().any(|name| !name.is_empty())
    };
    (0..3).find(hears).expect("somewhere")
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_leave_a_node_that_does_not_hear_of_a_master() {
    let cluster = TestCluster::start(0).await;
    let backend = backend_on(&cluster).await;
    let home = home_of(&cluster);
    let unheard = (home + 1) % 3;
    let channel = cluster.channel_at(unheard, "a");
    let subscriber = backend.subscriber_with(&channel, positioned()).await;
    assert!(publishes(&backend, &channel, "1").await);
    assert_eq!(subscriber.publications(1).await, ["1"]);
    assert_eq!(cluster.nodes[home].ask(&["CLUSTER", "FORGET", &cluster.id(unheard)]), "OK");
    // The master is as it was, and refuses only if it is known by now that nobody would hear it.
    let is_taken = publishes(&backend, &channel, "2").await;
    eventually("they leave", SOON, async || {
        let heard = cluster.nodes[home].cli(&["PUBSUB", "CHANNELS", "centrifugo.client.*"]);
        heard.iter().all(|name| name.is_empty())
    })
    .await;
    eventually("what was not heard is known to be missing", SOON, async || {
        !is_taken || subscriber.has_lost_its_position()
    })
    .await;
    eventually("they hear elsewhere", SOON, async || publishes(&backend, &channel, "3").await)
        .await;
    let again = backend.subscriber_with(&channel, positioned()).await;
    assert!(publishes(&backend, &channel, "4").await);
    assert_eq!(again.publications(1).await, ["4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_of_each_master_are_waited_for() {
    let mut cluster = TestCluster::start(1).await;
    let waiting = async |so_long| {
        let backend = backend_with(&cluster, |redis| {
            redis.min_replicas = 1;
            redis.min_replicas_timeout = so_long;
            redis.io_timeout = SOON;
        });
        backend.await
    };
    // One for what has to succeed, one for what nothing is to come of.
    let backend = waiting(Duration::from_secs(10)).await;
    let hasty = waiting(Duration::from_millis(300)).await;
    let [first, second] = [0, 1].map(|master| cluster.channel_at(master, "a"));
    // A replica that has just begun to follow speaks to its master once a second only.
    eventually("the replicas acknowledge", SOON, async || {
        publishes(&backend, &first, "1").await && publishes(&backend, &second, "1").await
    })
    .await;
    cluster.nodes[3].kill();
    let unknown = hasty.try_publish(&first, "2", &keeping(9)).await;
    assert_eq!(unknown, Err(BrokerError::OutcomeUnknown));
    assert!(publishes(&backend, &second, "2").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_leave_a_node_that_dies() {
    let mut cluster = TestCluster::start(0).await;
    let backend = backend_on(&cluster).await;
    let home = home_of(&cluster);
    let channel = cluster.channel_at((home + 1) % 3, "a");
    let subscriber = backend.subscriber_with(&channel, positioned()).await;
    assert!(publishes(&backend, &channel, "1").await);
    assert_eq!(subscriber.publications(1).await, ["1"]);
    cluster.nodes[home].kill();
    // Refused until somebody hears again. What was taken in the moment of the death, and heard by
    // nobody, is noticed afterwards.
    let mut number = 1;
    let mut next = async || {
        number += 1;
        publishes(&backend, &channel, &number.to_string()).await
    };
    eventually("it publishes again", FAILOVER, &mut next).await;
    let mut seen = 0;
    eventually("it arrives, or is known to be missing", SOON, async || {
        seen += subscriber.pushes_now().len();
        next().await;
        seen >= 3 || subscriber.has_lost_its_position()
    })
    .await;
}
