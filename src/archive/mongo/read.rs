//! Reading messages: ranges, pages, the summary of a channel.

use compact_str::CompactString;
use mongodb::bson::Binary;

use super::layout::{Bucket, Chapter, Header, Shelf, Slot, broken, bucket_of, mask, signed};
use super::looks::{HEADERS, Looks, WHOLE};
use super::seek::{self, END, Key, START};
use crate::archive::{
    MAX_READ, Message, MessageId, Order, Page, PageQuery, Span, StoreError, Summary,
};

/// The messages of a span in order.
pub async fn range(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    span: &Span,
) -> Result<Vec<Message>, StoreError> {
    let Some(place) = chapters.iter().position(|chapter| chapter.name == *span.epoch) else {
        return Ok(Vec::new());
    };
    let key = |offset: u64| (place, signed(offset).saturating_add(1));
    let bounds = (key(span.after), key(span.through));
    let found = between(looks, channel, chapters, bounds, Order::OldestFirst, MAX_READ).await?;
    Ok(found.into_iter().map(|(_, message)| message).collect())
}

/// A page of a channel's messages over all its epochs.
pub async fn page(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    query: &PageQuery,
) -> Result<Page, StoreError> {
    let lower = match &query.after {
        None => START,
        Some(anchor) => seek::bound(looks, channel, chapters, anchor, true).await?,
    };
    let upper = match &query.before {
        None => END,
        Some(anchor) => seek::bound(looks, channel, chapters, anchor, false).await?,
    };
    let limit = query.limit.min(MAX_READ);
    // One more says whether there are more.
    let bounds = (lower, upper);
    let mut found = between(looks, channel, chapters, bounds, query.order, limit + 1).await?;
    let more = found.len() > limit;
    let next = more.then(|| found.pop()).flatten();
    let oldest = match query.order {
        Order::NewestFirst => found.last(),
        Order::OldestFirst => found.first(),
    };
    let prev = match (oldest, next, query.order) {
        (Some(((place, offset), _)), Some((key, next)), Order::NewestFirst) => {
            (key == (*place, offset - 1)).then_some(next.id)
        }
        (Some((key, _)), ..) => id_before(looks, channel, chapters, *key).await?,
        (None, ..) => None,
    };
    Ok(Page { messages: found.into_iter().map(|(_, message)| message).collect(), more, prev })
}

/// What there is of a channel, up to where it ends at the first look.
pub async fn summary(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Option<Summary>, StoreError> {
    let Some((newest, chapter)) = chapters.iter().enumerate().next_back() else { return Ok(None) };
    let tops = seek::tops(looks, channel, chapters).await?;
    let offset = tops.last().copied().flatten().and_then(|top| top.top()).unwrap_or(0);
    let bounds = (START, (newest, offset.saturating_add(1)));
    let some = async |order, limit| between(looks, channel, chapters, bounds, order, limit).await;
    let first = some(Order::OldestFirst, 1).await?.pop().map(|(_, message)| message);
    let mut last = some(Order::NewestFirst, 2).await?.into_iter();
    let (last, before) = (last.next(), last.next());
    let prev = match (&last, before) {
        (Some(((place, offset), _)), Some((key, before))) => {
            (key == (*place, offset - 1)).then_some(before.id)
        }
        _ => None,
    };
    let count = match first {
        Some(_) => super::count::count(looks, channel, chapters, &tops).await?,
        None => 0,
    };
    Ok(Some(Summary {
        count,
        first,
        last: last.map(|(_, message)| message),
        prev,
        epoch: chapter.name.as_str().into(),
        offset: offset as u64,
    }))
}

/// Messages from one key (included) to another (not), with their keys.
pub async fn between(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    (lower, upper): (Key, Key),
    order: Order,
    limit: usize,
) -> Result<Vec<(Key, Message)>, StoreError> {
    let mut found = Vec::new();
    let mut places: Vec<_> = (0..chapters.len()).collect();
    if order == Order::NewestFirst {
        places.reverse();
    }
    for place in places {
        let bounds = within(&chapters[place], place, (lower, upper));
        let Some(bounds) = bounds.filter(|_| found.len() < limit) else { continue };
        let epoch = CompactString::from(chapters[place].name.as_str());
        let mut reader = Reader {
            looks,
            shelf: Shelf::new(channel, place),
            bounds,
            order,
            left: limit - found.len(),
        };
        for (offset, message) in reader.read(&epoch).await? {
            found.push(((place, offset), message));
        }
    }
    Ok(found)
}

/// The offsets of an epoch between two keys that may be there; none if there are none.
pub fn within(chapter: &Chapter, place: usize, (lower, upper): (Key, Key)) -> Option<(i64, i64)> {
    if place < lower.0 || place > upper.0 {
        return None;
    }
    let (mut from, mut to) = chapter.offsets();
    if place == lower.0 {
        from = from.max(lower.1);
    }
    if place == upper.0 {
        to = to.min(upper.1.saturating_sub(1));
    }
    (from <= to).then_some((from, to))
}

/// Reads one epoch between two offsets, both included, in one direction.
struct Reader<'a> {
    looks: &'a Looks,
    shelf: Shelf,
    bounds: (i64, i64),
    order: Order,
    /// Messages that are still wanted.
    left: usize,
}

