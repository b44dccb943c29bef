//! The promise the gateway stands on: no publication is lost, doubled or out of order without the
//! client being told, whatever happens in whatever order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use tokio::runtime::Runtime;

use super::client::{Client, Memory, is_expected, red};
use super::truth::{Record, Truth};
use super::{NOW, Pace, finish, gateway};
use crate::channel::Channel;
use crate::node::{Node, Payload, Publish, Selection, UserSubscribe};
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::command::{
    FLAG_CHANNEL_COMPACTION, FLAG_REJECT_UNRECOVERED, SubscribeRequest,
};
use crate::protocol::frame::Codec;
use crate::time::Clock;

const CHANNELS: [&str; 7] =
    ["stream:a", "stream:b", "cache:c", "plain:d", "asked:e", "brief:f", "asked:g"];
const PEOPLE: [(&str, Codec); 5] = [
    ("ann", Codec::Json),
    ("bob", Codec::Protobuf),
    ("ann", Codec::Protobuf),
    ("cid", Codec::Json),
    ("dan", Codec::Json),
];

/// One thing that happens. Numbers are indices, taken modulo what there is.
#[derive(Clone, Debug)]
enum Op {
    Publish {
        channel: usize,
        red: bool,
        outside_the_stream: bool,
    },
    PublishAsClient {
        who: usize,
        channel: usize,
    },
    Subscribe {
        who: usize,
        channel: usize,
        wish: Wish,
    },
    Unsubscribe {
        who: usize,
        channel: usize,
    },
    /// The network goes away, with all that the client has not read.
    Drop {
        who: usize,
    },
    Connect {
        who: usize,
    },
    /// The server goes on by one poll for this connection.
    Step {
        who: usize,
    },
    /// The client reads what has arrived.
    Read {
        who: usize,
    },
    /// Everything that goes on without a connection does one step.
    Background,
    Advance {
        seconds: u64,
    },
    RemoveHistory {
        channel: usize,
    },
    SubscribeByApi {
        who: usize,
        channel: usize,
    },
    UnsubscribeByApi {
        who: usize,
        channel: Option<usize>,
    },
    DisconnectByApi {
        who: usize,
    },
}

#[derive(Clone, Debug)]
struct Wish {
    recover: bool,
    reject: bool,
    positioned: bool,
    recoverable: bool,
    delta: bool,
    filter: bool,
    join_leave: bool,
    compact: bool,
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..PEOPLE.len();
    // Most of what happens concerns few channels, or nothing would ever meet.
    let channel = prop_oneof![3 => Just(0), 1 => 0..CHANNELS.len()];
    let at = || (who.clone(), channel.clone());
    let seconds = prop_oneof![4 => 1..3u64, 2 => Just(6u64), 1 => Just(20u64), 1 => Just(70u64)];
    prop_oneof![
        12 => (channel.clone(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(channel, red, outside_the_stream)| Op::Publish { channel, red, outside_the_stream }),
        2 => at().prop_map(|(who, channel)| Op::PublishAsClient { who, channel }),
        10 => (at(), wish()).prop_map(
            |((who, channel), wish)| Op::Subscribe { who, channel, wish }),
        3 => at().prop_map(|(who, channel)| Op::Unsubscribe { who, channel }),
        2 => who.clone().prop_map(|who| Op::Drop { who }),
        4 => who.clone().prop_map(|who| Op::Connect { who }),
        40 => who.clone().prop_map(|who| Op::Step { who }),
        8 => who.clone().prop_map(|who| Op::Read { who }),
        10 => Just(Op::Background),
        3 => seconds.prop_map(|seconds| Op::Advance { seconds }),
        1 => channel.clone().prop_map(|channel| Op::RemoveHistory { channel }),
        2 => at().prop_map(|(who, channel)| Op::SubscribeByApi { who, channel }),
        2 => (who.clone(), prop::option::weighted(0.8, channel.clone()))
            .prop_map(|(who, channel)| Op::UnsubscribeByApi { who, channel }),
        1 => who.prop_map(|who| Op::DisconnectByApi { who }),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let rarely = || prop::bool::weighted(0.2);
    (any::<[bool; 4]>(), rarely(), rarely(), rarely()).prop_map(
        |([positioned, recoverable, delta, join_leave], filter, compact, reject)| Wish {
            recover: true,
            reject,
            positioned,
            recoverable,
            delta,
            filter,
            join_leave,
            compact,
        },
    )
}

struct World<'a> {
    runtime: &'a Runtime,
    node: Arc<Node>,
    clock: Clock,
    truth: Truth,
    people: Vec<Person>,
    /// Connections that are ending, and calls of the API.
    background: Vec<BoxFuture<'static, ()>>,
    published: usize,
    /// Commands of a connection run beside one another.
    concurrent: bool,
}

struct Person {
    client: Option<Client>,
    memory: Memory,
}

impl<'a> World<'a> {
    fn new(runtime: &'a Runtime, pace: Pace, concurrency: u32) -> Self {
        let clock = Clock::manual(NOW);
        let people = PEOPLE.iter().map(|_| Person { client: None, memory: Memory::default() });
        let mut world = Self {
            runtime,
            node: gateway(pace, &clock, |client| client.concurrency = concurrency),
            clock,
            truth: Truth::default(),
            people: people.collect(),
            background: Vec::new(),
            published: 0,
            concurrent: concurrency > 1,
        };
        (0..PEOPLE.len()).for_each(|who| world.connect(who));
        world
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Publish { channel, red, outside_the_stream } => {
                self.publish(CHANNELS[channel], red, outside_the_stream);
            }
            Op::PublishAsClient { who, channel } => self.publish_as(who, CHANNELS[channel]),
            Op::Subscribe { who, channel, wish } => self.subscribe(who, CHANNELS[channel], &wish),
            Op::Unsubscribe { who, channel } => {
                let channel = CHANNELS[channel];
                let known = |client: &&mut Client| {
                    client.live.contains_key(channel) || client.waits_for(channel)
                };
                if let Some(client) = self.people[who].client.as_mut().filter(known) {
                    client.unsubscribe(channel);
                }
            }
            Op::Drop { who } => self.end(who, Disconnect::CONNECTION_CLOSED.code, false),
            Op::Connect { who } if self.people[who].client.is_none() => self.connect(who),
            Op::Connect { .. } => {}
            Op::Step { who } => self.step(who),
            Op::Read { who } => {
                if let Some(client) = &mut self.people[who].client {
                    client.read(&self.truth);
                }
            }
            Op::Background => self.go_on_in_background(),
            Op::Advance { seconds } => self.advance(seconds),
            Op::RemoveHistory { channel } => {
                finish(self.node.remove_history(CHANNELS[channel])).ok();
            }
            Op::SubscribeByApi { who, channel } => self.subscribe_by_api(who, CHANNELS[channel]),
            Op::UnsubscribeByApi { who, channel } => self.unsubscribe_by_api(who, channel),
            Op::DisconnectByApi { who } => {
                let disconnect = Disconnect::FORCE_DISCONNECT;
                finish(self.node.disconnect_user(all_of(who), disconnect)).expect("alone");
            }
        }
    }

