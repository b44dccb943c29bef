//! The entries of streams, as answers have them, and the first and last of a stream.

use bytes::Bytes;

use super::resp::{Command, Value};

/// One entry. Those that were deleted have no fields.
#[derive(Clone, Copy, Debug)]
pub struct StreamEntry<'a> {
    /// Two numbers with a dash between: a time in unix milliseconds, where Redis has given them.
    pub id: &'a str,
    fields: &'a [Value],
}

impl<'a> StreamEntry<'a> {
    /// Reads one; `None` if it is none.
    pub fn of(value: &'a Value) -> Option<Self> {
        let [id, fields] = value.list()? else { return None };
        let fields = if *fields == Value::Nil { Some(&[][..]) } else { fields.list() };
        Some(Self { id: id.str()?, fields: fields? })
    }

    /// The number before the dash.
    pub fn number(&self) -> Option<u64> {
        self.id.split_once('-')?.0.parse().ok()
    }

    /// What a field has.
    pub fn field(&self, name: &str) -> Option<&'a Bytes> {
        self.fields.chunks_exact(2).find_map(|pair| match pair {
            [key, value] if key.str() == Some(name) => value.text(),
            _ => None,
        })
    }
}

/// Reads the first entry of a stream, in a list of its own.
pub fn first_entry(stream: &str) -> Command {
    Command::new("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").number(1)
}

/// Reads the last one.
pub fn last_entry(stream: &str) -> Command {
    Command::new("XREVRANGE").arg(stream).arg("+").arg("-").arg("COUNT").number(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn an_entry_has_a_number_and_fields() {
        let fields = Value::List(vec![text("a"), text("d"), text("d"), text("x")]);
        let value = Value::List(vec![text("12-3"), fields]);
        let entry = StreamEntry::of(&value).expect("an entry");
        assert_eq!((entry.id, entry.number()), ("12-3", Some(12)));
        let field = |name| entry.field(name).map(|value| &value[..]);
        assert_eq!((field("a"), field("d"), field("x")), (Some(&b"d"[..]), Some(&b"x"[..]), None));
        let deleted = Value::List(vec![text("x"), Value::Nil]);
        let deleted = StreamEntry::of(&deleted).expect("an entry");
        assert_eq!((deleted.number(), deleted.field("d")), (None, None));
        for wrong in [Value::Nil, text("1-0"), Value::List(vec![text("1-0")])] {
            assert!(StreamEntry::of(&wrong).is_none());
        }
    }
}
