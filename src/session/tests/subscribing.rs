//! Beginnings and ends of subscriptions, one trap a test.

use std::time::Duration;

use serde_json::json;

use super::wire::Wire;
use super::{NOW, Pace, finish, gateway, publish, to, token};
use crate::channel::Channel;
use crate::node::{Node, Selection, UserSubscribe};
use crate::protocol::codes::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::protocol::command::{
    Command, ConnectRequest, FLAG_REJECT_UNRECOVERED, SubRefreshRequest, SubscribeRequest,
    UnsubscribeRequest,
};
use crate::protocol::frame::Codec;
use crate::protocol::reply::Push;
use crate::session::Traits;
use crate::time::Clock;

fn ann() -> Selection {
    Selection { user: "ann".into(), ..Selection::default() }
}

fn subscribe(request: SubscribeRequest) -> Command {
    Command { subscribe: Some(request), ..Command::default() }
}

fn unsubscribe(channel: &str) -> Command {
    let request = UnsubscribeRequest { channel: channel.into() };
    Command { unsubscribe: Some(request), ..Command::default() }
}

fn present(node: &Node, channel: &str) -> usize {
    finish(node.presence.get(channel)).unwrap().len()
}

/// Steps until the hub buffers for `channel`: the subscribe is in flight.
fn step_into(wire: &mut Wire, node: &Node, channel: &str) {
    while node.hub.subscribers(channel) == 0 {
        assert!(wire.step());
    }
}

/// Makes the API subscribe ann's connection; returns what it was told.
async fn subscribed_by_api(node: &Node, wire: &mut Wire, channel: &str) -> Vec<Push> {
    let (ann, channel, with) = (ann(), Channel::from(channel), UserSubscribe::default());
    tokio::join!(node.subscribe_user(ann, channel, with), async { wire.pushes() }).1
}

#[tokio::test]
async fn there_is_one_subscription_a_channel_also_while_it_is_in_flight() {
    let limit = |client: &mut crate::config::Client| {
        client.channel_limit = 2;
        client.concurrency = 4;
    };
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), limit);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let ids = ["stream:a", "stream:a", "stream:b", "stream:c"]
        .map(|channel| wire.ask(subscribe(to(channel))));
    while wire.inbox.len() < ids.len() {
        wire.step();
        tokio::task::yield_now().await;
    }
    let code = |id: u32| {
        let reply = wire.inbox.iter().find(|reply| reply.id == id).unwrap();
        reply.error.as_ref().map(|error| error.code)
    };
    let (exists, limited) = (ErrorCode::ALREADY_SUBSCRIBED.code, ErrorCode::LIMIT_EXCEEDED.code);
    assert_eq!(ids.map(code), [None, Some(exists), None, Some(limited)]);
}

#[tokio::test]
async fn too_many_subscriptions_by_the_server_close_the_connection() {
    let limit = |client: &mut crate::config::Client| client.channel_limit = 1;
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), limit);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(to("stream:a")).unwrap();
    assert!(subscribed_by_api(&node, &mut wire, "stream:b").await.is_empty());
    assert_eq!(wire.closing, Some(Disconnect::CHANNEL_LIMIT));
}

#[tokio::test]
async fn an_unsubscribe_waits_for_what_is_in_flight_and_spares_what_comes_next() {
    let parallel = |client: &mut crate::config::Client| client.concurrency = 4;
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), parallel);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    for _ in 0..3 {
        wire.ask(subscribe(to("plain:a")));
        wire.ask(unsubscribe("plain:a"));
    }
    let last = wire.ask(subscribe(to("plain:a")));
    while !wire.inbox.iter().any(|reply| reply.id == last) {
        wire.step();
        tokio::task::yield_now().await;
    }
    let replies: Vec<_> = wire.inbox.iter().map(|reply| reply.id).filter(|id| *id > 0).collect();
    assert!(replies.is_sorted(), "{replies:?}");
    assert!(wire.inbox.iter().all(|reply| reply.error.is_none()));
    assert_eq!((node.hub.subscribers("plain:a"), present(&node, "plain:a")), (1, 1));
}

