//! What to read next of a stream, and how much of it. Pure.

use std::time::{Duration, Instant};

use super::entry::EntryId;

/// The order in which a consumer reads one stream: what it was given before and did not
/// acknowledge, then what others have left lying, then what is new.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Own entries are read behind this one; none when all were.
    own: Option<EntryId>,
    /// Where a look for abandoned entries goes on; none between two looks.
    claim: Option<EntryId>,
    next_claim: Instant,
    next_tidy: Instant,
}

/// What to ask Redis for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Own entries behind this one.
    Own(EntryId),
    /// Entries from this one on that were in somebody's hands for too long.
    Claim(EntryId),
    /// Entries that nobody was given yet.
    Fresh,
}

impl Reading {
    /// A consumer that may have been here before.
    pub fn new(now: Instant) -> Self {
        Self { own: Some(EntryId::default()), claim: None, next_claim: now, next_tidy: now }
    }

    /// What comes next.
    pub fn next(&mut self, now: Instant) -> Ask {
        if let Some(behind) = self.own {
            return Ask::Own(behind);
        }
        if let Some(from) = self.claim {
            return Ask::Claim(from);
        }
        if now >= self.next_claim {
            self.claim = Some(EntryId::default());
            return Ask::Claim(EntryId::default());
        }
        Ask::Fresh
    }

    /// Own entries were read, the last of them this.
    pub fn read_own(&mut self, last: Option<EntryId>) {
        self.own = last;
    }

    /// A part of the look for abandoned entries was done; it goes on at `cursor` unless that is the
    /// beginning.
    pub fn claimed(&mut self, cursor: EntryId, next: Instant) {
        self.claim = Some(cursor).filter(|cursor| *cursor != EntryId::default());
        if self.claim.is_none() {
            self.next_claim = next;
        }
    }

    /// Whether to look for consumers that are gone: behind a look for abandoned entries, and not again
    /// for some time (`every`).
    pub fn tidies(&mut self, now: Instant, every: Duration) -> bool {
        let is_due = self.own.is_none() && self.claim.is_none() && now >= self.next_tidy;
        if is_due {
            self.next_tidy = now + every;
        }
        is_due
    }

    /// An answer may have been lost, so own entries are read again.
    pub fn doubt(&mut self) {
        self.own = Some(EntryId::default());
    }
}

/// How many entries to ask for at once, so that they come to about so many bytes.
#[derive(Clone, Copy, Debug)]
pub struct Appetite {
    most: usize,
    bytes: usize,
    /// Of one entry, lately.
    size: usize,
}

/// What an entry is taken to weigh before one was seen.
const USUAL_SIZE: usize = 512;

impl Appetite {
    /// At most `most` entries, and about `bytes` bytes.
    pub fn new(most: usize, bytes: usize) -> Self {
        Self { most: most.max(1), bytes: bytes.max(1), size: USUAL_SIZE }
    }

    pub fn count(&self) -> usize {
        (self.bytes / self.size.max(1)).clamp(1, self.most)
    }

    /// So much came.
    pub fn ate(&mut self, count: usize, bytes: usize) {
        if let Some(mean) = bytes.checked_div(count) {
            // A large one counts at once, small ones only by and by.
            self.size = mean.max((self.size * 3 + mean) / 4);
        }
    }
}

/// Between two looks at a stream in which nothing comes, where waiting is not possible.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pause: Duration,
    pub next: Instant,
}

/// Where entries came a moment ago.
const SHORTEST: Duration = Duration::from_millis(10);
/// Where none have come for long. This is how late the first one may be if nobody tells of it.
const LONGEST: Duration = Duration::from_secs(10);
/// After something went wrong.
const AFTER_FAILURE: Duration = Duration::from_millis(250);

impl Pace {
    pub fn new(now: Instant) -> Self {
        Self { pause: SHORTEST, next: now }
    }

