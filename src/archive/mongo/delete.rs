//! Deleting: messages leave their buckets, their bits stay, so that nothing comes back by a replay and
//! no recovery finds a gap.

use std::time::Duration;

use mongodb::Namespace;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::{DeleteOneModel, UpdateOneModel, WriteModel};

use super::layout::{Chapter, Header, Shelf, first_offset, mask, positions, signed};
use super::looks::Looks;
use super::seek::{self, Key};
use super::walk::Walk;
use crate::archive::{Deleted, Deletion, StoreError};

/// Offsets of one epoch, the first and the last included.
struct Stretch {
    place: usize,
    from: i64,
    to: i64,
}

/// Deletes messages; each write within `limit`.
pub async fn delete(
    looks: &Looks,
    limit: Duration,
    channel: &str,
    chapters: &[Chapter],
    what: &Deletion,
) -> Result<Deleted, StoreError> {
    let (mut count, mut ends) = (0, None::<(Key, Key)>);
    for Stretch { place, from, to } in stretches(looks, channel, chapters, what).await? {
        let shelf = Shelf::new(channel, place);
        let mut walk = Walk::new(looks, &shelf, (from, to));
        // What is counted from here on holds only until it is over.
        let counter = doc! { format!("epochs.{place}.deletions"): 1_i64 };
        let model = UpdateOneModel::builder().namespace(looks.channels.namespace());
        let model = model.filter(doc! { "_id": channel }).update(doc! { "$inc": counter });
        let changing = [model.build().into()];
        looks.write_all(limit, &changing).await?;
        while let Some(headers) = walk.next().await? {
            let mut updates = Vec::new();
            let bodies = large_ids(looks, &shelf, &headers, (from, to)).await?;
            for header in headers {
                let bits = header.living() & mask(header.number, from, to);
                let at = |bit: u32| first_offset(header.number) + i64::from(bit);
                let Some(highest) = bits.checked_ilog2() else { continue };
                let (low, high) = (at(bits.trailing_zeros()), at(highest));
                count += u64::from(bits.count_ones());
                ends = Some((ends.map_or((place, low), |(first, _)| first), (place, high)));
                updates.push(clearing(looks, &shelf, &header, bits, true));
            }
            // The bucket is what names the bodies, so it comes after them: whoever is interrupted finds
            // them again. And once more behind it, for a replay that has put one back meanwhile.
            let bodies = removals(&looks.large.namespace(), &bodies);
            looks.write_all(limit, &bodies).await?;
            looks.write_all(limit, &updates).await?;
            looks.write_all(limit, &bodies).await?;
        }
        looks.write_all(limit, &changing).await?;
    }
    let Some((low, high)) = ends else { return Ok(Deleted::default()) };
    let same = low.0 == high.0;
    let epoch = chapters.get(low.0).filter(|_| same).map(|chapter| chapter.name.as_str().into());
    Ok(Deleted { count, epoch, offsets: same.then_some((low.1 as u64, high.1 as u64)) })
}

/// Takes messages out of a bucket; with `tombstones` they count as deleted.
pub fn clearing(
    looks: &Looks,
    shelf: &Shelf,
    header: &Header,
    bits: u64,
    tombstones: bool,
) -> WriteModel {
    let unset = positions(bits).map(|bit| (format!("messages.{bit}"), "".into()));
    let mut update = doc! { "$unset": unset.collect::<Document>() };
    if tombstones {
        update.insert("$bit", doc! { "deleted": { "or": bits as i64 } });
    }
    let model = UpdateOneModel::builder().namespace(looks.bucket_namespace());
    model.filter(doc! { "_id": shelf.id(header.number) }).update(update).build().into()
}

/// The keys of the large bodies of those messages between two offsets, both included, that the headers
/// know of.
pub async fn large_ids(
    looks: &Looks,
    shelf: &Shelf,
    headers: &[Header],
    (from, to): (i64, i64),
) -> Result<Vec<Binary>, StoreError> {
    let mut keys = Vec::new();
    for header in headers {
        let large = header.living() & header.large & mask(header.number, from, to);
        if large == 0 {
            continue;
        }
        for bucket in looks.buckets(shelf, header.number, header.number).await? {
            let wanted = bucket.living().filter(|(_, slot)| large >> slot.number & 1 == 1);
            keys.extend(wanted.map(|(offset, slot)| shelf.large_id(offset, slot.id)));
        }
    }
    Ok(keys)
}

/// Removes the documents with these keys.
pub fn removals(namespace: &Namespace, keys: &[Binary]) -> Vec<WriteModel> {
    let removal = |key: &Binary| {
        let model = DeleteOneModel::builder().namespace(namespace.clone());
        model.filter(doc! { "_id": key.clone() }).build().into()
    };
    keys.iter().map(removal).collect()
}

/// What a deletion is about, the oldest first. All of it was there, or was asked for by its offset.
async fn stretches(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    what: &Deletion,
) -> Result<Vec<Stretch>, StoreError> {
    match what {
        Deletion::Message(id) => {
            let found = seek::message(looks, channel, chapters, signed(id.number())).await?;
            let one = found.map(|(place, offset)| Stretch { place, from: offset, to: offset });
            Ok(one.into_iter().collect())
        }
        Deletion::Offsets { epoch, from, to } => {
            let place = match epoch {
                Some(epoch) => chapters.iter().position(|chapter| chapter.name == *epoch),
                None => chapters.len().checked_sub(1),
            };
            let Some(place) = place else { return Ok(Vec::new()) };
            let (low, high) = chapters[place].offsets();
            let (from, to) = (signed(*from).max(low), signed(*to).min(high));
            Ok((from <= to).then_some(Stretch { place, from, to }).into_iter().collect())
        }
        Deletion::Channel => {
            let tops = seek::tops(looks, channel, chapters).await?;
            let stretch = |(place, (chapter, top)): (usize, (&Chapter, Option<Header>))| {
                let (from, to) = (chapter.offsets().0, top?.top()?);
                (from <= to).then_some(Stretch { place, from, to })
            };
            Ok(chapters.iter().zip(tops).enumerate().filter_map(stretch).collect())
        }
    }
}
