//! Publications that the archive could not take when they came, and takes later, from the stream that
//! still has them.
//!
//! The first that it lacked began another epoch. Once all of that epoch is stored, the one before it
//! can be sealed where it ended: whatever was acknowledged in it had been stored before, so positions
//! in it lead on without a gap. Where the stream has lost some of them, it stays open for good.

use std::sync::Arc;

use compact_str::CompactString;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::MemoryBroker;
use super::memory::Draft;
use crate::archive::{End, Message, MessageId, Record, SharedStore, StoreError};
use crate::protocol::publication::Publication;
use crate::telemetry::metrics::Metrics;

/// The most that is stored late at once; with more the epoch before stays open.
const MOST: usize = 1_024;

/// Streams whose publications are stored late at the same time.
const AT_ONCE: usize = 8;

/// Since when the archive has nothing of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detached {
    /// The offset of the first publication that it lacks, which began the stream's epoch.
    pub first: u64,
    /// The highest id that it has.
    pub last_id: Option<MessageId>,
}

/// What the archive lacks of a stream.
pub struct Late {
    channel: Arc<str>,
    epoch: CompactString,
    detached: Detached,
    publications: Vec<Arc<Publication>>,
}

impl Late {
    /// What a stream has that its archive lacks; none if that is not known to be all.
    pub fn of(streams: &MemoryBroker, channel: &Arc<str>, draft: &Draft) -> Option<Self> {
        let detached = draft.archived.detached?;
        let count = draft.top.offset.checked_sub(detached.first)?.checked_add(1)?;
        if count > MOST as u64 {
            return None;
        }
        let publications = streams.kept_since(channel, detached.first);
        let is_whole = publications.len() as u64 == count;
        let epoch = draft.top.epoch.clone();
        is_whole.then(|| Self { channel: Arc::clone(channel), epoch, detached, publications })
    }

    /// Stores what the archive lacks of several streams, for a store that has just taken a publication
    /// of the epoch of each. Publishes wait for that, so a few are stored at a time, and once the store
    /// fails no other is begun.
    pub async fn store_all(late: Vec<Self>, store: &SharedStore, metrics: &Metrics) {
        let mut waiting = late.into_iter();
        let first = waiting.by_ref().take(AT_ONCE);
        let mut under_way: FuturesUnordered<_> =
            first.map(|one| one.store(store, metrics)).collect();
        let mut goes_on = true;
        while let Some(stored) = under_way.next().await {
            goes_on &= stored.map_or_else(|error| !error.may_pass(), |()| true);
            if goes_on && let Some(next) = waiting.next() {
                under_way.push(next.store(store, metrics));
            }
        }
        let left = waiting.len();
        if left > 0 {
            tracing::warn!(
                channels = left,
                "what the archive lacks of these was not stored late, since the store fails; their \
                 epochs stay open"
            );
        }
    }

    async fn store(self, store: &SharedStore, metrics: &Metrics) -> Result<(), StoreError> {
        let channel = Arc::clone(&self.channel);
        let count = self.publications.len();
        let stored = self.append_and_seal(store).await.inspect_err(|error| {
            tracing::warn!(
                %error, channel = &*channel, count,
                "what the archive lacks could not be stored late; its epoch stays open"
            );
        })?;
        metrics.history.late.inc_by(stored as u64);
        tracing::info!(channel = &*channel, count, stored, "publications were stored late");
        Ok(())
    }

