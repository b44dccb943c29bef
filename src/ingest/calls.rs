//! The commands about archive streams, and how their answers are read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use compact_str::CompactString;

use super::Settings;
use super::entry::{Delivered, EntryId, Poison, Source};
use crate::protocol::publication::Publication;
use crate::redis::{CallError, Command, Durability, Route, Script, Shard, StreamEntry, Value};

pub use crate::redis::{first_entry as head, last_entry as tail};

/// The group that all consumers of a prefix are in.
pub const GROUP: &str = "history";

/// Entries of one call of [`Script::ArchiveDone`]: Lua takes some 8,000 arguments at once.
pub const LEAVING: usize = 1_000;

/// What a server said that it cannot mean.
pub fn nonsense() -> CallError {
    CallError::Refused("an answer that cannot be read".into())
}

/// Reads entries that are this consumer's: new ones, or, behind a number, those it was given before.
/// With `wait` the server waits for new ones.
pub fn read(
    stream: &str,
    settings: &Settings,
    behind: Option<EntryId>,
    count: usize,
    wait: Option<Duration>,
) -> Command {
    let command = Command::new("XREADGROUP").arg("GROUP").arg(GROUP).arg(&settings.name);
    let mut command = command.arg("COUNT").number(count as u64);
    if let Some(wait) = wait {
        // 0 would wait for ever.
        command = command.arg("BLOCK").number(wait.as_millis().max(1) as u64);
    }
    let command = command.arg("STREAMS").arg(stream);
    match behind {
        Some(behind) => command.arg(behind.to_string()),
        None => command.arg(">"),
    }
}

/// From the answer to [`read`], which names one stream with its entries, in a list of its own or not.
pub fn read_answer(
    answer: &Value,
    stream: u16,
    source: Source,
) -> Result<Vec<Delivered>, CallError> {
    if *answer == Value::Nil {
        return Ok(Vec::new());
    }
    let pair = match answer.list() {
        Some([Value::List(pair)]) => Some(pair.as_slice()),
        other => other,
    };
    let Some([_, entries]) = pair else { return Err(nonsense()) };
    Delivered::list(entries, stream, source).ok_or_else(nonsense)
}

/// Takes over entries that were in somebody's hands for too long.
pub fn claim(stream: &str, settings: &Settings, from: EntryId, count: usize) -> Command {
    let command = Command::new("XAUTOCLAIM").arg(stream).arg(GROUP).arg(&settings.name);
    let command = command.number(settings.claim_after.as_millis() as u64).arg(from.to_string());
    command.arg("COUNT").number(count as u64)
}

/// From the answer to [`claim`]: where to go on, and the entries.
pub fn claim_answer(answer: &Value, stream: u16) -> Result<(EntryId, Vec<Delivered>), CallError> {
    let Some([cursor, entries, ..]) = answer.list() else { return Err(nonsense()) };
    let cursor = cursor.str().and_then(|text| text.parse().ok()).ok_or_else(nonsense)?;
    Ok((cursor, Delivered::list(entries, stream, Source::Claimed).ok_or_else(nonsense)?))
}

/// Asks who is in the group.
pub fn consumers(stream: &str) -> Command {
    Command::new("XINFO").arg("CONSUMERS").arg(stream).arg(GROUP)
}

/// From the answer to [`consumers`]: those with nothing in their hands that were not heard of for so long.
pub fn gone(answer: &Value, forget_after: Duration) -> Result<Vec<CompactString>, CallError> {
    let is_gone = |consumer: &&[Value]| {
        let number = |name| field(consumer, name).and_then(Value::number);
        let limit = u64::try_from(forget_after.as_millis()).unwrap_or(u64::MAX);
        number("pending") == Some(0) && number("idle").is_some_and(|idle| idle >= limit)
    };
    let consumers = answer.list().ok_or_else(nonsense)?.iter().filter_map(Value::list);
    let names = consumers.filter(is_gone).filter_map(|consumer| field(consumer, "name")?.str());
    Ok(names.map(Into::into).collect())
}

fn field<'a>(fields: &'a [Value], name: &str) -> Option<&'a Value> {
    fields.chunks_exact(2).find_map(|pair| match pair {
        [key, value] if key.str() == Some(name) => Some(value),
        _ => None,
    })
}

/// Makes the group, which begins with the first entry, and the stream if there is none.
pub fn found_group(stream: &str) -> Command {
    let command = Command::new("XGROUP").arg("CREATE").arg(stream).arg(GROUP);
    command.arg("0").arg("MKSTREAM")
}

/// Whether the group is missing: nobody was here yet, or Redis came back empty.
pub fn is_without_group(error: &CallError) -> bool {
    matches!(error, CallError::Refused(text) if text.starts_with("NOGROUP"))
}

/// Whether somebody else was faster to make the group.
pub fn has_group(error: &CallError) -> bool {
    matches!(error, CallError::Refused(text) if text.starts_with("BUSYGROUP"))
}

