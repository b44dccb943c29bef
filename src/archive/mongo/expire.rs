//! Retention: the oldest messages go for good, and with them whole buckets.
//!
//! The epoch says first up to where all has expired, and only then something is removed. Who reads in
//! between, or after a crash, passes over what is left; the next call removes it.

use std::time::Duration;

use mongodb::bson::doc;
use mongodb::options::{UpdateOneModel, WriteModel};

use super::delete::{clearing, large_ids, removals};
use super::layout::{
    Chapter, Header, Shelf, bucket_of, first_offset, last_offset, mask, positions, signed,
};
use super::looks::Looks;
use super::places::Places;
use super::read::within;
use super::seek::{self, Key, START};
use super::walk::Walk;
use crate::archive::{MAX_READ, MessageId, StoreError};

/// Drops the oldest messages whose ids are below `before`; returns how many.
pub async fn expire(
    (looks, places, limit): (&Looks, &Places, Duration),
    channel: &str,
    chapters: &[Chapter],
    before: MessageId,
    most: usize,
) -> Result<u64, StoreError> {
    let (before, most) = (signed(before.number()), most.min(MAX_READ));
    let tops = seek::tops(looks, channel, chapters).await?;
    let (reached, dropped) = match is_young(looks, channel, chapters, &tops, before).await? {
        true => (None, 0),
        false => reach(looks, channel, chapters, &tops, before, most).await?,
    };
    for (place, (chapter, top)) in chapters.iter().zip(tops).enumerate() {
        let Some((top, last)) = top.and_then(|top| Some((top, top.top()?))) else { continue };
        let expired = match reached {
            // Of older epochs nothing is left, of newer ones everything.
            Some((end, _)) if place < end => last,
            Some((end, through)) if place == end => through,
            _ => chapter.expired,
        };
        if expired > chapter.expired {
            let write = raising(looks, channel, place, "expired", expired);
            looks.write_all(limit, &[write]).await?;
            places.forget(channel);
        }
        let shelf = Shelf::new(channel, place);
        clear(looks, limit, (channel, chapter, &shelf), expired, &top).await?;
    }
    Ok(dropped)
}

/// Whether the oldest message is known to have an id that is not below `before`. Most channels that are
/// looked at have nothing to drop; in them this is one look at the place where the oldest has to be. Only
/// where that one was deleted or is missing, it does not tell.
async fn is_young(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    tops: &[Option<Header>],
    before: i64,
) -> Result<bool, StoreError> {
    let rest = |(place, (chapter, top)): (usize, (&Chapter, &Option<Header>))| {
        let (first, last) = (chapter.first.max(chapter.offsets().0), (*top)?.top()?);
        (first <= last).then_some((place, first))
    };
    let Some((place, first)) = chapters.iter().zip(tops).enumerate().find_map(rest) else {
        return Ok(true);
    };
    let oldest = looks.id_at(&Shelf::new(channel, place), first).await?;
    Ok(oldest.is_some_and(|id| id >= before))
}

/// The last of the oldest `most` messages whose ids are below `before`, and how many they are.
async fn reach(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    tops: &[Option<Header>],
    before: i64,
    most: usize,
) -> Result<(Option<Key>, u64), StoreError> {
    let end = seek::first_from(looks, channel, chapters, before).await?;
    let (mut reached, mut count) = (None, 0);
    for (place, (chapter, top)) in chapters.iter().zip(tops).enumerate() {
        // Never beyond the top: what is still to come has not expired.
        let last = top.and_then(|top| top.top());
        let Some(((from, to), last)) = within(chapter, place, (START, end)).zip(last) else {
            continue;
        };
        let shelf = Shelf::new(channel, place);
        let (from, to) = (from, to.min(last));
        let mut walk = Walk::new(looks, &shelf, (from, to));
        while count < most
            && let Some(headers) = walk.next().await?
        {
            for header in headers {
                let bits = header.living() & mask(header.number, from, to);
                for bit in positions(bits).take(most - count) {
                    reached = Some((place, first_offset(header.number) + i64::from(bit)));
                    count += 1;
                }
            }
        }
    }
    Ok((reached, count as u64))
}

/// Removes what has expired: buckets, the messages in the one that is half expired, large bodies. The
/// top bucket stays for the sake of its highest id.
async fn clear(
    looks: &Looks,
    limit: Duration,
    (channel, chapter, shelf): (&str, &Chapter, &Shelf),
    expired: i64,
    top: &Header,
) -> Result<(), StoreError> {
    let keep = bucket_of(expired.saturating_add(1)).min(top.number);
    if expired == 0 || (expired == chapter.expired && keep <= chapter.low) {
        return Ok(());
    }
    let mut walk = Walk::new(looks, shelf, (first_offset(chapter.low), last_offset(keep)));
    while let Some(headers) = walk.next().await? {
        let bodies = large_ids(looks, shelf, &headers, (0, expired)).await?;
        let (gone, left): (Vec<&Header>, Vec<&Header>) =
            headers.iter().partition(|one| one.number < keep);
        let keys: Vec<_> = gone.iter().map(|header| shelf.id(header.number)).collect();
        looks.write_all(limit, &removals(&looks.large.namespace(), &bodies)).await?;
        let mut writes = removals(&looks.bucket_namespace(), &keys);
        for header in left {
            let bits = header.living() & mask(header.number, 0, expired);
            if bits != 0 {
                writes.push(clearing(looks, shelf, header, bits, false));
            }
        }
        looks.write_all(limit, &writes).await?;
    }
    looks.write_all(limit, &[raising(looks, channel, shelf.place as usize, "low", keep)]).await
}

fn raising(looks: &Looks, channel: &str, place: usize, field: &str, to: i64) -> WriteModel {
    let model = UpdateOneModel::builder().namespace(looks.channels.namespace());
    let update = doc! { "$max": { format!("epochs.{place}.{field}"): to } };
    model.filter(doc! { "_id": channel }).update(update).build().into()
}
