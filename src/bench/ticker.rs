//! The generator's own time: nanoseconds since it began.

use std::time::{Duration, Instant};

use crate::time::Clock;

/// Nanoseconds of a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// Counts from 0 at its creation. The marks of publications carry its time.
#[derive(Clone, Debug)]
pub struct Ticker {
    clock: Clock,
    origin: Instant,
}

impl Ticker {
    /// Starts at 0 now.
    pub fn new(clock: Clock) -> Self {
        let origin = clock.now();
        Self { clock, origin }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.clock.now().saturating_duration_since(self.origin).as_nanos() as u64
    }
}

/// Nanoseconds of so many seconds.
pub fn nanoseconds(seconds: f64) -> u64 {
    Duration::try_from_secs_f64(seconds).unwrap_or_default().as_nanos() as u64
}

/// Seconds of so many nanoseconds.
pub fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / SECOND_NS as f64
}
