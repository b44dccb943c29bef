//! Appending: places first, then large bodies, then messages, until each is in its bucket.
//!
//! All messages of a batch that go into one bucket are one update, which asks for their bits to be
//! clear. If one is set, the update finds nothing, so it would insert, and fails on the key: the same
//! error as for a second document with one key, told for each update by itself. The buckets it is told
//! for are read, and what is not in them is tried again.
//!
//! If an update got no answer it may have been done, by us. From then on a message that is found in
//! its place with our id and bytes counts as stored by us.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::{UpdateOneModel, WriteModel};
use tokio::time::timeout;

use super::attempt::{self, DUPLICATE_KEY, Failure, Pauses};
use super::delete::removals;
use super::layout::{self, Bucket, LARGEST, Shelf};
use super::looks::Looks;
use super::places::{Places, Wish};
use crate::archive::{Appended, Record, StoreError};

/// Buckets of one look at what is there already: 16 MiB at most.
const LOOK: usize = 16;

/// Bytes of large bodies in one write, well below the 48 MB of a message to the server.
const BODIES: usize = 32 * 1024 * 1024;

/// A batch on its way.
struct Batch {
    wishes: Vec<Wish>,
    /// Of each wish, by offset; taken when their places are known.
    offsets: Vec<BTreeMap<i64, Draft>>,
    drafts: Vec<Drafts>,
    appended: Appended,
    /// Keys of large bodies that nothing refers to.
    orphans: Vec<Binary>,
    /// A write has begun, and whether it was done is not known.
    in_doubt: bool,
}

/// A message, packed.
#[derive(Clone)]
struct Draft {
    id: i64,
    bytes: Vec<u8>,
    is_large: bool,
    /// A large body that is not stored yet.
    body: Option<Vec<u8>>,
}

/// Messages for one bucket.
struct Drafts {
    shelf: Shelf,
    bucket: i64,
    /// By slot.
    messages: BTreeMap<u32, Draft>,
}

/// Stores a batch within `limit`.
///
/// # Errors
/// [`StoreError::Unknown`] if something may have been stored, otherwise why nothing was.
pub async fn append(
    looks: &Looks,
    places: &Places,
    limit: Duration,
    records: Vec<Record>,
) -> Result<Appended, StoreError> {
    let mut batch = Batch::new(records)?;
    let mut last = attempt::no_answer(limit);
    let attempts = async {
        let mut pauses = Pauses::new();
        loop {
            match batch.advance(looks, places).await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why) | Failure::Unsent(why)) => last = why,
            }
            pauses.wait().await;
        }
    };
    let done = timeout(limit, attempts).await;
    let failed = match done {
        Ok(Ok(())) => return Ok(batch.appended),
        Ok(Err(error)) => error,
        Err(_) => StoreError::Unavailable(last),
    };
    if batch.is_settled() {
        tracing::debug!(error = %failed, "bodies of deleted messages were not removed again");
        return Ok(batch.appended);
    }
    if batch.in_doubt || batch.appended.stored > 0 {
        tracing::error!(error = %failed, "it is not known what of a batch was stored");
        return Err(StoreError::Unknown);
    }
    Err(failed)
}

impl Batch {
    fn new(records: Vec<Record>) -> Result<Self, StoreError> {
        let mut groups: BTreeMap<(Arc<str>, CompactString), BTreeMap<i64, Draft>> = BTreeMap::new();
        let mut appended = Appended::default();
        for Record { channel, message } in records {
            let offset = i64::try_from(message.offset()).ok().filter(|offset| *offset > 0);
            let refused = StoreError::BadRequest("an offset must be from 1 to 2^63 - 1");
            let offset = offset.ok_or(refused)?;
            let draft = Draft::new(&message)?;
            let group = groups.entry((channel, message.epoch)).or_default();
            // The first of two with one offset counts, as if they came one after the other.
            match group.entry(offset) {
                Entry::Vacant(place) => drop(place.insert(draft)),
                Entry::Occupied(_) => appended.duplicates += 1,
            }
        }
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_by_key(|(_, offsets)| offsets.values().map(|draft| draft.id).min());
        let (mut wishes, mut offsets) = (Vec::new(), Vec::new());
        for ((channel, epoch), group) in groups {
            let (Some((first, _)), Some((last, _))) =
                (group.first_key_value(), group.last_key_value())
            else {
                continue;
            };
            wishes.push(Wish { channel, epoch, first: *first, last: *last });
            offsets.push(group);
        }
        let (drafts, orphans) = (Vec::new(), Vec::new());
        Ok(Self { wishes, offsets, drafts, appended, orphans, in_doubt: false })
    }

