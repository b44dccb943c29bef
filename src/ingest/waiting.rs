//! Entries that wait until everything before them has left their stream. Pure.

use std::collections::BTreeMap;

use super::entry::{Delivered, EntryId, Ticket};
use super::gaps::Doubt;
use crate::archive::Record;

/// What a batch weighs at most is taken so many times for entries that wait unstored.
const HELD_BATCHES: usize = 4;

/// Why an entry waits.
#[derive(Clone, Debug)]
pub enum Wait {
    /// It is stored, and what is right below it may be missing.
    Gap(Doubt),
    /// The store does not have its epoch yet, and an older one may lie before it in somebody's hands.
    Epoch(Delivered, Record),
}

/// The entries of one consumer that wait, in the order in which they entered their streams.
#[derive(Debug)]
pub struct Waiting {
    entries: BTreeMap<Ticket, Wait>,
    /// Of entries that are not stored.
    held: usize,
    most: usize,
    most_held: usize,
}

impl Wait {
    fn held(&self) -> usize {
        match self {
            Self::Gap(_) => 0,
            Self::Epoch(delivered, _) => delivered.len(),
        }
    }
}

impl Waiting {
    /// Full with `most` entries, or when what is unstored of them weighs several batches of `bytes`.
    pub fn new(most: usize, bytes: usize) -> Self {
        let most_held = bytes.saturating_mul(HELD_BATCHES);
        Self { entries: BTreeMap::new(), held: 0, most, most_held }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.most || self.held >= self.most_held
    }

    pub fn contains(&self, ticket: Ticket) -> bool {
        self.entries.contains_key(&ticket)
    }

    pub fn insert(&mut self, ticket: Ticket, wait: Wait) {
        self.held += wait.held();
        if let Some(before) = self.entries.insert(ticket, wait) {
            self.held -= before.held();
        }
    }

    pub fn remove(&mut self, ticket: Ticket) -> Option<Wait> {
        let wait = self.entries.remove(&ticket)?;
        self.held -= wait.held();
        Some(wait)
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.held = 0;
    }

    /// The streams in which something waits.
    pub fn streams(&self) -> Vec<u16> {
        let mut streams = Vec::new();
        let mut next = self.entries.keys().next().copied();
        while let Some(ticket) = next {
            streams.push(ticket.stream);
            let behind = ticket.stream.checked_add(1);
            let behind = behind.map(|stream| Ticket { stream, id: EntryId::default() });
            next = behind.and_then(|from| self.entries.range(from..).next()).map(|(key, _)| *key);
        }
        streams
    }

    /// The first entry that waits in each stream, where nothing is before it: `heads` are the first
    /// entries that the streams have.
    pub fn free(&self, heads: &BTreeMap<u16, Option<EntryId>>) -> Vec<Ticket> {
        let first = |(stream, head): (&u16, &Option<EntryId>)| {
            let from = Ticket { stream: *stream, id: EntryId::default() };
            let (ticket, _) = self.entries.range(from..).next()?;
            let is_free = ticket.stream == *stream && head.is_none_or(|head| head >= ticket.id);
            is_free.then_some(*ticket)
        };
        heads.iter().filter_map(first).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Message, MessageId};
    use crate::ingest::entry::Source;
    use crate::protocol::publication::Publication;

    fn at(stream: u16, ms: u64) -> Ticket {
        Ticket { stream, id: EntryId { ms, count: 0 } }
    }

    fn gap(ticket: Ticket) -> Wait {
        let id = MessageId::of(1).expect("an id");
        Wait::Gap(Doubt { ticket, channel: "a".into(), epoch: "e".into(), offset: 2, id })
    }

    fn epoch(ticket: Ticket, bytes: usize) -> Wait {
        let fields = vec![vec![0; bytes].into()];
        let id = MessageId::of(1).expect("an id");
        let publication = Publication::default().into();
        let message = Message { id, epoch: "e".into(), publication };
        let delivered = Delivered { ticket, fields, source: Source::New };
        Wait::Epoch(delivered, Record { channel: "a".into(), message })
    }

    #[test]
    fn the_first_of_each_stream_is_free_once_the_stream_begins_with_it() {
        let mut waiting = Waiting::new(100, 100);
        for ticket in [at(3, 5), at(3, 7), at(9, 1), at(u16::MAX, 4)] {
            waiting.insert(ticket, gap(ticket));
        }
        assert_eq!(waiting.streams(), [3, 9, u16::MAX]);
        let id = |ms| Some(EntryId { ms, count: 0 });
        let free =
            |heads: &[(u16, Option<EntryId>)]| waiting.free(&heads.iter().copied().collect());
        assert_eq!(free(&[(3, id(4)), (9, id(0)), (u16::MAX, id(3))]), []);
        assert_eq!(
            free(&[(3, id(5)), (9, id(2)), (u16::MAX, None)]),
            [at(3, 5), at(9, 1), at(u16::MAX, 4)]
        );
        assert_eq!(free(&[(4, None)]), [], "nothing of it waits");
    }

    #[test]
    fn what_waits_unstored_is_weighed() {
        let mut waiting = Waiting::new(100, 10);
        waiting.insert(at(0, 1), epoch(at(0, 1), 39));
        assert!(!waiting.is_full());
        waiting.insert(at(0, 1), epoch(at(0, 1), 38));
        waiting.insert(at(0, 2), epoch(at(0, 2), 1));
        assert!(!waiting.is_full(), "one of them came twice");
        waiting.insert(at(0, 3), epoch(at(0, 3), 1));
        assert!(waiting.is_full());
        waiting.remove(at(0, 1));
        assert!(!waiting.is_full());
    }

    #[test]
    fn so_many_may_wait() {
        let mut waiting = Waiting::new(2, 10);
        for ms in [1, 2] {
            assert!(!waiting.is_full());
            waiting.insert(at(0, ms), gap(at(0, ms)));
        }
        assert!(waiting.is_full());
        waiting.clear();
        assert!(waiting.is_empty() && !waiting.is_full());
    }
}
