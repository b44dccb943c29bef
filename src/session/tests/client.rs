//! A client as the SDKs are, which believes nothing: every push is held against the truth.
//!
//! The order of the wire is all it goes by. A subscription lives from its reply (or the server's
//! push) to the reply of an unsubscribe (or the server's push); outside of that nothing of the
//! channel may arrive, and inside nothing may be missing, double, or other than it was published.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use super::truth::{Record, Truth};
use super::wire::Wire;
use crate::node::Node;
use crate::protocol::codes::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::protocol::command::{
    Command, ConnectRequest, PublishRequest, SubscribeRequest, UnsubscribeRequest,
};
use crate::protocol::delta;
use crate::protocol::filter::FilterNode;
use crate::protocol::frame::Codec;
use crate::protocol::publication::{ClientInfo, Publication, StreamPosition};
use crate::protocol::reply::{Push, Reply, SubscribeResult};

/// What a client knows beyond a connection.
#[derive(Clone, Default)]
pub struct Memory {
    pub positions: BTreeMap<String, StreamPosition>,
    bases: BTreeMap<String, Bytes>,
}

pub struct Client {
    pub wire: Wire,
    pub memory: Memory,
    pub id: String,
    pub live: BTreeMap<String, Live>,
    asked: HashMap<u32, Asked>,
    next_id: u32,
    /// Channels by the numbers that stand for them.
    names: HashMap<i64, String>,
}

enum Asked {
    Connect,
    Subscribe(SubscribeRequest),
    Unsubscribe(String),
    Publish,
}

/// A subscription between its first and its last word.
pub struct Live {
    pub positioned: bool,
    pub recoverable: bool,
    delta: bool,
    filtered: bool,
    /// The last offset of the stream that is accounted for.
    position: StreamPosition,
    /// The index in the truth of the last publication that came, of those that are not positioned.
    last: Option<usize>,
    /// Client ids that came or went, and which of the two was last.
    pub others: BTreeMap<String, bool>,
}

impl Client {
    pub fn open(node: &Arc<Node>, codec: Codec, user: &str, memory: Memory) -> Self {
        let mut client = Self {
            wire: Wire::open(node, codec, user),
            memory,
            id: String::new(),
            live: BTreeMap::new(),
            asked: HashMap::new(),
            next_id: 1,
            names: HashMap::new(),
        };
        client.command(Asked::Connect, |command| {
            command.connect = Some(ConnectRequest::default());
        });
        client
    }

    pub fn subscribe(&mut self, request: SubscribeRequest) {
        let asked = Asked::Subscribe(request.clone());
        self.command(asked, |command| command.subscribe = Some(request));
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        let request = UnsubscribeRequest { channel: channel.to_owned() };
        let asked = Asked::Unsubscribe(channel.to_owned());
        self.command(asked, |command| command.unsubscribe = Some(request));
    }

    pub fn publish(&mut self, channel: &str, data: Bytes) {
        let request =
            PublishRequest { channel: channel.to_owned(), data, ..PublishRequest::default() };
        self.command(Asked::Publish, |command| command.publish = Some(request));
    }

    /// Whether a subscribe or unsubscribe of `channel` has no reply yet.
    pub fn waits_for(&self, channel: &str) -> bool {
        self.asked.values().any(|asked| asked.channel() == Some(channel))
    }

    /// Every command has its reply.
    pub fn waits_for_nothing(&self) -> bool {
        self.asked.is_empty()
    }

    /// Reads what has arrived.
    ///
    /// # Panics
    /// If it contradicts the protocol or the truth.
    pub fn read(&mut self, truth: &Truth) {
        while let Some(reply) = self.wire.inbox.pop_front() {
            match (reply.id, reply.push.clone()) {
                (0, Some(push)) => self.on_push(push, truth),
                (0, None) => {}
                _ => self.on_reply(reply, truth),
            }
        }
    }

    /// All that was published is known here.
    pub fn is_up_to_date(&self, channel: &str, truth: &Truth) {
        let live = &self.live[channel];
        let records = truth.of(channel);
        let missed = |record: &Record| !live.filtered || record.red;
        if live.positioned {
            let position = &live.position;
            let behind = records.iter().filter(|r| r.epoch == position.epoch && r.offset > 0);
            let behind: Vec<_> =
                behind.filter(|r| r.offset > position.offset && missed(r)).collect();
            assert!(behind.is_empty(), "{channel} at {position:?} lacks {behind:?}");
        } else {
            let from = live.last.map_or(records.len() - 1, |last| last + 1);
            let behind: Vec<_> = records[from..].iter().filter(|r| missed(r)).collect();
            assert!(behind.is_empty(), "{channel} lacks {behind:?}");
        }
    }

