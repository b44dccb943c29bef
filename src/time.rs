//! The clock and random numbers. Nothing else in the crate reads the one or draws the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use compact_str::CompactString;

/// Tells the time: the machine's, or in tests one that is moved by hand.
#[derive(Clone, Debug)]
pub struct Clock {
    origin: Instant,
    /// Wall clock at `origin`, in case the clock is manual; the real one is asked each time.
    manual: Option<Arc<Manual>>,
}

#[derive(Debug)]
struct Manual {
    unix_origin: Duration,
    elapsed_ms: AtomicU64,
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn real() -> Self {
        Self { origin: Instant::now(), manual: None }
    }

    /// A clock that stands at `unix_seconds` until [`Clock::advance`] moves it.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn manual(unix_seconds: u64) -> Self {
        let manual = Manual {
            unix_origin: Duration::from_secs(unix_seconds),
            elapsed_ms: AtomicU64::new(0),
        };
        Self { origin: Instant::now(), manual: Some(Arc::new(manual)) }
    }

    /// Moves a manual clock forward; a real one does not listen.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.manual {
            manual.elapsed_ms.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
        }
    }

    /// Monotonic time, for deadlines.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn now(&self) -> Instant {
        match &self.manual {
            Some(manual) => self.origin + manual.elapsed(),
            None => Instant::now(),
        }
    }

    /// Wall time since the unix epoch.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn unix(&self) -> Duration {
        match &self.manual {
            Some(manual) => manual.unix_origin + manual.elapsed(),
            None => SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(),
        }
    }

    /// Wall time in whole seconds since the unix epoch, as tokens count it.
    pub fn unix_seconds(&self) -> i64 {
        self.unix().as_secs() as i64
    }

    /// Wall time in milliseconds since the unix epoch, as publications carry it.
    pub fn unix_millis(&self) -> i64 {
        self.unix().as_millis() as i64
    }
}

impl Manual {
    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
    }
}

/// A moment somewhere in the second half of `interval`, so that many timers do not fire together.
#[allow(clippy::disallowed_methods, reason = "the one place that draws random numbers")]
pub fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.5 + rand::random::<f64>() / 2.0)
}

/// Letters drawn at random, for names that must not repeat (not for secrets).
#[allow(clippy::disallowed_methods, reason = "the one place that draws random numbers")]
pub fn random_letters(count: usize) -> CompactString {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    (0..count).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

/// A moment in unix seconds, as RFC 3339 writes it.
pub fn rfc3339(unix_seconds: u64) -> String {
    let (days, second) = (unix_seconds / 86_400, unix_seconds % 86_400);
    // Days are counted from 1 March of the year 0, so that a leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_767_225_599), "2025-12-31T23:59:59Z");
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(1_000);
        let start = clock.now();
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(clock.now() - start, Duration::from_millis(2_500));
        assert_eq!(clock.unix_seconds(), 1_002);
        assert_eq!(clock.unix_millis(), 1_002_500);
    }

    #[test]
    fn jitter_stays_in_the_second_half() {
        let interval = Duration::from_secs(10);
        let drawn: Vec<_> = (0..1_000).map(|_| jittered(interval)).collect();
        assert!(drawn.iter().all(|d| *d >= interval / 2 && *d <= interval));
        assert!(drawn.iter().max() > drawn.iter().min());
    }
}
