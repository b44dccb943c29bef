//! When what is sent in an open loop is due: at a fixed rate, whatever the server does.
//!
//! Each moment is computed from the start and the number, so that nothing drifts and nothing is left
//! out: what could not be sent in time is sent late, with the moment at which it was due.

use super::ticker::nanoseconds;

const SECOND_NS: u128 = 1_000_000_000;

/// Whether anything is due in the `seconds` that count, behind those of a warm-up, at this rate.
pub fn sends_something(rate: f64, warmup_s: f64, seconds: f64) -> bool {
    let schedule = Schedule::new(0, rate, warmup_s + seconds);
    let last = schedule.count().checked_sub(1).map(|number| schedule.due_ns(number));
    last.is_some_and(|due_ns| due_ns >= nanoseconds(warmup_s))
}

/// A rate from a start on, for so many pieces.
#[derive(Clone, Debug)]
pub struct Schedule {
    start_ns: u64,
    /// Thousandths of a piece per second, so that slow rates need no rounding.
    millirate: u64,
    count: u64,
    next: u64,
}

impl Schedule {
    /// `rate` pieces per second from `start_ns` on for `seconds`; a rate of 0 gives none.
    pub fn new(start_ns: u64, rate: f64, seconds: f64) -> Self {
        let millirate = (rate.max(0.0) * 1_000.0).round() as u64;
        let count = (millirate as f64 / 1_000.0 * seconds.max(0.0)).floor() as u64;
        Self { start_ns, millirate, count, next: 0 }
    }

    /// The number of the next piece and when it is due, in nanoseconds; `None` when all are done.
    pub fn peek(&self) -> Option<(u64, u64)> {
        (self.next < self.count).then(|| (self.next, self.due_ns(self.next)))
    }

    /// Takes the next piece if it is due at `now_ns`.
    pub fn take_due(&mut self, now_ns: u64) -> Option<(u64, u64)> {
        let (number, due_ns) = self.peek()?;
        if due_ns > now_ns {
            return None;
        }
        self.next += 1;
        Some((number, due_ns))
    }

    /// How many pieces there are in all.
    pub fn count(&self) -> u64 {
        self.count
    }

    fn due_ns(&self, number: u64) -> u64 {
        let since = u128::from(number) * 1_000 * SECOND_NS / u128::from(self.millirate.max(1));
        self.start_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_is_due_before_its_moment() {
        let mut schedule = Schedule::new(1_000, 10.0, 1.0);
        assert_eq!(schedule.take_due(999), None);
        assert_eq!(schedule.take_due(1_000), Some((0, 1_000)));
        assert_eq!(schedule.take_due(1_000), None);
        assert_eq!(schedule.peek(), Some((1, 100_001_000)));
    }

    #[test]
    fn a_stall_is_caught_up_with_the_moments_that_were_missed() {
        let mut schedule = Schedule::new(0, 1_000.0, 1.0);
        let late: Vec<_> = std::iter::from_fn(|| schedule.take_due(2_500_000)).collect();
        assert_eq!(late, [(0, 0), (1, 1_000_000), (2, 2_000_000)]);
    }

    #[test]
    fn a_rate_of_which_nothing_falls_into_the_time_that_counts_is_known() {
        assert!(sends_something(1.0, 0.0, 1.0));
        assert!(sends_something(0.3, 5.0, 20.0));
        for (rate, warmup_s, seconds) in [(0.3, 0.0, 1.0), (0.3, 2.0, 2.0), (0.0, 0.0, 9.0)] {
            assert!(!sends_something(rate, warmup_s, seconds), "{rate}");
        }
    }

    #[test]
    fn a_rate_below_one_per_second_works() {
        let schedule = Schedule::new(0, 0.5, 10.0);
        assert_eq!(schedule.count(), 5);
        assert_eq!(Schedule::new(0, 0.0, 10.0).peek(), None);
    }

    proptest! {
        #[test]
        fn pieces_come_in_order_and_end_within_the_time(
            rate in 0.1..50_000.0_f64,
            seconds in 0.1..3.0_f64,
        ) {
            let mut schedule = Schedule::new(7, rate, seconds);
            let (mut before, mut taken) = (0, 0);
            while let Some((number, due)) = schedule.take_due(u64::MAX) {
                prop_assert_eq!(number, taken);
                prop_assert!(due >= before);
                before = due;
                taken += 1;
            }
            prop_assert_eq!(taken, schedule.count());
            // Rates are kept to a thousandth.
            prop_assert!(before as f64 <= 7.0 + (seconds + 0.001 / rate) * 1e9 * 1.01);
        }
    }
}
