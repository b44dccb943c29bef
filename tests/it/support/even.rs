//! Whether something happened evenly over a time, also on a machine that stood still meanwhile.

use std::time::{Duration, Instant};

/// Panics unless what happened at these times, in whatever order they are given, happened evenly over
/// `span`, of which nothing can be before `start`.
///
/// A machine that stands still makes things late, and never early. So each may be later than its turn,
/// and none before it, by more than a twentieth of `span`; and not nearly all of them at the same time.
pub fn assert_even(times: &[Instant], start: Instant, span: Duration) {
    let mut times = times.to_vec();
    times.sort();
    let count = times.len();
    for (index, at) in times.iter().enumerate() {
        let turn = span.mul_f64(index as f64 / count as f64).saturating_sub(span / 20);
        let passed = at.saturating_duration_since(start);
        assert!(passed >= turn, "number {index} of {count} after {passed:?}, before {turn:?}");
    }
    // Who stands still for three quarters of it leaves a quarter to tell them apart by.
    let (first, last) = (times[count / 20], times[count - 1 - count / 20]);
    assert!(last - first > span / 10, "nearly all of {count} within {:?}", last - first);
}

#[test]
fn what_is_even_may_be_late_and_what_is_bunched_or_hurried_does_not_pass() {
    let start = bobolink::time::Clock::real().now();
    let span = Duration::from_secs(4);
    let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
    let even = || (0..100).map(|number| 0.04 * f64::from(number));
    let passes =
        |times: Vec<Instant>| std::panic::catch_unwind(|| assert_even(&times, start, span)).is_ok();
    assert!(passes(even().map(at).collect()));
    for begin in [0.0, 0.5, 1.0, 2.0, 3.0] {
        // What sends stands still, or what listens.
        let pushed = |time: f64| if time > begin { time + 3.0 } else { time };
        let held = |time: f64| if time > begin { time.max(begin + 3.0) } else { time };
        assert!(passes(even().map(pushed).map(at).collect()), "from {begin} s on");
        assert!(passes(even().map(held).map(at).collect()), "from {begin} s on");
    }
    assert!(!passes(even().map(|_| at(0.0)).collect()), "all at once");
    assert!(!passes(even().map(|_| at(5.0)).collect()), "all at once, late");
    assert!(!passes(even().map(|time| at(time / 2.0)).collect()), "in half the time");
    assert!(!passes(even().map(|time| at(time.floor())).collect()), "in four bunches");
}
