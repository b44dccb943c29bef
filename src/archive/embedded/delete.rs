//! Deleting, in parts that leave room for others between them.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::read::{self, Key};
use super::{EmbeddedStore, Work};
use crate::archive::{Anchor, Deleted, Deletion, StoreError};

/// Messages that one part deletes.
pub const PART: usize = 1_000;

/// What is left to delete: from a key (included) to another (not).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    from: Key,
    to: Key,
    /// How many the part deleted.
    pub count: u64,
    /// The lowest and highest key among them.
    ends: Option<(Key, Key)>,
    more: bool,
}

impl EmbeddedStore {
    pub(super) async fn delete_in_parts(
        &self,
        channel: &str,
        what: Deletion,
    ) -> Result<Deleted, StoreError> {
        let Some(part) = self.find(channel, what).await? else { return Ok(Deleted::default()) };
        self.delete_found(channel, part).await
    }

    /// Where a deletion begins and ends; none if there is nothing of it.
    pub(super) async fn find(
        &self,
        channel: &str,
        what: Deletion,
    ) -> Result<Option<Part>, StoreError> {
        let name = channel.to_owned();
        self.read(move |connection| bounds(connection, &name, &what)).await
    }

    pub(super) async fn delete_found(
        &self,
        channel: &str,
        mut part: Part,
    ) -> Result<Deleted, StoreError> {
        let (mut count, mut ends) = (0, None::<(Key, Key)>);
        loop {
            let channel = channel.to_owned();
            part = self.write(|answer| Work::Delete { channel, part, answer }).await?;
            count += part.count;
            if let Some((low, high)) = part.ends {
                ends = Some((ends.map_or(low, |(first, _)| first), high));
            }
            if !part.more {
                break;
            }
        }
        self.cleaning.begin(&self.work);
        let Some((low, high)) = ends else { return Ok(Deleted::default()) };
        let name = channel.to_owned();
        let chain = self.read(move |connection| read::chain(connection, &name)).await?;
        let epoch = usize::try_from(low.0).ok().and_then(|place| chain.0.get(place));
        let same = low.0 == high.0;
        Ok(Deleted {
            count,
            epoch: epoch.filter(|_| same).map(|epoch| epoch.name.clone()),
            offsets: same.then_some((low.1 as u64, high.1 as u64)),
        })
    }
}

/// Deletes the first messages of what is left.
pub fn part(transaction: &Transaction<'_>, channel: &str, part: Part) -> rusqlite::Result<Part> {
    let Some(number) = read::number(transaction, channel)? else { return Ok(Part::default()) };
    let text = "SELECT place, offset FROM messages
                WHERE channel = ?1 AND (place, offset) >= (?2, ?3) AND (place, offset) < (?4, ?5)
                ORDER BY place, offset LIMIT ?6";
    let values = params![number, part.from.0, part.from.1, part.to.0, part.to.1, PART as i64];
    let mut statement = transaction.prepare_cached(text)?;
    let keys = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let keys: Vec<Key> = keys.collect::<Result<_, _>>()?;
    let (Some(low), Some(high)) = (keys.first().copied(), keys.last().copied()) else {
        return Ok(Part { count: 0, ends: None, more: false, ..part });
    };
    let text = "DELETE FROM messages
                WHERE channel = ?1 AND (place, offset) >= (?2, ?3) AND (place, offset) <= (?4, ?5)";
    let values = params![number, low.0, low.1, high.0, high.1];
    let count = transaction.prepare_cached(text)?.execute(values)?;
    let text = "UPDATE channels SET messages = messages - ?2, deleted = deleted + ?2
                WHERE number = ?1";
    transaction.prepare_cached(text)?.execute(params![number, count as i64])?;
    Ok(Part {
        from: (high.0, high.1.saturating_add(1)),
        to: part.to,
        count: count as u64,
        ends: Some((low, high)),
        more: keys.len() == PART,
    })
}

/// Where a deletion begins and ends; none if there is nothing of it. What is appended later is within
/// only if it was asked for by its offset.
pub fn bounds(
    connection: &Connection,
    channel: &str,
    what: &Deletion,
) -> rusqlite::Result<Option<Part>> {
    let Some(number) = read::number(connection, channel)? else { return Ok(None) };
    let bound = |anchor: &Anchor, behind| read::bound(connection, number, anchor, behind);
    let (from, to) = match what {
        Deletion::Message(id) => {
            let from = bound(&Anchor::Id(*id), false)?;
            let found = read::first_at(connection, number, from)?;
            let Some((key, _)) = found.filter(|(_, found)| found == id) else { return Ok(None) };
            (key, (key.0, key.1.saturating_add(1)))
        }
        Deletion::Offsets { epoch, from, to } => {
            let at = |offset: &u64| Anchor::Offset { epoch: epoch.clone(), offset: *offset };
            if read::tail(connection, channel)?.is_none() {
                return Ok(None);
            }
            if let Some(epoch) = epoch
                && read::place(connection, number, epoch)?.is_none()
            {
                return Ok(None);
            }
            (bound(&at(from), false)?, bound(&at(to), true)?)
        }
        Deletion::Channel => {
            let text = "SELECT place, offset FROM messages WHERE channel = ?1
                        ORDER BY place DESC, offset DESC LIMIT 1";
            let mut statement = connection.prepare_cached(text)?;
            let last: Option<Key> = statement
                .query_row(params![number], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some(last) = last else { return Ok(None) };
            ((0, 0), (last.0, last.1.saturating_add(1)))
        }
    };
    Ok(Some(Part { from, to, ..Part::default() }))
}
