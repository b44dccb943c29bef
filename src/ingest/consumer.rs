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

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use super::entry::{Delivered, EntryId, Poison, Ticket};
use super::gaps::{Doubt, Known};
use super::queue::Queue;
use super::reading::Appetite;
use crate::archive::{Record, SharedStore, Span, StoreError};
use crate::redis::CallError;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::seldom::Seldom;
use crate::time::{Clock, jittered};

/// How long a read may wait for something new. The server's health is asked over the same
/// connection, so this stays well below `engine.redis.io_timeout`.
const PATIENCE: Duration = Duration::from_millis(500);
/// The same while doubts wait for other consumers.
const SHORT_PATIENCE: Duration = Duration::from_millis(20);
/// Doubts that may wait; with more of them nothing new is read.
const MAX_DOUBTS: usize = 10_000;
/// Questions to the store at the same time.
const QUESTIONS: usize = 16;
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
}

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
    known: Known,
    /// In the order in which they entered their streams.
    doubts: BTreeMap<Ticket, Doubt>,
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
            doubts: BTreeMap::new(),
            stop,
            complaints: Seldom::default(),
        }
    }

    /// Takes turns until it is asked to stop; then settles its doubts as far as nobody else is to be
    /// waited for.
    ///
    /// # Errors
    /// See [`Halt`].
    pub async fn run(&mut self, queue: &mut impl Queue) -> Result<(), Halt> {
        // Whatever was in doubt was not acknowledged, so it is read again.
        self.doubts.clear();
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
        let patience = if self.doubts.is_empty() { PATIENCE } else { SHORT_PATIENCE };
        if self.doubts.len() >= MAX_DOUBTS {
            tokio::time::sleep(patience).await;
            return Ok(());
        }
        let delivered = queue.next(self.appetite.count(), patience).await?;
        let bytes = delivered.iter().map(Delivered::len).sum();
        self.appetite.ate(delivered.len(), bytes);
        for batch in batches(delivered, self.bounds) {
            self.take(batch, queue).await?;
        }
        Ok(())
    }

    /// Stores a batch, and lets go of what is beyond doubt.
    async fn take(&mut self, batch: Vec<Delivered>, queue: &mut impl Queue) -> Result<(), Halt> {
        let history = &self.metrics.history;
        history.claimed.inc_by(batch.iter().filter(|one| one.is_claimed).count() as u64);
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
        let refused = self.keep(&records).await?;
        for index in refused.iter().rev() {
            let (one, _) = records.swap_remove(*index);
            self.bury(&one, Poison::Refused, queue).await?;
            leaving.push(one.ticket);
        }
        let doubts = self.known.judge(&records);
        let doubts = self.confirm(doubts).await?;
        self.doubts.extend(doubts.into_iter().map(|doubt| (doubt.ticket, doubt)));
        leaving.extend(records.iter().map(|(one, _)| one.ticket));
        leaving.retain(|ticket| !self.doubts.contains_key(ticket));
        queue.done(&leaving).await?;
        Ok(())
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

    /// Decides the doubts before which everything has left their stream: what is still missing then
    /// was never appended.
    async fn settle(&mut self, queue: &mut impl Queue) -> Result<(), Halt> {
        let Some(first) = self.doubts.keys().next().copied() else { return Ok(()) };
        let mut stream = first.stream;
        loop {
            let from = Ticket { stream, id: EntryId::default() };
            let Some(ticket) = self.doubts.range(from..).next().map(|(ticket, _)| *ticket) else {
                return Ok(());
            };
            let head = queue.head(ticket.stream).await?;
            if head.is_some_and(|head| head < ticket.id) {
                // Others have it in hand; that of other streams need not wait.
                let Some(next) = ticket.stream.checked_add(1) else { return Ok(()) };
                stream = next;
                continue;
            }
            stream = ticket.stream;
            let Some(doubt) = self.doubts.get(&ticket).cloned() else { continue };
            self.fill(&doubt, queue).await?;
            queue.done(&[ticket]).await?;
            self.doubts.remove(&ticket);
        }
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
                is_claimed: false,
            };
            let delivered: Vec<_> = sizes.iter().enumerate().map(one).collect();
            let parts = batches(delivered.clone(), Bounds { count, bytes });
            for part in &parts {
                let weight: usize = part.iter().map(Delivered::len).sum();
                prop_assert!(part.len() == 1 || (part.len() <= count && weight <= bytes));
            }
            prop_assert_eq!(parts.concat(), delivered);
        }
    }
}
