//! Checks that what one sender numbered arrives whole: nothing missing, doubled or out of order.

use std::ops::AddAssign;

/// Holes that one sequence remembers, to tell a late number from a doubled one. A number that fills
/// a hole past these counts as doubled: wrong either way, and told.
const MAX_HOLES: usize = 64;

/// What one number says about the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The one that was expected.
    Next,
    /// So many before it have not come, yet.
    Ahead(u64),
    /// It was missed and comes late.
    Late,
    /// It was here before.
    Doubled,
}

/// What was wrong, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Never came.
    pub missing: u64,
    /// Came more than once; the repetitions are counted.
    pub doubled: u64,
    /// Came after a later one.
    pub disordered: u64,
}

/// The numbers of one sender as one receiver sees them.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: u64,
    /// Ranges (from, to) that were jumped over and have not come; there is rarely any.
    holes: Vec<(u64, u64)>,
}

impl Sequence {
    /// A sequence whose first number is `first`.
    pub fn starting_at(first: u64) -> Self {
        Self { next: first, holes: Vec::new() }
    }

    /// Takes a number.
    pub fn take(&mut self, number: u64) -> Verdict {
        if number == self.next {
            self.next += 1;
            return Verdict::Next;
        }
        if number > self.next {
            let skipped = number - self.next;
            if self.holes.len() < MAX_HOLES {
                self.holes.push((self.next, number));
            }
            self.next = number + 1;
            return Verdict::Ahead(skipped);
        }
        if self.fill(number) { Verdict::Late } else { Verdict::Doubled }
    }

    /// The number that is expected next; one past the highest that came.
    pub fn next(&self) -> u64 {
        self.next
    }

    fn fill(&mut self, number: u64) -> bool {
        let hole = self.holes.iter().position(|(from, to)| (*from..*to).contains(&number));
        let Some(at) = hole else { return false };
        let (from, to) = self.holes.swap_remove(at);
        self.holes.extend([(from, number), (number + 1, to)].into_iter().filter(|(a, b)| a < b));
        true
    }
}

impl Faults {
    /// Counts a verdict.
    pub fn count(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Next => {}
            Verdict::Ahead(skipped) => self.missing += skipped,
            Verdict::Late => {
                self.missing = self.missing.saturating_sub(1);
                self.disordered += 1;
            }
            Verdict::Doubled => self.doubled += 1,
        }
    }

    /// Whether everything was as it should be.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.disordered += other.disordered;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn faults(numbers: &[u64]) -> Faults {
        let (mut sequence, mut faults) = (Sequence::default(), Faults::default());
        for number in numbers {
            faults.count(sequence.take(*number));
        }
        faults
    }

    #[test]
    fn a_whole_sequence_has_no_faults() {
        assert!(faults(&[0, 1, 2, 3]).is_none());
        assert_eq!(Sequence::starting_at(8).take(8), Verdict::Next);
    }

    #[test]
    fn each_fault_is_told_by_its_name() {
        assert_eq!(faults(&[0, 2]), Faults { missing: 1, ..Faults::default() });
        assert_eq!(faults(&[0, 0]), Faults { doubled: 1, ..Faults::default() });
        assert_eq!(faults(&[1, 0]), Faults { disordered: 1, ..Faults::default() });
        assert_eq!(faults(&[3, 1, 1]), Faults { missing: 2, doubled: 1, disordered: 1 });
    }

    #[test]
    fn holes_beyond_the_bound_are_still_faults() {
        let odd: Vec<_> = (0..1_000).map(|number| number * 2 + 1).collect();
        let found = faults(&[odd, vec![0, 1_998]].concat());
        assert_eq!(found.missing + found.disordered, 1_000);
        assert_eq!((found.disordered, found.doubled), (1, 1));
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_happened(numbers in prop::collection::vec(0..40_u64, 0..60)) {
            let mut sequence = Sequence::default();
            let mut counted = Faults::default();
            let (mut seen, mut highest, mut late, mut doubled) = (HashSet::new(), None, 0, 0);
            for number in numbers {
                counted.count(sequence.take(number));
                if !seen.insert(number) {
                    doubled += 1;
                } else if highest.is_some_and(|highest| number < highest) {
                    late += 1;
                }
                highest = highest.max(Some(number));
            }
            let missing = sequence.next() - seen.len() as u64;
            prop_assert_eq!(counted, Faults { missing, doubled, disordered: late });
        }
    }
}
