//! One consumer: reads entries, has them stored, lets them leave their streams, in this order.
//!
//! Whatever is interrupted, nothing is lost: an entry leaves only after the store has it, and until
//! then it is read again, by this consumer or by another. So the store may see it again, which
//! changes nothing. In detail, when the process ends
//!
//! - between reading and storing: the entry is in this consumer's hands, by Redis; it reads it again
//!   when it comes back under its name, or another claims it;
//! - between storing and acknowledging: the same, and the store has it twice over as one;
//! - while a gap is filled: the entry above the gap has not left, so the gap is found again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::entry::{Delivered, Poison, Source, Ticket};
use super::gaps::{Doubt, Known};
use super::queue::Queue;
use super::reading::Appetite;
use super::waiting::{Wait, Waiting};
use crate::archive::{Record, SharedStore, Span, StoreError};
use crate::redis::CallError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::seldom::Seldom;
use crate::time::{Clock, jittered};

/// How long a read may wait for something new. The server's health is asked over the same
/// connection, so this stays well below `engine.redis.io_timeout`.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same while entries wait for other consumers.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);
/// Questions to the store at the same time.
pub(super) const QUESTIONS: usize = 16;
/// Pauses between tries of a store that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a batch may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Messages.
    pub count: usize,
    /// Bytes of entries.
    pub bytes: usize,
    /// Entries that may wait for others that are in other hands; with more of them nothing new is read.
    pub waiting: usize,
}

/// Entries with what they carry.
pub(super) type Records = Vec<(Delivered, Record)>;

/// Why a consumer does not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// The queue does not answer.
    Queue(CallError),
    /// It was asked to stop while the store was away.
    Stopped,
}

/// See the [module](self).
pub struct Consumer {
    pub(super) store: SharedStore,
    pub(super) metrics: Arc<Metrics>,
    clock: Clock,
    bounds: Bounds,
    appetite: Appetite,
    pub(super) known: Known,
    pub(super) waiting: Waiting,
    stop: CancellationToken,
    complaints: Seldom,
}

