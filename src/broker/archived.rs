//! The broker of a single node whose archived channels outlive it: nothing of them is delivered or
//! acknowledged before the store has it.
//!
//! Publications of archived channels go through one task. It takes everything that waits, gives each
//! its place, has the store keep them in one commit, and only then appends them to the streams and
//! delivers. So a batch that the store refuses leaves nothing behind, and the order of the store is
//! the order of delivery.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::late::{Detached, Late};
use super::memory::Draft;
use super::stream::Archived;
use super::{
    Archive, BrokerError, History, HistoryOptions, MemoryBroker, Overflow, PublishOptions,
    Published, Range, Stream, StreamTop, Suppressed,
};
use crate::archive::{
    Deleted, EPOCH_LETTERS, Message, MessageId, Order, PageQuery, Record, SharedStore, Span,
    StoreError,
};
use crate::protocol::publication::Publication;
use crate::telemetry::health::{Archiving, Health};
use crate::time::{Clock, random_letters};

/// Publications of one commit.
const BATCH: usize = 1_024;

/// The most publications that a restored stream begins with: as many as one recovery brings by
/// default. What is older comes from the archive.
const RESTORED: usize = 300;

/// Streams that are restored at the same time.
const RESTORED_AT_ONCE: usize = 16;

/// See the [module](self).
pub struct ArchivedBroker {
    streams: Arc<MemoryBroker>,
    archive: Arc<Archive>,
    clock: Clock,
    queue: mpsc::Sender<Waiting>,
    waiting: Mutex<Option<mpsc::Receiver<Waiting>>>,
    health: Arc<Health>,
}

/// A publish that waits for its commit.
struct Waiting {
    channel: Arc<str>,
    publication: Publication,
    options: PublishOptions,
    answer: oneshot::Sender<Result<Published, BrokerError>>,
}

/// A publish that has its place.
struct Placed {
    waiting: Waiting,
    place: StreamTop,
    id: MessageId,
    /// The archive does not have it.
    detached: Option<Detached>,
}

impl ArchivedBroker {
    /// A broker that archives nothing before [`ArchivedBroker::start`].
    pub fn new(streams: MemoryBroker, archive: Archive, clock: Clock) -> Self {
        let (queue, waiting) = mpsc::channel(archive.limits().backlog.max(1));
        let waiting = Mutex::new(Some(waiting));
        let (streams, archive, health) = (Arc::new(streams), Arc::new(archive), Arc::default());
        Self { streams, archive, clock, queue, waiting, health }
    }

    /// The same broker, telling `health` what becomes of publications.
    pub fn with_health(self, health: Arc<Health>) -> Self {
        Self { health, ..self }
    }

    /// Begins to archive, until the broker is dropped.
    pub fn start(&self) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        let archiver = Archiver {
            streams: Arc::clone(&self.streams),
            archive: Arc::clone(&self.archive),
            clock: self.clock.clone(),
            health: Arc::clone(&self.health),
        };
        tokio::spawn(archiver.run(waiting));
    }

    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Takes what was deleted in the store out of the streams.
    pub(super) fn forget(&self, channel: &str, deleted: &Deleted) {
        match (&deleted.epoch, deleted.offsets) {
            (Some(epoch), Some((first, last))) => self.streams.erase(channel, epoch, first, last),
            // It went over several epochs, so over all that the stream has.
            _ => self.streams.let_go(channel),
        }
    }

    pub(super) fn streams(&self) -> &MemoryBroker {
        &self.streams
    }

    pub(super) async fn publish(
        &self,
        channel: &str,
        publication: Publication,
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        let Some(archiving) = options.archive.filter(|_| options.history.is_some()) else {
            return Ok(self.streams.publish(channel, publication, options));
        };
        let (answer, answered) = oneshot::channel();
        let waiting =
            Waiting { channel: channel.into(), publication, options: options.clone(), answer };
        match archiving.overflow {
            Overflow::Fail => {
                if self.queue.try_send(waiting).is_err() {
                    self.archive.metrics.history.refused.inc();
                    self.health.archiving(Archiving::Full);
                    return Err(BrokerError::ArchiveUnavailable);
                }
            }
            // It is not to be lost, so it waits for its turn.
            Overflow::Drop => {
                let sent = self.queue.send(waiting).await;
                sent.map_err(|_| BrokerError::ArchiveUnavailable)?;
            }
        }
        answered.await.unwrap_or(Err(BrokerError::OutcomeUnknown))
    }

    pub(super) async fn history(
        &self,
        channel: &str,
        range: &Range,
        options: &HistoryOptions,
    ) -> Result<History, BrokerError> {
        if self.streams.draft(channel).is_none() {
            let restored = restore(self.archive.store(), &self.clock, channel, options).await;
            let (stream, known) = restored.map_err(|error| self.archive.unavailable(&error))?;
            if !known {
                // Made-up names cost nothing: every channel without a message has the same epoch.
                let mut stream = stream;
                return stream.read(range, self.clock.now(), options.meta_ttl);
            }
            self.streams.adopt(channel, stream);
        }
        self.streams.history(channel, range, options.meta_ttl)
    }
}

