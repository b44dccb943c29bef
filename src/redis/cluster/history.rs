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

    /// Goes on with the masters that are there now, whose identities `owner` gives. Returns the slots whose streams may have lost
    /// something.
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