    fn command(&mut self, asked: Asked, fill: impl FnOnce(&mut Command)) {
        let mut command = Command { id: self.next_id, ..Command::default() };
        fill(&mut command);
        self.asked.insert(self.next_id, asked);
        self.next_id += 1;
        self.wire.send(vec![command]);
    }

    fn on_reply(&mut self, reply: Reply, truth: &Truth) {
        let asked = self.asked.remove(&reply.id).expect("a reply answers a command, once");
        if let Some(error) = &reply.error {
            let expected = [ErrorCode::ALREADY_SUBSCRIBED, ErrorCode::UNRECOVERABLE_POSITION];
            assert!(expected.iter().any(|code| code.code == error.code), "{error:?}");
            return;
        }
        if let Some(channel) = asked.channel() {
            let earlier =
                |(id, asked): (&u32, &Asked)| *id < reply.id && asked.channel() == Some(channel);
            assert!(!self.asked.iter().any(earlier), "{channel}: commands take effect in order");
        }
        match asked {
            Asked::Connect => self.id = reply.connect.expect("a result").client,
            Asked::Subscribe(request) => {
                self.on_subscribed(&request, reply.subscribe.expect("a result"), truth);
            }
            Asked::Unsubscribe(channel) => {
                assert!(reply.unsubscribe.is_some());
                self.live.remove(&channel);
            }
            Asked::Publish => assert!(reply.publish.is_some()),
        }
    }

    fn on_subscribed(&mut self, asked: &SubscribeRequest, result: SubscribeResult, truth: &Truth) {
        let channel = asked.channel.as_str();
        if result.id > 0 {
            self.names.insert(result.id, channel.to_owned());
        }
        let recovers = asked.recover && result.recovered;
        let from_cache = channel.starts_with("cache:");
        let offset = if recovers { asked.offset } else { result.offset };
        assert_eq!(offset, result.offset, "recovered or not, this is where the client goes on");
        let live = Live {
            positioned: result.positioned,
            recoverable: result.recoverable,
            delta: result.delta,
            filtered: asked.tf.is_some(),
            position: StreamPosition { offset, epoch: result.epoch },
            last: None,
            others: BTreeMap::new(),
        };
        self.begin(channel, live);
        assert!(recovers || result.publications.is_empty(), "only a recovery brings publications");
        assert!(!from_cache || result.publications.len() <= 1);
        for publication in result.publications {
            if from_cache {
                let live = self.live.get_mut(channel).unwrap();
                assert!(publication.offset > live.position.offset, "the client has that already");
                live.position.offset = publication.offset - 1;
            }
            self.on_publication(channel, publication, truth);
        }
    }

    fn begin(&mut self, channel: &str, live: Live) {
        if live.recoverable {
            self.memory.positions.insert(channel.to_owned(), live.position.clone());
        }
        let before = self.live.insert(channel.to_owned(), live);
        assert!(before.is_none(), "{channel}: one subscription at a time");
    }

    fn on_push(&mut self, push: Push, truth: &Truth) {
        let channel = match push.id {
            0 => push.channel,
            id => self.names[&id].clone(),
        };
        if let Some(publication) = push.publication {
            self.on_publication(&channel, publication, truth);
        } else if let Some(info) = push.join.and_then(|join| join.info) {
            self.on_other(&channel, info, true);
        } else if let Some(info) = push.leave.and_then(|leave| leave.info) {
            self.on_other(&channel, info, false);
        } else if let Some(subscribe) = push.subscribe {
            let live = Live {
                positioned: subscribe.positioned,
                recoverable: subscribe.recoverable,
                delta: false,
                filtered: false,
                position: StreamPosition { offset: subscribe.offset, epoch: subscribe.epoch },
                last: None,
                others: BTreeMap::new(),
            };
            self.begin(&channel, live);
        } else if let Some(unsubscribe) = push.unsubscribe {
            let ended = self.live.remove(&channel).expect("what ends has begun");
            if unsubscribe.code == UnsubscribeCode::INSUFFICIENT_STATE.code {
                assert!(is_excused(&channel, &ended), "{channel}: told of a loss without one");
            } else {
                assert_eq!(unsubscribe.code, UnsubscribeCode::SERVER.code);
            }
        }
    }

