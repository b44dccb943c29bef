//! One read for many: aligned blocks of an epoch, so that clients which come back from different
//! positions read the same ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use compact_str::CompactString;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::{Message, SharedStore, Span, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// Offsets of a block.
pub const BLOCK: u64 = 256;

/// How long a block may be handed out after it was asked for. Another process may delete messages,
/// and nobody would say so here.
const FRESH: Duration = Duration::from_secs(5);

/// What a message costs in memory beside its payload, about.
const MESSAGE_BYTES: usize = 256;

/// Messages of one block, as they were when the block was read.
#[derive(Debug)]
pub struct Block {
    /// In order; deleted ones are not among them.
    pub messages: Vec<Message>,
    /// Ranges of its offsets that were not stored.
    holes: Vec<(u64, u64)>,
    bytes: usize,
}

/// The blocks that were read lately.
pub struct Blocks {
    store: SharedStore,
    clock: Clock,
    metrics: Arc<Metrics>,
    /// Bytes of messages that are remembered.
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    flights: HashMap<Key, Flight>,
    /// The oldest first.
    order: VecDeque<(Instant, Key)>,
    bytes: usize,
}

/// Channel, epoch, number of the block.
type Key = (Arc<str>, CompactString, u64);

/// A read that is under way or done.
struct Flight {
    since: Instant,
    cell: Arc<OnceCell<Arc<Block>>>,
    /// Counted so far.
    bytes: usize,
}

impl Blocks {
    /// Reads from `store`; remembers about `most` bytes.
    pub fn new(store: SharedStore, clock: Clock, metrics: Arc<Metrics>, most: usize) -> Self {
        Self { store, clock, metrics, most, kept: Mutex::default() }
    }

    /// The block that has the offset right above `after`.
    pub async fn following(
        &self,
        channel: &Arc<str>,
        epoch: &CompactString,
        after: u64,
    ) -> Result<Arc<Block>, StoreError> {
        let number = after / BLOCK;
        let key = (Arc::clone(channel), epoch.clone(), number);
        let cell = self.flight(&key);
        let block = cell
            .get_or_try_init(async || {
                self.metrics.history.block_reads.inc();
                let after = number * BLOCK;
                let through = after.saturating_add(BLOCK);
                let span = Span { epoch: epoch.clone(), after, through };
                let messages = self.store.range(channel, &span).await?;
                let holes = self.store.holes(channel, &span, BLOCK as usize).await?;
                Ok::<_, StoreError>(Arc::new(Block::new(messages, holes)))
            })
            .await?;
        self.count(&key, &cell, block);
        Ok(Arc::clone(block))
    }

    /// Forgets what it has of a channel, since some of it was deleted.
    pub fn forget(&self, channel: &str) {
        let mut kept = self.kept.lock();
        let keys = kept.flights.keys().filter(|key| *key.0 == *channel).cloned();
        for key in keys.collect::<Vec<_>>() {
            kept.remove(&key);
        }
    }

    fn flight(&self, key: &Key) -> Arc<OnceCell<Arc<Block>>> {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        kept.drop_old(now);
        if let Some(flight) = kept.flights.get(key) {
            return Arc::clone(&flight.cell);
        }
        let cell = Arc::new(OnceCell::new());
        let flight = Flight { since: now, cell: Arc::clone(&cell), bytes: 0 };
        kept.flights.insert(key.clone(), flight);
        kept.order.push_back((now, key.clone()));
        cell
    }

    /// Counts a block that was read, and forgets it if it has an end that may still grow.
    fn count(&self, key: &Key, cell: &Arc<OnceCell<Arc<Block>>>, block: &Block) {
        let mut kept = self.kept.lock();
        let Some(flight) = kept.flights.get_mut(key).filter(|f| Arc::ptr_eq(&f.cell, cell)) else {
            return;
        };
        if !block.holes.is_empty() {
            return kept.remove(key);
        }
        let more = block.bytes - flight.bytes.min(block.bytes);
        flight.bytes = block.bytes;
        kept.bytes += more;
        while kept.bytes > self.most
            && let Some((_, oldest)) = kept.order.pop_front()
        {
            kept.remove(&oldest);
        }
    }
}

