//! Publishes that are answered only once the archive has them: when their entries have left the queue.
//!
//! Consumers say over PUB/SUB what they have stored; that, or at the latest the next look, has the queue
//! asked whether an entry is gone. An entry can be gone for another reason if the master is another one,
//! or has begun anew; then nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::HashSet;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::awaited::{Awaited, Entry, Question};
use crate::broker::BrokerError;
use crate::redis::{Keys, Redis, Script};

/// Between two looks at all that waits: what PUB/SUB has not brought is found by these.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Entries that are asked for in one go; Redis does nothing else meanwhile.
const AT_ONCE: usize = 256;

/// See the [module](self).
#[derive(Default)]
pub struct Stored {
    awaited: Mutex<Awaited>,
    /// Places that are taken.
    count: AtomicUsize,
    bell: Notify,
}

/// The right to wait for one entry.
pub(super) struct Place<'a> {
    stored: &'a Stored,
}

impl Stored {
    /// A place to wait; none if so many are taken.
    pub(super) fn place(&self, most: usize) -> Option<Place<'_>> {
        let place = Place { stored: self };
        (self.count.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }

    /// Takes the message of a PUB/SUB channel, if it tells of what was stored.
    pub(super) fn take(&self, keys: &Keys, name: &str, message: &Bytes) {
        // It may come before the answer to the publish, so a place is enough to be concerned.
        if name != keys.archive_stored() || self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut words = std::str::from_utf8(message).unwrap_or_default().split(' ');
        let queue = words.next().unwrap_or_default();
        if self.awaited.lock().name(queue, words) {
            self.bell.notify_one();
        }
    }

    /// Looks until `stop`. No queue waits for the answer of another.
    pub(super) async fn watch(self: Arc<Self>, redis: Arc<Redis>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            let mut asking = FuturesUnordered::new();
            loop {
                let all = tokio::select! {
                    () = self.bell.notified() => false,
                    _ = looks.tick() => true,
                    Some(()) = asking.next() => continue,
                };
                let questions = self.awaited.lock().questions(all);
                asking.extend(questions.into_iter().map(|question| self.ask(&redis, question)));
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    async fn ask(&self, redis: &Redis, question: Question) {
        let Question { queue, channel, ids } = question;
        for ids in ids.chunks(AT_ONCE) {
            let Ok(route) = redis.shard(&channel).route(&channel) else { break };
            let args: Vec<_> = [&queue.0].into_iter().chain(ids).collect();
            let answer = route.attachment.link.run(Script::Waiting, 1, &args).await;
            let Some(still) = answer.as_ref().ok().and_then(|answer| answer.list()) else { break };
            let still: HashSet<_> = still.iter().filter_map(|id| id.str()).collect();
            let is_same =
                |under: &str| under == route.identity().id || under == route.predecessor();
            self.awaited.lock().settle(&queue, ids, &still, is_same);
        }
        if self.awaited.lock().answered(&queue) {
            self.bell.notify_one();
        }
    }
}

impl Place<'_> {
    /// Waits until an entry has left its queue.
    ///
    /// # Errors
    /// [`BrokerError::OutcomeUnknown`]: it is published, and nobody knows whether it is stored.
    pub async fn until_stored(self, entry: Entry, limit: Duration) -> Result<(), BrokerError> {
        let (told, is_named) = self.stored.awaited.lock().wait(entry);
        if is_named {
            self.stored.bell.notify_one();
        }
        match tokio::time::timeout(limit, told).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(BrokerError::OutcomeUnknown),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.stored.count.fetch_sub(1, Ordering::Relaxed);
    }
}
