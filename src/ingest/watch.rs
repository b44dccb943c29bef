//! How much waits in the archive streams, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::calls;
use super::entry::EntryId;
use super::slots;
use crate::redis::{CallError, Command, Redis, Shard, Value};
use crate::telemetry::health::{Health, Queue as QueueHealth, QueueLimits};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::RedisShard;
use crate::telemetry::seldom::Seldom;
use crate::time::Clock;

/// How often it is measured.
const EVERY: Duration = Duration::from_secs(1);
/// Streams of a cluster that are looked at each time; more of them take turns.
const STREAMS: usize = 1_024;

/// Measures the archive streams of all shards until `stop`, for metrics and health.
pub fn watch(
    redis: &Arc<Redis>,
    clock: &Clock,
    (health, limits): (&Arc<Health>, QueueLimits),
    metrics: &Arc<Metrics>,
    stop: &CancellationToken,
) {
    for shard in redis.shards() {
        let mut gauge = Gauge {
            shard: Arc::clone(shard),
            clock: clock.clone(),
            metrics: Arc::clone(metrics),
            health: health.watch_queue(shard.number(), limits),
            streams: BTreeMap::new(),
            listed: 0,
            turn: 0,
            complaints: Seldom::default(),
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                gauge.measure().await;
            }
        }));
    }
}

struct Gauge {
    shard: Arc<Shard>,
    clock: Clock,
    metrics: Arc<Metrics>,
    health: QueueHealth,
    /// By slot: 0 where there are none.
    streams: BTreeMap<u16, Waiting>,
    /// How many slots are known to be in the set of a cluster.
    listed: u64,
    turn: usize,
    complaints: Seldom,
}

/// What waits in one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Waiting {
    entries: u64,
    oldest: Option<EntryId>,
}

impl Gauge {
    /// Without an answer everything stays as it was: that Redis is away others tell.
    async fn measure(&mut self) {
        let looked_at = match self.shard.is_cluster() {
            None => return,
            Some(false) => self.look_at_one().await,
            Some(true) => self.look_at_slots().await,
        };
        if looked_at.is_err() {
            return;
        }
        let now_ms = u64::try_from(self.clock.unix_millis()).unwrap_or(0);
        let (entries, longest, lag) = total(self.streams.values(), now_ms);
        let shard = RedisShard::from(self.shard.number() as u32);
        self.metrics.history.queue.with(shard).set(entries as i64);
        self.metrics.history.lag.with(shard).set(lag.as_secs() as i64);
        self.health.measured(longest, lag);
    }

    async fn look_at_one(&mut self) -> Result<(), CallError> {
        let call = async |command: fn(&str) -> Command| {
            self.shard.call("", |route| command(&route.keys().archive_stream(""))).await
        };
        let waiting = waiting(call(length).await?, call(calls::head).await?)?;
        self.streams.insert(0, waiting);
        Ok(())
    }

    /// What is at a master that is away stays as it was, as long as there is another one.
    async fn look_at_slots(&mut self) -> Result<(), CallError> {
        let listed = slots::listed(&self.shard, &mut self.listed).await;
        for slot in listed.iter().flatten() {
            self.streams.entry(*slot).or_default();
        }
        let count = self.streams.len();
        let chosen = self.streams.keys().cycle().skip(self.turn).take(count.min(STREAMS));
        let shard = &self.shard;
        let looks = chosen.copied().map(async |slot| {
            let length = slots::call(shard, slot, length).await;
            let head = slots::call(shard, slot, calls::head).await;
            let waiting = length.and_then(|length| waiting(length, head?));
            (slot, waiting)
        });
        let seen = join_all(looks).await;
        self.turn = if count == 0 { 0 } else { (self.turn + STREAMS) % count };
        let seen = seen.into_iter().filter_map(|(slot, seen)| Some((slot, seen.ok()?)));
        let seen: Vec<_> = seen.collect();
        if let Err(error) = listed {
            if seen.is_empty() {
                return Err(error);
            }
            // Shards say themselves that they are away.
            let is_news = error != CallError::Unavailable;
            if is_news && self.complaints.may(self.clock.unix_millis()) {
                let shard = self.shard.number();
                tracing::warn!(shard, %error, "the set of archive streams cannot be read");
            }
        }
        self.streams.extend(seen);
        Ok(())
    }
}

fn length(stream: &str) -> Command {
    Command::new("XLEN").arg(stream)
}

fn waiting(length: Value, head: Value) -> Result<Waiting, CallError> {
    let entries = length.number().ok_or_else(calls::nonsense)?;
    Ok(Waiting { entries, oldest: calls::end_answer(&head)? })
}

/// All entries, those of the longest stream, and the age of the oldest. Redis dated that one, and may
/// have a clock that is ahead.
fn total<'a>(streams: impl Iterator<Item = &'a Waiting>, now_ms: u64) -> (u64, u64, Duration) {
    let (mut entries, mut longest, mut lag) = (0, 0, 0);
    for stream in streams {
        entries += stream.entries;
        longest = longest.max(stream.entries);
        lag = lag.max(stream.oldest.map_or(0, |oldest| now_ms.saturating_sub(oldest.ms)));
    }
    (entries, longest, Duration::from_millis(lag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_of_all_streams_says_how_late_the_archive_is() {
        let at = |ms| Some(EntryId { ms, count: 0 });
        let streams = [
            Waiting { entries: 2, oldest: at(9_000) },
            Waiting { entries: 3, oldest: at(4_000) },
            Waiting::default(),
            Waiting { entries: 1, oldest: at(99_000) },
        ];
        assert_eq!(total(streams.iter(), 10_000), (6, 3, Duration::from_secs(6)));
        assert_eq!(total([].iter(), 10_000), (0, 0, Duration::ZERO));
    }
}