impl Reader<'_> {
    async fn read(&mut self, epoch: &CompactString) -> Result<Vec<(i64, Message)>, StoreError> {
        let (low, high) = (bucket_of(self.bounds.0), bucket_of(self.bounds.1));
        let (mut window, mut messages) = ((low, high), Vec::new());
        // As many as hold the messages if none is missing, and the part of one at the beginning.
        let width = (self.left as i64 / 64 + 2).min(WHOLE);
        loop {
            let (from, to) = match self.order {
                Order::OldestFirst => (window.0, window.1.min(window.0.saturating_add(width - 1))),
                Order::NewestFirst => (window.0.max(window.1.saturating_sub(width - 1)), window.1),
            };
            let mut buckets = self.looks.buckets(&self.shelf, from, to).await?;
            if self.order == Order::NewestFirst {
                buckets.reverse();
            }
            self.take(&buckets, epoch, &mut messages).await?;
            window = match self.order {
                Order::OldestFirst => (to.saturating_add(1), high),
                Order::NewestFirst => (low, from.saturating_sub(1)),
            };
            if self.left == 0 || window.0 > window.1 {
                return Ok(messages);
            }
            let Some(next) = self.next_living(window).await? else { return Ok(messages) };
            match self.order {
                Order::OldestFirst => window.0 = next,
                Order::NewestFirst => window.1 = next,
            }
        }
    }

    /// Takes what is wanted of some buckets, which come in the direction of reading.
    async fn take(
        &mut self,
        buckets: &[Bucket],
        epoch: &CompactString,
        messages: &mut Vec<(i64, Message)>,
    ) -> Result<(), StoreError> {
        let mut taken: Vec<(i64, &Slot, bool)> = Vec::new();
        for bucket in buckets {
            let (from, to) = self.bounds;
            let wanted = bucket.living().filter(|(offset, _)| (from..=to).contains(offset));
            let wanted = wanted.map(|(offset, slot)| (offset, slot, bucket.is_large(slot)));
            let room = self.left - taken.len();
            match self.order {
                Order::OldestFirst => taken.extend(wanted.take(room)),
                Order::NewestFirst => taken.extend(wanted.rev().take(room)),
            }
        }
        self.left -= taken.len();
        let large = taken.iter().filter(|(.., is_large)| *is_large);
        let keys: Vec<Binary> =
            large.map(|(offset, slot, _)| self.shelf.large_id(*offset, slot.id)).collect();
        let mut bodies = self.looks.bodies(&keys).await?.into_iter();
        for (offset, slot, is_large) in taken {
            let body = if is_large { bodies.next() } else { None };
            match body {
                // It was deleted after its bucket was read.
                Some(None) => {}
                Some(Some(body)) => {
                    messages.push((offset, slot.message(epoch, offset, Some(&body))?));
                }
                None => messages.push((offset, slot.message(epoch, offset, None)?)),
            }
        }
        Ok(())
    }

    /// The next bucket in which something can be read.
    async fn next_living(&self, window: (i64, i64)) -> Result<Option<i64>, StoreError> {
        let (mut from, mut to) = window;
        while from <= to {
            let (first, last) = match self.order {
                Order::OldestFirst => (from, to.min(from.saturating_add(HEADERS - 1))),
                Order::NewestFirst => (from.max(to.saturating_sub(HEADERS - 1)), to),
            };
            let headers = self.looks.headers(&self.shelf, first, last).await?;
            let is_living = |header: &&Header| {
                header.living() & mask(header.number, self.bounds.0, self.bounds.1) != 0
            };
            let living = match self.order {
                Order::OldestFirst => headers.iter().find(is_living),
                Order::NewestFirst => headers.iter().rfind(is_living),
            };
            if let Some(living) = living {
                return Ok(Some(living.number));
            }
            (from, to) = match self.order {
                Order::OldestFirst => (last.saturating_add(1), to),
                Order::NewestFirst => (from, first.saturating_sub(1)),
            };
            if headers.is_empty() && from <= to {
                // Nothing for long: on to what comes next.
                let next = self.looks.present(&self.shelf, (from, to), self.order, 1).await?;
                let Some(next) = next.first() else { return Ok(None) };
                match self.order {
                    Order::OldestFirst => from = next.number,
                    Order::NewestFirst => to = next.number,
                }
            }
        }
        Ok(None)
    }
}

/// The id of the message right before a key, if it can be read.
async fn id_before(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    (place, offset): Key,
) -> Result<Option<MessageId>, StoreError> {
    let before = offset - 1;
    if chapters.get(place).is_none_or(|chapter| before < chapter.offsets().0) {
        return Ok(None);
    }
    let number = bucket_of(before);
    let found = looks.buckets(&Shelf::new(channel, place), number, number).await?;
    let living = found.first().and_then(|bucket| bucket.living().find(|(at, _)| *at == before));
    let id = living.map(|(_, slot)| u64::try_from(slot.id).ok().and_then(MessageId::of));
    id.map(|id| id.ok_or_else(|| broken("a message's id"))).transpose()
}