    /// The stream was read.
    pub fn read(&mut self, found: bool, now: Instant) {
        self.pause = if found { SHORTEST } else { (self.pause * 2).min(LONGEST) };
        self.next = if found { now } else { now + self.pause };
    }

    /// Something is about to come, or has come.
    pub fn wake(&mut self, now: Instant) {
        self.pause = SHORTEST;
        self.next = now;
    }

    /// What was read could not leave.
    pub fn failed(&mut self, now: Instant) {
        self.next = now + AFTER_FAILURE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(ms: u64) -> EntryId {
        EntryId { ms, count: 0 }
    }

    #[test]
    fn own_entries_come_before_abandoned_ones_and_these_before_new_ones() {
        let now = Clock::manual(0).now();
        let mut reading = Reading::new(now);
        assert_eq!(reading.next(now), Ask::Own(id(0)));
        reading.read_own(Some(id(7)));
        assert_eq!(reading.next(now), Ask::Own(id(7)));
        reading.read_own(None);
        assert_eq!(reading.next(now), Ask::Claim(id(0)));
        reading.claimed(id(9), now + SECOND);
        assert_eq!(reading.next(now), Ask::Claim(id(9)));
        reading.claimed(id(0), now + SECOND);
        assert_eq!(reading.next(now), Ask::Fresh);
        assert_eq!(reading.next(now + SECOND), Ask::Claim(id(0)), "from time to time");
    }

    #[test]
    fn consumers_that_are_gone_are_looked_for_behind_abandoned_entries_and_seldom() {
        let now = Clock::manual(0).now();
        let mut reading = Reading::new(now);
        assert!(!reading.tidies(now, SECOND), "own entries come first");
        reading.read_own(None);
        reading.claimed(id(9), now + SECOND);
        assert!(!reading.tidies(now, SECOND), "in the middle of a look");
        reading.claimed(id(0), now + SECOND);
        assert!(reading.tidies(now, SECOND));
        assert!(!reading.tidies(now, SECOND));
        assert!(reading.tidies(now + SECOND, SECOND));
    }

    #[test]
    fn after_a_lost_answer_own_entries_are_read_again() {
        let now = Clock::manual(0).now();
        let mut reading = Reading::new(now + SECOND);
        reading.read_own(None);
        assert_eq!(reading.next(now), Ask::Fresh);
        reading.doubt();
        assert_eq!(reading.next(now), Ask::Own(id(0)));
    }

    #[test]
    fn large_entries_are_asked_for_in_smaller_numbers() {
        let mut appetite = Appetite::new(1_000, 1 << 20);
        assert_eq!(appetite.count(), 1_000);
        appetite.ate(10, 10 << 16);
        assert_eq!(appetite.count(), 16);
        appetite.ate(16, 16 << 21);
        assert_eq!(appetite.count(), 1, "one at least");
        for _ in 0..50 {
            appetite.ate(1, 100);
        }
        assert_eq!(appetite.count(), 1_000);
    }

    #[test]
    fn a_quiet_stream_is_looked_at_less_and_less() {
        let now = Clock::manual(0).now();
        let mut pace = Pace::new(now);
        let mut quiet = Duration::ZERO;
        while quiet < 5 * LONGEST {
            pace.read(false, now + quiet);
            let pause = pace.next - (now + quiet);
            assert!(pause <= quiet + 2 * SHORTEST, "not longer than nothing came: {pause:?}");
            quiet += pause;
        }
        assert_eq!(pace.pause, LONGEST);
        pace.read(true, now);
        assert_eq!(pace.next, now);
    }

    #[test]
    fn a_stream_of_which_somebody_tells_is_looked_at_at_once_and_again_soon() {
        let now = Clock::manual(0).now();
        let mut pace = Pace::new(now);
        (0..20).for_each(|_| pace.read(false, now));
        pace.wake(now);
        assert_eq!(pace.next, now);
        pace.read(false, now);
        assert_eq!(pace.next, now + 2 * SHORTEST, "who told of it may have been faster");
    }
}
