//! Redis in a test's memory: channels with their streams, archive streams with their group, and
//! consumers that can be cut off at any step.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use super::entry::{Delivered, EntryId, Poison, Source, Ticket};
use super::queue::Queue;
use super::reading::{Ask, Reading};
use crate::archive::MessageId;
use crate::protocol::publication::Publication;
use crate::redis::CallError;
use crate::time::Clock;

/// After this an entry may be claimed.
pub const CLAIM_AFTER: Duration = Duration::from_secs(30);

/// What all consumers and publishers share.
pub struct World {
    pub clock: Clock,
    pub channels: HashMap<String, Channel>,
    pub streams: [BTreeMap<EntryId, Vec<Bytes>>; 2],
    groups: [Group; 2],
    pub buried: Vec<(EntryId, Poison)>,
    count: u64,
}

/// A channel of Redis.
#[derive(Default)]
pub struct Channel {
    pub epoch: usize,
    top: u64,
    last: Option<(MessageId, u64)>,
    at_hand: BTreeMap<u64, Publication>,
    pub published: Vec<Published>,
}

/// What was published.
#[derive(Clone, Debug)]
pub struct Published {
    pub epoch: String,
    pub offset: u64,
    pub data: Bytes,
    pub is_own: bool,
    /// The stream at hand may not have it any more, or not under its epoch.
    pub may_be_gone: bool,
}

#[derive(Default)]
struct Group {
    last: EntryId,
    /// In whose hands, and since when.
    pending: BTreeMap<EntryId, (String, Instant)>,
}

/// Where a consumer is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// So many steps are still done.
    pub after: u8,
    /// The step does its work, and only its answer is lost.
    pub late: bool,
}

/// One consumer's view.
pub struct ModelQueue {
    pub world: Arc<Mutex<World>>,
    pub name: String,
    readings: [Reading; 2],
    pub cut: Option<Cut>,
    pub is_cut: Arc<Notify>,
}

impl World {
    pub fn new() -> Self {
        Self {
            clock: Clock::manual(1_800_000_000),
            channels: HashMap::new(),
            streams: Default::default(),
            groups: Default::default(),
            buried: Vec::new(),
            count: 0,
        }
    }

    /// Publishes, and appends if it is one of our nodes that does.
    pub fn publish(&mut self, name: &str, is_own: bool, names_below: bool) {
        let now_ms = self.clock.unix_millis();
        self.count += 1;
        let count = self.count;
        let channel = self.channels.entry(name.to_owned()).or_default();
        channel.top += 1;
        let (offset, epoch) = (channel.top, format!("e{}", channel.epoch));
        let data = Bytes::from(format!("{name} {epoch} {offset} {count}"));
        let publication =
            Publication { data: data.clone(), time: now_ms, ..Publication::default() };
        channel.at_hand.insert(offset, publication.clone());
        let published =
            Published { epoch: epoch.clone(), offset, data, is_own, may_be_gone: false };
        channel.published.push(published);
        if !is_own {
            return;
        }
        let below = channel.last.map_or(0, |(_, below)| below);
        // Room for those that were not appended.
        let least = channel.last.map(|(id, _)| id.number() + offset - below);
        let least = least.and_then(MessageId::of);
        let id = least.unwrap_or_else(|| MessageId::first_at(0)).max(MessageId::first_at(now_ms));
        channel.last = Some((id, offset));
        let mut fields: Vec<Bytes> = Vec::new();
        for (key, value) in [
            ("c", Bytes::copy_from_slice(name.as_bytes())),
            ("e", epoch.into()),
            ("o", offset.to_string().into()),
            ("i", id.number().to_string().into()),
            ("d", publication.encode_to_vec().into()),
        ] {
            fields.extend([Bytes::from_static(key.as_bytes()), value]);
        }
        if names_below {
            fields.extend([Bytes::from_static(b"n"), below.to_string().into()]);
        }
        self.add(name.len() % 2, fields);
    }

    /// Appends anything.
    pub fn add(&mut self, stream: usize, fields: Vec<Bytes>) -> EntryId {
        self.count += 1;
        let id = EntryId { ms: self.clock.unix_millis() as u64, count: self.count };
        self.streams[stream].insert(id, fields);
        id
    }

    /// A failover: the channel goes on in another epoch.
    pub fn fence(&mut self, name: &str) {
        let channel = self.channels.entry(name.to_owned()).or_default();
        channel.epoch += 1;
        channel.published.iter_mut().for_each(|one| one.may_be_gone = true);
    }

    /// The stream at hand loses its older half.
    pub fn trim(&mut self, name: &str) {
        let channel = self.channels.entry(name.to_owned()).or_default();
        for offset in
            channel.at_hand.keys().copied().take(channel.at_hand.len() / 2).collect::<Vec<_>>()
        {
            channel.at_hand.remove(&offset);
            channel.published.iter_mut().for_each(|one| one.may_be_gone |= one.offset == offset);
        }
    }

    fn hand_out(
        &mut self,
        stream: usize,
        ids: Vec<EntryId>,
        name: &str,
        source: Source,
    ) -> Vec<Delivered> {
        let now = self.clock.now();
        let mut delivered = Vec::new();
        for id in ids {
            let fields = self.streams[stream].get(&id).cloned().unwrap_or_default();
            self.groups[stream].pending.insert(id, (name.to_owned(), now));
            let ticket = Ticket { stream: stream as u16, id };
            delivered.push(Delivered { ticket, fields, source });
        }
        delivered
    }
}