    /// Does what is left to do.
    async fn advance(&mut self, looks: &Looks, places: &Places) -> Result<(), Failure> {
        if !self.offsets.is_empty() {
            let found = places.prepare(looks, &self.wishes).await?;
            self.spread(&found);
        }
        self.write_bodies(looks).await?;
        let mut pauses = Pauses::new();
        loop {
            self.write(looks).await?;
            self.compare(looks).await?;
            if self.drafts.is_empty() {
                return self.remove_orphans(looks).await;
            }
            // What somebody else has just written shows once a majority has it.
            pauses.wait().await;
        }
    }

    /// Whether nothing is left to store.
    fn is_settled(&self) -> bool {
        self.offsets.is_empty() && self.drafts.is_empty()
    }

    /// Gives every message its bucket. What lies where all has expired is a late replay.
    fn spread(&mut self, found: &[(usize, i64)]) {
        for ((wish, offsets), (place, expired)) in
            self.wishes.iter().zip(self.offsets.drain(..)).zip(found)
        {
            let shelf = Shelf::new(&wish.channel, *place);
            let mut buckets: BTreeMap<i64, BTreeMap<u32, Draft>> = BTreeMap::new();
            for (offset, draft) in offsets {
                if offset <= *expired {
                    self.appended.duplicates += 1;
                    continue;
                }
                let bucket = buckets.entry(layout::bucket_of(offset)).or_default();
                bucket.insert(layout::slot_of(offset), draft);
            }
            self.drafts.extend(buckets.into_iter().map(|(bucket, messages)| Drafts {
                shelf: shelf.clone(),
                bucket,
                messages,
            }));
        }
    }

    /// Stores large bodies, many at a time, before anything refers to them.
    async fn write_bodies(&mut self, looks: &Looks) -> Result<(), Failure> {
        let mut waiting: Vec<_> = self.drafts.iter_mut().flat_map(Drafts::bodies).collect();
        let mut waiting = &mut waiting[..];
        while !waiting.is_empty() {
            let count = fitting(waiting.iter().map(|(_, body)| body.as_ref().map_or(0, Vec::len)));
            let (part, behind) = mem::take(&mut waiting).split_at_mut(count);
            let write = |(key, body): &(Binary, &mut Option<Vec<u8>>)| {
                let body = layout::binary(body.as_ref().cloned().unwrap_or_default());
                UpdateOneModel::builder()
                    .namespace(looks.large.namespace())
                    .filter(doc! { "_id": key.clone() })
                    .update(doc! { "$setOnInsert": { "body": body } })
                    .upsert(true)
                    .build()
                    .into()
            };
            let failed = looks.write(part.iter().map(write).collect()).await?;
            let failed = failed.into_iter().find(|(_, code, _)| *code != DUPLICATE_KEY);
            if let Some((_, code, message)) = failed {
                return Err(attempt::of_code(code, &message));
            }
            part.iter_mut().for_each(|(_, body)| **body = None);
            waiting = behind;
        }
        Ok(())
    }

    /// Writes every bucket; keeps those whose update failed.
    async fn write(&mut self, looks: &Looks) -> Result<(), Failure> {
        let updates = self.drafts.iter().map(|drafts| drafts.update(looks)).collect();
        let was_in_doubt = mem::replace(&mut self.in_doubt, true);
        let failed = looks.write(updates).await;
        if !matches!(failed, Err(Failure::Passing(_))) {
            self.in_doubt = was_in_doubt;
        }
        let failed = failed?;
        let failed: HashMap<_, _> =
            failed.into_iter().map(|(at, code, message)| (at, (code, message))).collect();
        let (mut kept, mut failure) = (Vec::new(), None);
        for (at, drafts) in self.drafts.drain(..).enumerate() {
            match failed.get(&at) {
                None => {
                    self.appended.stored += drafts.messages.len();
                    continue;
                }
                Some((code, _)) if *code == DUPLICATE_KEY => {}
                Some((code, message)) => failure = Some(attempt::of_code(*code, message)),
            }
            kept.push(drafts);
        }
        self.drafts = kept;
        failure.map_or(Ok(()), Err)
    }

    /// Reads the buckets that are left, and takes out what is in them.
    async fn compare(&mut self, looks: &Looks) -> Result<(), Failure> {
        for part in self.drafts.chunks_mut(LOOK) {
            let keys: Vec<Binary> = part.iter().map(Drafts::key).collect();
            let found = looks.buckets_of(&keys).await?;
            for (key, drafts) in keys.iter().zip(part) {
                let same = |(found, _): &&(Binary, Bucket)| found == key;
                let Some((_, bucket)) = found.iter().find(same) else { continue };
                let (stored, duplicates) =
                    drafts.take_out(bucket, self.in_doubt, &mut self.orphans);
                self.appended.stored += stored;
                self.appended.duplicates += duplicates;
            }
        }
        self.drafts.retain(|drafts| !drafts.messages.is_empty());
        Ok(())
    }