impl Consumer {
    pub fn new(
        store: SharedStore,
        clock: Clock,
        metrics: Arc<Metrics>,
        bounds: Bounds,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            metrics,
            clock,
            bounds,
            appetite: Appetite::new(bounds.count, bounds.bytes),
            known: Known::default(),
            waiting: Waiting::new(bounds.waiting, bounds.bytes),
            stop,
            complaints: Seldom::default(),
        }
    }

    /// Takes turns until it is asked to stop; then settles what waits, as far as that is for nobody
    /// else.
    ///
    /// # Errors
    /// See [`Halt`].
    pub async fn run(&mut self, queue: &mut impl Queue) -> Result<(), Halt> {
        // Whatever waited was not acknowledged, so it is read again.
        self.waiting.clear();
        while !self.stop.is_cancelled() {
            self.turn(queue).await?;
        }
        self.settle(queue).await
    }

    /// Reads once, and stores what came.
    ///
    /// # Errors
    /// See [`Halt`].
    pub async fn turn(&mut self, queue: &mut impl Queue) -> Result<(), Halt> {
        self.settle(queue).await?;
        let delivered = if self.waiting.is_full() {
            self.help(queue).await?
        } else {
            let patience = if self.waiting.is_empty() { PATIENCE } else { SHORT_PATIENCE };
            queue.next(self.appetite.count(), patience).await?
        };
        let bytes = delivered.iter().map(Delivered::len).sum();
        self.appetite.ate(delivered.len(), bytes);
        for batch in batches(delivered, self.bounds) {
            self.take(batch, queue).await?;
        }
        Ok(())
    }

    /// What everything waits for, if whoever has it in hand is gone: nobody else may be left to claim it.
    async fn help(&self, queue: &mut impl Queue) -> Result<Vec<Delivered>, Halt> {
        let found = queue.abandoned(&self.waiting.streams()).await?;
        if found.is_empty() {
            tokio::time::sleep(SHORT_PATIENCE).await;
        }
        Ok(found)
    }

    /// Stores a batch as far as that may be, and lets go of what is beyond doubt.
    async fn take(&mut self, batch: Vec<Delivered>, queue: &mut impl Queue) -> Result<(), Halt> {
        let history = &self.metrics.history;
        let claimed = batch.iter().filter(|one| one.source == Source::Claimed).count();
        history.claimed.inc_by(claimed as u64);
        let (mut records, mut leaving) = (Vec::with_capacity(batch.len()), Vec::new());
        for one in batch {
            if one.is_empty() {
                // It was deleted while it was in somebody's hands.
                leaving.push(one.ticket);
                continue;
            }
            match one.record() {
                Ok(record) => records.push((one, record)),
                Err(why) => {
                    self.bury(&one, why, queue).await?;
                    leaving.push(one.ticket);
                }
            }
        }
        let records = self.hold_back(records, queue).await?;
        leaving.extend(self.store(records, queue).await?);
        queue.done(&leaving).await?;
        Ok(())
    }

    /// Stores records; returns what may leave.
    async fn store(
        &mut self,
        mut records: Records,
        queue: &mut impl Queue,
    ) -> Result<Vec<Ticket>, Halt> {
        let mut leaving = Vec::with_capacity(records.len());
        let refused = self.keep(&records).await?;
        for index in refused.iter().rev() {
            let (one, _) = records.swap_remove(*index);
            self.bury(&one, Poison::Refused, queue).await?;
            leaving.push(one.ticket);
        }
        let doubts = self.known.judge(&records);
        let doubts = self.confirm(doubts).await?;
        for doubt in doubts {
            self.waiting.insert(doubt.ticket, Wait::Gap(doubt));
        }
        leaving.extend(records.iter().map(|(one, _)| one.ticket));
        leaving.retain(|ticket| !self.waiting.contains(*ticket));
        Ok(leaving)
    }

    /// Has records stored; returns the places of those that the store will never take, in order.
    async fn keep(&self, records: &[(Delivered, Record)]) -> Result<Vec<usize>, Halt> {
        let all = || records.iter().map(|(_, record)| record.clone()).collect();
        if records.is_empty() || self.append(all()).await? {
            return Ok(Vec::new());
        }
        let mut refused = Vec::new();
        for (index, (_, record)) in records.iter().enumerate() {
            if !self.append(vec![record.clone()]).await? {
                refused.push(index);
            }
        }
        Ok(refused)
    }

    /// Has records stored, however long that takes; false if the store will never take them.
    pub(super) async fn append(&self, records: Vec<Record>) -> Result<bool, Halt> {
        let history = &self.metrics.history;
        let started = self.clock.now();
        let stored = self.persist(|| {
            self.store.append(records.clone()).map(|stored| match stored {
                Err(StoreError::BadRequest(why)) => {
                    tracing::error!(why, "the store refuses messages");
                    Ok(None)
                }
                stored => stored.map(Some),
            })
        });
        let Some(appended) = stored.await? else { return Ok(false) };
        let took = self.clock.now().saturating_duration_since(started);
        history.commit_duration.observe(took.as_secs_f64());
        history.batch_messages.observe(records.len() as f64);
        history.stored.inc_by(appended.stored as u64);
        history.duplicates.inc_by(appended.duplicates as u64);
        Ok(true)
    }

    /// Asks the store until it answers.
    pub(super) async fn persist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, Halt>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.metrics.history.store_failures.inc();
            if self.complaints.may(self.clock.unix_millis()) {
                tracing::error!(%error, "the history store does not take messages, trying on");
            }
            let waiting = tokio::time::sleep(jittered(pause));
            if self.stop.run_until_cancelled(waiting).await.is_none() {
                return Err(Halt::Stopped);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The doubts whose predecessor is not stored, by nobody.
    async fn confirm(&self, doubts: Vec<Doubt>) -> Result<Vec<Doubt>, Halt> {
        let mut left = Vec::new();
        for part in doubts.chunks(QUESTIONS) {
            let open = try_join_all(part.iter().map(|doubt| self.is_open(doubt))).await?;
            left.extend(
                part.iter().zip(open).filter(|(_, open)| *open).map(|(one, _)| one.clone()),
            );
        }
        Ok(left)
    }

    pub(super) async fn is_open(&self, doubt: &Doubt) -> Result<bool, Halt> {
        let predecessor = doubt.offset.saturating_sub(1);
        let (epoch, after) = (doubt.epoch.clone(), predecessor.saturating_sub(1));
        let span = Span { epoch, after, through: predecessor };
        let ask = || self.store.holes(&doubt.channel, &span, 1);
        Ok(!self.persist(ask).await?.is_empty())
    }

    /// Decides what waits where everything before it has left its stream: an epoch may begin then, and
    /// what is missing in a gap was never appended.
    async fn settle(&mut self, queue: &mut impl Queue) -> Result<(), Halt> {
        while !self.waiting.is_empty() {
            let heads = queue.heads(&self.waiting.streams()).await?;
            let free = self.waiting.free(&heads);
            if free.is_empty() {
                // Others have in hand what is before the rest.
                return Ok(());
            }
            for ticket in free {
                let leaving = match self.waiting.remove(ticket) {
                    Some(Wait::Gap(doubt)) => {
                        self.fill(&doubt, queue).await?;
                        vec![ticket]
                    }
                    Some(Wait::Epoch(one, record)) => {
                        self.store(vec![(one, record)], queue).await?
                    }
                    None => continue,
                };
                queue.done(&leaving).await?;
            }
        }
        Ok(())
    }

    async fn bury(&self, one: &Delivered, why: Poison, queue: &mut impl Queue) -> Result<(), Halt> {
        self.metrics.history.dead_letters.inc();
        let id = one.ticket.id;
        tracing::error!(%id, %why, "an archive entry cannot be stored, and is put aside");
        Ok(queue.bury(one, why).await?)
    }
}

impl From<CallError> for Halt {
    fn from(error: CallError) -> Self {
        Self::Queue(error)
    }
}

/// Parts that keep to the bounds; an entry that is larger goes alone.
fn batches(delivered: Vec<Delivered>, bounds: Bounds) -> Vec<Vec<Delivered>> {
    let mut batches: Vec<Vec<Delivered>> = Vec::new();
    let mut bytes = 0;
    for one in delivered {
        bytes += one.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < bounds.count && bytes <= bounds.bytes => batch.push(one),
            _ => {
                bytes = one.len();
                batches.push(vec![one]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::EntryId;

    proptest! {
        #[test]
        fn batches_keep_order_and_bounds(
            sizes in proptest::collection::vec(1..50_usize, 0..60),
            count in 1..9_usize,
            bytes in 1..120_usize,
        ) {
            let one = |(index, size): (usize, &usize)| Delivered {
                ticket: Ticket { stream: 0, id: EntryId { ms: index as u64, count: 0 } },
                fields: vec![Bytes::from(vec![0; *size])],
                source: Source::New,
            };
            let delivered: Vec<_> = sizes.iter().enumerate().map(one).collect();
            let parts = batches(delivered.clone(), Bounds { count, bytes, waiting: 1 });
            for part in &parts {
                let weight: usize = part.iter().map(Delivered::len).sum();
                prop_assert!(part.len() == 1 || (part.len() <= count && weight <= bytes));
            }
            prop_assert_eq!(parts.concat(), delivered);
        }
    }
}
