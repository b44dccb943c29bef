//! Reading the file. Every statement goes along a key and reads no more rows than it returns.

use std::sync::Arc;

use compact_str::CompactString;
use prost::Message as _;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::seek;
use crate::archive::{
    Anchor, Chain, End, Epoch, MAX_READ, Message, MessageId, Order, Page, PageQuery, Span, Summary,
    Tail,
};
use crate::protocol::publication::Publication;

/// Where a message stands in its channel: the place of its epoch, its offset.
pub type Key = (i64, i64);

/// Before and behind every message.
const START: Key = (0, 0);
const END: Key = (i64::MAX, i64::MAX);

pub fn number(connection: &Connection, channel: &str) -> rusqlite::Result<Option<i64>> {
    let text = "SELECT number FROM channels WHERE name = ?1";
    connection.prepare_cached(text)?.query_row(params![channel], |row| row.get(0)).optional()
}

pub fn place(connection: &Connection, number: i64, epoch: &str) -> rusqlite::Result<Option<i64>> {
    let text = "SELECT place FROM epochs WHERE channel = ?1 AND name = ?2";
    connection.prepare_cached(text)?.query_row(params![number, epoch], |row| row.get(0)).optional()
}

pub fn tail(connection: &Connection, channel: &str) -> rusqlite::Result<Option<Tail>> {
    let text = "SELECT epochs.name, channels.last_id, epochs.expired,
                   (SELECT last FROM runs WHERE runs.channel = number AND runs.place = epochs.place
                    ORDER BY first DESC LIMIT 1)
                FROM channels JOIN epochs ON epochs.channel = number
                WHERE channels.name = ?1 ORDER BY epochs.place DESC LIMIT 1";
    let read = |row: &Row<'_>| {
        let epoch: String = row.get(0)?;
        let offset = row.get::<_, i64>(2)?.max(row.get::<_, Option<i64>>(3)?.unwrap_or(0)) as u64;
        Ok(Tail { epoch: epoch.into(), offset, last_id: id(row.get(1)?)? })
    };
    connection.prepare_cached(text)?.query_row(params![channel], read).optional()
}

pub fn chain(connection: &Connection, channel: &str) -> rusqlite::Result<Chain> {
    let Some(number) = number(connection, channel)? else { return Ok(Chain::default()) };
    let text = "SELECT name, sealed, expired, coalesce(began,
                   (SELECT first FROM runs WHERE runs.channel = ?1 AND runs.place = epochs.place
                    ORDER BY first LIMIT 1)),
                   (SELECT last FROM runs WHERE runs.channel = ?1 AND runs.place = epochs.place
                    ORDER BY first DESC LIMIT 1)
                FROM epochs WHERE channel = ?1 ORDER BY place";
    let read = |row: &Row<'_>| {
        let (name, sealed): (String, Option<i64>) = (row.get(0)?, row.get(1)?);
        let end = sealed.map_or(End::Open, |sealed| End::SealedAt(sealed as u64));
        let expired: i64 = row.get(2)?;
        let (first, last): (Option<i64>, Option<i64>) = (row.get(3)?, row.get(4)?);
        let (first, last) = (first.unwrap_or(0), last.unwrap_or(0).max(expired));
        Ok(Epoch { name: name.into(), first: first as u64, last: last as u64, end })
    };
    let mut statement = connection.prepare_cached(text)?;
    statement.query_map(params![number], read)?.collect::<Result<_, _>>().map(Chain)
}

/// The lowest offset of an epoch that is known to have been stored.
pub fn lowest(connection: &Connection, number: i64, place: i64) -> rusqlite::Result<Option<u64>> {
    let text = "SELECT first FROM runs WHERE channel = ?1 AND place = ?2 ORDER BY first LIMIT 1";
    let mut statement = connection.prepare_cached(text)?;
    let found = statement.query_row(params![number, place], |row| row.get::<_, i64>(0)).optional();
    Ok(found?.map(|first| first as u64))
}

pub fn holes(
    connection: &Connection,
    channel: &str,
    span: &Span,
    limit: usize,
) -> rusqlite::Result<Vec<(u64, u64)>> {
    let whole = vec![(span.after.saturating_add(1), span.through)];
    if span.is_empty() {
        return Ok(Vec::new());
    }
    let Some((number, place)) = epoch(connection, channel, &span.epoch)? else { return Ok(whole) };
    let text = "SELECT first, last FROM runs
                WHERE channel = ?1 AND place = ?2 AND first <= ?4 AND first >= coalesce(
                   (SELECT max(first) FROM runs WHERE channel = ?1 AND place = ?2 AND first <= ?3), 0)
                ORDER BY first LIMIT ?5";
    // One run more than holes: each hole has one on its right, and the first may lie before all.
    let limit_of_runs = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(2);
    let (after, through) = (signed(span.after), signed(span.through));
    let mut statement = connection.prepare_cached(text)?;
    let values = params![number, place, after.saturating_add(1), through, limit_of_runs];
    let mut rows = statement.query(values)?;
    let (mut reached, mut holes) = (span.after, Vec::new());
    while let Some(row) = rows.next()? {
        let (first, last) = (row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64);
        if first > reached + 1 && holes.len() < limit {
            holes.push((reached + 1, first - 1));
        }
        reached = reached.max(last);
    }
    if reached < span.through && holes.len() < limit {
        holes.push((reached + 1, span.through));
    }
    Ok(holes)
}

