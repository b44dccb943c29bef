//! Publications that the archive could not take when they came, and takes later, from the stream that
//! still has them.
//!
//! The first that it lacked began another epoch. Once all of that epoch is stored, the one before it
//! can be sealed where it ended: whatever was acknowledged in it had been stored before, so positions
//! in it lead on without a gap. Where the stream has lost some of them, it stays open for good.

use std::sync::Arc;

use compact_str::CompactString;

use super::MemoryBroker;
use super::memory::Draft;
use crate::archive::{End, Message, MessageId, Record, SharedStore, StoreError};
use crate::protocol::publication::Publication;
use crate::telemetry::metrics::Metrics;

/// The most that is stored late at once; with more the epoch before stays open.
const MOST: usize = 1_024;

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

    /// Stores it, for a store that has just taken a publication of the same epoch.
    pub async fn store(self, store: &SharedStore, metrics: &Metrics) {
        let channel = Arc::clone(&self.channel);
        let count = self.publications.len();
        match self.append_and_seal(store).await {
            Ok(stored) => {
                metrics.history.late.inc_by(stored as u64);
                tracing::info!(channel = &*channel, count, "the archive has what it lacked");
            }
            Err(error) => tracing::warn!(
                %error, channel = &*channel, count,
                "what the archive lacks could not be stored late; its epoch stays open"
            ),
        }
    }

    async fn append_and_seal(self, store: &SharedStore) -> Result<usize, StoreError> {
        let Self { channel, epoch, detached, publications } = self;
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
        let chain = store.chain(&channel).await?.0;
        if let [.., before, last] = &chain[..]
            && last.name == epoch
            && last.first == detached.first
            // Otherwise a commit in doubt was done after all, and its offset given twice.
            && before.last.checked_add(1) == Some(detached.first)
            && before.end == End::Open
        {
            store.seal(&channel, &before.name, before.last).await?;
        }
        Ok(stored)
    }
}
