//! Who is connected to this node, and fan-out to them. Never awaits.
//!
//! A channel's subscribers live in one of [`SHARDS`] shards, in a dense slab that a broadcast walks
//! under the shard's lock: a publication is encoded once for each variant that somebody needs
//! ([`broadcast`]), and every subscriber gets a reference to the same bytes in its [`Outbox`]. All
//! that a subscription's delivery depends on (position, buffer, filter, delta) stands in its
//! [`entry::Entry`], so that the decision needs no other lock and no wait.

mod broadcast;
mod connections;
mod delay;
mod entry;
mod message;
mod outbox;
mod past;
mod positions;
mod signal;
mod wheel;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};

use ahash::{HashMap, RandomState};
use bytes::Bytes;
use parking_lot::Mutex;
use slab::Slab;

pub use self::connections::{Connection, Connections, Registration};
pub use self::delay::{WriteDelay, WriteDelays};
pub use self::entry::{Delivery, Position, Start};
pub use self::message::{Compression, Message};
pub use self::outbox::{Drained, Outbox, Wanted};
pub use self::past::UnfitPayload;
pub use self::positions::Voided;
pub use self::signal::{Done, ServerSubscribe, Signal};
pub use self::wheel::{TURN, Wheel};

use self::broadcast::{Encodings, Event};
use self::entry::Entry;
use crate::channel::Channel;
use crate::protocol::publication::{ClientInfo, Publication};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// Enough that two busy channels rarely meet, few enough to walk for a count.
const SHARDS: usize = 256;

/// Connections and subscriptions of this node.
pub struct Hub {
    pub connections: Connections,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    next_id: AtomicI64,
    next_generation: AtomicU32,
    subscriptions: AtomicUsize,
    clock: Clock,
    metrics: Arc<Metrics>,
}

type Shard = HashMap<Channel, Subscribers>;

/// The subscribers of one channel.
struct Subscribers {
    /// Stands for the channel's name in pushes where compaction was negotiated.
    id: i64,
    entries: Slab<Entry>,
}

/// Names one subscription among all that its channel ever has: a place in the slab is used again, so
/// the place alone might come to mean somebody else's subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionKey {
    place: u32,
    /// Repeats after 2^32 subscriptions, when nobody asks for the first any more.
    generation: u32,
}

/// A subscription in the hub that has not gone live yet: what comes in is kept for it.
#[derive(Clone, Debug)]
pub struct Reserved {
    /// The hub's own copy of the name, shared by all subscribers.
    pub channel: Channel,
    pub key: SubscriptionKey,
    /// See [`Subscribers::id`].
    pub id: i64,
}

impl Default for Hub {
    /// A hub that counts for nobody.
    fn default() -> Self {
        Self::new(Clock::real(), Arc::new(Metrics::default()))
    }
}

impl Hub {
    pub fn new(clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            connections: Connections::default(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_id: AtomicI64::new(1),
            next_generation: AtomicU32::new(0),
            subscriptions: AtomicUsize::new(0),
            clock,
            metrics,
        }
    }

    /// Adds a subscription that buffers what comes in until [`Hub::go_live`].
    pub fn subscribe(
        &self,
        channel: &Channel,
        connection: &Arc<Connection>,
        delivery: Delivery,
    ) -> Reserved {
        let mut shard = self.shard(channel).lock();
        let channel = shard.get_key_value(channel).map_or(channel, |(own, _)| own).clone();
        let subscribers = shard.entry(channel.clone()).or_insert_with(|| Subscribers {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            entries: Slab::with_capacity(1),
        });
        let vacant = subscribers.entries.vacant_entry();
        let generation = self.next_generation.fetch_add(1, Ordering::Relaxed);
        // No node holds 2^32 subscriptions of one channel.
        let key = SubscriptionKey { place: vacant.key() as u32, generation };
        vacant.insert(Entry::buffering(key, Arc::clone(connection), delivery));
        self.subscriptions.fetch_add(1, Ordering::Relaxed);
        Reserved { channel, key, id: subscribers.id }
    }

    /// Queues the messages that come `first`, of which a reply is the usual one, and then delivers:
    /// what was buffered, as if it came now, then whatever is published. Nothing of the channel can
    /// come before them.
    pub fn go_live(
        &self,
        reserved: &Reserved,
        start: Start,
        first: impl IntoIterator<Item = Message>,
        now_ms: i64,
    ) {
        let mut shard = self.shard(&reserved.channel).lock();
        let Some(subscribers) = shard.get_mut(&reserved.channel) else { return };
        let id = subscribers.id;
        if let Some(entry) = subscribers.entry(reserved.key) {
            first.into_iter().for_each(|message| entry.connection.outbox.push(message));
            entry.go_live(&reserved.channel, id, start, now_ms);
        }
    }

