//! Channels that have subscribers and are not heard. Pure.
//!
//! A subscription that is being made is in the hub a moment before it is heard, so only a channel that
//! is found twice is missing.

use ahash::HashSet;
use compact_str::CompactString;

/// Turns after which subscribers and subscriptions are compared: it reads all of the hub.
const TURNS: u32 = 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Suspects {
    names: HashSet<CompactString>,
    /// The attachment after which they were looked for, and turns since then.
    looked: (u64, u32),
}

impl Suspects {
    /// Called with the number of the attachment at every turn.
    pub fn are_due(&mut self, attachment: u64) -> bool {
        let (last, turns) = self.looked;
        let is_due = attachment != last || turns >= TURNS || !self.names.is_empty();
        self.looked = (attachment, if is_due { 0 } else { turns + 1 });
        is_due
    }

    /// Takes who is missing now; who was missing the last time already.
    pub fn confirm(&mut self, missing: HashSet<CompactString>) -> HashSet<CompactString> {
        let (twice, once) = missing.into_iter().partition(|name| self.names.contains(name));
        self.names = once;
        twice
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> HashSet<CompactString> {
        names.iter().map(|name| CompactString::from(*name)).collect()
    }

    #[test]
    fn only_who_is_missed_twice_in_a_row_is_missing() {
        let mut suspects = Suspects::default();
        assert!(suspects.confirm(names(&["a", "b"])).is_empty());
        assert_eq!(suspects.confirm(names(&["b", "c"])), names(&["b"]));
        assert!(suspects.confirm(names(&["a", "b"])).is_empty(), "b was taken care of");
        assert!(suspects.confirm(names(&[])).is_empty());
        assert!(suspects.confirm(names(&["a"])).is_empty());
    }

    #[test]
    fn they_are_looked_for_after_each_attachment_then_now_and_then() {
        let mut suspects = Suspects::default();
        assert!(suspects.are_due(1));
        let quiet = (0..100).take_while(|_| !suspects.are_due(1)).count();
        assert_eq!(quiet, TURNS as usize);
        assert!(!suspects.are_due(1));
        assert!(suspects.are_due(2));
        suspects.confirm(names(&["a"]));
        assert!(suspects.are_due(2), "once more, soon");
    }
}
