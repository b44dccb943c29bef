//! What lies in an archive stream, taken apart. Pure.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;
use prost::Message as _;

use crate::archive::{Message, MessageId, Record};
use crate::protocol::publication::Publication;
use crate::redis::Value;

/// The number of an entry in its stream: unix milliseconds by Redis, and a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    pub ms: u64,
    pub count: u64,
}

/// One entry of all streams: those of a cluster are told apart by their hash slot, and without one
/// there is the stream 0 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    pub stream: u16,
    pub id: EntryId,
}

/// An entry as Redis hands it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub ticket: Ticket,
    /// Name, value, name, value; nothing of an entry that was deleted.
    pub fields: Vec<Bytes>,
    pub source: Source,
}

/// How an entry came into a consumer's hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody had it before. What one read brings of these lies in the stream without a gap.
    New,
    /// It was this consumer's already.
    Again,
    /// It was somebody else's, who has been silent for too long.
    Claimed,
}

/// A text that is no number of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnEntryId;

/// Why an entry can never be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    #[error("field {0} is missing")]
    Missing(&'static str),
    #[error("field {0} cannot be read")]
    Unreadable(&'static str),
    #[error("the store does not take it")]
    Refused,
}

impl Delivered {
    /// Reads a list of entries. Those without a number of their own, which Redis leaves behind for
    /// deleted ones that were claimed, are left out.
    ///
    /// `None` if it is no such list.
    pub fn list(entries: &Value, stream: u16, source: Source) -> Option<Vec<Self>> {
        let entries = entries.list()?.iter().filter(|entry| **entry != Value::Nil);
        let one = |entry: &Value| {
            let [id, fields] = entry.list()? else { return None };
            let ticket = Ticket { stream, id: id.str()?.parse().ok()? };
            let fields = match fields {
                Value::Nil => Vec::new(),
                fields => fields
                    .list()?
                    .iter()
                    .map(|field| field.text().cloned())
                    .collect::<Option<_>>()?,
            };
            Some(Self { ticket, fields, source })
        };
        entries.map(one).collect()
    }

    /// Bytes of its fields.
    pub fn len(&self) -> usize {
        self.fields.iter().map(Bytes::len).sum()
    }

    /// Whether it was deleted.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The message that it carries.
    ///
    /// # Errors
    /// What is wrong with it, for ever.
    pub fn record(&self) -> Result<Record, Poison> {
        let epoch = self.text("e")?;
        if epoch.is_empty() {
            return Err(Poison::Unreadable("e"));
        }
        let offset = self.number("o")?;
        if !(1..=i64::MAX as u64).contains(&offset) {
            return Err(Poison::Unreadable("o"));
        }
        let id = MessageId::of(self.number("i")?).ok_or(Poison::Unreadable("i"))?;
        let channel = self.text("c")?;
        let mut publication =
            Publication::decode(self.field("d")?.clone()).map_err(|_| Poison::Unreadable("d"))?;
        publication.offset = offset;
        publication.time = id.time();
        // Between nodes it only says that patches are allowed.
        publication.delta = false;
        let message = Message { id, epoch, publication: Arc::new(publication) };
        Ok(Record { channel: channel.as_str().into(), message })
    }

    /// The offset below that was appended last, if the entry tells; 0 if none ever was. No doubt about a
    /// gap is left then if it is the one right below.
    pub fn below(&self) -> Option<u64> {
        self.number("n").ok()
    }

    fn field(&self, name: &'static str) -> Result<&Bytes, Poison> {
        let mut pairs = self.fields.chunks_exact(2);
        let found = pairs.find_map(|pair| match pair {
            [key, value] if key == name => Some(value),
            _ => None,
        });
        found.ok_or(Poison::Missing(name))
    }

    fn text(&self, name: &'static str) -> Result<CompactString, Poison> {
        CompactString::from_utf8(self.field(name)?).map_err(|_| Poison::Unreadable(name))
    }

    fn number(&self, name: &'static str) -> Result<u64, Poison> {
        self.text(name)?.parse().map_err(|_| Poison::Unreadable(name))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.count)
    }
}

