//! The one thread that writes: everything that waits goes into one transaction.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::{io, mem, thread};

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::delete::{self, Part};
use super::expire;
use super::{closed, failure, log};
use crate::archive::message::Record;
use crate::archive::{Appended, MessageId, StoreError};
use crate::protocol::publication::Publication;

/// Messages of one transaction; what is more waits for the next.
const MAX_MESSAGES: usize = 8_192;

/// Something for the writer to do.
pub enum Work {
    Append {
        batch: Vec<Record>,
        answer: Answer<Appended>,
    },
    Delete {
        channel: String,
        part: Part,
        answer: Answer<Part>,
    },
    Expire {
        channel: String,
        before: MessageId,
        limit: usize,
        answer: Answer<u64>,
    },
    Seal {
        channel: String,
        epoch: String,
        offset: u64,
        answer: Answer<()>,
    },
    /// Answered with whether it is done: somebody may be reading what is to go.
    Clean {
        answer: Answer<bool>,
    },
    Close {
        answer: Answer<()>,
    },
}

/// What is to be done once a transaction has ended.
#[derive(Default)]
struct Then {
    clean: Vec<Answer<bool>>,
    close: Option<Answer<()>>,
}

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A call that is answered once its transaction is committed, or with what went wrong.
type Promise = Box<dyn FnOnce(Result<(), StoreError>)>;

/// See the [module](self).
pub struct Writer {
    connection: Connection,
    waiting: mpsc::Receiver<Work>,
}

impl Writer {
    pub fn new(connection: Connection, waiting: mpsc::Receiver<Work>) -> Self {
        Self { connection, waiting }
    }

    /// Writes until the store is dropped or closed.
    pub fn start(self) -> io::Result<()> {
        thread::Builder::new().name("history-writer".into()).spawn(move || self.run()).map(drop)
    }

    fn run(mut self) {
        while let Some(first) = self.waiting.blocking_recv() {
            let mut works = vec![first];
            while works.iter().map(Work::messages).sum::<usize>() < MAX_MESSAGES
                && let Ok(next) = self.waiting.try_recv()
            {
                works.push(next);
            }
            let then = self.commit(works);
            if !then.clean.is_empty() {
                let cleaned = log::empty(&self.connection).map_err(|error| failure(&error));
                for answer in then.clean {
                    let _ = answer.send(cleaned.clone());
                }
            }
            if let Some(closing) = then.close {
                // What came behind the close is told that nobody writes any more.
                self.waiting.close();
                if let Err(error) = log::empty(&self.connection) {
                    tracing::warn!(%error, "the log of the history file was not emptied");
                }
                drop(self.connection);
                let _ = closing.send(Ok(()));
                return;
            }
        }
    }

    /// Does all of it in one transaction and answers; returns what comes after that.
    fn commit(&mut self, works: Vec<Work>) -> Then {
        let mut promises = Vec::with_capacity(works.len());
        let mut then = Then::default();
        let done = (|| {
            let begin = TransactionBehavior::Immediate;
            let mut works = works.into_iter();
            let transaction = match self.connection.transaction_with_behavior(begin) {
                Ok(transaction) => transaction,
                Err(error) => {
                    promises.extend(works.filter_map(|work| work.refusal(&mut then)));
                    return Err(error);
                }
            };
            while let Some(work) = works.next() {
                if let Err(error) = work.perform(&transaction, &mut promises, &mut then) {
                    promises.extend(works.filter_map(|work| work.refusal(&mut then)));
                    return Err(error);
                }
            }
            transaction.commit()
        })();
        let outcome = done.map_err(|error| {
            tracing::error!(%error, "nothing of a batch of history was stored");
            failure(&error)
        });
        for promise in promises {
            promise(outcome.clone());
        }
        then
    }
}

impl Work {
    fn messages(&self) -> usize {
        match self {
            Self::Append { batch, .. } => batch.len(),
            Self::Delete { .. } => delete::PART,
            Self::Expire { limit, .. } => *limit,
            Self::Seal { .. } | Self::Clean { .. } | Self::Close { .. } => 1,
        }
    }