#[tokio::test]
async fn an_unsubscribe_by_the_api_waits_for_what_is_in_flight() {
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.ask(subscribe(to("plain:a")));
    step_into(&mut wire, &node, "plain:a");
    let (ann, code) = (ann(), UnsubscribeCode::SERVER);
    let unsubscribe = node.unsubscribe_user(ann, None, code);
    tokio::join!(unsubscribe, async { wire.settle() }).0.expect("alone");
    let kinds: Vec<_> = wire.inbox.iter().map(|reply| reply.subscribe.is_some()).collect();
    assert!(kinds[0], "first the client learns that it is subscribed");
    let told = wire.pushes().pop().unwrap().unsubscribe.unwrap();
    assert_eq!(told.code, UnsubscribeCode::SERVER.code);
    assert_eq!((node.hub.subscribers("plain:a"), present(&node, "plain:a")), (0, 0));
}

#[tokio::test]
async fn the_reply_comes_before_the_own_join() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.ask(subscribe(to("plain:a")));
    wire.settle();
    assert!(wire.inbox[0].subscribe.is_some());
    assert!(wire.inbox[1].push.as_ref().unwrap().join.is_some());
}

#[tokio::test]
async fn a_join_comes_before_its_leave_even_if_the_client_leaves_at_once() {
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
    let mut observer = Wire::connected(&node, Codec::Json, "bob");
    observer.subscribe(to("plain:a")).unwrap();
    observer.pushes();
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.ask(subscribe(to("plain:a")));
    while !wire.inbox.iter().any(|reply| reply.subscribe.is_some()) {
        wire.step();
    }
    finish(wire.end(3_000));
    let seen: Vec<_> = observer.pushes().iter().map(|push| push.join.is_some()).collect();
    assert_eq!(seen, [true, false]);
}

#[tokio::test]
async fn presence_is_taken_back_if_the_subscription_fails_after_it() {
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
    publish(&node, "stream:a", "1");
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let unrecoverable = SubscribeRequest {
        recover: true,
        epoch: "elsewhere".into(),
        flag: FLAG_REJECT_UNRECOVERED,
        ..to("stream:a")
    };
    let refused = wire.subscribe(unrecoverable).unwrap_err();
    assert_eq!(refused, ErrorCode::UNRECOVERABLE_POSITION.code);
    assert_eq!((node.hub.subscribers("stream:a"), present(&node, "stream:a")), (0, 0));
    wire.subscribe(to("stream:a")).expect("the place is free again");
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
    assert_eq!(present(&node, "stream:a"), 1, "nothing of the failed one comes after");
}