    fn on_publication(&mut self, channel: &str, publication: Publication, truth: &Truth) {
        let live = self.live.get_mut(channel).unwrap_or_else(|| {
            panic!("{channel}: {publication:?} comes while there is no subscription")
        });
        let data = match (live.delta, self.wire.session.codec()) {
            (true, Codec::Json) => {
                let text: String = serde_json::from_slice(&publication.data).expect("a string");
                Bytes::from(text)
            }
            _ => publication.data.clone(),
        };
        let data = match publication.delta {
            true => Bytes::from(delta::apply(&self.memory.bases[channel], &data).unwrap()),
            false => data,
        };
        if live.delta {
            self.memory.bases.insert(channel.to_owned(), data.clone());
        }
        let at = truth.find(channel, &data).expect("somebody published this");
        let record = &truth.of(channel)[at];
        assert_eq!(publication.offset, record.offset);
        assert!(!live.filtered || record.red, "{channel}: the filter wants no {record:?}");
        live.follow(channel, at, truth);
        if live.recoverable && record.offset > 0 {
            self.memory.positions.insert(channel.to_owned(), live.position.clone());
        }
    }

    fn on_other(&mut self, channel: &str, info: ClientInfo, here: bool) {
        let live = self.live.get_mut(channel).expect("the reply comes before joins and leaves");
        let before = live.others.insert(info.client.clone(), here);
        assert_ne!(before, Some(here), "{channel}: {} comes and goes in turn", info.client);
    }
}

impl Asked {
    /// What it begins or ends.
    fn channel(&self) -> Option<&str> {
        match self {
            Self::Subscribe(request) => Some(&request.channel),
            Self::Unsubscribe(channel) => Some(channel),
            Self::Connect | Self::Publish => None,
        }
    }
}

impl Live {
    /// Moves on to the publication at `at`, with nothing left out in between.
    fn follow(&mut self, channel: &str, at: usize, truth: &Truth) {
        let records = truth.of(channel);
        let record = &records[at];
        let wanted = |record: &Record| !self.filtered || record.red;
        if self.positioned && record.offset > 0 {
            assert_eq!(record.epoch, self.position.epoch, "{channel}: another stream");
            assert!(record.offset > self.position.offset, "{channel}: {record:?} came before");
            let between = records.iter().filter(|r| {
                r.epoch == record.epoch
                    && r.offset > self.position.offset
                    && r.offset < record.offset
            });
            let left_out: Vec<_> = between.filter(|r| wanted(r)).collect();
            assert!(left_out.is_empty(), "{channel}: before {record:?} came no {left_out:?}");
            self.position.offset = record.offset;
            return;
        }
        // Outside of the stream, or not positioned: everything from the first one on.
        let counts = |r: &Record| wanted(r) && (!self.positioned || r.offset == 0);
        if let Some(last) = self.last {
            assert!(at > last, "{channel}: {record:?} came before");
            let left_out: Vec<_> = records[last + 1..at].iter().filter(|r| counts(r)).collect();
            assert!(left_out.is_empty(), "{channel}: before {record:?} came no {left_out:?}");
        }
        self.last = Some(at);
    }
}

/// Where the stream itself may have gone: its meta expires soon, or it never had a publication.
fn is_excused(channel: &str, live: &Live) -> bool {
    channel.starts_with("brief:") || live.position.offset == 0
}

/// Why a connection may be closed by the server in these tests.
pub fn is_expected(disconnect: &Disconnect, live: &BTreeMap<String, Live>) -> bool {
    if *disconnect == Disconnect::INSUFFICIENT_STATE {
        return live.iter().any(|(channel, live)| is_excused(channel, live));
    }
    *disconnect == Disconnect::FORCE_DISCONNECT
}

/// The filter that wants what is red.
pub fn red() -> Box<FilterNode> {
    Box::new(FilterNode {
        key: "color".into(),
        cmp: "eq".into(),
        val: "red".into(),
        ..FilterNode::default()
    })
}
