//! Lines of the log whose cause may come in floods.

use std::sync::atomic::{AtomicI64, Ordering};

/// Milliseconds between two lines.
const EVERY_MS: i64 = 1_000;

/// Lets one line through a second.
#[derive(Debug, Default)]
pub struct Seldom {
    /// Unix milliseconds.
    last: AtomicI64,
}

impl Seldom {
    /// Whether a line may be written at this time, in unix milliseconds.
    pub fn may(&self, now_ms: i64) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let is_due = now_ms.saturating_sub(last) >= EVERY_MS;
        is_due
            && self
                .last
                .compare_exchange(last, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_a_second_at_most() {
        let seldom = Seldom::default();
        let at = [5_000, 5_001, 5_999, 6_000, 6_500, 7_100];
        assert_eq!(at.map(|now_ms| seldom.may(now_ms)), [true, false, false, true, false, true]);
    }
}
