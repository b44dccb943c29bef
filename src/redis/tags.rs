//! Names that fall into each slot of a cluster, so that a key which belongs to no channel can be in the
//! slot of one.

use std::sync::LazyLock;

use compact_str::CompactString;

use super::slots::{SLOTS, slot_of};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// By slot. Four characters at most; found once, by trying some 200,000 names.
static TAGS: LazyLock<Box<[CompactString]>> = LazyLock::new(|| {
    let mut tags = vec![CompactString::default(); SLOTS];
    let mut missing = SLOTS;
    for number in 0_u32.. {
        let name = in_base_36(number);
        let Some(tag) = tags.get_mut(usize::from(slot_of(&name))) else { continue };
        if tag.is_empty() {
            *tag = name;
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into()
});

/// The name that stands for a slot: the shortest one, and the same in every version and on every node.
/// Calls for it as for a channel go to the slot's master. Empty above the highest slot.
pub fn slot_tag(slot: u16) -> &'static str {
    TAGS.get(usize::from(slot)).map(CompactString::as_str).unwrap_or_default()
}

fn in_base_36(mut number: u32) -> CompactString {
    let mut digits = Vec::new();
    loop {
        digits.extend(DIGITS.get((number % 36) as usize));
        number /= 36;
        if number == 0 {
            break;
        }
    }
    digits.reverse();
    CompactString::from_utf8_lossy(&digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_tag_of_its_own_that_falls_into_it() {
        for slot in 0..SLOTS as u16 {
            let tag = slot_tag(slot);
            assert!((1..=4).contains(&tag.len()), "{slot}: {tag:?}");
            assert_eq!(slot_of(tag), slot, "{tag}");
        }
        assert_eq!(slot_tag(SLOTS as u16), "");
    }

    #[test]
    fn tags_are_those_that_streams_are_named_after_already() {
        // Of keys that exist: another table would lose sight of them.
        assert_eq!([0, 1, 15_495, 16_383].map(slot_tag), ["1bz", "emj", "a", "hia"]);
    }
}
