//! Publishes that are answered only once the archive has them: when their entries have left the queue.
//!
//! Consumers say over PUB/SUB what they have stored; that, or at the latest the next look, has the queue
//! asked whether an entry is gone. An entry can be gone for another reason if the master is another one,
//! or has begun anew; then nobody knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::{HashMap, HashSet};
use bytes::Bytes;
use compact_str::CompactString;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::broker::BrokerError;
use crate::redis::{Keys, Redis, Script};

/// Between two looks at all that waits: what PUB/SUB has not brought is found by these.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Entries that are asked for in one go; Redis does nothing else meanwhile.
const AT_ONCE: usize = 256;

/// See the [module](self).
#[derive(Default)]
pub struct Stored {
    /// By the id of the entry.
    waiting: Mutex<HashMap<CompactString, Vec<Waiting>>>,
    /// Ids that consumers have named since the last look.
    named: Mutex<HashSet<CompactString>>,
    count: AtomicUsize,
    bell: Notify,
}

struct Waiting {
    channel: CompactString,
    /// The identity of the master that has put it into the queue.
    under: CompactString,
    tell: oneshot::Sender<Result<(), BrokerError>>,
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
        if name != keys.archive_stored() {
            return;
        }
        // The queue's name comes first.
        let ids = std::str::from_utf8(message).unwrap_or_default().split(' ').skip(1);
        let waiting = self.waiting.lock();
        let known: Vec<_> = ids.filter(|id| waiting.contains_key(*id)).map(Into::into).collect();
        drop(waiting);
        if !known.is_empty() {
            self.named.lock().extend(known);
            self.bell.notify_one();
        }
    }

    /// Looks until `stop`.
    pub(super) async fn watch(self: Arc<Self>, redis: Arc<Redis>, stop: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let watching = async {
            loop {
                let named = tokio::select! {
                    () = self.bell.notified() => Some(std::mem::take(&mut *self.named.lock())),
                    _ = looks.tick() => None,
                };
                self.look(&redis, named.as_ref()).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// Asks for entries that wait, for all of them or for those that were named.
    async fn look(&self, redis: &Redis, named: Option<&HashSet<CompactString>>) {
        // By queue, a channel that leads to it and the ids. A channel of the queue is as good as another.
        let mut queues: HashMap<(usize, CompactString), (CompactString, Vec<CompactString>)> =
            HashMap::default();
        {
            let mut waiting = self.waiting.lock();
            waiting.retain(|_, all| {
                all.retain(|one| !one.tell.is_closed());
                !all.is_empty()
            });
            for (id, all) in waiting.iter() {
                if named.is_some_and(|named| !named.contains(id)) {
                    continue;
                }
                for one in all {
                    let shard = redis.shard(&one.channel);
                    let Ok(route) = shard.route(&one.channel) else { continue };
                    let queue = (shard.number(), route.keys().archive_stream(&one.channel));
                    let ids = queues.entry(queue).or_insert_with(|| (one.channel.clone(), vec![]));
                    ids.1.push(id.clone());
                }
            }
        }
        let looks = queues.iter().map(|(queue, (channel, ids))| async move {
            for ids in ids.chunks(AT_ONCE) {
                self.ask(redis, queue, channel, ids).await;
            }
        });
        join_all(looks).await;
    }

    async fn ask(
        &self,
        redis: &Redis,
        (number, queue): &(usize, CompactString),
        channel: &str,
        ids: &[CompactString],
    ) {
        let Ok(route) = redis.shard(channel).route(channel) else { return };
        let args: Vec<_> = [queue].into_iter().chain(ids).collect();
        let answer = route.attachment.link.run(Script::Waiting, 1, &args).await;
        let Some(still) = answer.as_ref().ok().and_then(|answer| answer.list()) else { return };
        let still: HashSet<_> = still.iter().filter_map(|id| id.str()).collect();
        let mut waiting = self.waiting.lock();
        for id in ids {
            let Some(all) = waiting.get_mut(id) else { continue };
            let is_meant = |one: &mut Waiting| {
                let keys = route.keys();
                let shard = redis.shard(&one.channel);
                shard.number() == *number && keys.archive_stream(&one.channel) == *queue
            };
            for one in all.extract_if(.., is_meant).collect::<Vec<_>>() {
                let is_same = one.under == route.identity().id || one.under == route.predecessor();
                match (is_same, still.contains(id.as_str())) {
                    (true, true) => all.push(one),
                    (true, false) => drop(one.tell.send(Ok(()))),
                    (false, _) => drop(one.tell.send(Err(BrokerError::OutcomeUnknown))),
                }
            }
        }
    }
}

impl Place<'_> {
    /// Waits until an entry has left the queue that a channel has, where it was put under the identity
    /// `under`.
    ///
    /// # Errors
    /// [`BrokerError::OutcomeUnknown`]: it is published, and nobody knows whether it is stored.
    pub async fn until_stored(
        self,
        channel: &str,
        id: &str,
        under: CompactString,
        limit: Duration,
    ) -> Result<(), BrokerError> {
        let (tell, told) = oneshot::channel();
        let waiting = Waiting { channel: channel.into(), under, tell };
        self.stored.waiting.lock().entry(id.into()).or_default().push(waiting);
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
