//! Offsets that nobody appended: which entries have one right below them, and which ids belong to
//! what is put there. Pure.
//!
//! A node of other software publishes into a stream without appending, and with
//! `history_archive_overflow = "drop"` ours does so too. Then the next entry's offset is not the one
//! behind the last. Whether something is missing can only be said once everything that was appended
//! before that entry is stored, since another consumer may have it in hand.

use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;

use compact_str::CompactString;

use super::entry::{Delivered, Ticket};
use crate::archive::{MessageId, Record};

/// Channels of one generation of [`Known`]; two of them take some 30 MB at most.
const GENERATION: usize = 65_536;

/// A stored entry that may have a gap right below its offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub ticket: Ticket,
    pub channel: Arc<str>,
    pub epoch: CompactString,
    pub offset: u64,
    pub id: MessageId,
}

/// The last offset that this consumer has stored of each channel: the channels used lately. What
/// others have stored it does not know, and need not.
#[derive(Debug, Default)]
pub struct Known {
    young: Tops,
    old: Tops,
}

/// Entries of one epoch by their offset.
type Group<'a> = BTreeMap<u64, (&'a Delivered, MessageId)>;

type Tops = HashMap<Arc<str>, (CompactString, u64)>;

impl Known {
    /// Whether something of the epoch is stored; if not, that is not known here.
    pub fn has(&self, channel: &str, epoch: &str) -> bool {
        self.top(channel).is_some_and(|(known, _)| known == epoch)
    }

    /// Takes note of a stored batch; returns its entries whose predecessor neither was appended, by
    /// what the entry tells, nor is in the batch, nor was the last one stored before.
    pub fn judge(&mut self, batch: &[(Delivered, Record)]) -> Vec<Doubt> {
        let mut groups: BTreeMap<(&Arc<str>, &str), Group<'_>> = BTreeMap::new();
        for (delivered, record) in batch {
            let message = &record.message;
            let group = groups.entry((&record.channel, message.epoch.as_str())).or_default();
            group.insert(message.offset(), (delivered, message.id));
        }
        let mut doubts = Vec::new();
        for ((channel, epoch), entries) in groups {
            let before = self.top(channel).filter(|(known, _)| known == epoch).map(|(_, top)| *top);
            let mut below = None;
            for (&offset, &(delivered, id)) in &entries {
                let predecessor = offset - 1;
                let is_there = predecessor == 0
                    || [below, before, delivered.below()].contains(&Some(predecessor));
                if !is_there {
                    let (channel, epoch) = (Arc::clone(channel), epoch.into());
                    let ticket = delivered.ticket;
                    doubts.push(Doubt { ticket, channel, epoch, offset, id });
                }
                below = Some(offset);
            }
            // A replay of older ones takes nothing back.
            if let Some(top) = below.filter(|top| before.is_none_or(|before| *top > before)) {
                self.remember(channel, epoch, top);
            }
        }
        doubts
    }

    fn top(&self, channel: &str) -> Option<&(CompactString, u64)> {
        self.young.get(channel).or_else(|| self.old.get(channel))
    }

    fn remember(&mut self, channel: &Arc<str>, epoch: &str, top: u64) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(Arc::clone(channel), (epoch.into(), top));
    }
}