/// The task that archives.
struct Archiver {
    streams: Arc<MemoryBroker>,
    archive: Arc<Archive>,
    clock: Clock,
    health: Arc<Health>,
}

impl Archiver {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut batch = Vec::new();
        while waiting.recv_many(&mut batch, BATCH).await > 0 {
            self.archive.metrics.history.backlog.set((waiting.len() + batch.len()) as i64);
            while !batch.is_empty() {
                batch = self.archive(batch).await;
            }
            self.archive.metrics.history.backlog.set(waiting.len() as i64);
        }
    }

    /// Archives and delivers a batch; returns what has to come after it.
    async fn archive(&self, batch: Vec<Waiting>) -> Vec<Waiting> {
        let (ready, later) = self.take_up(batch).await;
        let (placed, late) = self.place(ready);
        if placed.is_empty() {
            return later;
        }
        let records = placed.iter().map(Placed::record).collect();
        let started = self.clock.now();
        let stored = self.archive.store().append(records).await;
        let took = self.clock.now().saturating_duration_since(started);
        self.archive.metrics.history.commit_duration.observe(took.as_secs_f64());
        match stored {
            Ok(appended) if appended.duplicates == 0 => {
                self.archive.metrics.history.stored.inc_by(appended.stored as u64);
                self.health.archiving(Archiving::Stored);
                placed.into_iter().for_each(|one| self.deliver(one));
                Late::store_all(late, self.archive.store(), &self.archive.metrics).await;
            }
            Ok(appended) => {
                // Somebody else, or we in doubt, has written there before.
                self.archive.metrics.history.duplicates.inc_by(appended.duplicates as u64);
                tracing::error!(
                    duplicates = appended.duplicates,
                    "the archive goes on further than was known; its streams are read anew"
                );
                self.fail(placed, &StoreError::Unknown);
            }
            Err(error) => self.fail(placed, &error),
        }
        later
    }

    /// Sees to it that every stream of the batch is here. What waits for an answer of the same batch
    /// comes later.
    async fn take_up(&self, batch: Vec<Waiting>) -> (Vec<Waiting>, Vec<Waiting>) {
        let mut keys = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| {
            let key = waiting.options.idempotency_key.clone();
            let owner = waiting.options.idempotency_owner.user().to_owned();
            key.is_empty() || keys.insert((Arc::clone(&waiting.channel), owner, key))
        });
        let missing = self.restore_all(&batch).await;
        let is_missing = |waiting: &Waiting| missing.contains(&waiting.channel);
        let (refused, ready): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_missing);
        self.archive.metrics.history.refused.inc_by(refused.len() as u64);
        for waiting in refused {
            waiting.tell(Err(BrokerError::ArchiveUnavailable));
        }
        (ready, later)
    }

    /// Restores the streams of a batch that are not here; returns the channels of those that are still
    /// missing. Everybody waits for that, so once the store fails for all no other is asked for.
    async fn restore_all(&self, batch: &[Waiting]) -> HashSet<Arc<str>> {
        let (mut missing, mut cold) = (HashSet::new(), Vec::new());
        for Waiting { channel, options, .. } in batch {
            if self.streams.draft(channel).is_none() && missing.insert(Arc::clone(channel)) {
                cold.extend(options.history.map(|history| (Arc::clone(channel), history)));
            }
        }
        let mut restoring = stream::iter(cold)
            .map(async |(channel, history)| {
                let store = self.archive.store();
                let restored = restore(store, &self.clock, &channel, &history).await;
                (channel, restored)
            })
            .buffer_unordered(RESTORED_AT_ONCE);
        while let Some((channel, restored)) = restoring.next().await {
            match restored {
                Ok((stream, _)) => {
                    self.streams.adopt(&channel, stream);
                    missing.remove(&channel);
                }
                Err(error) => {
                    self.archive.unavailable(&error);
                    self.health.archiving(Archiving::Failed(error.to_string()));
                    if error.may_pass() {
                        break;
                    }
                }
            }
        }
        missing
    }

    /// Gives each publication of a batch its place, and answers those that are not published. Also
    /// returns what the archive lacks of the same streams.
    fn place(&self, ready: Vec<Waiting>) -> (Vec<Placed>, Vec<Late>) {
        let mut drafts: HashMap<Arc<str>, Draft> = HashMap::new();
        let (mut placed, mut late) = (Vec::with_capacity(ready.len()), Vec::new());
        let now_ms = self.clock.unix_millis();
        for mut waiting in ready {
            let options = &waiting.options;
            if let Some(answer) = self.streams.answered(&waiting.channel, options) {
                waiting.tell(Ok(answer));
                continue;
            }
            if !drafts.contains_key(&waiting.channel) {
                let Some(draft) = self.streams.draft(&waiting.channel) else {
                    waiting.tell(Err(BrokerError::ArchiveUnavailable));
                    continue;
                };
                late.extend(Late::of(&self.streams, &waiting.channel, &draft));
                drafts.insert(Arc::clone(&waiting.channel), draft);
            }
            let Some(draft) = drafts.get_mut(&waiting.channel) else { continue };
            if draft.seen.is_stale(options.version, &options.version_epoch) {
                let StreamTop { offset, epoch } = draft.top.clone();
                let suppressed = Some(Suppressed::Version);
                waiting.tell(Ok(Published { offset, epoch, suppressed }));
                continue;
            }
            let id = MessageId::next(draft.archived.last_id, now_ms);
            draft.top.offset += 1;
            draft.archived.last_id = Some(id);
            waiting.publication.offset = draft.top.offset;
            waiting.publication.time = id.time();
            placed.push(Placed { waiting, place: draft.top.clone(), id, detached: None });
        }
        (placed, late)
    }

    fn deliver(&self, placed: Placed) {
        let Placed { waiting, place, id, detached } = placed;
        let Waiting { channel, publication, options, answer } = waiting;
        let archived = Archived { last_id: Some(id), detached };
        let done = self.streams.append_archived(&channel, publication, &options, &place, archived);
        // The stream is gone if it was dropped in the meantime; the archive has the publication, and
        // who subscribes learns of the gap by the next one.
        let published = done.unwrap_or(Published {
            offset: place.offset,
            epoch: place.epoch,
            suppressed: None,
        });
        let _ = answer.send(Ok(published));
    }

    /// The store did not take a batch: publishes go on without it where that was asked for.
    fn fail(&self, placed: Vec<Placed>, error: &StoreError) {
        tracing::error!(%error, publications = placed.len(), "publications were not archived");
        self.health.archiving(Archiving::Failed(error.to_string()));
        // What may be stored is found out by reading, before the channel is used again.
        let in_doubt = !matches!(error, StoreError::Full | StoreError::BadRequest(_));
        for mut one in placed {
            let waiting = &mut one.waiting;
            let draft = self.streams.draft(&waiting.channel);
            let overflow = waiting.options.archive.map(|archiving| archiving.overflow);
            let (Some(Overflow::Drop), Some(draft)) = (overflow, draft) else {
                self.archive.metrics.history.refused.inc();
                if in_doubt {
                    self.streams.let_go(&waiting.channel);
                }
                one.waiting.tell(Err(match in_doubt {
                    true => BrokerError::OutcomeUnknown,
                    false => BrokerError::ArchiveUnavailable,
                }));
                continue;
            };
            self.archive.metrics.history.dropped.inc();
            self.health.archiving(Archiving::Dropped);
            // Its offset may be given again after a restart, so it must not be of an epoch that the
            // archive knows.
            let offset = draft.top.offset + 1;
            let epoch = match draft.archived.detached {
                Some(_) => draft.top.epoch,
                None => random_letters(EPOCH_LETTERS),
            };
            let since = Detached { first: offset, last_id: draft.archived.last_id };
            let detached = Some(draft.archived.detached.unwrap_or(since));
            waiting.publication.offset = offset;
            self.deliver(Placed { place: StreamTop { offset, epoch }, detached, ..one });
        }
    }
}

