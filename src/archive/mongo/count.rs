//! How many messages a channel has.
//!
//! Buckets that are full change only by deletion. What was counted of them is noted with the epoch, so
//! that a count goes on from there.

use mongodb::bson::doc;
use mongodb::options::UpdateOneModel;

use super::layout::{Chapter, Counted, Header, Shelf, first_offset, mask};
use super::looks::{HEADERS, Looks};
use super::walk::Walk;
use crate::archive::StoreError;

/// Buckets that are worth a note.
const WORTH: i64 = 64;

/// Buckets after which a long count makes a note, so that one that takes too long has not been in vain.
const OFTEN: i64 = 8 * HEADERS;

/// Messages that can be read, over all epochs, up to the top that each had.
pub async fn count(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    tops: &[Option<Header>],
) -> Result<u64, StoreError> {
    let mut sum = 0;
    for (place, (chapter, top)) in chapters.iter().zip(tops).enumerate() {
        let Some(to) = top.and_then(|top| top.top()) else { continue };
        let shelf = Shelf::new(channel, place);
        let mut tally = Tally::new(chapter, to);
        let mut noted = tally.note.through;
        let from = chapter.offsets().0;
        let from = from.max(first_offset(noted.saturating_add(1)));
        let mut walk = Walk::new(looks, &shelf, (from, to));
        while let Some(headers) = walk.next().await? {
            headers.iter().for_each(|header| tally.take(header));
            if tally.note.through - noted >= OFTEN {
                note(looks, channel, &shelf, tally.note).await;
                noted = tally.note.through;
            }
        }
        if tally.note.through - noted >= WORTH {
            note(looks, channel, &shelf, tally.note).await;
        }
        sum += tally.messages as u64;
    }
    Ok(sum)
}

/// A count on its way.
struct Tally {
    /// The lowest offset that can still be stored or read.
    bottom: i64,
    /// The highest that counts.
    top: i64,
    messages: i64,
    /// Of the full buckets from the lowest on, none left out.
    note: Counted,
}

impl Tally {
    fn new(chapter: &Chapter, top: i64) -> Self {
        let nothing = Counted {
            through: chapter.low - 1,
            messages: 0,
            first: chapter.first,
            expired: chapter.expired,
            deletions: chapter.deletions,
        };
        let note = chapter.counted().unwrap_or(nothing);
        let bottom = chapter.first.max(chapter.expired.saturating_add(1));
        Self { bottom, top, messages: note.messages, note }
    }

    fn take(&mut self, header: &Header) {
        let open = mask(header.number, self.bottom, i64::MAX);
        let living = header.living() & open;
        let counted = living & mask(header.number, self.bottom, self.top);
        self.messages += i64::from(counted.count_ones());
        if header.number == self.note.through + 1 && header.stored | !open == u64::MAX {
            self.note.through = header.number;
            self.note.messages += i64::from(living.count_ones());
        }
    }
}

/// Notes what was counted, unless it does not hold any more. Without a note the next count takes longer.
async fn note(looks: &Looks, channel: &str, shelf: &Shelf, counted: Counted) {
    let field = |name: &str| format!("epochs.{}.{name}", shelf.place);
    let noted = doc! {
        "through": counted.through,
        "messages": counted.messages,
        "first": counted.first,
        "expired": counted.expired,
        "deletions": counted.deletions,
    };
    let model = UpdateOneModel::builder().namespace(looks.channels.namespace());
    let model = model.filter(doc! { "_id": channel, field("deletions"): counted.deletions });
    let model = model.update(doc! { "$set": { field("counted"): noted } }).build();
    if let Err(failure) = looks.write(vec![model.into()]).await {
        tracing::debug!(?failure, "a count was not noted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter() -> Chapter {
        Chapter {
            name: "e1".into(),
            first: 3,
            low: 0,
            high: 9,
            sealed: None,
            expired: 0,
            deletions: 2,
            counted: None,
        }
    }

    #[test]
    fn only_full_buckets_without_one_missing_are_noted() {
        let full = |number| Header { number, stored: u64::MAX, ..Header::default() };
        let mut tally = Tally::new(&chapter(), i64::MAX);
        // The epoch begins at offset 3, so the bits below are never set.
        tally.take(&Header { stored: u64::MAX << 3, deleted: 1 << 5, ..full(0) });
        tally.take(&full(1));
        assert_eq!((tally.messages, tally.note.through, tally.note.messages), (124, 1, 124));
        tally.take(&full(3));
        tally.take(&Header { stored: 1, ..full(4) });
        assert_eq!((tally.messages, tally.note.through, tally.note.messages), (189, 1, 124));
        // What the second one lacks may still come.
        let mut tally = Tally::new(&chapter(), i64::MAX);
        tally.take(&full(0));
        tally.take(&Header { stored: !(1 << 7), ..full(1) });
        assert_eq!((tally.messages, tally.note.through, tally.note.messages), (124, 0, 61));
    }

    #[test]
    fn what_comes_behind_the_top_meanwhile_is_noted_and_not_counted() {
        let mut tally = Tally::new(&chapter(), 100);
        tally.take(&Header { stored: u64::MAX, ..Header::default() });
        tally.take(&Header { number: 1, stored: u64::MAX, ..Header::default() });
        assert_eq!((tally.messages, tally.note.through, tally.note.messages), (98, 1, 125));
    }

    #[test]
    fn a_note_holds_until_something_goes_or_the_epoch_begins_earlier() {
        let counted = Tally::new(&chapter(), i64::MAX).note;
        let noted = Chapter { counted: Some(counted), ..chapter() };
        assert_eq!(noted.counted(), Some(counted));
        for changed in [
            Chapter { deletions: 3, ..noted.clone() },
            Chapter { expired: 4, ..noted.clone() },
            Chapter { first: 2, ..noted.clone() },
        ] {
            assert_eq!(changed.counted(), None);
        }
    }
}
