//! What is known of the archive: whether it takes what is published.

use std::time::{Duration, Instant};

/// How long it is told that something went wrong: longer than from one look of an alarm to the next.
const TOLD: Duration = Duration::from_secs(60);

/// Something that happened to publications that were to be archived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archiving {
    /// The store took some.
    Stored,
    /// The store did not, and why.
    Failed(String),
    /// So many were waiting that one was refused.
    Full,
    /// Some were delivered that the archive lacks.
    Dropped,
}

/// What went wrong lately.
#[derive(Debug, Default)]
pub(super) struct Archive {
    failed: Option<(Streak, String)>,
    full: Option<Streak>,
    dropped: Option<Streak>,
}

/// One thing that came again and again, never more than [`TOLD`] apart.
#[derive(Clone, Copy, Debug)]
struct Streak {
    first: Instant,
    last: Instant,
}

impl Archive {
    pub fn learn(&mut self, what: Archiving, now: Instant) {
        match what {
            Archiving::Stored => self.failed = None,
            Archiving::Failed(reason) => {
                let streak = self.failed.take().map(|(streak, _)| streak);
                self.failed = Some((Streak::after(streak, now), reason));
            }
            Archiving::Full => self.full = Some(Streak::after(self.full, now)),
            Archiving::Dropped => self.dropped = Some(Streak::after(self.dropped, now)),
        }
    }

    /// What is wrong at this time, in words, and since when.
    pub fn faults(&self, now: Instant) -> Vec<(Instant, String)> {
        let failed = self.failed.as_ref();
        let told = [
            failed.map(|(streak, why)| (*streak, format!("the store fails: {why}"))),
            self.full.map(|streak| (streak, "publishes are refused, the backlog is full".into())),
            self.dropped.map(|streak| (streak, "publications are delivered and missing".into())),
        ];
        let told = told.into_iter().flatten().filter(|(streak, _)| streak.is_told(now));
        told.map(|(streak, what)| (streak.first, what)).collect()
    }
}

impl Streak {
    fn after(before: Option<Self>, now: Instant) -> Self {
        let first = before.filter(|streak| streak.is_told(now)).map_or(now, |streak| streak.first);
        Self { first, last: now }
    }

    fn is_told(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) <= TOLD
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    #[test]
    fn a_failing_store_is_told_until_it_takes_something_and_the_rest_for_a_while() {
        let start = Clock::manual(0).now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut archive = Archive::default();
        assert!(archive.faults(at(0)).is_empty());
        archive.learn(Archiving::Failed("full".into()), at(1));
        archive.learn(Archiving::Dropped, at(1));
        archive.learn(Archiving::Failed("still full".into()), at(30));
        let told = archive.faults(at(31));
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], (at(1), "the store fails: still full".into()));
        archive.learn(Archiving::Stored, at(40));
        assert_eq!(archive.faults(at(41)).len(), 1, "what was dropped is told on");
        archive.learn(Archiving::Dropped, at(60));
        assert_eq!(archive.faults(at(120))[0].0, at(1), "one streak");
        assert!(archive.faults(at(121)).is_empty());
        archive.learn(Archiving::Full, at(200));
        assert_eq!(archive.faults(at(201))[0].0, at(200));
    }
}
