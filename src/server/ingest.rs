//! Consumers of the archive streams, as the configuration has them: in `bobolink history`, and in a
//! gateway whose store nobody else can open.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Config, ServerError, host_name};
use crate::archive::{Deleted, SharedStore};
use crate::broker::erase;
use crate::config::engine::EngineType;
use crate::config::history::{History, HistoryStore};
use crate::history::{CopiesLeft, Forget, NotSettled, Settle, WaitsSince};
use crate::ingest::{self, Arrivals, Bounds, Ingest, Settings};
use crate::lifecycle::Lifecycle;
use crate::redis::{Keys, Receive, Redis, Reporting};
use crate::telemetry::health::QueueLimits;
use crate::time::Clock;

/// Between two looks at whether the connections have left.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Entries of a consumer that may wait for those of others: some MB.
const MOST_WAITING: usize = 10_000;

/// How long a deletion waits for what was published before it.
const SETTLES_IN: Duration = Duration::from_secs(5);

/// How long a consumer stays in its group that was killed and has come back under another name.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// How long a reader waits for what Redis has.
const ASKED_FOR: Duration = Duration::from_millis(500);

/// For so long something may have waited in a Redis that does not answer.
const LATELY: Duration = Duration::from_secs(3_600);

/// A process that only consumes, with its connections to Redis.
pub struct Alone {
    pub redis: Arc<Redis>,
    ingest: Ingest,
    /// Ends the connections.
    end: CancellationToken,
}

impl Alone {
    /// Connects and consumes, with Redis as the engine; with memory there is nothing to consume.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn start(
        config: &Config,
        store: &SharedStore,
        clock: &Clock,
        reporting: &Reporting,
    ) -> Result<Option<Self>, ServerError> {
        if config.engine.r#type == EngineType::Memory {
            return Ok(None);
        }
        let arrivals = Arc::<Arrivals>::default();
        let keys = Keys::new(&config.engine.redis.prefix);
        let hearing = Hearing { keys, arrivals: Arc::clone(&arrivals) };
        let hearing: Arc<dyn Receive> = Arc::new(hearing);
        let redis = Redis::reporting(&config.engine.redis, clock, &hearing, reporting)?;
        let end = CancellationToken::new();
        redis.start(&end);
        ingest::watch(&redis, clock, (&reporting.health, limits(config)), &reporting.metrics, &end);
        let settings = settings(&config.history, config.history.port, store);
        let (from, metrics) = ((&*redis, &arrivals), &reporting.metrics);
        let ingest = Ingest::start(from, store, settings, clock, metrics);
        Ok(Some(Self { redis, ingest, end }))
    }

    /// Waits until it is known whether it may consume.
    ///
    /// # Errors
    /// Somebody else consumes, for another store.
    pub fn fit(&self) -> BoxFuture<'static, Result<(), String>> {
        fit(&self.ingest)
    }

    /// Finishes what is in hand, in `limit` at the longest.
    pub async fn stop(&self, limit: Duration) {
        self.ingest.stop(limit).await;
        self.end.cancel();
    }
}

/// Watches the archive streams of a gateway, and consumes them if its store is embedded. Tells, as soon
/// as that is known, whether it may.
pub fn in_gateway(
    config: &Config,
    (redis, arrivals): (&Arc<Redis>, &Arc<Arrivals>),
    store: &SharedStore,
    (clock, reporting): (&Clock, &Reporting),
    lifecycle: &Lifecycle,
) -> BoxFuture<'static, Result<(), String>> {
    let watched = (&reporting.health, limits(config));
    ingest::watch(redis, clock, watched, &reporting.metrics, &lifecycle.hard);
    if config.history.store != HistoryStore::Embedded {
        return ready(Ok(())).boxed();
    }
    let settings = settings(&config.history, config.http_server.port, store);
    let from = (&**redis, arrivals);
    let ingest = Ingest::start(from, store, settings, clock, &reporting.metrics);
    let fit = fit(&ingest);
    let (lifecycle, limit) = (lifecycle.clone(), config.shutdown.timeout);
    let tracker = lifecycle.tracker.clone();
    tracker.spawn(async move {
        lifecycle.soft.cancelled().await;
        // Those who are still there may publish, and wait until that is stored.
        while lifecycle.tracker.len() > 1 && !lifecycle.hard.is_cancelled() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        ingest.stop(limit).await;
    });
    fit
}

