//! What is known of publications on their way into the archive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Health;

/// What is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Publications that may wait in one queue: `history.backlog`.
    pub entries: u64,
    /// How long one may wait: `history.ingest.max_lag`.
    pub lag: Duration,
}

/// Queues of publications that are to be archived, from the moment that they are watched until this is
/// dropped. Its methods are told what happens there.
#[derive(Debug)]
pub struct Queue {
    health: Arc<Health>,
    key: usize,
}

/// What is known; see [`Queue`] for who tells it.
#[derive(Debug)]
pub(super) struct QueueFacts {
    shard: usize,
    limits: QueueLimits,
    /// Since when too many wait in one queue, and how many.
    full: Option<(Instant, u64)>,
    /// Since when they wait for too long, and for how long.
    late: Option<(Instant, Duration)>,
}

impl Health {
    /// Watches the queues of a shard.
    pub fn watch_queue(self: &Arc<Self>, shard: usize, limits: QueueLimits) -> Queue {
        let key = self.queues.lock().insert(QueueFacts { shard, limits, full: None, late: None });
        Queue { health: Arc::clone(self), key }
    }
}

impl Queue {
    /// So many publications wait in the longest queue, and so long does the oldest of all.
    pub fn measured(&self, longest: u64, lag: Duration) {
        let now = self.health.clock.now();
        if let Some(facts) = self.health.queues.lock().get_mut(self.key) {
            facts.measured(longest, lag, now);
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.health.queues.lock().try_remove(self.key);
    }
}

impl QueueFacts {
    fn measured(&mut self, longest: u64, lag: Duration, now: Instant) {
        let since = self.full.map_or(now, |(since, _)| since);
        self.full = (longest >= self.limits.entries).then_some((since, longest));
        let since = self.late.map_or(now, |(since, _)| since);
        self.late = (lag > self.limits.lag).then_some((since, lag));
    }

    /// What is wrong, in words, and since when.
    pub fn faults(&self) -> impl Iterator<Item = (Instant, String)> {
        let (shard, most) = (self.shard, self.limits.entries);
        let full = self.full.map(|(since, count)| {
            (
                since,
                format!("{count} publications wait in a queue of shard {shard}, and {most} may"),
            )
        });
        let late = self.late.map(|(since, lag)| {
            let seconds = lag.as_secs();
            (since, format!("a publication waits for {seconds} s in a queue of shard {shard}"))
        });
        full.into_iter().chain(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const LIMITS: QueueLimits = QueueLimits { entries: 100, lag: Duration::from_secs(10) };

    #[test]
    fn a_full_and_a_late_queue_are_told_until_they_are_neither() {
        let start = Clock::manual(0).now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut facts = QueueFacts { shard: 2, limits: LIMITS, full: None, late: None };
        facts.measured(99, Duration::from_secs(10), at(0));
        assert_eq!(facts.faults().count(), 0, "at the limits");
        facts.measured(100, Duration::from_secs(11), at(5));
        facts.measured(120, Duration::from_secs(12), at(6));
        let faults: Vec<_> = facts.faults().collect();
        assert!(faults.iter().all(|(since, _)| *since == at(5)));
        let words: Vec<_> = faults.iter().map(|(_, words)| words.as_str()).collect();
        let full = "120 publications wait in a queue of shard 2, and 100 may";
        assert_eq!(words, [full, "a publication waits for 12 s in a queue of shard 2"]);
        facts.measured(1, Duration::ZERO, at(8));
        assert_eq!(facts.faults().count(), 0);
    }
}
