//! How many connections a node takes, and how fast.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The admission of client connections. Both limits are off at zero, and neither needs the other.
#[derive(Debug)]
pub struct ConnectionLimits {
    open: Arc<AtomicUsize>,
    most_open: usize,
    rate: Option<Mutex<TokenBucket>>,
}

/// The place of one open connection, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    open: Arc<AtomicUsize>,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the node has reached its connection limit")]
    Limit,
    #[error("the node takes no more connections in this second")]
    Rate,
}

#[derive(Debug)]
struct TokenBucket {
    per_second: f64,
    tokens: f64,
    /// When `tokens` was right; the first admission sets it.
    filled_at: Option<Instant>,
}

impl ConnectionLimits {
    /// At most `most_open` connections at a time (`client.connection_limit`), and at most
    /// `per_second` new ones (`client.connection_rate_limit`), a second's worth of them at once.
    pub fn new(most_open: usize, per_second: u32) -> Self {
        let rate = (per_second > 0).then(|| Mutex::new(TokenBucket::full(per_second)));
        Self { open: Arc::default(), most_open, rate }
    }

    /// Admits one connection for as long as the permit lives.
    ///
    /// # Errors
    /// The limit that is reached. A connection over the first limit takes nothing of the second.
    pub fn admit(&self, now: Instant) -> Result<Permit, Refused> {
        let one_more =
            |open: usize| (self.most_open == 0 || open < self.most_open).then_some(open + 1);
        self.open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .map_err(|_| Refused::Limit)?;
        let permit = Permit { open: Arc::clone(&self.open) };
        if let Some(rate) = &self.rate
            && !rate.lock().take(now)
        {
            return Err(Refused::Rate);
        }
        Ok(permit)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl TokenBucket {
    fn full(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, tokens: per_second, filled_at: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let since = self.filled_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.filled_at = Some(self.filled_at.map_or(now, |at| at.max(now)));
        let filled = self.tokens + since.as_secs_f64() * self.per_second;
        self.tokens = filled.min(self.per_second);
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Clock;

    #[test]
    fn zero_means_no_limit() {
        let (limits, now) = (ConnectionLimits::new(0, 0), Clock::manual(0).now());
        let permits: Vec<_> = (0..1_000).map(|_| limits.admit(now)).collect();
        assert!(permits.iter().all(Result::is_ok));
        assert_eq!(limits.open(), 1_000);
    }

    #[test]
    fn a_closed_connection_makes_room_and_a_refused_one_takes_none() {
        let (limits, now) = (ConnectionLimits::new(2, 0), Clock::manual(0).now());
        let first = limits.admit(now).expect("permit");
        let _second = limits.admit(now).expect("permit");
        for _ in 0..3 {
            assert_eq!(limits.admit(now).err(), Some(Refused::Limit));
        }
        assert_eq!(limits.open(), 2);
        drop(first);
        assert!(limits.admit(now).is_ok());
    }

    #[test]
    fn a_rush_from_many_threads_fills_the_node_exactly() {
        let (limits, now) = (ConnectionLimits::new(100, 0), Clock::manual(0).now());
        let held = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        held.lock().extend(limits.admit(now));
                    }
                });
            }
        });
        assert_eq!((held.lock().len(), limits.open()), (100, 100));
    }

    #[test]
    fn the_rate_refills_with_time_but_never_past_one_second() {
        let (limits, clock) = (ConnectionLimits::new(0, 10), Clock::manual(0));
        let admitted =
            |tries: usize| (0..tries).filter(|_| limits.admit(clock.now()).is_ok()).count();
        assert_eq!(admitted(50), 10);
        clock.advance(Duration::from_millis(300));
        assert_eq!(admitted(50), 3);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(admitted(50), 10);
        assert_eq!(limits.open(), 0);
    }

    #[test]
    fn a_full_node_does_not_use_up_the_rate() {
        let (limits, now) = (ConnectionLimits::new(1, 2), Clock::manual(0).now());
        let held = limits.admit(now).expect("permit");
        for _ in 0..10 {
            assert_eq!(limits.admit(now).err(), Some(Refused::Limit));
        }
        drop(held);
        assert!(limits.admit(now).is_ok());
        assert_eq!(limits.admit(now).err(), Some(Refused::Rate));
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let (limits, clock) = (ConnectionLimits::new(0, 1), Clock::manual(0));
        let before = clock.now();
        clock.advance(Duration::from_secs(5));
        assert!(limits.admit(clock.now()).is_ok());
        assert_eq!(limits.admit(before).err(), Some(Refused::Rate));
        assert_eq!(limits.admit(clock.now()).err(), Some(Refused::Rate));
    }

    proptest! {
        #[test]
        fn no_span_admits_more_than_its_share(
            per_second in 1_u32..50,
            waits in prop::collection::vec(0_u64..500, 1..200),
        ) {
            let (limits, clock) = (ConnectionLimits::new(0, per_second), Clock::manual(0));
            let start = clock.now();
            let mut admitted = 0_u32;
            for wait in waits {
                clock.advance(Duration::from_millis(wait));
                admitted += u32::from(limits.admit(clock.now()).is_ok());
            }
            let seconds = (clock.now() - start).as_secs_f64();
            let most = f64::from(per_second) * (1.0 + seconds) + 1e-6;
            prop_assert!(f64::from(admitted) <= most, "{} of {}", admitted, most);
        }
    }
}
