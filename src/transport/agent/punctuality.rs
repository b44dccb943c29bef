//! How late the process does what is due: the time that its own work waits for a thread.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::time::Clock;

/// A timer is set this often. Some 0.01 % of a core.
const EVERY: Duration = Duration::from_millis(100);

/// The weight of one measurement in the average: it follows a change within a few seconds, and one
/// stall of 100 ms moves it by 5.
const WEIGHT: f64 = 0.05;

/// A moving average of how late a timer of the runtime rings.
#[derive(Debug, Default)]
pub struct Punctuality {
    late_us: AtomicU64,
}

impl Punctuality {
    /// The average lateness of the last seconds.
    pub fn lateness(&self) -> Duration {
        Duration::from_micros(self.late_us.load(Ordering::Relaxed))
    }

    /// Measures for as long as it is polled.
    pub async fn measure(&self, clock: &Clock) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        timer.tick().await;
        loop {
            let set = clock.now();
            timer.tick().await;
            self.observe(clock.now().saturating_duration_since(set).saturating_sub(EVERY));
        }
    }

    fn observe(&self, late: Duration) {
        let before = self.late_us.load(Ordering::Relaxed) as f64;
        let after = before * (1.0 - WEIGHT) + late.as_micros() as f64 * WEIGHT;
        // Past what fits it stays at the largest number.
        self.late_us.store(after as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_delay_shows_and_one_stall_hardly_does() {
        let punctuality = Punctuality::default();
        punctuality.observe(Duration::from_millis(100));
        assert_eq!(punctuality.lateness(), Duration::from_millis(5));
        for _ in 0..100 {
            punctuality.observe(Duration::from_millis(100));
        }
        let lasting = punctuality.lateness();
        assert!(lasting > Duration::from_millis(90) && lasting <= Duration::from_millis(100));
        for _ in 0..100 {
            punctuality.observe(Duration::ZERO);
        }
        assert!(punctuality.lateness() < Duration::from_millis(2));
    }

    #[test]
    fn no_delay_is_too_long_to_count() {
        let punctuality = Punctuality::default();
        for _ in 0..1_000 {
            punctuality.observe(Duration::MAX);
        }
        assert!(punctuality.lateness() > Duration::from_secs(3_600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_with_nothing_to_do_is_on_time() {
        let (punctuality, clock) = (Punctuality::default(), Clock::manual(0));
        let _ = tokio::time::timeout(EVERY * 20, punctuality.measure(&clock)).await;
        assert_eq!(punctuality.lateness(), Duration::ZERO);
    }
}
