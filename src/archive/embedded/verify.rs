//! The walk through a channel that proves what the file believes to have.

use rusqlite::{Connection, params};

use super::read;
use crate::archive::{Span, Verdict};

/// Holes that are listed one by one.
const LISTED: usize = 1_000;

pub fn channel(connection: &Connection, channel: &str) -> rusqlite::Result<Verdict> {
    let mut verdict = Verdict::default();
    let Some(number) = read::number(connection, channel)? else { return Ok(verdict) };
    for (place, epoch) in (0..).zip(read::chain(connection, channel)?.0) {
        // What expired is gone for good.
        let Some(first) = read::lowest(connection, number, place)? else { continue };
        let after = first.saturating_sub(1);
        let span = Span { epoch: epoch.name.clone(), after, through: epoch.last };
        let holes = read::holes(connection, channel, &span, LISTED)?;
        verdict.holes.extend(holes.into_iter().map(|(a, b)| (epoch.name.clone(), a, b)));
    }
    check_runs(connection, number, &mut verdict)?;
    let (believed, deleted, stored) = check_messages(connection, number, &mut verdict)?;
    if believed != verdict.messages as i64 {
        let found = verdict.messages;
        verdict.faults.push(format!("{believed} messages were counted and {found} are there"));
    }
    if believed + deleted != stored {
        verdict.faults.push(format!(
            "{stored} offsets were stored, but {believed} messages and {deleted} deleted ones known"
        ));
    }
    verdict.deleted = deleted as u64;
    Ok(verdict)
}

fn check_runs(connection: &Connection, number: i64, verdict: &mut Verdict) -> rusqlite::Result<()> {
    let text = "SELECT place, first, last FROM runs WHERE channel = ?1 ORDER BY place, first";
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(params![number])?;
    let mut before = (-1_i64, 0_i64);
    while let Some(row) = rows.next()? {
        let (place, first, last): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if last < first || (place == before.0 && first <= before.1.saturating_add(1)) {
            verdict.faults.push(format!("the run {first}-{last} of epoch {place} is none"));
        }
        before = (place, last);
    }
    Ok(())
}

/// Walks all messages; returns how many the channel believes to have and to have had, and how many
/// offsets its runs hold.
fn check_messages(
    connection: &Connection,
    number: i64,
    verdict: &mut Verdict,
) -> rusqlite::Result<(i64, i64, i64)> {
    let text = "SELECT place, offset, id FROM messages WHERE channel = ?1 ORDER BY place, offset";
    let mut statement = connection.prepare_cached(text)?;
    let mut rows = statement.query(params![number])?;
    let mut highest = -1_i64;
    while let Some(row) = rows.next()? {
        let (place, offset, id): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if id <= highest {
            verdict
                .faults
                .push(format!("the id at offset {offset} of epoch {place} does not rise"));
        }
        highest = highest.max(id);
        verdict.messages += 1;
    }
    let text = "SELECT count(*) FROM messages WHERE channel = ?1 AND NOT EXISTS (
                    SELECT 1 FROM runs WHERE runs.channel = ?1 AND runs.place = messages.place
                    AND first <= offset AND last >= offset)";
    let outside: i64 = connection.query_row(text, params![number], |row| row.get(0))?;
    if outside > 0 {
        verdict.faults.push(format!("{outside} messages are in no run"));
    }
    let text = "SELECT messages, deleted, last_id,
                   (SELECT coalesce(sum(last - first + 1), 0) FROM runs WHERE channel = number)
                FROM channels WHERE number = ?1";
    let (messages, deleted, last_id, stored): (i64, i64, i64, i64) =
        connection.query_row(text, params![number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
    if last_id < highest {
        verdict.faults.push("an id is above the highest one known".into());
    }
    Ok((messages, deleted, stored))
}