    /// A long payload with a small difference, so that patches pay.
    fn next_data(&mut self) -> Bytes {
        self.published += 1;
        let n = self.published;
        Bytes::from(format!(
            r#"{{"n": {n},  "text":"{}","m":{n}}}"#,
            "all the same again ".repeat(6)
        ))
    }

    fn publish(&mut self, channel: &str, red: bool, outside_the_stream: bool) {
        let data = self.next_data();
        let color = if red { "red" } else { "blue" };
        let publish = Publish {
            tags: [("color".to_owned(), color.to_owned())].into(),
            skip_history: outside_the_stream,
            ..Publish::default()
        };
        let rules = self.node.channel(channel).unwrap();
        let payload = Payload::check(rules, data.clone()).unwrap();
        let published = finish(self.node.publish(channel, payload, publish)).unwrap();
        let epoch = published.epoch.to_string();
        self.truth.add(channel, Record { offset: published.offset, epoch, data, red });
    }

    /// Done at one stroke, as its place among the publications could not be told otherwise.
    fn publish_as(&mut self, who: usize, channel: &str) {
        let data = self.next_data();
        let Some(client) = &mut self.people[who].client else { return };
        if self.concurrent || !client.wire.is_idle() || client.wire.closing.is_some() {
            return;
        }
        client.publish(channel, data.clone());
        client.wire.settle();
        let rules = self.node.channel(channel).unwrap();
        let mut record = Record { offset: 0, epoch: String::new(), data, red: false };
        if rules.history_enabled() {
            let top = finish(self.node.stream_top(channel, rules.history_meta_ttl)).unwrap();
            (record.offset, record.epoch) = (top.offset, top.epoch.to_string());
        }
        if client.wire.closing.is_none() {
            self.truth.add(channel, record);
        }
    }

    fn connect(&mut self, who: usize) {
        let (user, codec) = PEOPLE[who];
        let memory = self.people[who].memory.clone();
        self.people[who].client = Some(Client::open(&self.node, codec, user, memory));
    }

    fn subscribe(&mut self, who: usize, channel: &str, wish: &Wish) {
        let Some(client) = &mut self.people[who].client else { return };
        if client.live.contains_key(channel) {
            return;
        }
        let known = client.memory.positions.get(channel).filter(|_| wish.recover).cloned();
        let compact = if wish.compact { FLAG_CHANNEL_COMPACTION } else { 0 };
        let reject = if wish.reject { FLAG_REJECT_UNRECOVERED } else { 0 };
        // What a filter hid from the latest of a cache cannot be told from what was trimmed.
        let filter = wish.filter && !channel.starts_with("cache:");
        client.subscribe(SubscribeRequest {
            channel: channel.to_owned(),
            recover: known.is_some(),
            offset: known.as_ref().map_or(0, |position| position.offset),
            epoch: known.map(|position| position.epoch).unwrap_or_default(),
            positioned: wish.positioned,
            recoverable: wish.recoverable,
            join_leave: wish.join_leave,
            delta: if wish.delta { "fossil".into() } else { String::new() },
            tf: filter.then(red),
            flag: compact | reject,
            ..SubscribeRequest::default()
        });
    }

