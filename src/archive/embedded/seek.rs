//! Finding an id among offsets: ids rise with them, so no index of ids is needed.

use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

/// How far from the guess the first look around it is; each next is four times as far.
const FIRST_STEP: i64 = 8;

/// Channel and place of an epoch.
type Epoch = (i64, i64);

/// The lowest offset of an epoch at which a message has an id not below `id`, or at which there is
/// none but the next one has; nothing if all ids are lower.
///
/// Ids rise about as evenly as messages come, so the place is guessed. From there one goes on in
/// growing steps until it lies between two looks, which are then halved: some eight looks where they
/// come evenly, and never more than twice those of halving alone, 25 in ten million messages.
pub fn first_from(connection: &Connection, epoch: Epoch, id: i64) -> rusqlite::Result<Option<i64>> {
    let Some((first, lowest)) = end(connection, epoch, "ASC")? else { return Ok(None) };
    let Some((last, highest)) = end(connection, epoch, "DESC")? else { return Ok(None) };
    if highest < id {
        return Ok(None);
    }
    if lowest >= id {
        return Ok(Some(first));
    }
    let text = "SELECT offset, id FROM messages WHERE channel = ?1 AND place = ?2
                AND offset >= ?3 ORDER BY offset LIMIT 1";
    let mut range = Range {
        statement: connection.prepare_cached(text)?,
        epoch,
        id,
        low: first + 1,
        high: last,
    };
    // Between two ids that differ, so nothing is divided by zero.
    let share = i128::from(id - lowest) * i128::from(last - first) / i128::from(highest - lowest);
    range.close_in(first + share as i64)?;
    while range.low < range.high {
        range.look(range.low + (range.high - range.low) / 2)?;
    }
    Ok(Some(range.low))
}

/// The offsets among which the one that is looked for is: those below `low` have lower ids, and what
/// comes from `high` on has none that is lower.
struct Range<'c> {
    statement: CachedStatement<'c>,
    epoch: Epoch,
    id: i64,
    low: i64,
    high: i64,
}

impl Range<'_> {
    /// Narrows the range around a guess.
    fn close_in(&mut self, guess: i64) -> rusqlite::Result<()> {
        if !(self.low..self.high).contains(&guess) {
            return Ok(());
        }
        let is_above = self.look(guess)?;
        let mut step = FIRST_STEP;
        loop {
            let next =
                if is_above { guess.saturating_sub(step) } else { guess.saturating_add(step) };
            if !(self.low..self.high).contains(&next) || self.look(next)? != is_above {
                return Ok(());
            }
            step = step.saturating_mul(4);
        }
    }

    /// Looks at an offset in the range, or at the next one that has a message; true if what is looked
    /// for does not lie behind it.
    fn look(&mut self, offset: i64) -> rusqlite::Result<bool> {
        let values = params![self.epoch.0, self.epoch.1, offset];
        let (found, id): (i64, i64) = self.statement.query_row(values, pair)?;
        let is_above = id >= self.id;
        if is_above {
            self.high = offset;
        } else {
            self.low = found + 1;
        }
        Ok(is_above)
    }
}

/// The first or last message of an epoch: its offset and id.
fn end(
    connection: &Connection,
    (channel, place): Epoch,
    order: &str,
) -> rusqlite::Result<Option<(i64, i64)>> {
    let text = format!(
        "SELECT offset, id FROM messages WHERE channel = ?1 AND place = ?2
         ORDER BY offset {order} LIMIT 1"
    );
    connection.prepare_cached(&text)?.query_row(params![channel, place], pair).optional()
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(i64, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::archive::embedded::schema::{STEPS, prepare};

    fn filled(messages: &[(i64, i64)]) -> Connection {
        let mut connection = Connection::open_in_memory().expect("a database");
        prepare(&mut connection, Path::new("memory"), STEPS).expect("tables");
        for (offset, id) in messages {
            let text = "INSERT INTO messages VALUES (1, 0, ?1, ?2, x'')";
            connection.execute(text, params![offset, id]).expect("stored");
        }
        connection
    }

    /// Offsets and ids that rise, in small and in very large steps.
    fn rising() -> impl Strategy<Value = Vec<(i64, i64)>> {
        let steps = (1..4_i64, prop_oneof![4 => 1..5_i64, 1 => 1..1_i64 << 40]);
        proptest::collection::vec(steps, 0..60).prop_map(|steps| {
            let mut at = (0, 0);
            let add = |(offset, id)| {
                at = (at.0 + offset, at.1 + id);
                at
            };
            steps.into_iter().map(add).collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

        #[test]
        fn what_is_found_is_what_a_walk_finds(messages in rising(), beside in -2..3_i64) {
            let connection = filled(&messages);
            let ids = messages.iter().map(|(_, id)| id + beside);
            for id in ids.chain([0, i64::MAX]) {
                let walked = messages.iter().find(|(_, found)| *found >= id).map(|(at, _)| *at);
                let found = first_from(&connection, (1, 0), id).expect("an answer");
                // Between two messages every offset leads to the second.
                let reached = found.and_then(|from| messages.iter().find(|(at, _)| *at >= from));
                prop_assert_eq!(reached.map(|(at, _)| *at), walked, "id {}", id);
            }
        }
    }
}