/// Tells since when something of a channel waits to be stored, where that goes through Redis.
pub fn waits_in(redis: Option<Arc<Redis>>, clock: &Clock) -> Option<WaitsSince> {
    let (redis, clock) = (redis?, clock.clone());
    Some(Arc::new(move |channel| {
        let (redis, clock, channel) = (Arc::clone(&redis), clock.clone(), channel.to_owned());
        let asked = async move {
            let asked = timeout(ASKED_FOR, ingest::waits_since(&redis, &channel)).await;
            // Readers get an answer also while Redis is away, but not above a hole of lately.
            let lately = clock.unix_millis().saturating_sub(LATELY.as_millis() as i64);
            asked.map_or(Some(lately), |answer| answer.unwrap_or(Some(lately)))
        };
        asked.boxed()
    }))
}

/// Waits before a deletion until what was published is stored, where that goes through Redis.
pub fn settle_in(redis: Option<Arc<Redis>>) -> Settle {
    Arc::new(move |channel| {
        let (redis, channel) = (redis.clone(), channel.to_owned());
        let settle = async move {
            let Some(redis) = redis else { return Ok(()) };
            ingest::passed(&redis, &channel, SETTLES_IN).await.map_err(|error| {
                tracing::warn!(%error, channel, "nothing was deleted");
                NotSettled
            })
        };
        settle.boxed()
    })
}

/// Takes what was deleted out of streams in Redis.
pub fn forget_in(redis: Option<Arc<Redis>>) -> Forget {
    Arc::new(move |channel, deleted: &Deleted| {
        let (redis, channel, deleted) = (redis.clone(), channel.to_owned(), deleted.clone());
        let forget = async move {
            let Some(redis) = redis else { return Ok(()) };
            erase(&redis, &channel, &deleted).await.map_err(|error| {
                tracing::error!(%error, channel, "a deleted message may be in a stream still");
                CopiesLeft
            })
        };
        forget.boxed()
    })
}

fn fit(ingest: &Ingest) -> BoxFuture<'static, Result<(), String>> {
    let fit = ingest.fit();
    async move { fit.await.map_err(|taken| taken.to_string()) }.boxed()
}

fn settings(history: &History, port: u16, store: &SharedStore) -> Settings {
    let ingest = &history.ingest;
    let name = match ingest.name.as_str() {
        "" => CompactString::from(format!("{}_{port}", host_name())),
        name => name.into(),
    };
    Settings {
        name,
        bounds: Bounds {
            count: ingest.batch_size as usize,
            bytes: ingest.batch_bytes,
            waiting: MOST_WAITING,
        },
        claim_after: ingest.claim_after,
        forget_after: FORGOTTEN_AFTER,
        dead_letters: ingest.dead_letters as usize,
        sole: (history.store == HistoryStore::Embedded).then(|| store.first_epoch().into()),
    }
}

fn limits(config: &Config) -> QueueLimits {
    let history = &config.history;
    QueueLimits { entries: history.backlog.into(), lag: history.ingest.max_lag }
}

/// Hears what consumers are told, and nothing of what clients are.
struct Hearing {
    keys: Keys,
    arrivals: Arc<Arrivals>,
}

impl Receive for Hearing {
    fn message(&self, name: &str, message: &Bytes) {
        self.arrivals.take(&self.keys, name, message);
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.keys.channel_of(name).is_none()
    }

    fn wanted(&self, _: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
    }

    fn interrupted(&self, _: usize, _: bool, _: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _: usize) {}
}