/// Ids for publications that are put below the message `ceiling` at offset `above`, in the order of
/// their offsets: each as near to its own time (unix milliseconds) as the order allows. Nothing where
/// there is no room above `floor`, the id of what lies below.
///
/// The same publications get the same ids on every replay, and fewer of them rising ones still.
pub fn ids_below(
    (ceiling, above): (MessageId, u64),
    floor: Option<MessageId>,
    places: impl IntoIterator<Item = (u64, i64)>,
) -> Vec<Option<MessageId>> {
    let mut least = floor.map_or(0, |floor| floor.number().saturating_add(1));
    let one = |(offset, time)| {
        // Room for all that may come between it and the ceiling.
        let most = ceiling.number().checked_sub(above.saturating_sub(offset))?;
        let id = MessageId::first_at(time).number().min(most).max(least);
        if id > most {
            return None;
        }
        least = id + 1;
        MessageId::of(id)
    };
    places.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::archive::Message;
    use crate::ingest::entry::{EntryId, Source};
    use crate::protocol::publication::Publication;

    fn entry(channel: &str, epoch: &str, offset: u64) -> (Delivered, Record) {
        let publication = Publication { offset, ..Publication::default() };
        let id = MessageId::of(offset * 10).expect("an id");
        let message = Message { id, epoch: epoch.into(), publication: Arc::new(publication) };
        let ticket = Ticket { stream: 0, id: EntryId { ms: offset, count: 0 } };
        let delivered = Delivered { ticket, fields: Vec::new(), source: Source::New };
        (delivered, Record { channel: channel.into(), message })
    }

    fn doubted(known: &mut Known, epoch: &str, offsets: &[u64]) -> Vec<u64> {
        let batch: Vec<_> = offsets.iter().map(|offset| entry("a", epoch, *offset)).collect();
        known.judge(&batch).iter().map(|doubt| doubt.offset).collect()
    }

    #[test]
    fn only_entries_without_their_predecessor_are_in_doubt() {
        let mut known = Known::default();
        assert_eq!(doubted(&mut known, "e", &[2, 1, 3]), [0; 0], "the first has none");
        assert_eq!(doubted(&mut known, "e", &[4, 5]), [0; 0]);
        assert_eq!(doubted(&mut known, "e", &[7, 8, 10]), [7, 10]);
    }

    #[test]
    fn a_late_entry_is_judged_by_what_was_stored_right_before_it() {
        let mut known = Known::default();
        doubted(&mut known, "e", &[1, 2, 5]);
        assert_eq!(doubted(&mut known, "e", &[4]), [4], "3 may be missing");
        assert_eq!(doubted(&mut known, "e", &[6]), [0; 0], "the top is still 5");
    }

    #[test]
    fn an_entry_that_names_the_one_below_is_in_no_doubt() {
        let judged = |below: &'static str| {
            let (mut delivered, record) = entry("a", "e", 9);
            delivered.fields = vec!["n".into(), below.into()];
            Known::default().judge(&[(delivered, record)]).len()
        };
        assert_eq!(["8", "7", "x", ""].map(judged), [0, 1, 1, 1]);
    }

    #[test]
    fn another_epoch_begins_with_a_doubt() {
        let mut known = Known::default();
        doubted(&mut known, "e", &[1, 2]);
        assert_eq!(doubted(&mut known, "f", &[3]), [3]);
        assert_eq!(doubted(&mut known, "f", &[4]), [0; 0]);
    }

    #[test]
    fn what_is_known_has_a_bound() {
        let mut known = Known::default();
        for number in 0..GENERATION + 2 {
            known.judge(&[entry(&format!("c{number}"), "e", 1)]);
        }
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
        assert_eq!(known.young.len(), 2);
        assert!(known.judge(&[entry("c0", "e", 2)]).is_empty(), "the older half is still known");
    }

    fn id(number: u64) -> MessageId {
        MessageId::of(number).expect("an id")
    }

    #[test]
    fn ids_are_near_their_time_and_between_their_neighbours() {
        let at = |ms: i64| MessageId::first_at(ms);
        let ids = ids_below((at(100), 9), Some(at(10)), [(6, 50), (7, 40), (8, 200)]);
        let after_50 = id(at(50).number() + 1);
        assert_eq!(ids, [Some(at(50)), Some(after_50), Some(id(at(100).number() - 1))]);
    }

    #[test]
    fn without_room_there_is_no_id() {
        assert_eq!(ids_below((id(7), 4), Some(id(5)), [(2, 0), (3, 0)]), [None, Some(id(6))]);
        assert_eq!(ids_below((id(1), 9), None, [(2, 0)]), [None]);
    }

    proptest! {
        #[test]
        fn ids_rise_between_the_neighbours_whatever_the_times_are(
            floor in 0..1_000_u64,
            room in 1..100_u64,
            times in proptest::collection::vec(any::<i64>(), 1..40),
        ) {
            let (ceiling, above) = (id(floor + room), 100 + times.len() as u64);
            let places = times.iter().enumerate().map(|(index, time)| (100 + index as u64, *time));
            let ids = ids_below((ceiling, above), Some(id(floor)), places);
            let given: Vec<_> = ids.iter().flatten().collect();
            prop_assert!(given.windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert!(given.iter().all(|one| **one > id(floor) && **one < ceiling));
            prop_assert!(room <= times.len() as u64 || given.len() == times.len());
        }
    }
}