    /// Does it within the transaction, and adds whom to tell.
    fn perform(
        self,
        transaction: &Transaction<'_>,
        promises: &mut Vec<Promise>,
        then: &mut Then,
    ) -> rusqlite::Result<()> {
        match self {
            Self::Append { batch, answer } => promise(promises, answer, append(transaction, batch)),
            Self::Delete { channel, part, answer } => {
                promise(promises, answer, delete::part(transaction, &channel, part))
            }
            Self::Expire { channel, before, limit, answer } => {
                promise(promises, answer, expire::oldest(transaction, &channel, before, limit))
            }
            Self::Seal { channel, epoch, offset, answer } => {
                promise(promises, answer, seal(transaction, &channel, &epoch, offset))
            }
            Self::Clean { answer } => {
                then.clean.push(answer);
                Ok(())
            }
            Self::Close { answer } => {
                then.close = Some(answer);
                Ok(())
            }
        }
    }

    /// Whom to tell that it was not done.
    fn refusal(self, then: &mut Then) -> Option<Promise> {
        fn refuse<T: 'static>(answer: Answer<T>) -> Option<Promise> {
            Some(Box::new(move |outcome: Result<(), StoreError>| {
                let _ = answer.send(Err(outcome.err().unwrap_or_else(closed)));
            }))
        }
        match self {
            Self::Append { answer, .. } => refuse(answer),
            Self::Delete { answer, .. } => refuse(answer),
            Self::Expire { answer, .. } => refuse(answer),
            Self::Seal { answer, .. } => refuse(answer),
            Self::Clean { answer } => {
                then.clean.push(answer);
                None
            }
            Self::Close { answer } => {
                then.close = Some(answer);
                None
            }
        }
    }
}

/// Keeps the answer until the transaction has ended, one way or the other.
fn promise<T: Default + 'static>(
    promises: &mut Vec<Promise>,
    answer: Answer<T>,
    done: rusqlite::Result<T>,
) -> rusqlite::Result<()> {
    let (value, failed) = match done {
        Ok(value) => (value, Ok(())),
        Err(error) => (T::default(), Err(error)),
    };
    promises.push(Box::new(move |outcome| {
        let _ = answer.send(outcome.map(|()| value));
    }));
    failed
}

fn append(transaction: &Transaction<'_>, batch: Vec<Record>) -> rusqlite::Result<Appended> {
    let mut groups: BTreeMap<(Arc<str>, Box<str>), BTreeMap<u64, Record>> = BTreeMap::new();
    let mut appended = Appended::default();
    for record in batch {
        let key = (Arc::clone(&record.channel), Box::from(record.message.epoch.as_str()));
        let offset = record.message.offset();
        // The first of two with one offset counts, as if they came one after the other.
        match groups.entry(key).or_default().entry(offset) {
            Entry::Vacant(place) => drop(place.insert(record)),
            Entry::Occupied(_) => appended.duplicates += 1,
        }
    }
    // Ids rise with epochs, whose names say nothing of their order.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, records)| records.values().map(|record| record.message.id).min());
    for ((channel, epoch), records) in groups {
        let number = channel_number(transaction, &channel)?;
        let (place, expired) = epoch_place(transaction, number, &epoch)?;
        let mut runs = Runs { transaction, number, place, open: None };
        let (mut stored, mut last_id) = (0, 0);
        for (offset, record) in records {
            if offset as i64 <= expired || !runs.take(offset as i64)? {
                appended.duplicates += 1;
                continue;
            }
            let id = record.message.id.number() as i64;
            insert(transaction, (number, place, offset as i64, id), &record)?;
            last_id = last_id.max(id);
            stored += 1;
        }
        runs.flush()?;
        if stored > 0 {
            let text = "UPDATE channels SET messages = messages + ?2, last_id = max(last_id, ?3)
                        WHERE number = ?1";
            let values = params![number, stored as i64, last_id];
            transaction.prepare_cached(text)?.execute(values)?;
        }
        appended.stored += stored;
    }
    Ok(appended)
}

fn insert(
    transaction: &Transaction<'_>,
    (number, place, offset, id): (i64, i64, i64, i64),
    record: &Record,
) -> rusqlite::Result<()> {
    // Offset and time stand in the row.
    let stored =
        Publication { offset: 0, time: 0, ..Publication::clone(&record.message.publication) };
    let text = "INSERT INTO messages VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![number, place, offset, id, stored.encode_to_vec()];
    transaction.prepare_cached(text)?.execute(values).map(drop)
}

