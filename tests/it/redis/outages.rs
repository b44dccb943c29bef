//! Redis goes away, hangs, or moves: what was promised holds, and service comes back by itself.

use std::time::Duration;

use bobolink::broker::{BrokerError, PublishOptions};
use bobolink::config::redis::Addresses;
use rustix::process::Signal;
use serde_json::Value;

use super::contract::{Backend, keeping};
use super::gateways::{data_until, gateway};
use super::group::Group;
use super::process::RedisServer;
use crate::support::{SOON, eventually};

/// The longest that another master and all that hangs on it may take. A vote of sentinels may split, and
/// is repeated after 12 s.
pub const FAILOVER: Duration = Duration::from_secs(60);

/// A write that reached Redis, or is known not to have.
pub async fn publishes(client: &mut bobolink::client::Client, data: &str) -> bool {
    client.publish("chat:a", data.to_owned()).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_is_followed_to_its_successor() {
    let mut group = Group::start().await;
    let one = gateway(&group.settings()).await;
    group.kill_master().await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    eventually("it publishes again", FAILOVER, async || publishes(&mut bob, "1").await).await;
    ann.subscribe("chat:a").await.expect("subscribed");
    assert!(publishes(&mut bob, "2").await);
    assert_eq!(data_until(&mut ann, "2").await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_and_a_sentinel_that_hang_are_left() {
    let group = Group::start().await;
    let one = gateway(&group.settings()).await;
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, one.connected("bob").await);
    assert!(publishes(&mut bob, "1").await);
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);
    let hung = &group.servers[group.master().await];
    group.sentinels[0].signal(Signal::STOP);
    hung.signal(Signal::STOP);
    eventually("it publishes again", FAILOVER, async || publishes(&mut bob, "2").await).await;
    let code = loop {
        let push = ann.push(SOON).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            break unsubscribe.code;
        }
    };
    assert_eq!(code, 2500);
    // It wakes up as a master still, and nobody listens to it.
    hung.signal(Signal::CONT);
    ann.subscribe("chat:a").await.expect("subscribed");
    assert!(publishes(&mut bob, "3").await);
    assert_eq!(data_until(&mut ann, "3").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_failover_is_followed_before_the_old_master_steps_down() {
    let group = Group::start().await;
    let one = gateway(&group.settings()).await;
    let mut bob = one.connected("bob").await;
    assert!(publishes(&mut bob, "1").await);
    let successor = group.servers[1 - group.master().await].address().to_string();
    let is_move = |line: &Value| {
        line["message"] == "connected to Redis" && line["place"] == successor.as_str()
    };
    let before = one.log().count(is_move);
    // Refused while another one is under way.
    eventually("the failover begins", FAILOVER, async || {
        group.sentinels[1].ask(&["SENTINEL", "FAILOVER", "main"]) == "OK"
    })
    .await;
    let is_followed = async || one.log().count(is_move) > before;
    eventually("the gateway is at the successor", FAILOVER, is_followed).await;
    eventually("it publishes again", FAILOVER, async || publishes(&mut bob, "2").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_a_hanging_redis_has_got_may_be_done_or_not() {
    let redis = RedisServer::start();
    let address = Addresses(vec![redis.address().to_string()]);
    let backend = Backend::reaching(|settings| {
        settings.address = address;
        // Nobody gives up before the call is made.
        settings.io_timeout = Duration::from_secs(5);
    });
    let backend = backend.await;
    redis.signal(Signal::STOP);
    let error = backend.try_publish("a", "1", &keeping(9)).await.unwrap_err();
    assert_eq!(error, BrokerError::OutcomeUnknown);
    eventually("the connection is given up", SOON, async || {
        backend.try_publish("a", "2", &keeping(9)).await == Err(BrokerError::Unavailable)
    })
    .await;
    redis.signal(Signal::CONT);
    let options = PublishOptions { idempotency_key: "3".into(), ..keeping(9) };
    eventually("it works again", SOON, async || {
        backend.try_publish("a", "3", &options).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_and_presence_come_back_with_an_empty_redis() {
    let mut redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let mut ann = one.connected("ann").await;
    ann.subscribe("lobby:a").await.expect("subscribed");
    redis.kill();
    one.log().wait_for(|line| line["message"] == "Redis was lost").await;
    let mut bob = one.connected("bob").await;
    assert!(!publishes(&mut bob, "1").await, "with an error that says so");
    redis.revive();
    eventually("it publishes again", SOON, async || publishes(&mut bob, "2").await).await;
    bob.publish("lobby:a", "3").await.expect("published");
    assert_eq!(data_until(&mut ann, "3").await, ["3"]);
    let presence = "centrifugo.presence.data.lobby:a";
    eventually("ann is present", SOON, async || redis.ask(&["HLEN", presence]) == "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_that_redis_has_forgotten_are_brought_again() {
    let redis = RedisServer::start();
    let address = Addresses(vec![redis.address().to_string()]);
    let backend = Backend::reaching(|settings| settings.address = address).await;
    for number in 1..=2 {
        assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
        let info = bobolink::protocol::publication::ClientInfo {
            client: number.to_string(),
            ..Default::default()
        };
        backend.presence.add("a", info).await.expect("added");
        assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
        assert_eq!(backend.publish("a", "x", &keeping(9)).await.offset, number);
        assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
        assert_eq!(backend.top("a").await.0, number);
    }
    assert_eq!(backend.presence.get("a").await.expect("presence").len(), 2);

    // The entries that are there are renewed as well.
    let ends = || redis.ask(&["ZSCORE", "centrifugo.presence.expire.a", "1"]);
    let before = ends();
    assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]), "OK");
    eventually("it is renewed", SOON, async || ends() > before).await;
}