/// From the answer to [`head`] or [`tail`].
pub fn end_answer(answer: &Value) -> Result<Option<EntryId>, CallError> {
    let entries = Delivered::list(answer, 0, Source::Again).ok_or_else(nonsense)?;
    Ok(entries.first().map(|entry| entry.ticket.id))
}

/// Puts an entry into the stream of dead ones, of which the newest are kept.
pub fn bury(stream: &str, settings: &Settings, entry: &Delivered, why: Poison) -> Command {
    let command = Command::new("XADD").arg(dead_letters(stream));
    let command = command.arg("MAXLEN").number(settings.dead_letters as u64).arg("*");
    let command = command.arg("entry").arg(entry.ticket.id.to_string());
    command.arg("why").arg(why.to_string()).args(&entry.fields)
}

/// Where the entries of an archive stream are put that cannot be stored: in the same slot.
pub fn dead_letters(stream: &str) -> CompactString {
    let mut name = CompactString::from(stream);
    name.push_str(".dead");
    name
}

/// Arguments of [`Script::ArchiveDone`].
pub fn done_arguments(stored: &str, ids: impl Iterator<Item = EntryId>) -> Vec<Bytes> {
    let head = [Bytes::from_static(GROUP.as_bytes()), Bytes::copy_from_slice(stored.as_bytes())];
    head.into_iter().chain(ids.map(|id| Bytes::from(id.to_string()))).collect()
}

/// See [`super::queue::Queue::at_hand`]. Fewer than `limit` are all that there are.
pub async fn at_hand(
    shard: &Arc<Shard>,
    channel: &str,
    epoch: &str,
    (first, last): (u64, u64),
    limit: usize,
) -> Result<Vec<Publication>, CallError> {
    let (mut found, mut from) = (Vec::new(), first);
    while found.len() < limit && from <= last {
        let count = limit - found.len();
        let fill = |route: &Route, command: Command| {
            let (keys, identity) = (route.keys(), route.identity());
            let command = command.arg(keys.stream(channel)).arg(keys.stream_meta(channel));
            let command = command.arg(epoch).arg(&identity.id).arg(route.predecessor());
            command.number(from).number(last).number(count as u64)
        };
        let script = (Script::ArchiveAtHand, 2);
        let answer = shard.run(channel, script, Durability::Master, fill).await?;
        let page = Page::of(&answer).ok_or_else(nonsense)?;
        found.extend(page.publications);
        match page.last {
            Some(last) if page.entries >= count => from = last.saturating_add(1),
            _ => break,
        }
    }
    Ok(found)
}

/// Entries of a stream at hand.
struct Page {
    /// How many there are.
    entries: usize,
    /// The offset of the last of them.
    last: Option<u64>,
    /// One that cannot be read is left out: it stays a hole.
    publications: Vec<Publication>,
}

impl Page {
    fn of(answer: &Value) -> Option<Self> {
        let entries: Vec<_> = answer.list()?.iter().map(StreamEntry::of).collect::<Option<_>>()?;
        let publication = |entry: &StreamEntry<'_>| {
            Publication::kept(entry.field("d")?.clone(), entry.number()?).ok()
        };
        let publications = entries.iter().filter_map(publication).collect();
        let last = entries.last().and_then(StreamEntry::number);
        Some(Self { entries: entries.len(), last, publications })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn both_forms_of_an_answer_are_read() {
        let entries = Value::List(vec![Value::List(vec![
            text("5-1"),
            Value::List(vec![text("c"), text("a")]),
        ])]);
        let flat = Value::List(vec![text("s"), entries]);
        let nested = Value::List(vec![flat.clone()]);
        for answer in [flat, nested] {
            let read = read_answer(&answer, 3, Source::New).expect("entries");
            assert_eq!((read.len(), read[0].ticket.stream), (1, 3));
        }
        assert_eq!(read_answer(&Value::Nil, 0, Source::New), Ok(vec![]));
        assert!(read_answer(&text("x"), 0, Source::New).is_err());
    }

    #[test]
    fn only_consumers_with_nothing_in_hand_that_are_silent_for_long_are_gone() {
        let consumer = |name, pending, idle| {
            let number = |number| Value::Integer(number);
            let fields = [text("name"), text(name), text("pending"), number(pending)];
            Value::List([&fields[..], &[text("idle"), number(idle)]].concat())
        };
        let answer = Value::List(vec![
            consumer("here", 0, 999),
            consumer("gone", 0, 1_000),
            consumer("with entries", 1, 9_000),
            Value::List(vec![text("name"), text("unknown")]),
        ]);
        assert_eq!(gone(&answer, Duration::from_secs(1)), Ok(vec!["gone".into()]));
        assert!(gone(&text("x"), Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_claim_says_where_to_go_on() {
        let answer = Value::List(vec![text("7-0"), Value::List(vec![]), Value::List(vec![])]);
        assert_eq!(claim_answer(&answer, 0), Ok((EntryId { ms: 7, count: 0 }, vec![])));
        assert!(claim_answer(&Value::List(vec![text("7-0")]), 0).is_err());
    }
}