impl FromStr for EntryId {
    type Err = NotAnEntryId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, count) = text.split_once('-').ok_or(NotAnEntryId)?;
        let number = |text: &str| text.parse().map_err(|_| NotAnEntryId);
        Ok(Self { ms: number(ms)?, count: number(count)? })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn delivered(fields: &[(&str, &[u8])]) -> Delivered {
        let fields = fields.iter().flat_map(|(name, value)| {
            [Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value)]
        });
        let ticket = Ticket { stream: 0, id: EntryId { ms: 1, count: 2 } };
        Delivered { ticket, fields: fields.collect(), source: Source::New }
    }

    fn whole() -> Vec<(&'static str, Vec<u8>)> {
        let publication =
            Publication { data: "x".into(), delta: true, time: 5, ..Publication::default() };
        vec![
            ("c", b"a:b".to_vec()),
            ("e", b"epoch".to_vec()),
            ("o", b"7".to_vec()),
            ("i", (9_u64 << 20).to_string().into_bytes()),
            ("d", publication.encode_to_vec()),
        ]
    }

    fn record_of(fields: &[(&str, Vec<u8>)]) -> Result<Record, Poison> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_slice())).collect();
        delivered(&fields).record()
    }

    #[test]
    fn an_entry_is_the_publication_with_its_place_and_id() {
        let record = record_of(&whole()).expect("readable");
        assert_eq!((&*record.channel, record.message.epoch.as_str()), ("a:b", "epoch"));
        let publication = &record.message.publication;
        assert_eq!((publication.offset, publication.time, publication.delta), (7, 9, false));
        assert_eq!(publication.data, "x");
    }

    #[test]
    fn what_can_never_be_stored_is_named() {
        for missing in 0..whole().len() {
            let mut fields = whole();
            let (name, _) = fields.remove(missing);
            assert_eq!(record_of(&fields).unwrap_err(), Poison::Missing(name));
        }
        let table: [(&str, &[u8]); 8] = [
            ("c", b"\xff"),
            ("e", b""),
            ("o", b"0"),
            ("o", b"9223372036854775808"),
            ("o", b"x"),
            ("i", b"9223372036854775808"),
            ("i", b"-1"),
            ("d", b"\xff"),
        ];
        for (name, value) in table {
            let mut fields = whole();
            let place = fields.iter().position(|(key, _)| *key == name).expect("a field");
            fields[place].1 = value.to_vec();
            assert_eq!(record_of(&fields).unwrap_err(), Poison::Unreadable(fields[place].0));
        }
    }

    #[test]
    fn lists_hold_entries_and_what_is_left_of_deleted_ones() {
        let text = |text: &'static str| Value::Text(Bytes::from_static(text.as_bytes()));
        let entry = |id, fields| Value::List(vec![text(id), fields]);
        let list = Value::List(vec![
            entry("1-2", Value::List(vec![text("c"), text("a")])),
            entry("3-0", Value::Nil),
            Value::Nil,
        ]);
        let read = Delivered::list(&list, 4, Source::Claimed).expect("a list");
        let ids: Vec<_> = read.iter().map(|one| (one.ticket.stream, one.ticket.id)).collect();
        assert_eq!(ids, [(4, EntryId { ms: 1, count: 2 }), (4, EntryId { ms: 3, count: 0 })]);
        assert_eq!((read[0].is_empty(), read[1].is_empty()), (false, true));
        for wrong in [Value::Nil, Value::List(vec![entry("x", Value::Nil)])] {
            assert_eq!(Delivered::list(&wrong, 0, Source::New), None);
        }
    }

    proptest! {
        #[test]
        fn numbers_of_entries_are_written_as_they_are_read(ms: u64, count: u64) {
            let id = EntryId { ms, count };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn no_entry_breaks_the_reader(
            fields in proptest::collection::vec(
                ("[ceoid]", proptest::collection::vec(any::<u8>(), 0..12)), 0..8),
        ) {
            let _ = record_of(&fields.iter().map(|(n, v)| (n.as_str(), v.clone())).collect::<Vec<_>>());
        }
    }
}