    async fn append_and_seal(self, store: &SharedStore) -> Result<usize, StoreError> {
        let Self { channel, epoch, detached, publications } = self;
        let chain = store.chain(&channel).await?.0;
        let Some((_, earlier)) = chain.split_last().filter(|(last, _)| last.name == epoch) else {
            return Ok(0);
        };
        let before = earlier.last();
        // Otherwise a commit in doubt was done after all: an offset and an id would be given twice.
        if before.is_some_and(|before| before.last.checked_add(1) != Some(detached.first)) {
            return Ok(0);
        }
        // The ids that they would have had, none above those that were given since.
        let mut last_id = detached.last_id;
        let record = |publication: Arc<Publication>| {
            let id = MessageId::next(last_id, publication.time);
            last_id = Some(id);
            let message = Message { id, epoch: epoch.clone(), publication };
            Record { channel: Arc::clone(&channel), message }
        };
        let records = publications.into_iter().map(record).collect();
        let stored = store.append(records).await?.stored;
        if let Some(before) = before.filter(|before| before.end == End::Open) {
            store.seal(&channel, &before.name, before.last).await?;
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::faulty::{Call, Faulty};
    use crate::archive::{EmbeddedSettings, EmbeddedStore};
    use crate::broker::StreamTop;
    use crate::broker::stream::Archived;
    use crate::hub::Hub;
    use crate::time::Clock;

    fn publication(offset: u64) -> Arc<Publication> {
        let time = offset as i64;
        Arc::new(Publication { offset, time, data: "{}".into(), ..Publication::default() })
    }

    fn records(epoch: &str, offsets: std::ops::RangeInclusive<u64>) -> Vec<Record> {
        let record = |offset: u64| {
            let id = MessageId::first_at(offset as i64);
            let message = Message { id, epoch: epoch.into(), publication: publication(offset) };
            Record { channel: "a".into(), message }
        };
        offsets.map(record).collect()
    }

    /// The ends of the epochs when `before` and then 9 were stored, and 6 to 8 come late.
    async fn ends_after(before: Vec<Record>) -> Vec<(u64, u64, End)> {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "e1".into()).expect("opens");
        let store: SharedStore = Arc::new(store);
        store.append(before).await.expect("stored");
        store.append(records("e2", 9..=9)).await.expect("stored");
        let detached = Detached { first: 6, last_id: Some(MessageId::first_at(5)) };
        let publications = (6..=8).map(publication).collect();
        let late = Late { channel: "a".into(), epoch: "e2".into(), detached, publications };
        Late::store_all(vec![late], &store, &Metrics::default()).await;
        let verdict = store.verify("a").await.expect("a verdict");
        assert_eq!(verdict.faults, [""; 0], "ids rise");
        let chain = store.chain("a").await.expect("a chain").0;
        chain.into_iter().map(|epoch| (epoch.first, epoch.last, epoch.end)).collect()
    }

    #[tokio::test]
    async fn the_epoch_before_is_sealed_when_all_of_the_next_is_stored() {
        let ends = ends_after(records("e1", 1..=5)).await;
        assert_eq!(ends, [(1, 5, End::SealedAt(5)), (6, 9, End::Open)]);
    }

    #[tokio::test]
    async fn a_commit_in_doubt_that_was_done_after_all_keeps_the_epoch_open() {
        let ends = ends_after(records("e1", 1..=6)).await;
        assert_eq!(ends, [(1, 6, End::Open), (9, 9, End::Open)]);
    }

    #[tokio::test]
    async fn an_epoch_whose_end_the_archive_lacks_stays_open() {
        let ends = ends_after(records("e1", 1..=4)).await;
        assert_eq!(ends, [(1, 4, End::Open), (9, 9, End::Open)]);
    }

    /// Of thirty streams, how many are begun when the store fails for some, and how many are stored.
    async fn late_of_thirty(
        fault: impl Fn(Call, &str) -> Option<StoreError> + Send + Sync + 'static,
    ) -> (usize, u64) {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "e1".into()).expect("opens");
        let store: SharedStore = Arc::new(store);
        let names: Vec<Arc<str>> = (10..40).map(|n| format!("channel-{n}").into()).collect();
        for name in &names {
            let mut records = [records("e1", 1..=5), records("e2", 9..=9)].concat();
            records.iter_mut().for_each(|record| record.channel = Arc::clone(name));
            store.append(records).await.expect("stored");
        }
        let late = |name: &Arc<str>| Late {
            channel: Arc::clone(name),
            epoch: "e2".into(),
            detached: Detached { first: 6, last_id: Some(MessageId::first_at(5)) },
            publications: (6..=8).map(publication).collect(),
        };
        let faulty = Arc::new(Faulty::new(store, fault));
        let metrics = Metrics::default();
        let store: SharedStore = Arc::clone(&faulty) as SharedStore;
        Late::store_all(names.iter().map(late).collect(), &store, &metrics).await;
        (faulty.asked(Call::Append).len(), metrics.history.late.get())
    }

    #[tokio::test]
    async fn once_the_store_fails_no_other_stream_is_begun() {
        let away =
            |call, _: &str| (call == Call::Append).then(|| StoreError::Unavailable("away".into()));
        assert_eq!(late_of_thirty(away).await, (AT_ONCE, 0));
    }

    #[tokio::test]
    async fn what_concerns_one_stream_keeps_no_other_from_being_stored() {
        let damaged = |call, channel: &str| {
            let is_it = call == Call::Append && channel == "channel-12";
            is_it.then(|| StoreError::Damaged("a key".into()))
        };
        assert_eq!(late_of_thirty(damaged).await, (30, 29 * 3));
    }

    #[test]
    fn only_what_is_known_to_be_all_is_stored_late() {
        let clock = Clock::manual(0);
        let hub = Arc::new(Hub::new(clock.clone(), Arc::default()));
        let streams = MemoryBroker::new(hub, clock.clone());
        let kept = (7..=9).map(publication).collect();
        let top = StreamTop { offset: 9, epoch: "e2".into() };
        let draft = |first| {
            let detached = Some(Detached { first, last_id: None });
            let archived = Archived { last_id: None, detached };
            Draft { top: top.clone(), archived, seen: Default::default() }
        };
        let soon = clock.now() + std::time::Duration::from_secs(60);
        let archived = draft(7).archived;
        let stream = crate::broker::Stream::restored(top.clone(), archived, kept, soon, soon);
        streams.adopt("a", stream);
        let late = |first| Late::of(&streams, &"a".into(), &draft(first));
        assert_eq!(late(7).expect("all is there").publications.len(), 3);
        assert!(late(6).is_none(), "the stream has lost the first");
        let attached = Draft { archived: Archived::default(), ..draft(7) };
        assert!(Late::of(&streams, &"a".into(), &attached).is_none());
    }
}