    /// Removes a subscription; `true` if it was the channel's last one on this node.
    pub fn unsubscribe(&self, channel: &Channel, key: SubscriptionKey) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(subscribers) = shard.get_mut(channel) else { return false };
        // The entry, and with it perhaps the connection, is dropped after the lock is released.
        if subscribers.entry(key).is_none() {
            return false;
        }
        let removed = subscribers.entries.try_remove(key.place as usize);
        self.subscriptions.fetch_sub(1, Ordering::Relaxed);
        let last = subscribers.entries.is_empty();
        if last {
            shard.remove(channel);
            connections::shrink(&mut shard);
        }
        drop(shard);
        drop(removed);
        last
    }

    /// Delivers a publication to the channel's subscribers; returns how many there were.
    ///
    /// `previous` is the data of the publication right before it in the stream, given when the
    /// publisher allowed patches against it.
    pub fn publish(
        &self,
        channel: &str,
        publication: &Arc<Publication>,
        previous: Option<&Bytes>,
        epoch: &str,
        now_ms: i64,
    ) -> usize {
        let publication = Arc::clone(publication);
        let previous = previous.cloned();
        self.broadcast(
            channel,
            &Event::Publication { publication, previous, epoch: epoch.into() },
            now_ms,
        )
    }

    /// Tells those subscribers that want to know that a client came in.
    pub fn join(&self, channel: &str, info: &ClientInfo, now_ms: i64) {
        self.broadcast(channel, &Event::Join(Arc::new(info.clone())), now_ms);
    }

    /// Tells those subscribers that want to know that a client left.
    pub fn leave(&self, channel: &str, info: &ClientInfo, now_ms: i64) {
        self.broadcast(channel, &Event::Leave(Arc::new(info.clone())), now_ms);
    }

    /// Where a live, positioned subscription stands, and when (unix milliseconds) that was last
    /// confirmed.
    pub fn position(&self, channel: &Channel, key: SubscriptionKey) -> Option<(Position, i64)> {
        let mut shard = self.shard(channel).lock();
        shard.get_mut(channel)?.entry(key)?.position()
    }

    /// Notes that a position was compared with the stream and found right.
    pub fn confirm_position(&self, channel: &Channel, key: SubscriptionKey, now_ms: i64) {
        let mut shard = self.shard(channel).lock();
        let entry = shard.get_mut(channel).and_then(|s| s.entry(key));
        if let Some(entry) = entry {
            entry.confirmed(now_ms);
        }
    }

    /// How many subscribers `channel` has here.
    pub fn subscribers(&self, channel: &str) -> usize {
        self.shard(channel).lock().get(channel).map_or(0, |s| s.entries.len())
    }

    /// How many subscriptions there are.
    pub fn subscriptions(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// How many channels have subscribers.
    pub fn channel_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Calls `visit` with every channel that has subscribers, and their number.
    pub fn each_channel(&self, mut visit: impl FnMut(&Channel, usize)) {
        for shard in &self.shards {
            for (channel, subscribers) in shard.lock().iter() {
                visit(channel, subscribers.entries.len());
            }
        }
    }

    /// Runs `with` on the entry of a subscription, if it is there.
    fn with_entry<T>(&self, reserved: &Reserved, with: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let mut shard = self.shard(&reserved.channel).lock();
        shard.get_mut(&reserved.channel)?.entry(reserved.key).map(with)
    }

    fn broadcast(&self, channel: &str, event: &Event, now_ms: i64) -> usize {
        let kind = event.kind();
        self.metrics.node.messages_received.with(kind).inc();
        let mut shard = self.shard(channel).lock();
        let Some((channel, _)) = shard.get_key_value(channel) else { return 0 };
        let channel = channel.clone();
        let Some(subscribers) = shard.get_mut(&channel) else { return 0 };
        let started = self.clock.now();
        let mut encodings = Encodings::new(&channel, subscribers.id, event);
        for (_, entry) in &mut subscribers.entries {
            entry.offer(&channel, event, &mut encodings, now_ms);
        }
        let took = self.clock.now().saturating_duration_since(started);
        self.metrics.node.broadcast_duration.with(kind).observe(took.as_secs_f64());
        encodings.count(&self.metrics);
        subscribers.entries.len()
    }

    fn shard(&self, channel: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(channel) as usize % SHARDS]
    }
}

impl Subscribers {
    fn entry(&mut self, key: SubscriptionKey) -> Option<&mut Entry> {
        self.entries.get_mut(key.place as usize).filter(|entry| entry.key == key)
    }
}

#[cfg(test)]
mod tests;
