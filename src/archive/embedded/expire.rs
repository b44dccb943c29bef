//! Dropping the oldest messages: their offsets become holes, and only the ends of epochs stay known.

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::read::{self, Key};
use crate::archive::MessageId;

/// Whether the oldest message of a channel has an id below `before`.
pub fn is_due(connection: &Connection, channel: &str, before: MessageId) -> rusqlite::Result<bool> {
    let Some(number) = read::number(connection, channel)? else { return Ok(false) };
    Ok(last_due(connection, number, before, 1)?.is_some())
}

/// Drops at most `limit` messages with ids below `before`; returns how many.
pub fn oldest(
    transaction: &Transaction<'_>,
    channel: &str,
    before: MessageId,
    limit: usize,
) -> rusqlite::Result<u64> {
    let Some(number) = read::number(transaction, channel)? else { return Ok(0) };
    let Some((place, offset)) = last_due(transaction, number, before, limit)? else { return Ok(0) };
    let text = "DELETE FROM messages WHERE channel = ?1 AND (place, offset) <= (?2, ?3)";
    let values = params![number, place, offset];
    let count = transaction.prepare_cached(text)?.execute(values)? as i64;
    note_ends(transaction, number, (place, offset))?;
    let places = cut_runs(transaction, number, (place, offset))?;
    // Places without a message were those of deleted ones.
    let text = "UPDATE channels SET messages = messages - ?2, deleted = deleted - ?3
                WHERE number = ?1";
    transaction.prepare_cached(text)?.execute(params![number, count, places - count])?;
    Ok(count as u64)
}

/// The last of the messages to drop. Ids rise along the key, so nothing behind it is looked at.
fn last_due(
    connection: &Connection,
    number: i64,
    before: MessageId,
    limit: usize,
) -> rusqlite::Result<Option<Key>> {
    let text = "SELECT place, offset, id FROM messages WHERE channel = ?1
                ORDER BY place, offset LIMIT ?2";
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(params![number, limit as i64])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(2)? >= before.number() as i64 {
            break;
        }
        last = Some((row.get(0)?, row.get(1)?));
    }
    Ok(last)
}

/// Notes where epochs began and how far they are gone, while their runs still say so.
fn note_ends(transaction: &Transaction<'_>, number: i64, to: Key) -> rusqlite::Result<()> {
    let text = "UPDATE epochs SET
                   began = coalesce(began,
                      (SELECT first FROM runs WHERE runs.channel = ?1 AND runs.place = epochs.place
                       ORDER BY first LIMIT 1)),
                   expired = CASE WHEN place = ?2 THEN ?3 ELSE
                      (SELECT last FROM runs WHERE runs.channel = ?1 AND runs.place = epochs.place
                       ORDER BY first DESC LIMIT 1) END
                WHERE channel = ?1 AND place <= ?2 AND EXISTS
                   (SELECT 1 FROM runs WHERE runs.channel = ?1 AND runs.place = epochs.place)";
    transaction.prepare_cached(text)?.execute(params![number, to.0, to.1]).map(drop)
}

/// Takes the offsets up to `to` out of the runs; returns how many there were.
fn cut_runs(transaction: &Transaction<'_>, number: i64, to: Key) -> rusqlite::Result<i64> {
    let values = params![number, to.0, to.1];
    let text = "SELECT coalesce(sum(CASE WHEN place = ?2 THEN min(last, ?3) ELSE last END
                   - first + 1), 0)
                FROM runs WHERE channel = ?1 AND (place, first) <= (?2, ?3)";
    let places = transaction.prepare_cached(text)?.query_row(values, |row| row.get(0))?;
    let text = "SELECT last FROM runs WHERE channel = ?1 AND place = ?2 AND first <= ?3
                ORDER BY first DESC LIMIT 1";
    let read = |row: &Row<'_>| row.get::<_, i64>(0);
    let reaches = transaction.prepare_cached(text)?.query_row(values, read).optional()?;
    let text = "DELETE FROM runs WHERE channel = ?1 AND (place, first) <= (?2, ?3)";
    transaction.prepare_cached(text)?.execute(values)?;
    if let Some(last) = reaches.filter(|last| *last > to.1) {
        let text = "INSERT INTO runs VALUES (?1, ?2, ?3, ?4)";
        transaction.prepare_cached(text)?.execute(params![number, to.0, to.1 + 1, last])?;
    }
    Ok(places)
}