pub fn range(
    connection: &Connection,
    channel: &str,
    span: &Span,
) -> rusqlite::Result<Vec<Message>> {
    let Some((number, place)) = epoch(connection, channel, &span.epoch)? else {
        return Ok(Vec::new());
    };
    let text = "SELECT offset, id, body FROM messages
                WHERE channel = ?1 AND place = ?2 AND offset > ?3 AND offset <= ?4
                ORDER BY offset LIMIT ?5";
    let values = params![number, place, signed(span.after), signed(span.through), MAX_READ as i64];
    let mut statement = connection.prepare_cached(text)?;
    let read = |row: &Row<'_>| message(span.epoch.clone(), row.get(0)?, row.get(1)?, row);
    statement.query_map(values, read)?.collect()
}

pub fn page(connection: &Connection, channel: &str, query: &PageQuery) -> rusqlite::Result<Page> {
    let Some(number) = number(connection, channel)? else { return Ok(Page::default()) };
    let lower = match &query.after {
        None => START,
        Some(anchor) => bound(connection, number, anchor, true)?,
    };
    let upper = match &query.before {
        None => END,
        Some(anchor) => bound(connection, number, anchor, false)?,
    };
    let limit = query.limit.min(MAX_READ);
    // One more says whether there are more.
    let mut messages = between(connection, number, lower, upper, query.order, limit + 1)?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    let oldest = match query.order {
        Order::NewestFirst => messages.last(),
        Order::OldestFirst => messages.first(),
    };
    let prev = match oldest {
        Some((key, _)) => id_at(connection, number, (key.0, key.1 - 1))?,
        None => None,
    };
    Ok(Page { messages: messages.into_iter().map(|(_, message)| message).collect(), more, prev })
}

pub fn summary(connection: &Connection, channel: &str) -> rusqlite::Result<Option<Summary>> {
    let Some(tail) = tail(connection, channel)? else { return Ok(None) };
    let Some(number) = number(connection, channel)? else { return Ok(None) };
    let text = "SELECT messages FROM channels WHERE number = ?1";
    let count: i64 =
        connection.prepare_cached(text)?.query_row(params![number], |row| row.get(0))?;
    let one = |order| between(connection, number, START, END, order, 1);
    let first = one(Order::OldestFirst)?.pop().map(|(_, message)| message);
    let last = one(Order::NewestFirst)?.pop();
    let prev = match &last {
        Some((key, _)) => id_at(connection, number, (key.0, key.1 - 1))?,
        None => None,
    };
    Ok(Some(Summary {
        count: count as u64,
        first,
        last: last.map(|(_, message)| message),
        prev,
        epoch: tail.epoch,
        offset: tail.offset,
    }))
}

pub fn channels(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let text = "SELECT name FROM channels WHERE name >= ?1 AND name > ?2 ORDER BY name LIMIT ?3";
    // Names are texts of some length, so nothing lies before the empty one.
    let values = params![prefix, after.unwrap_or_default(), limit.min(MAX_READ) as i64];
    let mut statement = connection.prepare_cached(text)?;
    let names = statement.query_map(values, |row| row.get::<_, String>(0))?;
    let names: Vec<_> = names.collect::<Result<_, _>>()?;
    Ok(names.into_iter().take_while(|name| name.starts_with(prefix)).collect())
}

/// Messages from `lower` (included) to `upper` (not), with their keys.
pub fn between(
    connection: &Connection,
    number: i64,
    lower: Key,
    upper: Key,
    order: Order,
    limit: usize,
) -> rusqlite::Result<Vec<(Key, Message)>> {
    let text = match order {
        Order::OldestFirst => {
            "SELECT offset, id, body, place FROM messages
             WHERE channel = ?1 AND (place, offset) >= (?2, ?3) AND (place, offset) < (?4, ?5)
             ORDER BY place, offset LIMIT ?6"
        }
        Order::NewestFirst => {
            "SELECT offset, id, body, place FROM messages
             WHERE channel = ?1 AND (place, offset) >= (?2, ?3) AND (place, offset) < (?4, ?5)
             ORDER BY place DESC, offset DESC LIMIT ?6"
        }
    };
    let values = params![number, lower.0, lower.1, upper.0, upper.1, limit as i64];
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(values)?;
    let mut found: Vec<(Key, Message)> = Vec::new();
    let mut name = (-1, CompactString::default());
    while let Some(row) = rows.next()? {
        let (offset, place) = (row.get(0)?, row.get(3)?);
        if name.0 != place {
            name = (place, epoch_name(connection, number, place)?);
        }
        found.push(((place, offset), message(name.1.clone(), offset, row.get(1)?, row)?));
    }
    Ok(found)
}