    /// Removes bodies that were stored here again though their messages were deleted.
    async fn remove_orphans(&mut self, looks: &Looks) -> Result<(), Failure> {
        let failed = looks.write(removals(&looks.large.namespace(), &self.orphans)).await?;
        match failed.into_iter().next() {
            Some((_, code, message)) => Err(attempt::of_code(code, &message)),
            None => {
                self.orphans.clear();
                Ok(())
            }
        }
    }
}

/// How many bodies go into one write, the first in any case.
fn fitting(sizes: impl Iterator<Item = usize>) -> usize {
    let sums = sizes.scan(0_usize, |sum, size| {
        *sum = sum.saturating_add(size);
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= BODIES).count().max(1)
}

impl Draft {
    fn new(message: &crate::archive::Message) -> Result<Self, StoreError> {
        let (bytes, body) = layout::pack(message);
        if body.as_ref().is_some_and(|body| body.len() > LARGEST) {
            return Err(StoreError::BadRequest("a message may have at most 15 MiB"));
        }
        let id = layout::signed(message.id.number());
        Ok(Self { id, bytes, is_large: body.is_some(), body })
    }
}

impl Drafts {
    fn key(&self) -> Binary {
        self.shelf.id(self.bucket)
    }

    /// The large bodies that are not stored yet, with their keys.
    fn bodies(&mut self) -> impl Iterator<Item = (Binary, &mut Option<Vec<u8>>)> {
        let (shelf, first) = (&self.shelf, layout::first_offset(self.bucket));
        let waiting = self.messages.iter_mut().filter(|(_, draft)| draft.body.is_some());
        waiting.map(move |(slot, draft)| {
            (shelf.large_id(first + i64::from(*slot), draft.id), &mut draft.body)
        })
    }

    fn update(&self, looks: &Looks) -> WriteModel {
        let (mut set, mut stored, mut large) = (Document::new(), 0_u64, 0_u64);
        for (slot, draft) in &self.messages {
            set.insert(format!("messages.{slot}"), layout::binary(draft.bytes.clone()));
            stored |= 1 << slot;
            large |= u64::from(draft.is_large) << slot;
        }
        let mut bits = doc! { "stored": { "or": stored as i64 } };
        if large != 0 {
            bits.insert("large", doc! { "or": large as i64 });
        }
        let last_id = self.messages.values().map(|draft| draft.id).max();
        let clear: Vec<i32> = self.messages.keys().map(|slot| *slot as i32).collect();
        let update = UpdateOneModel::builder()
            .namespace(looks.bucket_namespace())
            .filter(doc! { "_id": self.key(), "stored": { "$bitsAllClear": clear } })
            .update(doc! { "$set": set, "$bit": bits, "$max": { "last_id": last_id } })
            .upsert(true);
        update.build().into()
    }

    /// Takes out what has its bit set; returns how many of them are ours, and how many were there. Adds
    /// the keys of bodies whose message is not there any more, or never was.
    fn take_out(
        &mut self,
        bucket: &Bucket,
        in_doubt: bool,
        orphans: &mut Vec<Binary>,
    ) -> (usize, usize) {
        let (mut ours, mut others) = (0, 0);
        let (shelf, first) = (&self.shelf, layout::first_offset(self.bucket));
        self.messages.retain(|slot, draft| {
            if bucket.header.stored >> slot & 1 == 0 {
                return true;
            }
            let found = bucket.slots.iter().find(|found| found.number == *slot);
            match in_doubt && found.is_some_and(|found| found.bytes == draft.bytes) {
                true => ours += 1,
                false => others += 1,
            }
            if draft.is_large && found.is_none_or(|found| found.id != draft.id) {
                orphans.push(shelf.large_id(first + i64::from(*slot), draft.id));
            }
            false
        });
        (ours, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_bodies_as_fit_go_into_one_write_and_one_in_any_case() {
        let third = BODIES / 3;
        assert_eq!(fitting([third; 7].into_iter()), 3);
        assert_eq!(fitting([1, 2, 3].into_iter()), 3);
        assert_eq!(fitting([BODIES + 1, 1].into_iter()), 1);
        const { assert!(BODIES >= LARGEST && BODIES < 48_000_000) };
    }
}