/// Renews while an unsubscribe, or one and a subscribe behind it, happen at every point of it.
#[tokio::test]
async fn a_presence_tick_leaves_presence_as_the_connection_is() {
    for again in [false, true] {
        for delay in 0..8 {
            let clock = Clock::manual(NOW);
            let node = gateway(Pace::Yielding, &clock, |_| {});
            let mut wire = Wire::connected(&node, Codec::Json, "ann");
            wire.subscribe(to("plain:a")).unwrap();
            clock.advance(Duration::from_secs(6));
            node.wheel.turn(clock.now());
            wire.step();
            for _ in 0..delay {
                tokio::task::yield_now().await;
            }
            wire.ask(unsubscribe("plain:a"));
            if again {
                wire.ask(subscribe(to("plain:a")));
            }
            for _ in 0..40 {
                wire.step();
                tokio::task::yield_now().await;
            }
            assert_eq!(present(&node, "plain:a"), usize::from(again), "after {delay} steps");
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_while_it_subscribes_leaves_nothing() {
    for steps in 0..20 {
        let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
        let mut wire = Wire::open(&node, Codec::Json, "ann");
        let claims = json!({"sub": "ann", "channels": ["stream:a", "plain:b"]});
        let connect = ConnectRequest { token: token(&claims), ..ConnectRequest::default() };
        wire.ask(Command { connect: Some(connect), ..Command::default() });
        wire.ask(subscribe(to("stream:c")));
        for _ in 0..steps {
            wire.step();
        }
        finish(wire.end(3_000));
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert_eq!((node.hub.subscriptions(), node.hub.channel_count()), (0, 0), "{steps}");
        assert!(node.hub.connections.is_empty());
        for channel in ["stream:a", "plain:b", "stream:c"] {
            assert_eq!(present(&node, channel), 0, "{channel} after {steps} steps");
        }
    }
}

#[tokio::test]
async fn whoever_waits_for_a_subscription_in_flight_ends_with_the_connection() {
    // Up to the reply it is being made, behind it its join is on the way.
    for until_it_is_told in [false, true] {
        let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
        let mut wire = Wire::connected(&node, Codec::Json, "ann");
        let (ann, channel, with) = (ann(), Channel::from("stream:a"), UserSubscribe::default());
        let call = async { node.subscribe_user(ann, channel, with).await };
        let race = async {
            step_into(&mut wire, &node, "stream:a");
            while until_it_is_told && wire.inbox.is_empty() {
                wire.step();
            }
            wire.ask(unsubscribe("stream:a"));
            wire.step();
            finish(wire.end(3_000));
        };
        tokio::join!(call, race).0.expect("alone");
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
        assert_eq!((node.hub.subscriptions(), present(&node, "stream:a")), (0, 0));
    }
}

/// A choice: the call is a success and the client is told nothing new.
#[tokio::test]
async fn a_subscribe_by_the_api_leaves_a_channel_that_is_there_as_it_is() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::open(&node, Codec::Json, "ann");
    let claims = json!({"sub": "ann", "channels": ["stream:a"]});
    let connect = ConnectRequest { token: token(&claims), ..ConnectRequest::default() };
    let reply = wire.call(Command { connect: Some(connect), ..Command::default() });
    assert!(reply.connect.is_some());
    assert_eq!(node.hub.subscribers("stream:a"), 1);
    assert!(subscribed_by_api(&node, &mut wire, "stream:a").await.is_empty());
    assert_eq!(node.hub.subscribers("stream:a"), 1);
    let told = subscribed_by_api(&node, &mut wire, "stream:b").await;
    assert!(told[0].subscribe.as_ref().unwrap().recoverable);
}

#[tokio::test]
async fn a_slow_presence_backend_delays_neither_pings_nor_commands() {
    let clock = Clock::manual(NOW);
    let pings = |client: &mut crate::config::Client| {
        client.ping_interval = Duration::from_secs(5);
        client.pong_timeout = Duration::from_secs(3);
    };
    let node = gateway(Pace::Yielding, &clock, pings);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(to("plain:a")).unwrap();
    wire.pushes();
    clock.advance(Duration::from_secs(6));
    node.wheel.turn(clock.now());
    // The runtime has no turn in here, so the tick that is spawned cannot go on.
    wire.settle();
    let ping = wire.inbox.pop_front().unwrap();
    assert_eq!((ping.id, ping.push.is_none(), wire.closing.is_none()), (0, true, true));
    wire.subscribe(to("cache:a")).unwrap();
}

#[tokio::test]
async fn a_connection_leaves_the_hub_before_any_backend_is_asked() {
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(to("plain:a")).unwrap();
    let rest = wire.end(3_000);
    assert_eq!((node.hub.connections.len(), node.hub.subscriptions()), (0, 0));
    assert_eq!(present(&node, "plain:a"), 1, "that comes after the socket is closed");
    finish(rest);
    assert_eq!(present(&node, "plain:a"), 0);
}

/// A choice: the reference answers nothing special, and a client would not bring a new token.
#[tokio::test]
async fn an_expired_token_prolongs_no_subscription_and_is_answered_with_109() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let with = |exp: u64| token(&json!({"sub": "ann", "channel": "stream:a", "exp": exp}));
    let request = SubscribeRequest { token: with(NOW + 60), ..to("stream:a") };
    assert_eq!(wire.subscribe(request).unwrap().ttl, 60);
    let refresh = |token: String| {
        let channel = "stream:a".into();
        let sub_refresh = SubRefreshRequest { channel, token, ..SubRefreshRequest::default() };
        Command { sub_refresh: Some(sub_refresh), ..Command::default() }
    };
    let error = wire.call(refresh(with(NOW - 1))).error.unwrap();
    assert_eq!(error.code, ErrorCode::TOKEN_EXPIRED.code);
    assert_eq!(wire.call(refresh(with(NOW + 90))).sub_refresh.unwrap().ttl, 90);
}

/// A choice: who is named by the header is not anonymous, even where that is allowed.
#[tokio::test]
async fn credentials_of_the_header_win_over_anonymous_ones() {
    let anonymous =
        |client: &mut crate::config::Client| client.allow_anonymous_connect_without_token = true;
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), anonymous);
    let named = Wire::connected(&node, Codec::Json, "ann");
    let mut nobody = Wire::with_traits(&node, Codec::Json, Traits::default());
    let connect = Some(ConnectRequest::default());
    assert!(nobody.call(Command { connect, ..Command::default() }).connect.is_some());
    let users = |user| node.hub.connections.of_user(user).len();
    assert_eq!((users("ann"), users("")), (1, 1));
    drop(named);
}
