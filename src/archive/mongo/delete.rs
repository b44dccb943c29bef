//! Deleting: messages leave their buckets, their bits stay, so that nothing comes back by a replay and
//! no recovery finds a gap.

use std::time::Duration;

use mongodb::Namespace;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::{DeleteOneModel, UpdateOneModel, WriteModel};

use super::layout::{Chapter, Header, Shelf, first_offset, mask, positions};
use super::looks::Looks;
use super::read::within;
use super::seek::{self, END, Key, START};
use super::walk::Walk;
use crate::archive::{Anchor, Deleted, Deletion, StoreError};

/// Deletes messages; each write within `limit`.
pub async fn delete(
    looks: &Looks,
    limit: Duration,
    channel: &str,
    chapters: &[Chapter],
    what: &Deletion,
) -> Result<Deleted, StoreError> {
    let Some(bounds) = bounds(looks, channel, chapters, what).await? else {
        return Ok(Deleted::default());
    };
    let (mut count, mut ends) = (0, None::<(Key, Key)>);
    for (place, chapter) in chapters.iter().enumerate() {
        let Some((from, to)) = within(chapter, place, bounds) else { continue };
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
            looks.write_all(limit, &updates).await?;
            looks.write_all(limit, &removals(&looks.large.namespace(), &bodies)).await?;
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

/// The keys of the large bodies of messages between two offsets, both included.
pub async fn large_ids(
    looks: &Looks,
    shelf: &Shelf,
    headers: &[Header],
    (from, to): (i64, i64),
) -> Result<Vec<Binary>, StoreError> {
    let mut keys = Vec::new();
    for Header { number, large, .. } in headers.iter().copied() {
        if large & mask(number, from, to) == 0 {
            continue;
        }
        for bucket in looks.buckets(shelf, number, number).await? {
            let wanted = bucket
                .living()
                .filter(|(offset, slot)| (from..=to).contains(offset) && bucket.is_large(slot));
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

/// Where a deletion begins and ends; none if the channel has nothing of it.
async fn bounds(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    what: &Deletion,
) -> Result<Option<(Key, Key)>, StoreError> {
    if chapters.is_empty() {
        return Ok(None);
    }
    let (from, to) = match what {
        Deletion::Channel => return Ok(Some((START, END))),
        Deletion::Message(id) => (Anchor::Id(*id), Anchor::Id(*id)),
        Deletion::Offsets { epoch, from, to } => {
            let is_there = |epoch: &str| chapters.iter().any(|chapter| chapter.name == epoch);
            if !epoch.as_deref().is_none_or(is_there) {
                return Ok(None);
            }
            let at = |offset: &u64| Anchor::Offset { epoch: epoch.clone(), offset: *offset };
            (at(from), at(to))
        }
    };
    let from = seek::bound(looks, channel, chapters, &from, false).await?;
    let to = seek::bound(looks, channel, chapters, &to, true).await?;
    Ok(Some((from, to)))
}
