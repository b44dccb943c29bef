//! Under which identity each slot was last, pure.

use std::sync::Arc;

use ahash::{HashMap, HashSet};
use compact_str::CompactString;

use crate::redis::options::Place;
use crate::redis::slots::{SLOTS, SlotMap};

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Histories {
    slots: HashMap<u16, CompactString>,
    /// By slot, the identity under which it was before it was moved.
    carried: Arc<HashMap<u16, CompactString>>,
    /// Slots that were moved to a master of this identity, and whose history is not its yet.
    moved: HashMap<u16, CompactString>,
}

impl Histories {
    /// Notes the slots that are at another master in the `new` map than in the `old` one. `is_old`
    /// gives the identity of a master that had it before the slots moved, and has it still.
    pub fn carry(
        &mut self,
        old: &SlotMap,
        new: &SlotMap,
        is_old: impl Fn(&Place) -> Option<CompactString>,
    ) {
        self.moved.clear();
        let mut known: HashMap<&Place, Option<CompactString>> = HashMap::default();
        for slot in 0..SLOTS as u16 {
            let (Some(from), Some(to)) = (old.owner(slot), new.owner(slot)) else { continue };
            if from.place == to.place {
                continue;
            }
            for place in [&from.place, &to.place] {
                known.entry(place).or_insert_with(|| is_old(place));
            }
            let id_of = |place| known.get(place).and_then(Option::as_ref);
            if let (Some(from), Some(to)) = (id_of(&from.place), id_of(&to.place))
                && self.slots.get(&slot) == Some(from)
            {
                self.moved.insert(slot, to.clone());
            }
        }
    }

    /// Goes on with the masters that are there now, whose identities `owner` gives. Returns the slots
    /// whose streams may have lost something.
    pub fn follow<'a>(&mut self, owner: impl Fn(u16) -> Option<&'a CompactString>) -> HashSet<u16> {
        let mut changed = HashSet::default();
        for slot in 0..SLOTS as u16 {
            let Some(id) = owner(slot) else { continue };
            match self.slots.get(&slot) {
                Some(before) if before == id => {}
                Some(before) if self.moved.get(&slot) == Some(id) => {
                    let before = before.clone();
                    Arc::make_mut(&mut self.carried).insert(slot, before);
                    self.slots.insert(slot, id.clone());
                }
                before => {
                    if before.is_some() {
                        changed.insert(slot);
                    }
                    if self.carried.contains_key(&slot) {
                        Arc::make_mut(&mut self.carried).remove(&slot);
                    }
                    self.slots.insert(slot, id.clone());
                }
            }
        }
        changed
    }

    /// By slot, the identity that its streams may still have.
    pub fn carried(&self) -> Arc<HashMap<u16, CompactString>> {
        Arc::clone(&self.carried)
    }
}

#[cfg(test)]
mod tests {
    use crate::redis::resp::Value;

    use super::*;

    fn at(port: u16) -> Place {
        Place::Tcp { host: "h".into(), port }
    }

    /// Slots below `bound` are at port 1, the others at port 2.
    fn map(bound: i64) -> SlotMap {
        let range = |first, last, port: i64| {
            let text = |text: String| Value::Text(text.into());
            let node = vec![text("h".into()), Value::Integer(port), text(port.to_string())];
            Value::List(vec![Value::Integer(first), Value::Integer(last), Value::List(node)])
        };
        let ranges = vec![range(0, bound - 1, 1), range(bound, SLOTS as i64 - 1, 2)];
        SlotMap::of(&Value::List(ranges), &at(1)).expect("a map")
    }

    fn owner<'a>(
        map: &SlotMap,
        ids: &'a [CompactString; 2],
    ) -> impl Fn(u16) -> Option<&'a CompactString> {
        let places: Vec<_> = (0..SLOTS as u16).map(|slot| map.owner(slot).cloned()).collect();
        move |slot| {
            let master = places[usize::from(slot)].as_ref()?;
            ids.get(usize::from(master.place != at(1)))
        }
    }

    #[test]
    fn a_slot_under_another_identity_may_have_lost_something() {
        let (mut histories, map) = (Histories::default(), map(100));
        let before = ["a".into(), "b".into()];
        assert!(histories.follow(owner(&map, &before)).is_empty(), "nothing was known");
        assert!(histories.follow(owner(&map, &before)).is_empty());
        let changed = histories.follow(owner(&map, &["a".into(), "new".into()]));
        assert_eq!(changed.len(), SLOTS - 100);
        assert!(!changed.contains(&99));
    }

    #[test]
    fn a_slot_goes_on_only_between_masters_that_are_what_they_were() {
        let ids: [CompactString; 2] = ["a".into(), "b".into()];
        let (old, new) = (map(100), map(99));
        let known = |place: &Place| Some(ids[usize::from(*place != at(1))].clone());
        let mut histories = Histories::default();
        histories.follow(owner(&old, &ids));
        histories.carry(&old, &new, known);
        assert!(histories.follow(owner(&new, &ids)).is_empty());
        assert_eq!(histories.carried().get(&99), Some(&"a".into()));

        // It moves on, from a master that is not known to be what it was.
        histories.carry(&new, &old, |place| known(place).filter(|_| *place == at(1)));
        assert_eq!(histories.follow(owner(&old, &ids)), HashSet::from_iter([99]));
        assert!(histories.carried().is_empty());

        // It was last seen under another identity than its master has and had.
        let mut histories = Histories::default();
        histories.follow(owner(&old, &["earlier".into(), "b".into()]));
        histories.carry(&old, &new, known);
        assert!(histories.follow(owner(&new, &ids)).contains(&99));
    }
}