impl ModelQueue {
    pub fn new(world: &Arc<Mutex<World>>, name: &str) -> Self {
        let now = world.lock().clock.now();
        let readings = [Reading::new(now), Reading::new(now)];
        let (world, name) = (Arc::clone(world), name.to_owned());
        Self { world, name, readings, cut: None, is_cut: Arc::default() }
    }

    /// One step: where the consumer is cut off nothing comes back.
    async fn step<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> Result<T, CallError> {
        let is_cut = match &mut self.cut {
            Some(Cut { after: 0, .. }) => true,
            Some(cut) => {
                cut.after -= 1;
                false
            }
            None => false,
        };
        if !is_cut {
            return Ok(work(self));
        }
        if self.cut.is_some_and(|cut| cut.late) {
            work(self);
        }
        self.is_cut.notify_one();
        pending().await
    }

    fn read(&mut self, stream: usize, count: usize) -> Vec<Delivered> {
        let world = Arc::clone(&self.world);
        let mut world = world.lock();
        let now = world.clock.now();
        let reading = &mut self.readings[stream];
        let ask = reading.next(now);
        let group = &mut world.groups[stream];
        let ids: Vec<_> = match ask {
            Ask::Own(behind) => {
                let own = group
                    .pending
                    .iter()
                    .filter(|(id, (name, _))| **id > behind && *name == self.name);
                let ids: Vec<_> = own.map(|(id, _)| *id).take(count).collect();
                reading.read_own(ids.last().copied());
                ids
            }
            Ask::Claim(from) => {
                let idle = group.pending.iter().filter(|(id, (_, since))| {
                    **id >= from && now.saturating_duration_since(*since) >= CLAIM_AFTER
                });
                let ids: Vec<_> = idle.map(|(id, _)| *id).take(count).collect();
                let whole = ids.len() < count;
                let next = ids.last().map(|id| EntryId { count: id.count + 1, ..*id });
                reading.claimed(next.filter(|_| !whole).unwrap_or_default(), now + CLAIM_AFTER);
                ids
            }
            Ask::Fresh => {
                let last = group.last;
                let fresh = world.streams[stream].keys().filter(|id| **id > last);
                let ids: Vec<_> = fresh.copied().take(count).collect();
                world.groups[stream].last = ids.last().copied().unwrap_or(last);
                ids
            }
        };
        let source = match ask {
            Ask::Own(_) => Source::Again,
            Ask::Claim(_) => Source::Claimed,
            Ask::Fresh => Source::New,
        };
        world.hand_out(stream, ids, &self.name, source)
    }

    fn claim_head(&mut self, stream: usize) -> Vec<Delivered> {
        let mut world = self.world.lock();
        let now = world.clock.now();
        let first = world.groups[stream].pending.first_key_value();
        let idle =
            first.filter(|(_, (_, since))| now.saturating_duration_since(*since) >= CLAIM_AFTER);
        let ids = idle.map(|(id, _)| *id).into_iter().collect();
        world.hand_out(stream, ids, &self.name, Source::Claimed)
    }
}

impl Queue for ModelQueue {
    async fn next(&mut self, count: usize, _: Duration) -> Result<Vec<Delivered>, CallError> {
        self.step(|queue| (0..2).flat_map(|stream| queue.read(stream, count)).collect()).await
    }

    async fn done(&mut self, tickets: &[Ticket]) -> Result<(), CallError> {
        self.step(|queue| {
            let mut world = queue.world.lock();
            for ticket in tickets {
                let stream = usize::from(ticket.stream);
                world.streams[stream].remove(&ticket.id);
                world.groups[stream].pending.remove(&ticket.id);
            }
        })
        .await
    }

    async fn abandoned(&mut self, streams: &[u16]) -> Result<Vec<Delivered>, CallError> {
        let claim = |queue: &mut Self| {
            streams.iter().flat_map(|stream| queue.claim_head(usize::from(*stream))).collect()
        };
        self.step(claim).await
    }

    async fn heads(
        &mut self,
        streams: &[u16],
    ) -> Result<BTreeMap<u16, Option<EntryId>>, CallError> {
        let head = |queue: &mut Self| {
            let world = queue.world.lock();
            let first = |stream: u16| world.streams[usize::from(stream)].keys().next().copied();
            streams.iter().map(|stream| (*stream, first(*stream))).collect()
        };
        self.step(head).await
    }

    async fn at_hand(
        &mut self,
        channel: &str,
        epoch: &str,
        (first, last): (u64, u64),
        limit: usize,
    ) -> Result<Vec<Publication>, CallError> {
        let read = |queue: &mut Self| {
            let world = queue.world.lock();
            let channel = world.channels.get(channel);
            let channel = channel.filter(|channel| format!("e{}", channel.epoch) == epoch);
            let found = channel.iter().flat_map(|channel| channel.at_hand.range(first..=last));
            let found = found.map(|(offset, publication)| Publication {
                offset: *offset,
                ..publication.clone()
            });
            found.take(limit).collect()
        };
        self.step(read).await
    }

    async fn bury(&mut self, entry: &Delivered, why: Poison) -> Result<(), CallError> {
        self.step(|queue| queue.world.lock().buried.push((entry.ticket.id, why))).await
    }
}
