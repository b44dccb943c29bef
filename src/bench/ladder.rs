//! The search for the highest rate that a server holds: up in big steps, then by halving.

/// Factor between two rungs on the way up.
const RUNG: f64 = 1.6;
/// The search ends when what holds and what does not are this close.
const CLOSE_ENOUGH: f64 = 1.05;
/// Steps after which the search ends in any case.
const MAX_STEPS: usize = 40;

/// A search at work.
#[derive(Clone, Debug)]
pub struct Ladder {
    next: f64,
    held: Option<f64>,
    failed: Option<f64>,
    steps: usize,
}

impl Ladder {
    /// Starts with a rate above 0.
    pub fn starting_at(rate: f64) -> Self {
        Self { next: rate, held: None, failed: None, steps: 0 }
    }

    /// The rate to try next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        let is_close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= CLOSE_ENOUGH,
            _ => false,
        };
        (!is_close && self.steps < MAX_STEPS && self.next.is_normal()).then_some(self.next)
    }

    /// Tells whether the rate that was tried held.
    pub fn tell(&mut self, held: bool) {
        self.steps += 1;
        let tried = Some(self.next);
        if held {
            self.held = tried;
        } else {
            self.failed = tried;
        }
        self.next = match (self.held, self.failed) {
            (Some(held), None) => held * RUNG,
            (None, Some(failed)) => failed / RUNG,
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (None, None) => self.next,
        };
    }

    /// The highest rate that held.
    pub fn best(&self) -> Option<f64> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn search(start: f64, limit: f64) -> (Option<f64>, usize) {
        let mut ladder = Ladder::starting_at(start);
        let mut steps = 0;
        while let Some(rate) = ladder.next() {
            ladder.tell(rate <= limit);
            steps += 1;
        }
        (ladder.best(), steps)
    }

    #[test]
    fn a_server_that_holds_nothing_ends_the_search_without_a_rate() {
        assert_eq!(search(100.0, 0.0), (None, MAX_STEPS));
    }

    proptest! {
        #[test]
        fn the_limit_is_found_from_below_and_from_above(
            start in 1.0..10_000.0_f64,
            limit in 1.0..100_000.0_f64,
        ) {
            let (best, steps) = search(start, limit);
            let best = best.unwrap();
            prop_assert!(best <= limit && best * CLOSE_ENOUGH >= limit * 0.999, "{} {}", best, limit);
            prop_assert!(steps <= 32);
        }
    }
}
