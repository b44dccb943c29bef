//! The search for the highest rate that a server holds: up in big steps, then by halving.

/// Factor between two rungs on the way up.
const RUNG: f64 = 1.6;
/// The search ends when what holds and what does not are this close.
const CLOSE_ENOUGH: f64 = 1.05;
/// Steps after which the search ends in any case.
const MAX_STEPS: usize = 40;
/// Void steps that are passed over on the way up.
const MAX_LEAPS: usize = 3;

/// What a step said of its rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    Held,
    Failed,
    /// The generator was at its limit, and nothing else speaks against the rate. A higher one may
    /// still be measured: once the server merges more into a frame, reading costs hardly more.
    Void,
}

/// A search at work.
#[derive(Clone, Debug)]
pub struct Ladder {
    next: f64,
    held: Option<f64>,
    failed: Option<f64>,
    /// The lowest of the void rates that are being passed over.
    void: Option<f64>,
    leaps: usize,
    steps: usize,
}

impl Ladder {
    /// Starts with a rate above 0.
    pub fn starting_at(rate: f64) -> Self {
        Self { next: rate, held: None, failed: None, void: None, leaps: 0, steps: 0 }
    }

    /// The rate to try next; `None` when the search is over.
    pub fn next(&self) -> Option<f64> {
        let is_close = match (self.held, self.failed) {
            (Some(held), Some(failed)) => failed / held <= CLOSE_ENOUGH,
            _ => false,
        };
        (!is_close && self.steps < MAX_STEPS && self.next.is_normal()).then_some(self.next)
    }

    /// Tells what came of the rate that was tried.
    pub fn tell(&mut self, rung: Rung) {
        self.steps += 1;
        let tried = self.next;
        match rung {
            Rung::Held => {
                self.held = Some(tried);
                self.void = None;
            }
            Rung::Void if self.failed.is_none() && self.leaps < MAX_LEAPS => {
                self.leaps += 1;
                self.void.get_or_insert(tried);
                self.next = tried * RUNG;
                return;
            }
            // What was passed over in vain is not known to hold either.
            Rung::Void | Rung::Failed => self.failed = Some(self.void.take().unwrap_or(tried)),
        }
        self.next = match (self.held, self.failed) {
            (Some(held), None) => held * RUNG,
            (None, Some(failed)) => failed / RUNG,
            (Some(held), Some(failed)) => (held * failed).sqrt(),
            (None, None) => self.next,
        };
    }

    /// The lowest rate that did not hold, or was void.
    pub fn limit(&self) -> Option<f64> {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The highest rate that holds, the limit above it, and the steps that it took.
    fn search(start: f64, rung: impl Fn(f64) -> Rung) -> (Option<f64>, Option<f64>, usize) {
        let mut ladder = Ladder::starting_at(start);
        let (mut best, mut steps) = (None, 0);
        while let Some(rate) = ladder.next() {
            let said = rung(rate);
            best = if said == Rung::Held { Some(rate) } else { best };
            ladder.tell(said);
            steps += 1;
        }
        (best, ladder.limit(), steps)
    }

    fn up_to(limit: f64) -> impl Fn(f64) -> Rung {
        move |rate| if rate <= limit { Rung::Held } else { Rung::Failed }
    }

    #[test]
    fn a_server_that_holds_nothing_ends_the_search_without_a_rate() {
        let (best, _, steps) = search(100.0, up_to(0.0));
        assert_eq!((best, steps), (None, MAX_STEPS));
    }

    #[test]
    fn void_rates_are_passed_over_where_a_higher_one_can_be_measured() {
        let rung = |rate| match rate {
            500.0..=900.0 => Rung::Void,
            0.0..=5_000.0 => Rung::Held,
            _ => Rung::Failed,
        };
        let (best, limit, _) = search(200.0, rung);
        assert!(best.unwrap() > 4_700.0 && limit.unwrap() > 5_000.0, "{best:?} {limit:?}");
    }

    #[test]
    fn without_one_the_limit_is_the_lowest_void_rate_and_few_steps_were_lost() {
        for beyond in [Rung::Void, Rung::Failed] {
            let rung = |rate| match rate {
                0.0..=500.0 => Rung::Held,
                500.0..=900.0 => Rung::Void,
                _ => beyond,
            };
            let (best, limit, steps) = search(200.0, rung);
            assert!(best.unwrap() > 475.0, "{best:?}");
            assert!((500.0..=900.0).contains(&limit.unwrap()), "{limit:?}");
            assert!(steps <= 3 + MAX_LEAPS + 5, "{steps}");
        }
        let (best, _, steps) = search(200.0, |_| Rung::Void);
        assert_eq!((best, steps), (None, MAX_STEPS));
    }

    proptest! {
        #[test]
        fn the_limit_is_found_from_below_and_from_above(
            start in 1.0..10_000.0_f64,
            limit in 1.0..100_000.0_f64,
        ) {
            let (best, above, steps) = search(start, up_to(limit));
            let best = best.unwrap();
            prop_assert!(best <= limit && best * CLOSE_ENOUGH >= limit * 0.999, "{} {}", best, limit);
            prop_assert!(above.unwrap() > limit);
            prop_assert!(steps <= 32);
        }
    }
}
