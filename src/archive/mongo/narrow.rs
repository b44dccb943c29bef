//! Which of many buckets holds an id, found with few looks.
//!
//! Ids rise about as evenly as messages come, so a bucket's place is guessed from the ids at both ends.
//! Each look is at some buckets around the guess and at others that divide the rest: one look where
//! messages come evenly, five in ten million messages where the guess is worth nothing.

/// Buckets of one look that divide what is left.
const PARTS: i64 = 10;

/// Buckets of one look beside the guess, on either side of it.
const BESIDE: [i64; 5] = [1, 2, 8, 64, 512];

/// A bucket's number and its highest id.
pub type Mark = (i64, i64);

/// The search for the first bucket whose highest id is not below an id.
#[derive(Debug)]
pub struct Narrowing {
    id: i64,
    /// The highest bucket whose ids are known to be lower.
    below: Option<Mark>,
    /// Nothing before it can be the one.
    low: i64,
    /// The lowest bucket whose highest id is known not to be lower.
    above: Mark,
}

impl Narrowing {
    /// From the bucket `low`, which may not be there, to one whose highest id is not below `id`.
    pub fn new(id: i64, low: i64, above: Mark) -> Self {
        Self { id, below: None, low, above }
    }

    /// From the lowest to the highest bucket that it can be; none once it is found.
    pub fn left(&self) -> Option<(i64, i64)> {
        (self.low < self.above.0).then_some((self.low, self.above.0))
    }

    /// The one that was looked for, once nothing is left or nothing stands before it.
    pub fn found(&self) -> i64 {
        self.above.0
    }

    /// The buckets to look at next, rising.
    pub fn probes(&self) -> Vec<i64> {
        let (low, high) = (self.low, self.above.0);
        let step = (high - low) / PARTS + 1;
        let mut probes: Vec<_> = (0..PARTS).map(|nth| low + nth * step).collect();
        if let Some(guess) = self.guess() {
            probes.push(guess);
            probes.extend(BESIDE.iter().flat_map(|step| [guess - step, guess + step]));
        }
        probes.retain(|probe| (low..high).contains(probe));
        probes.sort_unstable();
        probes.dedup();
        probes
    }

    /// Takes in what a look has found, rising. False if that was nothing that one did not know.
    pub fn learn(&mut self, marks: impl IntoIterator<Item = Mark>) -> bool {
        let before = (self.low, self.above);
        for mark in marks {
            if mark.1 >= self.id {
                self.above = mark;
                break;
            }
            self.below = Some(mark);
            self.low = mark.0 + 1;
        }
        (self.low, self.above) != before
    }

    /// Where the id is if ids rise evenly between the two ends.
    fn guess(&self) -> Option<i64> {
        let ((from, lowest), (to, highest)) = (self.below?, self.above);
        // Between two ids that differ, so nothing is divided by zero.
        let ahead = i128::from(self.id - lowest) * i128::from(to - from);
        let share = (ahead - 1) / i128::from(highest - lowest) + 1;
        i64::try_from(share).ok().map(|share| from.saturating_add(share))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is found among these buckets, and with how many looks.
    fn search(buckets: &[Mark], id: i64) -> (i64, usize) {
        let (first, last) = (buckets[0], buckets[buckets.len() - 1]);
        let mut search = Narrowing::new(id, first.0, last);
        search.learn([first]);
        let mut looks = 0;
        while let Some((low, high)) = search.left() {
            let probes = search.probes();
            assert!(probes.len() <= 21, "{} buckets in one look", probes.len());
            assert!(probes.is_sorted() && probes.iter().all(|probe| (low..high).contains(probe)));
            let is_there = |probe: &i64| buckets.binary_search_by_key(probe, |mark| mark.0).ok();
            let found: Vec<_> = probes.iter().filter_map(is_there).map(|at| buckets[at]).collect();
            looks += 1;
            let learned = match found.is_empty() {
                // Few buckets in a wide range: the next ones that there are.
                true => search.learn(buckets.iter().copied().filter(|mark| mark.0 >= low).take(21)),
                false => search.learn(found),
            };
            if !learned {
                break;
            }
        }
        (search.found(), looks)
    }

    /// Numbers and ids that rise, in small and in very large steps.
    fn rising() -> impl Strategy<Value = Vec<Mark>> {
        let number = prop_oneof![6 => Just(1), 1 => 2..4_i64, 1 => 1..1_i64 << 30];
        let steps = (number, prop_oneof![4 => 1..5_i64, 1 => 1..1_i64 << 40]);
        proptest::collection::vec(steps, 1..200).prop_map(|steps| {
            let mut at = (0, 0);
            let add = |(number, id)| {
                at = (at.0 + number, at.1 + id);
                at
            };
            steps.into_iter().map(add).collect()
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_a_walk_finds(buckets in rising(), beside in -2..3_i64) {
            let last = buckets[buckets.len() - 1];
            let ids = buckets.iter().map(|(_, id)| id + beside);
            for id in ids.chain([0, last.1]).filter(|id| *id <= last.1) {
                let walked = buckets.iter().find(|(_, highest)| *highest >= id).map(|(at, _)| *at);
                prop_assert_eq!(Some(search(&buckets, id).0), walked, "id {}", id);
            }
        }
    }

    /// Buckets of ten million messages.
    const MANY: i64 = 156_250;

    #[test]
    fn where_messages_come_evenly_one_look_is_enough() {
        // A minute each, give or take twenty seconds.
        let id = |number: i64| number * 60_000 + (number * 7_919 % 40_001) - 20_000;
        let buckets: Vec<_> = (0..MANY).map(|number| (number, id(number))).collect();
        for number in (1..MANY).step_by(997) {
            for beside in [-1, 0, 1] {
                let (found, looks) = search(&buckets, id(number) + beside);
                assert_eq!(found, number + i64::from(beside > 0));
                assert!(looks <= 1, "{looks} looks for {number}");
            }
        }
    }

    #[test]
    fn where_a_guess_is_worth_nothing_it_takes_five() {
        // Ids that jump after every four thousand buckets, each time half as far.
        let id = |number: i64| i64::MAX - (i64::MAX >> 1 >> (number / 4_000)) + number;
        let buckets: Vec<_> = (0..MANY).map(|number| (number, id(number))).collect();
        for number in (1..MANY).step_by(997) {
            let (found, looks) = search(&buckets, id(number));
            assert_eq!(found, number);
            assert!(looks <= 5, "{looks} looks for {number}");
        }
    }
}