impl Waiting {
    fn tell(self, answer: Result<Published, BrokerError>) {
        // Nobody may be waiting any more.
        let _ = self.answer.send(answer);
    }
}

impl Placed {
    fn record(&self) -> Record {
        let publication = Arc::new(self.waiting.publication.clone());
        let message = Message { id: self.id, epoch: self.place.epoch.clone(), publication };
        Record { channel: Arc::clone(&self.waiting.channel), message }
    }
}

/// The stream of a channel as the archive has it, and whether it has anything.
async fn restore(
    store: &SharedStore,
    clock: &Clock,
    channel: &str,
    options: &HistoryOptions,
) -> Result<(Stream, bool), StoreError> {
    let now = clock.now();
    let meta_expires = now + options.meta_ttl;
    let Some(tail) = store.tail(channel).await? else {
        let top = StreamTop { offset: 0, epoch: store.first_epoch().into() };
        let nothing = VecDeque::new();
        return Ok((Stream::restored(top, Archived::default(), nothing, now, meta_expires), false));
    };
    let query = PageQuery {
        after: None,
        before: None,
        order: Order::NewestFirst,
        limit: options.size.min(RESTORED),
    };
    let newest = store.page(channel, &query).await?.messages;
    let oldest_ms = clock.unix_millis().saturating_sub(options.ttl.as_millis() as i64);
    let is_kept = |message: &Message| {
        message.epoch == tail.epoch
            && message.offset() <= tail.offset
            && message.publication.time > oldest_ms
    };
    let mut kept: VecDeque<_> =
        newest.into_iter().filter(is_kept).map(|message| message.publication).collect();
    kept.make_contiguous().reverse();
    if let Some(first) = kept.front() {
        let after = first.offset.saturating_sub(1);
        let span = Span { epoch: tail.epoch.clone(), after, through: tail.offset };
        if let Some((_, hole)) = store.holes(channel, &span, usize::MAX).await?.last() {
            kept.retain(|publication| publication.offset > *hole);
        }
    }
    let age = kept.back().map_or(0, |last| clock.unix_millis().saturating_sub(last.time));
    let left = options.ttl.saturating_sub(Duration::from_millis(u64::try_from(age).unwrap_or(0)));
    let top = StreamTop { offset: tail.offset, epoch: tail.epoch };
    let archived = Archived { last_id: Some(tail.last_id), detached: None };
    Ok((Stream::restored(top, archived, kept, now + left, meta_expires), true))
}

#[cfg(test)]
mod tests;