impl Kept {
    fn drop_old(&mut self, now: Instant) {
        while let Some((since, key)) = self.order.front()
            && now.saturating_duration_since(*since) >= FRESH
        {
            let (since, key) = (*since, key.clone());
            self.order.pop_front();
            // One that was forgotten and read again has a place of its own.
            if self.flights.get(&key).is_some_and(|flight| flight.since == since) {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(flight) = self.flights.remove(key) {
            self.bytes -= flight.bytes;
        }
    }
}

impl Block {
    fn new(messages: Vec<Message>, holes: Vec<(u64, u64)>) -> Self {
        let bytes = messages.iter().map(|m| m.publication.data.len() + MESSAGE_BYTES).sum();
        Self { messages, holes, bytes }
    }

    /// The last offset of the block that has the one right above `after`.
    pub fn end_of(after: u64) -> u64 {
        (after / BLOCK).saturating_add(1).saturating_mul(BLOCK)
    }

    /// Up to where nothing above `after` is missing; `after` if the next one is.
    pub fn dense_from(&self, after: u64, through: u64) -> u64 {
        let next = self.holes.iter().find(|(first, last)| *first <= through && *last > after);
        next.map_or(through, |(first, _)| first.saturating_sub(1).max(after))
    }

    /// The messages above `after` and up to `through`; none if one was never stored.
    pub fn slice(&self, after: u64, through: u64) -> Option<&[Message]> {
        if self.holes.iter().any(|(first, last)| *first <= through && *last > after) {
            return None;
        }
        let from = self.messages.partition_point(|message| message.offset() <= after);
        let to = self.messages.partition_point(|message| message.offset() <= through);
        self.messages.get(from..to)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use proptest::prelude::*;

    use super::*;
    use crate::archive::{EmbeddedSettings, EmbeddedStore, MessageId, Record};
    use crate::protocol::publication::Publication;

    fn message(offset: u64) -> Message {
        let publication =
            Publication { offset, data: vec![b'1'; 100].into(), ..Default::default() };
        let id = MessageId::of(offset).expect("an id");
        Message { id, epoch: "e".into(), publication: Arc::new(publication) }
    }

    async fn blocks(most: usize, count: u64) -> (Blocks, Clock, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "e".into()).expect("opens");
        let record = |offset| Record { channel: "a".into(), message: message(offset) };
        let batch = (1..=count).map(record).collect();
        crate::archive::MessageStore::append(&store, batch).await.expect("stored");
        let (clock, metrics) = (Clock::manual(0), Arc::new(Metrics::default()));
        (Blocks::new(Arc::new(store), clock.clone(), metrics, most), clock, folder)
    }

    fn reads(blocks: &Blocks) -> u64 {
        blocks.metrics.history.block_reads.get()
    }

    async fn read(blocks: &Blocks, after: u64) -> Arc<Block> {
        blocks.following(&"a".into(), &"e".into(), after).await.expect("a block")
    }

    #[tokio::test]
    async fn many_who_come_back_together_share_one_read() {
        let (blocks, ..) = blocks(1 << 20, 512).await;
        let found = join_all((0..200).map(|after| read(&blocks, after))).await;
        assert!(found.iter().all(|block| Arc::ptr_eq(block, &found[0])));
        assert_eq!(reads(&blocks), 1);
        let offsets: Vec<_> =
            found[7].slice(7, 10).expect("no hole").iter().map(Message::offset).collect();
        assert_eq!(offsets, [8, 9, 10]);
    }

    #[tokio::test]
    async fn a_block_that_may_still_grow_or_is_old_or_was_changed_is_read_again() {
        let (blocks, clock, _folder) = blocks(1 << 20, 300).await;
        for _ in 0..2 {
            read(&blocks, 256).await;
        }
        assert_eq!(reads(&blocks), 2, "it has an end");
        for _ in 0..2 {
            read(&blocks, 0).await;
        }
        assert_eq!(reads(&blocks), 3);
        clock.advance(FRESH);
        read(&blocks, 0).await;
        assert_eq!(reads(&blocks), 4, "it is old");
        blocks.forget("other");
        read(&blocks, 0).await;
        assert_eq!(reads(&blocks), 4);
        blocks.forget("a");
        read(&blocks, 0).await;
        assert_eq!(reads(&blocks), 5, "something was deleted");
    }

    #[tokio::test]
    async fn what_is_remembered_has_a_bound() {
        let (blocks, ..) = blocks(100_000, 2_560).await;
        for after in (0..2_560).step_by(256) {
            read(&blocks, after).await;
        }
        let kept = blocks.kept.lock();
        let counted: usize = kept.flights.values().map(|flight| flight.bytes).sum();
        assert_eq!(kept.bytes, counted);
        assert!(kept.bytes <= 100_000, "{} bytes", kept.bytes);
        assert_eq!(kept.flights.len(), 1);
    }

    proptest! {
        #[test]
        fn a_slice_has_what_was_asked_for_or_says_that_something_is_missing(
            missing in proptest::collection::btree_set(1..=20_u64, 0..3),
            after in 0..20_u64,
            count in 0..20_u64,
        ) {
            let messages = (1..=20).filter(|at| !missing.contains(at)).map(message).collect();
            let block = Block::new(messages, missing.iter().map(|at| (*at, *at)).collect());
            let through = (after + count).min(20);
            let offsets = block
                .slice(after, through)
                .map(|found| found.iter().map(Message::offset).collect::<Vec<_>>());
            let dense = block.dense_from(after, through);
            let lacks = |to: u64| missing.iter().any(|at| (after + 1..=to).contains(at));
            prop_assert!(!lacks(dense) && (dense >= through || lacks(dense + 1)));
            let whole = !missing.iter().any(|at| (after + 1..=through).contains(at));
            prop_assert_eq!(offsets, whole.then(|| (after + 1..=through).collect::<Vec<_>>()));
        }
    }
}
