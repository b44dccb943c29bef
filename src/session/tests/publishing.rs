//! Publishing with an idempotency key, as clients do that do not know whether it came through.

use std::time::Duration;

use super::wire::Wire;
use super::{NOW, Pace, finish, gateway, publish_with};
use crate::broker::{Range, Suppressed};
use crate::node::{Node, Publish};
use crate::protocol::command::{Command, ConnectRequest, PublishRequest};
use crate::protocol::frame::Codec;
use crate::protocol::reply::{PublishResult, Reply};
use crate::time::Clock;

const CHANNEL: &str = "stream:a";
const BOTH: [Codec; 2] = [Codec::Json, Codec::Protobuf];

#[test]
fn a_repeat_is_answered_like_the_first_and_publishes_nothing() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    for codec in BOTH {
        let key = format!("{codec:?}");
        for _ in 0..2 {
            // Each time on another connection, as after a lost one.
            let mut ann = Wire::connected(&node, codec, "ann");
            assert_eq!(keyed(&mut ann, "1", &key).publish, Some(PublishResult {}));
        }
    }
    assert_eq!(kept(&node), ["1", "1"]);
}

#[test]
fn a_key_is_the_users_own() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    for (user, data) in [("ann", "1"), ("bob", "2"), ("ann", "3")] {
        keyed(&mut Wire::connected(&node, Codec::Json, user), data, "k");
    }
    let of_api = Publish { idempotency_key: "k".into(), ..Publish::default() };
    assert_eq!(publish_with(&node, CHANNEL, "4", of_api.clone()).suppressed, None);
    let again = publish_with(&node, CHANNEL, "5", of_api);
    assert_eq!(again.suppressed, Some(Suppressed::Idempotency));
    assert_eq!(kept(&node), ["1", "2", "4"]);
}

#[test]
fn keys_hold_for_their_time_and_clients_are_told_how_long() {
    let clock = Clock::manual(NOW);
    let node = gateway(Pace::AtOnce, &clock, |_| {});
    let mut ann = Wire::open(&node, Codec::Protobuf, "ann");
    assert_eq!(told(&mut ann), 24 * 60 * 60);
    keyed(&mut ann, "1", "k");
    clock.advance(Duration::from_secs(24 * 60 * 60 - 1));
    // The stream is gone by now, the key is not.
    keyed(&mut ann, "2", "k");
    assert!(kept(&node).is_empty());
    clock.advance(Duration::from_secs(1));
    keyed(&mut ann, "3", "k");
    assert_eq!(kept(&node), ["3"]);
}

#[test]
fn nobody_knows_whose_the_keys_of_anonymous_users_are() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |client| client.insecure = true);
    let mut anonymous = Wire::open(&node, Codec::Json, "");
    assert_eq!(told(&mut anonymous), 0);
    for data in ["1", "2"] {
        assert!(keyed(&mut anonymous, data, "k").error.is_none());
    }
    assert_eq!(kept(&node), ["1", "2"]);
}

#[test]
fn where_keys_are_switched_off_they_are_ignored() {
    let off = |client: &mut crate::config::Client| client.publish_idempotency_ttl = Duration::ZERO;
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), off);
    let mut ann = Wire::open(&node, Codec::Json, "ann");
    assert_eq!(told(&mut ann), 0);
    keyed(&mut ann, "1", "k");
    keyed(&mut ann, "2", "k");
    assert_eq!(kept(&node), ["1", "2"]);
}

#[test]
fn a_refused_publish_leaves_its_key_unused() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut ann = Wire::connected(&node, Codec::Json, "ann");
    let long = "k".repeat(256);
    assert_eq!(keyed(&mut ann, "1", &long).error.map(|error| error.code), Some(107));
    assert!(keyed(&mut ann, "2", &long[1..]).error.is_none());
    assert_eq!(kept(&node), ["2"]);
}

fn keyed(wire: &mut Wire, data: &str, key: &str) -> Reply {
    let request = PublishRequest {
        channel: CHANNEL.into(),
        data: data.to_owned().into(),
        idempotency_key: key.into(),
        ..PublishRequest::default()
    };
    wire.call(Command { publish: Some(request), ..Command::default() })
}

/// For how many seconds keys are remembered, as a connecting client learns.
fn told(wire: &mut Wire) -> u32 {
    let connect = Some(ConnectRequest::default());
    let reply = wire.call(Command { connect, ..Command::default() });
    reply.connect.expect("connected").publish_idempotency_ttl
}

fn kept(node: &Node) -> Vec<String> {
    let all = Range::default();
    let read = node.broker.history(CHANNEL, &all, Duration::ZERO);
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    finish(read).unwrap().publications.iter().map(|p| text(&p.data)).collect()
}