fn channel_number(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<i64> {
    if let Some(number) = super::read::number(transaction, name)? {
        return Ok(number);
    }
    let text = "INSERT INTO channels (name, messages, deleted, last_id) VALUES (?1, 0, 0, 0)";
    transaction.prepare_cached(text)?.execute(params![name])?;
    Ok(transaction.last_insert_rowid())
}

/// The place of an epoch, made if there is none, and the highest offset that has expired in it.
fn epoch_place(
    transaction: &Transaction<'_>,
    number: i64,
    name: &str,
) -> rusqlite::Result<(i64, i64)> {
    let find = || {
        let text = "SELECT place, expired FROM epochs WHERE channel = ?1 AND name = ?2";
        let mut statement = transaction.prepare_cached(text)?;
        let found =
            statement.query_row(params![number, name], |row| Ok((row.get(0)?, row.get(1)?)));
        found.optional()
    };
    if let Some(found) = find()? {
        return Ok(found);
    }
    let text = "INSERT INTO epochs (channel, place, name)
                SELECT ?1, coalesce(max(place) + 1, 0), ?2 FROM epochs WHERE channel = ?1";
    transaction.prepare_cached(text)?.execute(params![number, name])?;
    find()?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn seal(
    transaction: &Transaction<'_>,
    channel: &str,
    epoch: &str,
    offset: u64,
) -> rusqlite::Result<()> {
    let Some(number) = super::read::number(transaction, channel)? else { return Ok(()) };
    let text = "UPDATE epochs SET sealed = coalesce(sealed, ?3) WHERE channel = ?1 AND name = ?2";
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    transaction.prepare_cached(text)?.execute(params![number, epoch, offset]).map(drop)
}

/// The runs of one epoch while offsets come in, in rising order. The one that grows is written when
/// it is left.
struct Runs<'a, 'c> {
    transaction: &'a Transaction<'c>,
    number: i64,
    place: i64,
    open: Option<Open>,
}

#[derive(Clone, Copy)]
struct Open {
    first: i64,
    last: i64,
    changed: bool,
    /// The run behind it.
    next: Option<(i64, i64)>,
}

impl Runs<'_, '_> {
    /// Adds an offset; false if it was there before.
    fn take(&mut self, offset: i64) -> rusqlite::Result<bool> {
        let reaches = |open: &Open| {
            offset <= open.last + 1 && open.next.is_none_or(|(first, _)| offset < first)
        };
        let mut open = match self.open.filter(reaches) {
            Some(open) => open,
            None => {
                self.flush()?;
                self.around(offset)?
            }
        };
        let is_new = offset > open.last;
        if is_new {
            (open.last, open.changed) = (offset, true);
            if let Some((first, last)) = open.next.filter(|(first, _)| *first == offset + 1) {
                let text = "DELETE FROM runs WHERE channel = ?1 AND place = ?2 AND first = ?3";
                let values = params![self.number, self.place, first];
                self.transaction.prepare_cached(text)?.execute(values)?;
                open.last = last;
                open.next = self.behind(last)?;
            }
        }
        self.open = Some(open);
        Ok(is_new)
    }

    /// The run that `offset` is in or extends, or an empty one right before it.
    fn around(&self, offset: i64) -> rusqlite::Result<Open> {
        let text = "SELECT first, last FROM runs WHERE channel = ?1 AND place = ?2 AND first <= ?3
                    ORDER BY first DESC LIMIT 1";
        let before = self.one(text, offset)?.filter(|(_, last)| *last >= offset - 1);
        let (first, last) = before.unwrap_or((offset, offset - 1));
        Ok(Open { first, last, changed: false, next: self.behind(last.max(offset))? })
    }

    fn behind(&self, offset: i64) -> rusqlite::Result<Option<(i64, i64)>> {
        let text = "SELECT first, last FROM runs WHERE channel = ?1 AND place = ?2 AND first > ?3
                    ORDER BY first LIMIT 1";
        self.one(text, offset)
    }

    fn one(&self, text: &str, offset: i64) -> rusqlite::Result<Option<(i64, i64)>> {
        let values = params![self.number, self.place, offset];
        let mut statement = self.transaction.prepare_cached(text)?;
        statement.query_row(values, |row| Ok((row.get(0)?, row.get(1)?))).optional()
    }

    fn flush(&mut self) -> rusqlite::Result<()> {
        let Some(open) = mem::take(&mut self.open).filter(|open| open.changed) else {
            return Ok(());
        };
        let text = "INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4)";
        let values = params![self.number, self.place, open.first, open.last];
        self.transaction.prepare_cached(text)?.execute(values).map(drop)
    }
}
