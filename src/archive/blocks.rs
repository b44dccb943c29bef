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

/// Blocks whose size is remembered: some 2 MB.
const SIZES: usize = 16_384;

/// Messages of one block, as they were when the block was read.
#[derive(Debug)]
pub struct Block {
    /// In order; deleted ones are not among them.
    pub messages: Vec<Message>,
    /// Ranges of its offsets that were not stored.
    holes: Vec<(u64, u64)>,
    /// Of memory, about.
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
    sizes: Mutex<Sizes>,
}

/// Bytes of payloads in whole blocks. Deletions make them smaller, never larger.
#[derive(Default)]
struct Sizes {
    known: HashMap<Key, usize>,
    /// The oldest first.
    order: VecDeque<Key>,
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
        Self { store, clock, metrics, most, kept: Mutex::default(), sizes: Mutex::default() }
    }

    /// The block that has the offset right above `after`, with everything that is stored up to
    /// `through` by now.
    pub async fn following(
        &self,
        channel: &Arc<str>,
        epoch: &CompactString,
        after: u64,
        through: u64,
    ) -> Result<Arc<Block>, StoreError> {
        let key = (Arc::clone(channel), epoch.clone(), after / BLOCK);
        let (cell, is_new) = self.flight(&key, None);
        let block = self.read(&key, &cell).await?;
        if is_new || block.slice(after, through).is_some() {
            return Ok(block);
        }
        // It was read by somebody who asked earlier, when the block had not grown so far yet.
        let (cell, _) = self.flight(&key, Some(&cell));
        self.read(&key, &cell).await
    }

    /// How many bytes the payloads of a span come to, as far as they are stored; none if that is more
    /// than `most`.
    pub async fn weigh(
        &self,
        channel: &Arc<str>,
        span: &Span,
        most: usize,
    ) -> Result<Option<usize>, StoreError> {
        let (mut after, mut sum) = (span.after, 0_usize);
        while after < span.through && sum <= most {
            let end = Block::end_of(after).min(span.through);
            let is_whole = after.is_multiple_of(BLOCK) && end - after == BLOCK;
            let key = (Arc::clone(channel), span.epoch.clone(), after / BLOCK);
            let known = is_whole.then(|| self.sizes.lock().known.get(&key).copied()).flatten();
            let size = match known {
                Some(size) => size,
                None => {
                    let block = self.following(channel, &span.epoch, after, end).await?;
                    let size = block.size(after, end);
                    // What is not there yet would be missing in the size as well.
                    if is_whole && block.slice(after, end).is_some() {
                        self.sizes.lock().keep(key, size);
                    }
                    size
                }
            };
            sum = sum.saturating_add(size);
            after = end;
        }
        Ok((sum <= most).then_some(sum))
    }

    async fn read(
        &self,
        key: &Key,
        cell: &Arc<OnceCell<Arc<Block>>>,
    ) -> Result<Arc<Block>, StoreError> {
        let (channel, epoch, number) = key;
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
        self.count(key, cell, block);
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

    /// The read of a block, and whether it is a new one: where there is none that is fresh, or only
    /// the one in `place` of which a new one is wanted.
    fn flight(
        &self,
        key: &Key,
        place: Option<&Arc<OnceCell<Arc<Block>>>>,
    ) -> (Arc<OnceCell<Arc<Block>>>, bool) {
        let now = self.clock.now();
        let mut kept = self.kept.lock();
        kept.drop_old(now);
        if let Some(flight) = kept.flights.get(key) {
            if place.is_none_or(|place| !Arc::ptr_eq(place, &flight.cell)) {
                return (Arc::clone(&flight.cell), false);
            }
            kept.remove(key);
        }
        let cell = Arc::new(OnceCell::new());
        let flight = Flight { since: now, cell: Arc::clone(&cell), bytes: 0 };
        kept.flights.insert(key.clone(), flight);
        kept.order.push_back((now, key.clone()));
        (cell, true)
    }

    /// Counts the memory of a block that was read.
    fn count(&self, key: &Key, cell: &Arc<OnceCell<Arc<Block>>>, block: &Block) {
        let mut kept = self.kept.lock();
        let Some(flight) = kept.flights.get_mut(key).filter(|f| Arc::ptr_eq(&f.cell, cell)) else {
            return;
        };
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

impl Sizes {
    fn keep(&mut self, key: Key, size: usize) {
        if self.known.insert(key.clone(), size).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > SIZES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
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

    /// Bytes of the payloads above `after` and up to `through`.
    fn size(&self, after: u64, through: u64) -> usize {
        let within = |message: &&Message| (after + 1..=through).contains(&message.offset());
        self.messages.iter().filter(within).map(|message| message.publication.data.len()).sum()
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
        read_to(blocks, after, after + 1).await
    }

    async fn read_to(blocks: &Blocks, after: u64, through: u64) -> Arc<Block> {
        blocks.following(&"a".into(), &"e".into(), after, through).await.expect("a block")
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
    async fn a_block_that_has_grown_or_is_old_or_was_changed_is_read_again() {
        let (blocks, clock, _folder) = blocks(1 << 20, 300).await;
        for _ in 0..2 {
            read_to(&blocks, 256, 300).await;
        }
        assert_eq!(reads(&blocks), 1, "it has an end, but nobody needs more");
        let batch = vec![Record { channel: "a".into(), message: message(301) }];
        blocks.store.append(batch).await.expect("stored");
        let found = join_all((0..50).map(|_| read_to(&blocks, 270, 301))).await;
        assert!(found.iter().all(|block| block.slice(270, 301).is_some()));
        assert_eq!(reads(&blocks), 2, "it has grown, and all share the new read");
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
    async fn what_a_span_comes_to_is_known_without_reading_whole_blocks_again() {
        let (blocks, clock, _folder) = blocks(1 << 20, 1_000).await;
        let weigh = async |after, through, most| {
            let span = Span { epoch: "e".into(), after, through };
            blocks.weigh(&"a".into(), &span, most).await.expect("an answer")
        };
        // A hundred bytes each.
        assert_eq!(weigh(10, 990, 98_000).await, Some(98_000));
        assert_eq!(weigh(10, 990, 97_999).await, None);
        assert_eq!(weigh(10, 10, 0).await, Some(0));
        assert_eq!(reads(&blocks), 4);
        clock.advance(FRESH);
        assert_eq!(weigh(10, 990, 98_000).await, Some(98_000));
        assert_eq!(reads(&blocks), 6, "those at the ends");
        assert_eq!(weigh(0, 1_000, 5_000).await, None);
        assert_eq!(reads(&blocks), 6, "it ends where it is too much");
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
