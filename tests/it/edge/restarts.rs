//! Nodes that are restarted and killed under clients, behind HAProxy and on one Redis.

use std::ops::Range;
use std::time::{Duration, Instant};

use bobolink::time::Clock;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::watch;

use super::balancer::{Balancer, NodePorts};
use super::crowd::{Crowd, Diary, STREAMS, publish_until};
use crate::redis::process::RedisServer;
use crate::support::{SOON, Server, assert_even, eventually};

const TIMES: &str = "
shutdown.drain_delay = \"3s\"
shutdown.drain_window = \"5s\"
shutdown.timeout = \"40s\"
";

/// The `drain_delay` above: nobody is sent away before.
const DELAY: Duration = Duration::from_secs(3);

/// In this part of the drain window above clients are sent away; the rest is for the last of them.
const SENDING: Duration = Duration::from_secs(4);

async fn two_nodes(nodes: &[NodePorts; 2], settings: &str) -> (Server, Server, Balancer) {
    let (one, two) = tokio::join!(nodes[0].start(settings), nodes[1].start(settings));
    let balancer = Balancer::start(nodes, &[]).await;
    balancer.uses("gateway-1").await;
    balancer.uses("gateway-2").await;
    (one, two, balancer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_nothing_and_every_client_comes_back_at_once_in_its_turn() {
    const CLIENTS: usize = 300;
    let (redis, clock) = (RedisServer::start(), Clock::real());
    let settings = format!("{}{TIMES}{STREAMS}", redis.settings());
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let (one, two, balancer) = two_nodes(&nodes, &settings).await;
    let crowd = Crowd::gather(&balancer, CLIENTS).await;

    let (stop, mut stopped) = watch::channel(false);
    let (published, (drains, _running)) =
        tokio::join!(publish_until(balancer.api(), &mut stopped), async {
            let (mut drains, mut running) = (Vec::new(), Vec::new());
            for (index, mut old) in [one, two].into_iter().enumerate() {
                let begun = clock.now();
                old.signal(Signal::TERM);
                assert_eq!(old.ended(3 * SOON).await.code(), Some(0));
                drains.push(begun);
                let late = |line: &Value| line["message"] == "not every connection left in time";
                assert_eq!(old.log().count(late), 0);
                running.push(nodes[index].start(&settings).await);
                balancer.uses(&format!("gateway-{}", index + 1)).await;
            }
            stop.send_replace(true);
            (drains, running)
        });
    let diaries = crowd.come_home(published).await;

    for diary in &diaries {
        assert_eq!(diary.failures, [""; 0]);
        diary.check_complete(published);
        assert!(diary.closes.iter().all(|(_, code)| *code == Some(3001)), "{:?}", diary.closes);
    }
    let &[first, second] = &drains[..] else { panic!("two drains") };
    // About half of them, but a node that is slow for a while gets fewer; and then all: those of the
    // first node have come to the second.
    assert!(check_spread(&diaries, &(first..second)) > CLIENTS / 20);
    assert_eq!(check_spread(&diaries, &(second..clock.now())), CLIENTS);
}

/// Panics unless those who were sent away in a drain were so evenly; how many they are.
fn check_spread(diaries: &[Diary], drain: &Range<Instant>) -> usize {
    let closes = diaries.iter().flat_map(|diary| &diary.closes);
    let times: Vec<_> = closes.map(|(at, _)| *at).filter(|at| drain.contains(at)).collect();
    assert_even(&times, drain.start + DELAY, SENDING);
    times.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_killed_node_all_come_back_and_miss_nothing() {
    const CLIENTS: usize = 500;
    let redis = RedisServer::start();
    let settings = format!("{}{STREAMS}", redis.settings());
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let (one, two, balancer) = two_nodes(&nodes, &settings).await;
    let crowd = Crowd::gather(&balancer, CLIENTS).await;
    let sessions = async |server: &str| balancer.server("gateways", server).await.number("scur");
    let victims = sessions("gateway-1").await as usize;
    assert!(victims > CLIENTS / 20, "{victims} of {CLIENTS} are on the first node");

    let (stop, mut stopped) = watch::channel(false);
    // At the node that stays: a call that the kill cuts off may or may not have been done.
    let api = nodes[1].internal_address();
    let published = tokio::join!(publish_until(api, &mut stopped), async {
        // As kill -9.
        drop(one);
        eventually("they are all on the other node", 2 * SOON, async || {
            sessions("gateway-2").await as usize == CLIENTS
        })
        .await;
        balancer.sees("gateway-1", "DOWN").await;
        stop.send_replace(true);
    });
    let diaries = crowd.come_home(published.0).await;
    for diary in &diaries {
        diary.check_complete(published.0);
        // HAProxy knows a dead node by its refusal to connect, and asks the other.
        assert_eq!(diary.failures, [""; 0]);
    }
    let closed = diaries.iter().filter(|diary| !diary.closes.is_empty()).count();
    assert_eq!(closed, victims);
    drop(two);
}
