//! How far a channel is shown.
//!
//! With Redis several consumers bring into the store what waits in a queue. Where one of them is late,
//! the store has messages above others that it gets later, and who had passed over these would never
//! learn of them. So a channel is shown up to the first hole that may still be filled: one below a
//! message as old as which something still waits. Other holes stay, and are passed over.

use super::Parts;
use super::shapes::PositionShape;
use crate::archive::{
    Anchor, Message, MessageId, MessageStore, Order, Page, PageQuery, Span, StoreError, Tail,
};

/// An entry of the queue and the message in it are dated one after the other, by one clock.
const MARGIN_MS: i64 = 1_000;

/// Where a channel ends for its readers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub position: PositionShape,
    /// The id that all that is shown is below.
    pub end: MessageId,
}

impl Shown {
    /// To be found out before messages are read: who goes on from its position misses none that come
    /// in between.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn of(parts: &Parts, channel: &str) -> Result<Self, StoreError> {
        match parts.store.tail(channel).await? {
            Some(tail) => Self::up_to(parts, channel, tail).await,
            None => Ok(Self {
                position: PositionShape { epoch: parts.store.first_epoch().into(), offset: 0 },
                end: MessageId::first_at(0),
            }),
        }
    }

    /// The same, of a channel that ends there in the store.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn up_to(parts: &Parts, channel: &str, tail: Tail) -> Result<Self, StoreError> {
        // Asked for behind the tail: what leaves the queue in between is stored below it.
        let waits_since = match &parts.waits_since {
            Some(waits_since) => waits_since(channel).await,
            None => None,
        };
        let since = waits_since.map(|since| since.saturating_sub(MARGIN_MS));
        let late = match since.filter(|since| tail.last_id.time() >= *since) {
            Some(since) => first_late(&*parts.store, channel, &tail, since).await?,
            None => None,
        };
        let behind_tail = tail.last_id.number().checked_add(1).and_then(MessageId::of);
        let (offset, end) = late.unwrap_or((tail.offset, behind_tail.unwrap_or(tail.last_id)));
        Ok(Self { position: PositionShape { epoch: tail.epoch.into(), offset }, end })
    }

    /// A page of what is shown.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn page(
        &self,
        store: &dyn MessageStore,
        channel: &str,
        query: &PageQuery,
    ) -> Result<Page, StoreError> {
        let page = store.page(channel, query).await?;
        if page.messages.iter().all(|message| message.id < self.end) {
            return Ok(page);
        }
        // One that is before the bound of the query lies behind the end, so that is the narrower one.
        let query = PageQuery { before: Some(Anchor::Id(self.end)), ..query.clone() };
        store.page(channel, &query).await
    }
}

/// The offset below the first hole among what was published since a moment, and the id above it. The
/// first messages of an epoch wait for all of those before it, so only the newest has such holes.
async fn first_late(
    store: &dyn MessageStore,
    channel: &str,
    tail: &Tail,
    since: i64,
) -> Result<Option<(u64, MessageId)>, StoreError> {
    let older = Some(Anchor::Time(since));
    let older = one(store, channel, None, older, Order::NewestFirst).await?;
    let behind = |offset| Some(Anchor::Offset { epoch: Some(tail.epoch.clone()), offset });
    let after = match older.filter(|older| older.epoch == tail.epoch) {
        Some(older) => older.offset(),
        None => match one(store, channel, behind(0), None, Order::OldestFirst).await? {
            Some(first) => first.offset().saturating_sub(1),
            None => return Ok(None),
        },
    };
    let span = Span { epoch: tail.epoch.clone(), after, through: tail.offset };
    let holes = store.holes(channel, &span, 1).await?;
    let Some((first, last)) = holes.first() else { return Ok(None) };
    let above = one(store, channel, behind(*last), None, Order::OldestFirst).await?;
    Ok(above.map(|above| (first.saturating_sub(1), above.id)))
}

async fn one(
    store: &dyn MessageStore,
    channel: &str,
    after: Option<Anchor>,
    before: Option<Anchor>,
    order: Order,
) -> Result<Option<Message>, StoreError> {
    let query = PageQuery { after, before, order, limit: 1 };
    Ok(store.page(channel, &query).await?.messages.into_iter().next())
}
