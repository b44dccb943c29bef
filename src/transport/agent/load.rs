//! From what a node carries to its share of new connections.

use std::time::Duration;

/// A timer this late is nothing out of the ordinary.
const PUNCTUAL: Duration = Duration::from_millis(10);

/// A timer this late means that messages wait about as long before anything is done for them.
const OVERLOADED: Duration = Duration::from_millis(250);

/// The least share of a node that is only slow: it still works, and one that gets nothing new for a
/// while gets all at once when it is better.
const LEAST_WHEN_SLOW: f64 = 0.1;

/// The grain of shares, as a part of the whole: a share that changes with every question would have
/// the load balancer sort its nodes anew for nothing.
const GRAIN: f64 = 0.05;

/// What a node carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Connections of clients.
    pub connections: usize,
    /// `client.connection_limit`; 0 for none.
    pub limit: usize,
    /// How late the node's timers ring; see [`super::Punctuality`].
    pub lateness: Duration,
}

impl Load {
    /// The node's share of new connections in percent, 1 to 100: the part of its connection limit
    /// that is free, or less if its work piles up. CPU time is not asked: what part of the machine
    /// is the node's is not known here, while work that waits can be measured.
    pub fn share(&self) -> u8 {
        let share = self.free().min(self.spare());
        let percent = (share / GRAIN).ceil() * GRAIN * 100.0;
        // A share of nothing would mean to drain.
        (percent.round() as u8).clamp(1, 100)
    }

    fn free(&self) -> f64 {
        if self.limit == 0 {
            return 1.0;
        }
        (1.0 - self.connections as f64 / self.limit as f64).max(0.0)
    }

    fn spare(&self) -> f64 {
        let (late, span) = (self.lateness.saturating_sub(PUNCTUAL), OVERLOADED - PUNCTUAL);
        (1.0 - late.as_secs_f64() / span.as_secs_f64()).max(LEAST_WHEN_SLOW)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(connections: usize, limit: usize, late_ms: u64) -> u8 {
        Load { connections, limit, lateness: Duration::from_millis(late_ms) }.share()
    }

    #[test]
    fn a_share_shrinks_with_connections_and_with_work_that_waits() {
        for ((connections, limit, late_ms), expected) in [
            ((0, 0, 0), 100),
            ((100_000, 0, 10), 100),
            ((0, 1_000, 0), 100),
            ((250, 1_000, 0), 75),
            ((510, 1_000, 0), 50),
            ((999, 1_000, 0), 5),
            ((1_000, 1_000, 0), 1),
            ((2_000, 1_000, 0), 1),
            ((0, 0, 130), 50),
            ((0, 0, 250), 10),
            ((0, 0, 60_000), 10),
            ((250, 1_000, 130), 50),
            ((1_000, 1_000, 60_000), 1),
        ] {
            let found = share(connections, limit, late_ms);
            assert_eq!(found, expected, "{connections} of {limit}, {late_ms} ms late");
        }
    }

    proptest! {
        #[test]
        fn more_to_do_never_means_a_larger_share(
            connections in 0_usize..3_000,
            more in 0_usize..3_000,
            limit in 0_usize..3_000,
            late in 0_u64..1_000,
            later in 0_u64..1_000,
        ) {
            let before = share(connections, limit, late);
            prop_assert!((1..=100).contains(&before));
            prop_assert!(share(connections + more, limit, late) <= before);
            prop_assert!(share(connections, limit, late + later) <= before);
        }
    }
}