/// The first key behind an anchor (`behind`), or the first that is not before it.
pub fn bound(
    connection: &Connection,
    number: i64,
    anchor: &Anchor,
    behind: bool,
) -> rusqlite::Result<Key> {
    let (epoch, offset) = match anchor {
        Anchor::Id(id) => {
            return first_from(
                connection,
                number,
                signed(id.number()).saturating_add(i64::from(behind)),
            );
        }
        Anchor::Time(millis) => {
            let millis = millis.saturating_add(i64::from(behind));
            return first_from(connection, number, signed(MessageId::first_at(millis).number()));
        }
        Anchor::Offset { epoch, offset } => (epoch, signed(*offset)),
    };
    let place = match epoch {
        Some(name) => place(connection, number, name)?,
        None => newest_place(connection, number)?,
    };
    // What is behind an epoch that there is not is nothing, and so is what is before it.
    let Some(place) = place else { return Ok(if behind { END } else { START }) };
    Ok((place, offset.saturating_add(i64::from(behind))))
}

fn newest_place(connection: &Connection, number: i64) -> rusqlite::Result<Option<i64>> {
    let text = "SELECT max(place) FROM epochs WHERE channel = ?1";
    connection.prepare_cached(text)?.query_row(params![number], |row| row.get(0))
}

/// The key of the first message whose id is not below `id`.
fn first_from(connection: &Connection, number: i64, id: i64) -> rusqlite::Result<Key> {
    let Some(newest) = newest_place(connection, number)? else { return Ok(END) };
    for place in 0..=newest {
        if let Some(offset) = seek::first_from(connection, (number, place), id)? {
            return Ok((place, offset));
        }
    }
    Ok(END)
}

/// The first message that is not before a key: its own key and its id.
pub fn first_at(
    connection: &Connection,
    number: i64,
    key: Key,
) -> rusqlite::Result<Option<(Key, MessageId)>> {
    let text = "SELECT place, offset, id FROM messages
                WHERE channel = ?1 AND (place, offset) >= (?2, ?3)
                ORDER BY place, offset LIMIT 1";
    let read = |row: &Row<'_>| Ok(((row.get(0)?, row.get(1)?), id(row.get(2)?)?));
    let mut statement = connection.prepare_cached(text)?;
    statement.query_row(params![number, key.0, key.1], read).optional()
}

fn id_at(connection: &Connection, number: i64, key: Key) -> rusqlite::Result<Option<MessageId>> {
    let text = "SELECT id FROM messages WHERE channel = ?1 AND place = ?2 AND offset = ?3";
    let values = params![number, key.0, key.1];
    let found = connection.prepare_cached(text)?.query_row(values, |row| id(row.get(0)?));
    found.optional()
}

fn epoch(
    connection: &Connection,
    channel: &str,
    epoch: &str,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let Some(number) = number(connection, channel)? else { return Ok(None) };
    Ok(place(connection, number, epoch)?.map(|place| (number, place)))
}

fn epoch_name(connection: &Connection, number: i64, place: i64) -> rusqlite::Result<CompactString> {
    let text = "SELECT name FROM epochs WHERE channel = ?1 AND place = ?2";
    let mut statement = connection.prepare_cached(text)?;
    let name: String = statement.query_row(params![number, place], |row| row.get(0))?;
    Ok(name.into())
}

/// The message of a row whose third column is the body.
fn message(
    epoch: CompactString,
    offset: i64,
    number: i64,
    row: &Row<'_>,
) -> rusqlite::Result<Message> {
    let id = id(number)?;
    let body = row.get_ref(2)?.as_blob()?;
    let stored = Publication::decode(body).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error))
    })?;
    let publication = Publication { offset: offset as u64, time: id.time(), ..stored };
    Ok(Message { id, epoch, publication: Arc::new(publication) })
}

fn id(number: i64) -> rusqlite::Result<MessageId> {
    let id = u64::try_from(number).ok().and_then(MessageId::of);
    id.ok_or(rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// Offsets of clients may be any; beyond what a database counts to there is nothing.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
