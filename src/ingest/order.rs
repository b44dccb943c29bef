//! Sees to it that the epochs of a channel come to the store in their order.
//!
//! A store takes an epoch that it does not have for the newest. So while an older epoch may still be in
//! another consumer's hands, a newer one waits; once the store has it, its entries come in any order. The
//! first entry of a channel says that it is the first, and waits for nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use compact_str::CompactString;
use futures_util::future::try_join_all;

use super::consumer::{Consumer, Halt, QUESTIONS, Records};
use super::entry::{EntryId, Source};
use super::queue::Queue;
use super::waiting::Wait;
use crate::archive::Record;

/// An epoch of a channel.
type Opening = (Arc<str>, CompactString);

impl Consumer {
    /// Has those records wait that may not be stored yet, and returns the others: those of epochs that
    /// the store has or that begin the channel, and those with everything before them in the batch.
    pub(super) async fn hold_back(
        &mut self,
        records: Records,
        queue: &mut impl Queue,
    ) -> Result<Records, Halt> {
        let is_known = |record: &Record| self.known.has(&record.channel, &record.message.epoch);
        let mut in_doubt: Vec<_> = records.iter().filter(|(_, record)| !is_known(record)).collect();
        let first = in_doubt.iter().filter(|(one, _)| one.below() == Some(0));
        let first: BTreeSet<_> = first.map(|(_, record)| opening(record)).collect();
        in_doubt.retain(|(_, record)| !first.contains(&opening(record)));
        let streams: BTreeSet<_> = in_doubt.iter().map(|(one, _)| one.ticket.stream).collect();
        let mut streams: Vec<_> = streams.into_iter().collect();
        if streams.is_empty() {
            return Ok(records);
        }
        let heads = queue.heads(&streams).await?;
        streams.retain(|stream| !is_in_front(&records, *stream, &heads));
        let behind = in_doubt.iter().filter(|(one, _)| streams.contains(&one.ticket.stream));
        let new = self.unregistered(behind.map(|(_, record)| opening(record)).collect()).await?;
        let (held, ready): (Records, Records) =
            records.into_iter().partition(|(_, record)| new.contains(&opening(record)));
        for (one, record) in held {
            self.waiting.insert(one.ticket, Wait::Epoch(one, record));
        }
        Ok(ready)
    }

    /// Those of some epochs that the store does not have.
    async fn unregistered(&self, epochs: BTreeSet<Opening>) -> Result<BTreeSet<Opening>, Halt> {
        let epochs: Vec<_> = epochs.into_iter().collect();
        let mut new = BTreeSet::new();
        for part in epochs.chunks(QUESTIONS) {
            let chains = part.iter().map(|(channel, _)| self.persist(|| self.store.chain(channel)));
            let chains = try_join_all(chains).await?;
            let both = part.iter().zip(&chains);
            let missing =
                both.filter(|((_, name), chain)| chain.0.iter().all(|one| one.name != *name));
            new.extend(missing.map(|(opening, _)| opening.clone()));
        }
        Ok(new)
    }
}

fn opening(record: &Record) -> Opening {
    (Arc::clone(&record.channel), record.message.epoch.clone())
}

/// Whether a stream begins with what was read of it, all of that in one go.
fn is_in_front(records: &Records, stream: u16, heads: &BTreeMap<u16, Option<EntryId>>) -> bool {
    let mut read = records.iter().map(|(one, _)| one).filter(|one| one.ticket.stream == stream);
    let first = read.clone().map(|one| one.ticket.id).min();
    let Some(head) = heads.get(&stream) else { return false };
    read.all(|one| one.source == Source::New) && head.is_none_or(|head| Some(head) >= first)
}
