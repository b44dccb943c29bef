//! Finding a place in a channel: by its top, by an id, by an anchor.
//!
//! Ids rise along the key, and a bucket knows its highest. So an id is found by looking at some
//! buckets at a time, and there is no second index to write.

use std::collections::HashMap;

use super::layout::{Bucket, Chapter, Header, Shelf, first_offset, signed};
use super::looks::{HEADERS, Looks};
use super::narrow::Narrowing;
use crate::archive::{Anchor, MessageId, Order, StoreError};

/// Where a message stands in its channel: the place of its epoch, its offset.
pub type Key = (usize, i64);

/// Before and behind every message.
pub const START: Key = (0, 0);
pub const END: Key = (usize::MAX, i64::MAX);

/// Buckets of one look where it is not known which there are.
const NEXT: i64 = 32;

/// Where the buckets of an epoch begin, if there still is one there, and where they end.
struct Ends {
    bottom: Option<Header>,
    top: Header,
}

/// The top bucket of each epoch; none for one without messages.
pub async fn tops(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Vec<Option<Header>>, StoreError> {
    let mut tops = vec![None; chapters.len()];
    for header in standing(looks, channel, chapters, |chapter| vec![chapter.high]).await? {
        if let Some(top) = usize::try_from(header.place).ok().and_then(|at| tops.get_mut(at)) {
            *top = Some(header);
        }
    }
    for (place, (top, chapter)) in tops.iter_mut().zip(chapters).enumerate() {
        if top.is_none() {
            *top = below(looks, channel, place, chapter).await?;
        }
    }
    Ok(tops)
}

/// The top bucket of the newest epoch, and the highest id that the channel ever had.
pub async fn end(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<(Option<Header>, i64), StoreError> {
    let mut newest = None;
    for (place, chapter) in chapters.iter().enumerate().rev() {
        let keys = vec![Shelf::new(channel, place).id(chapter.high)];
        let top = match looks.headers_of(keys).await?.pop() {
            Some(top) => Some(top),
            None => below(looks, channel, place, chapter).await?,
        };
        if place + 1 == chapters.len() {
            newest = top;
        }
        if let Some(top) = top {
            return Ok((newest, top.last_id));
        }
    }
    Ok((newest, 0))
}

/// The first key behind an anchor (`behind`), or the first that is not before it.
pub async fn bound(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    anchor: &Anchor,
    behind: bool,
) -> Result<Key, StoreError> {
    let by_id = async |id| first_from(looks, channel, chapters, id).await;
    let (epoch, offset) = match anchor {
        Anchor::Id(id) => {
            return by_id(signed(id.number()).saturating_add(i64::from(behind))).await;
        }
        Anchor::Time(millis) => {
            let first = MessageId::first_at(millis.saturating_add(i64::from(behind)));
            return by_id(signed(first.number())).await;
        }
        Anchor::Offset { epoch, offset } => (epoch, signed(*offset)),
    };
    let place = match epoch {
        Some(name) => chapters.iter().position(|chapter| chapter.name == *name),
        None => chapters.len().checked_sub(1),
    };
    // What is behind an epoch that there is not is nothing, and so is what is before it.
    let Some(place) = place else { return Ok(if behind { END } else { START }) };
    Ok((place, offset.saturating_add(i64::from(behind))))
}

/// The key of the message with this id; none if there is none that can be read.
pub async fn message(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    id: i64,
) -> Result<Option<Key>, StoreError> {
    let Some((place, _, bucket)) = holder(looks, channel, chapters, id).await? else {
        return Ok(None);
    };
    let bottom = chapters.get(place).map_or(0, |chapter| chapter.offsets().0);
    let found = bucket.living().find(|(offset, slot)| slot.id == id && *offset >= bottom);
    Ok(found.map(|(offset, _)| (place, offset)))
}

/// The key of the first message that can be read and whose id is not below `id`, or one right before
/// it.
pub async fn first_from(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    id: i64,
) -> Result<Key, StoreError> {
    let Some((place, number, bucket)) = holder(looks, channel, chapters, id).await? else {
        return Ok(END);
    };
    let found = bucket.living().find(|(_, slot)| slot.id >= id);
    Ok((place, found.map_or_else(|| first_offset(number + 1), |(offset, _)| offset)))
}

/// The first bucket whose highest id is not below `id`, with its place and number; none if all ids
/// are lower.
async fn holder(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    id: i64,
) -> Result<Option<(usize, i64, Bucket)>, StoreError> {
    let ends = ends(looks, channel, chapters).await?;
    for (place, (chapter, ends)) in chapters.iter().zip(ends).enumerate() {
        let Some(ends) = ends.filter(|ends| ends.top.last_id >= id) else { continue };
        let shelf = Shelf::new(channel, place);
        let number = narrow(looks, &shelf, chapter.low, &ends, id).await?;
        let bucket = looks.buckets(&shelf, number, number).await?.pop().unwrap_or_default();
        return Ok(Some((place, number, bucket)));
    }
    Ok(None)
}

/// The first bucket from `low` on whose highest id is not below `id`; that of the top is not.
async fn narrow(
    looks: &Looks,
    shelf: &Shelf,
    low: i64,
    ends: &Ends,
    id: i64,
) -> Result<i64, StoreError> {
    let mark = |header: &Header| (header.number, header.last_id);
    let mut search = Narrowing::new(id, low, mark(&ends.top));
    search.learn(ends.bottom.iter().map(mark));
    while let Some(left) = search.left() {
        let probes = search.probes().into_iter().map(|probe| shelf.id(probe));
        let mut found = looks.headers_of(probes.collect()).await?;
        if found.is_empty() {
            // Few buckets in a wide range: there is at least the highest.
            found = looks.present(shelf, left, Order::OldestFirst, NEXT).await?;
        }
        if !search.learn(found.iter().map(mark)) {
            break;
        }
    }
    Ok(search.found())
}

/// The ends of each epoch; none for one without messages.
async fn ends(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Vec<Option<Ends>>, StoreError> {
    let both = |chapter: &Chapter| vec![chapter.low, chapter.high];
    let standing = standing(looks, channel, chapters, both).await?;
    let standing: HashMap<_, _> =
        standing.into_iter().map(|header| ((header.place, header.number), header)).collect();
    let mut ends = Vec::with_capacity(chapters.len());
    for (place, chapter) in chapters.iter().enumerate() {
        let at = |number| standing.get(&(place as i32, number)).copied();
        let top = match at(chapter.high) {
            Some(top) => Some(top),
            None => below(looks, channel, place, chapter).await?,
        };
        ends.push(top.map(|top| Ends { bottom: at(chapter.low), top }));
    }
    Ok(ends)
}

/// Those of some buckets of each epoch that there are.
async fn standing(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    numbers: impl Fn(&Chapter) -> Vec<i64>,
) -> Result<Vec<Header>, StoreError> {
    let mut keys = Vec::new();
    for (place, chapter) in chapters.iter().enumerate() {
        let shelf = Shelf::new(channel, place);
        let mut numbers = numbers(chapter);
        numbers.dedup();
        keys.extend(numbers.into_iter().map(|number| shelf.id(number)));
    }
    let mut standing = Vec::new();
    for keys in keys.chunks(HEADERS as usize) {
        standing.extend(looks.headers_of(keys.to_vec()).await?);
    }
    Ok(standing)
}

/// The top bucket of an epoch whose highest was announced and not written.
async fn below(
    looks: &Looks,
    channel: &str,
    place: usize,
    chapter: &Chapter,
) -> Result<Option<Header>, StoreError> {
    let shelf = Shelf::new(channel, place);
    let bounds = (chapter.low, chapter.high);
    Ok(looks.present(&shelf, bounds, Order::NewestFirst, 1).await?.pop())
}