    fn subscribe_by_api(&mut self, who: usize, channel: &str) {
        let (node, channel) = (Arc::clone(&self.node), Channel::from(channel));
        self.background.push(Box::pin(async move {
            let subscribed = node.subscribe_user(all_of(who), channel, UserSubscribe::default());
            subscribed.await.expect("alone");
        }));
    }

    fn unsubscribe_by_api(&mut self, who: usize, channel: Option<usize>) {
        let node = Arc::clone(&self.node);
        let channel = channel.map(|channel| Channel::from(CHANNELS[channel]));
        self.background.push(Box::pin(async move {
            let code = UnsubscribeCode::SERVER;
            node.unsubscribe_user(all_of(who), channel, code).await.expect("alone");
        }));
    }

    fn step(&mut self, who: usize) {
        let Some(client) = &mut self.people[who].client else { return };
        client.wire.step();
        if let Some(disconnect) = client.wire.closing.clone() {
            self.end(who, disconnect.code, true);
        }
    }

    /// A connection ends; if the client is `told`, it reads everything up to the close.
    fn end(&mut self, who: usize, code: u32, told: bool) {
        let Some(mut client) = self.people[who].client.take() else { return };
        self.background.push(client.wire.end(code));
        if told {
            client.read(&self.truth);
            let disconnect = client.wire.closing.take().unwrap();
            assert!(is_expected(&disconnect, &client.live), "{disconnect}");
        }
        self.people[who].memory = client.memory;
    }

    fn go_on_in_background(&mut self) {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        self.background.retain_mut(|future| future.as_mut().poll(&mut cx).is_pending());
        self.runtime.block_on(tokio::task::yield_now());
    }

    fn advance(&mut self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.node.wheel.turn(self.clock.now());
        self.node.broker.sweep();
    }

    /// Lets everything come to its end.
    fn settle(&mut self) {
        for _ in 0..30 {
            for who in 0..PEOPLE.len() {
                for _ in 0..10 {
                    self.step(who);
                }
                self.run(Op::Read { who });
            }
            for _ in 0..10 {
                self.go_on_in_background();
            }
        }
        let clients = || self.people.iter().filter_map(|person| person.client.as_ref());
        assert!(clients().all(|client| client.waits_for_nothing()), "every command has its reply");
        assert!(clients().all(|client| client.wire.is_idle()));
        assert!(self.background.is_empty());
    }

    /// What must be true when nothing moves any more, and when all have left.
    fn check(&mut self) {
        self.settle();
        for channel in CHANNELS {
            self.publish(channel, true, true);
            self.publish(channel, true, false);
        }
        self.settle();
        for channel in CHANNELS {
            self.check_channel(channel);
        }
        for who in 0..PEOPLE.len() {
            self.end(who, Disconnect::CONNECTION_CLOSED.code, false);
        }
        self.settle();
        assert!(self.node.hub.connections.is_empty());
        assert_eq!(self.node.hub.connections.users(), 0);
        assert_eq!((self.node.hub.subscriptions(), self.node.hub.channel_count()), (0, 0));
        for channel in CHANNELS {
            assert!(finish(self.node.presence.get(channel)).unwrap().is_empty());
        }
    }

    fn check_channel(&self, channel: &str) {
        let clients = self.people.iter().filter_map(|person| person.client.as_ref());
        let here: Vec<_> = clients.filter(|client| client.live.contains_key(channel)).collect();
        assert_eq!(self.node.hub.subscribers(channel), here.len(), "{channel}: as clients know it");
        for client in &here {
            client.is_up_to_date(channel, &self.truth);
        }
        let rules = self.node.channel(channel).unwrap();
        if !rules.options.presence {
            return;
        }
        let ids: BTreeSet<_> = here.iter().map(|client| client.id.clone()).collect();
        let presence = finish(self.node.presence.get(channel)).unwrap();
        assert_eq!(presence.into_keys().collect::<BTreeSet<_>>(), ids, "{channel}: presence");
        for client in here {
            for (id, is_here) in &client.live[channel].others {
                assert_eq!(ids.contains(id), *is_here, "{channel}: joins and leaves of {id}");
            }
        }
    }
}

fn all_of(who: usize) -> Selection {
    Selection { user: PEOPLE[who].0.to_owned(), ..Selection::default() }
}

fn hold(pace: Pace, concurrency: u32, cases: u32) {
    let mut config = Config { cases, failure_persistence: None, ..Config::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(7);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _inside = runtime.enter();
    let ops = prop::collection::vec(op(), 1..200);
    let result = TestRunner::new(config).run(&ops, |ops| {
        let mut world = World::new(&runtime, pace, concurrency);
        ops.into_iter().for_each(|op| world.run(op));
        world.check();
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_whatever_happens_inside_of_a_subscribe() {
    hold(Pace::Yielding, 0, 200);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_with_backends_that_answer_at_once() {
    hold(Pace::AtOnce, 0, 50);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_when_commands_run_beside_one_another() {
    hold(Pace::Yielding, 4, 100);
}
