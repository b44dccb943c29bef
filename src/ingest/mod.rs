//! From the archive streams of Redis into the store.
//!
//! With Redis a publication is appended to an archive stream by the script that publishes it. Consumers
//! read these streams, any number of them and in any number of processes, as one consumer group: Redis
//! gives each entry to one of them. A [`consumer`] stores what it reads and lets it leave the stream
//! afterwards. [`watch`] tells how much waits, and for how long.
//!
//! Entries come in order and are stored in any, except that the first of an epoch waits until everything
//! before it is stored, since epochs stand in the store in the order in which they come there. The store
//! knows a message by channel, epoch and offset, and what it has already it leaves as it is. That is sound because one place has one content. An
//! offset is given anew in two cases only: after a failover that lost something, and in a Redis that
//! came back empty or older. In both the master has another identity, by which the scripts that append
//! begin another epoch before they give an offset (`broker::redis`). So whatever an old master's stream,
//! a claimed entry or a crashed consumer brings for the second time is what was brought for the first.
//!
//! Software that publishes without appending leaves gaps: see [`gaps`] and [`filling`].

mod alone;
mod arrivals;
mod calls;
mod claim;
mod consumer;
mod entry;
mod filling;
mod gaps;
mod order;
mod passing;
mod queue;
mod reading;
mod slots;
mod waiting;
mod watch;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use tokio::sync::watch as latest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::arrivals::Arrivals;
pub use self::claim::Taken;
pub use self::consumer::{Bounds, Consumer, Halt};
pub use self::entry::{Delivered, EntryId, Poison, Ticket};
pub use self::passing::{Late, passed, waits_since};
pub use self::queue::Queue;
pub use self::watch::watch;

use self::alone::Alone;
use self::claim::{Claim, Fit, may_begin, settle};
use self::slots::Slots;
use crate::archive::SharedStore;
use crate::redis::{CallError, Redis, Shard};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::seldom::Seldom;
use crate::time::Clock;

/// Between two tries to read a shard.
const RETRY: Duration = Duration::from_millis(250);

/// How a process consumes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the group knows this process by. Two of one name see each other's entries, which costs
    /// work twice and harms nothing.
    pub name: CompactString,
    /// What goes to the store at once.
    pub bounds: Bounds,
    /// Entries that were in somebody's hands for so long are taken over.
    pub claim_after: Duration,
    /// Consumers that have nothing in their hands and were not heard of for so long are taken out of
    /// the group.
    pub forget_after: Duration,
    /// Entries that could not be stored, of which so many are kept of each stream.
    pub dead_letters: usize,
    /// The name of the store, if that is of this process alone: then nobody else may consume for
    /// another store.
    pub sole: Option<CompactString>,
}

impl Settings {
    /// How often consumers that are gone are looked for.
    fn tidy_every(&self) -> Duration {
        self.forget_after / 24
    }
}

/// The consumers of a process, one for each shard.
pub struct Ingest {
    stop: CancellationToken,
    /// Ends connections that are left when the time for stopping is over.
    end: CancellationToken,
    tasks: TaskTracker,
    claim: Option<Arc<Claim>>,
    fit: latest::Receiver<Fit>,
}

impl Ingest {
    /// Consumes from now on. Whoever hears PUB/SUB tells `arrivals`.
    pub fn start(
        (redis, arrivals): (&Redis, &Arc<Arrivals>),
        store: &SharedStore,
        settings: Settings,
        clock: &Clock,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (stop, end, tasks) =
            (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        let settings = Arc::new(settings);
        let claim = claim_of(redis, &settings);
        let fit = settle(claim.clone(), &end);
        for shard in redis.shards() {
            // Only those of clusters say anything there.
            shard.hear_always(&redis.keys().archive_arrived());
            let (store, metrics) = (Arc::clone(store), Arc::clone(metrics));
            let bounds = settings.bounds;
            let consumer = Consumer::new(store, clock.clone(), metrics, bounds, stop.clone());
            let worker = Worker {
                shard: Arc::clone(shard),
                arrivals: Arc::clone(arrivals),
                settings: Arc::clone(&settings),
                clock: clock.clone(),
                stop: stop.clone(),
                end: end.clone(),
                consumer,
                slots: None,
                complaints: Seldom::default(),
            };
            let may_begin = may_begin(fit.clone(), stop.clone());
            tasks.spawn(end.clone().run_until_cancelled_owned(async move {
                if may_begin.await {
                    worker.run().await;
                }
            }));
        }
        tasks.close();
        Self { stop, end, tasks, claim, fit }
    }

    /// Tells whether it consumes, as soon as that is known.
    ///
    /// # Errors
    /// Somebody else does so, for another store of which there can be only one.
    pub fn fit(&self) -> impl Future<Output = Result<(), Taken>> + Send + use<> {
        let mut fit = self.fit.clone();
        async move {
            let known = fit.wait_for(Option::is_some).await;
            // Without an answer it is over.
            known.ok().and_then(|known| known.clone()).unwrap_or(Ok(()))
        }
    }

    /// Reads nothing new, finishes what was read, and leaves the group where nothing is in hand any
    /// more; whatever that takes beyond `limit` is left to others. Stop it before its connections.
    pub async fn stop(&self, limit: Duration) {
        self.stop.cancel();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all archive entries in hand were stored; others will claim them");
        }
        self.end.cancel();
        if let Some(claim) = &self.claim {
            claim.release().await;
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// One shard is enough for all, since every process uses the same ones.
fn claim_of(redis: &Redis, settings: &Settings) -> Option<Arc<Claim>> {
    let (store, shard) = (settings.sole.as_ref()?, redis.shards().first()?);
    Some(Arc::new(Claim::new(shard, redis.keys(), store, &settings.name)))
}

/// Consumes the streams of one shard.
struct Worker {
    shard: Arc<Shard>,
    arrivals: Arc<Arrivals>,
    settings: Arc<Settings>,
    clock: Clock,
    stop: CancellationToken,
    end: CancellationToken,
    consumer: Consumer,
    /// The streams of a cluster, which are not found anew after every failure.
    slots: Option<Slots>,
    complaints: Seldom,
}

impl Worker {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let ended = match self.shard.is_cluster() {
                None => Err(Halt::Queue(CallError::Unavailable)),
                Some(false) => self.alone().await,
                Some(true) => self.slots().await,
            };
            // Shards say themselves that they are away.
            if let Err(Halt::Queue(error)) = ended {
                let is_news = error != CallError::Unavailable;
                if is_news && self.complaints.may(self.clock.unix_millis()) {
                    let shard = self.shard.number();
                    tracing::warn!(shard, %error, "the archive stream cannot be read, trying on");
                }
                self.stop.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
    }

    async fn alone(&mut self) -> Result<(), Halt> {
        let connection = self.end.child_token();
        let _guard = connection.clone().drop_guard();
        let (shard, settings) = (Arc::clone(&self.shard), Arc::clone(&self.settings));
        let mut queue = Alone::open(shard, settings, self.clock.clone(), &connection).await?;
        self.consumer.run(&mut queue).await?;
        Ok(queue.leave().await?)
    }

    async fn slots(&mut self) -> Result<(), Halt> {
        let (shard, settings) = (Arc::clone(&self.shard), Arc::clone(&self.settings));
        let fresh = || Slots::new(shard, settings, self.clock.clone(), &self.arrivals);
        let queue = self.slots.get_or_insert_with(fresh);
        queue.restart();
        self.consumer.run(queue).await?;
        Ok(queue.leave().await?)
    }
}
