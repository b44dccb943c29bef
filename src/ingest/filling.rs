//! Puts into a gap what the stream at hand still has of it; the rest stays a hole.

use std::sync::Arc;

use super::consumer::{Consumer, Halt};
use super::gaps::{Doubt, ids_below};
use super::queue::Queue;
use crate::archive::{Anchor, Message, MessageId, Order, PageQuery, Record, Span};
use crate::protocol::publication::Publication;

/// Gaps below one entry that are looked at; more are left as they are.
const GAPS: usize = 64;
/// Publications read at once from a stream at hand.
const PAGE: usize = 1_000;

impl Consumer {
    /// Fills the gap below an entry, if there is one. Everything that was appended before the entry
    /// is stored.
    pub(super) async fn fill(&self, doubt: &Doubt, queue: &mut impl Queue) -> Result<(), Halt> {
        if !self.is_open(doubt).await? {
            return Ok(());
        }
        let Some((after, mut floor)) = self.ground(doubt).await? else { return Ok(()) };
        let (epoch, through) = (doubt.epoch.clone(), doubt.offset - 1);
        let span = Span { epoch, after, through };
        let ask = || self.store.holes(&doubt.channel, &span, GAPS);
        for (first, last) in self.persist(ask).await? {
            let mut from = first;
            while from <= last {
                let found = queue.at_hand(&doubt.channel, &doubt.epoch, (from, last), PAGE).await?;
                let end = found.last().map(|publication| publication.offset);
                let count = found.len();
                floor = self.put(doubt, floor, found).await?;
                match end {
                    Some(end) if count == PAGE => from = end.saturating_add(1),
                    _ => break,
                }
            }
            self.count_holes(doubt, (first, last)).await?;
        }
        Ok(())
    }

    /// The offset above which the gap is, and the id that is not to be reached by what is put there.
    /// None if the epoch begins with the entry.
    async fn ground(&self, doubt: &Doubt) -> Result<Option<(u64, Option<MessageId>)>, Halt> {
        let offset = doubt.offset;
        let before = Some(Anchor::Offset { epoch: Some(doubt.epoch.clone()), offset });
        let query = PageQuery { after: None, before, order: Order::NewestFirst, limit: 1 };
        let page = self.persist(|| self.store.page(&doubt.channel, &query)).await?;
        let below = page.messages.first();
        if let Some(message) = below.filter(|message| message.epoch == doubt.epoch) {
            return Ok(Some((message.offset(), Some(message.id))));
        }
        // Nothing of the epoch can be read below it: it begins here, or the rest was deleted.
        let chain = self.persist(|| self.store.chain(&doubt.channel)).await?;
        let epoch = chain.0.iter().find(|epoch| epoch.name == doubt.epoch);
        let first = epoch.map_or(0, |epoch| epoch.first);
        let begins_here = first == 0 || first >= offset;
        Ok((!begins_here).then(|| (first - 1, below.map(|message| message.id))))
    }

    /// Stores publications of a gap; returns the id that the next ones have to be above.
    async fn put(
        &self,
        doubt: &Doubt,
        floor: Option<MessageId>,
        found: Vec<Publication>,
    ) -> Result<Option<MessageId>, Halt> {
        let places = found.iter().map(|publication| (publication.offset, publication.time));
        let ids = ids_below((doubt.id, doubt.offset), floor, places);
        let last = ids.iter().flatten().last().copied().or(floor);
        let record = |(publication, id): (Publication, Option<MessageId>)| {
            let (id, epoch) = (id?, doubt.epoch.clone());
            let publication = Arc::new(Publication { time: id.time(), ..publication });
            let message = Message { id, epoch, publication };
            Some(Record { channel: Arc::clone(&doubt.channel), message })
        };
        let records: Vec<_> = found.into_iter().zip(ids).filter_map(record).collect();
        let count = records.len() as u64;
        if count > 0 && self.append(records).await? {
            self.metrics.history.filled.inc_by(count);
        }
        Ok(last)
    }

    async fn count_holes(&self, doubt: &Doubt, (first, last): (u64, u64)) -> Result<(), Halt> {
        let span = Span { epoch: doubt.epoch.clone(), after: first - 1, through: last };
        let ask = || self.store.holes(&doubt.channel, &span, PAGE);
        let holes = self.persist(ask).await?;
        let missing: u64 = holes.iter().map(|(first, last)| last - first + 1).sum();
        if missing > 0 {
            self.metrics.history.holes.inc_by(missing);
            let (channel, epoch) = (&doubt.channel, &doubt.epoch);
            tracing::warn!(%channel, %epoch, missing, first, last, "the archive has a hole");
        }
        Ok(())
    }
}
