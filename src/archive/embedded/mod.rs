//! A store in one local file: SQLite, written by one thread and read by a few.
//!
//! SQLite rather than redb, measured side by side with 300,000 messages of 160 bytes in 1,000
//! channels, committed durably by the hundred: redb appends a third more per CPU second, pages read
//! equally fast, and SQLite's file is half as large. What decided is the full disk: SQLite rolls the
//! transaction back and goes on, redb has to be opened again and then looks through the whole file.
//!
//! What waits while a transaction is synchronised goes into the next one together (group commit).
//! Which offsets were ever stored is kept as runs without holes, so that the proof of density is one
//! look and a deleted message leaves nothing behind but the absence of its row.

mod delete;
mod expire;
mod log;
mod read;
mod schema;
mod seek;
mod verify;
mod writer;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use self::log::Cleaning;
use self::writer::{Work, Writer};
use super::{
    Appended, Chain, Deleted, Deletion, MAX_READ, Message, MessageId, MessageStore, Page,
    PageQuery, Record, Span, StoreError, Summary, Tail, Verdict,
};

/// Batches that may wait for the writer; who comes later waits for a place.
const WAITING: usize = 256;

/// Reads at the same time. They wait for the disk more than for the CPU.
const READERS: usize = 4;

/// A process that is about to end may hold the lock a moment longer.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Who may read and write the file: its owner alone.
const MODE: u32 = 0o600;

/// Where the file is and how it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    pub path: PathBuf,
    /// Bytes of pages that each connection remembers.
    pub cache: usize,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("history.path: cannot open {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("history.path: {path} is in use by another process", path = path.display())]
    Locked { path: PathBuf },
    #[error("history.path: {path} is not a history file", path = path.display())]
    Foreign { path: PathBuf },
    #[error(
        "history.path: {path} has format {found}, and this version knows up to {known}: it was \
         written by a newer one", path = path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("history.path: there is no such history: {path}", path = path.display())]
    Missing { path: PathBuf },
    #[error("history.path: cannot use {path}: {reason}", path = path.display())]
    Database { path: PathBuf, reason: String },
}

/// See the [module](self).
pub struct EmbeddedStore {
    first_epoch: CompactString,
    work: mpsc::Sender<Work>,
    readers: Arc<Readers>,
    cleaning: Cleaning,
    /// Released when the store is dropped.
    _lock: File,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    places: Arc<Semaphore>,
}

/// A connection in use. It goes back however its read ends, also when nobody waits for that any more,
/// and its place is free only then.
struct Lease {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _place: OwnedSemaphorePermit,
}

impl EmbeddedStore {
    /// Opens the file, made if there is none, and brings an older format up to date. `epoch` names
    /// the first epoch of all channels of a new file.
    ///
    /// # Errors
    /// The file is in use, not ours, of a newer format, or cannot be written.
    pub fn open(settings: &Settings, epoch: CompactString) -> Result<Self, OpenError> {
        Self::open_or_make(settings, Some(&epoch))
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// As [`EmbeddedStore::open`]; or there is no file, or nothing in it.
    pub fn open_existing(settings: &Settings) -> Result<Self, OpenError> {
        match settings.path.exists() {
            true => Self::open_or_make(settings, None),
            false => Err(OpenError::Missing { path: settings.path.clone() }),
        }
    }

    /// Without the name of a first epoch nothing is made.
    fn open_or_make(settings: &Settings, fresh: Option<&str>) -> Result<Self, OpenError> {
        let path = settings.path.as_path();
        let lock = lock(path)?;
        if fresh.is_some() {
            own(path).map_err(|source| OpenError::File { path: path.into(), source })?;
        }
        let mut connection =
            schema::connect(path, settings.cache, OpenFlags::SQLITE_OPEN_READ_WRITE)
                .map_err(|error| database(path, &error))?;
        if fresh.is_none()
            && schema::is_empty(&connection).map_err(|error| database(path, &error))?
        {
            return Err(OpenError::Missing { path: path.into() });
        }
        schema::prepare(&mut connection, path, schema::STEPS)?;
        let first_epoch = schema::first_epoch(&connection, fresh.unwrap_or_default())
            .map_err(|error| database(path, &error))?;
        let readers = (0..READERS)
            .map(|_| schema::connect(path, settings.cache, OpenFlags::SQLITE_OPEN_READ_ONLY))
            .collect::<Result<_, _>>()
            .map_err(|error| database(path, &error))?;
        let (work, waiting) = mpsc::channel(WAITING);
        Writer::new(connection, waiting)
            .start()
            .map_err(|source| OpenError::File { path: path.into(), source })?;
        let readers =
            Readers { idle: Mutex::new(readers), places: Arc::new(Semaphore::new(READERS)) };
        let (readers, cleaning) = (Arc::new(readers), Cleaning::default());
        Ok(Self { first_epoch, work, readers, cleaning, _lock: lock })
    }

    /// Runs `read` with a connection of its own, beside the async tasks. All its statements see the
    /// file as it was at the first of them.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let places = Arc::clone(&self.readers.places);
        let place = places.acquire_owned().await.map_err(|_| closed())?;
        let lease = Lease::take(Arc::clone(&self.readers), place);
        let done = tokio::task::spawn_blocking(move || {
            let connection = lease.connection.as_ref().ok_or_else(closed)?;
            let snapshot = connection.unchecked_transaction().map_err(|error| failure(&error))?;
            read(&snapshot).map_err(|error| failure(&error))
        });
        done.await.map_err(|_| closed())?
    }

    /// Leaves work for the writer and waits until it is done.
    async fn write<T>(
        &self,
        work: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Work,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.work.send(work(answer)).await.map_err(|_| closed())?;
        answered.await.map_err(|_| StoreError::Unknown)?
    }
}

impl Lease {
    fn take(readers: Arc<Readers>, place: OwnedSemaphorePermit) -> Self {
        let connection = readers.idle.lock().pop();
        Self { connection, readers, _place: place }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.readers.idle.lock().extend(self.connection.take());
    }
}

impl MessageStore for EmbeddedStore {
    fn first_epoch(&self) -> &str {
        &self.first_epoch
    }

    fn append(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move {
            let fits = |record: &Record| (1..=i64::MAX as u64).contains(&record.message.offset());
            if !batch.iter().all(fits) {
                return Err(StoreError::BadRequest("an offset must be from 1 to 2^63 - 1"));
            }
            self.write(|answer| Work::Append { batch, answer }).await
        })
    }

    fn tail<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Tail>, StoreError>> {
        let channel = channel.to_owned();
        Box::pin(self.read(move |connection| read::tail(connection, &channel)))
    }

    fn chain<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Chain, StoreError>> {
        let channel = channel.to_owned();
        Box::pin(self.read(move |connection| read::chain(connection, &channel)))
    }

    fn seal<'a>(
        &'a self,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let (channel, epoch) = (channel.to_owned(), epoch.to_owned());
        Box::pin(self.write(move |answer| Work::Seal { channel, epoch, offset, answer }))
    }

    fn holes<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, u64)>, StoreError>> {
        let (channel, span) = (channel.to_owned(), span.clone());
        Box::pin(self.read(move |connection| read::holes(connection, &channel, &span, limit)))
    }

    fn range<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        let (channel, span) = (channel.to_owned(), span.clone());
        Box::pin(self.read(move |connection| read::range(connection, &channel, &span)))
    }

    fn page<'a>(
        &'a self,
        channel: &'a str,
        query: &'a PageQuery,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        let (channel, query) = (channel.to_owned(), query.clone());
        Box::pin(self.read(move |connection| read::page(connection, &channel, &query)))
    }

    fn summary<'a>(
        &'a self,
        channel: &'a str,
    ) -> BoxFuture<'a, Result<Option<Summary>, StoreError>> {
        let channel = channel.to_owned();
        Box::pin(self.read(move |connection| read::summary(connection, &channel)))
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(
            self.read(move |connection| {
                read::channels(connection, &prefix, after.as_deref(), limit)
            }),
        )
    }

    fn delete<'a>(
        &'a self,
        channel: &'a str,
        what: Deletion,
    ) -> BoxFuture<'a, Result<Deleted, StoreError>> {
        Box::pin(self.delete_in_parts(channel, what))
    }

    fn expire<'a>(
        &'a self,
        channel: &'a str,
        before: MessageId,
        limit: usize,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        let limit = limit.min(MAX_READ);
        Box::pin(async move {
            // Most channels that are looked at have nothing to drop, which needs no transaction.
            let name = channel.to_owned();
            if !self.read(move |connection| expire::is_due(connection, &name, before)).await? {
                return Ok(0);
            }
            let channel = channel.to_owned();
            let dropped =
                self.write(move |answer| Work::Expire { channel, before, limit, answer }).await;
            self.cleaning.begin(&self.work);
            dropped
        })
    }

    fn verify<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Verdict, StoreError>> {
        let channel = channel.to_owned();
        Box::pin(self.read(move |connection| verify::channel(connection, &channel)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            // Nobody to write any more is as good as done.
            let _ = self.write(|answer| Work::Close { answer }).await;
        })
    }
}

/// Locks a file beside the store's own: closing any descriptor of that one would give up the locks
/// that SQLite has on it.
fn lock(path: &Path) -> Result<File, OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let fail = |source| OpenError::File { path: path.into(), source };
    let file = own(Path::new(&name)).map_err(fail)?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
    }
    Err(OpenError::Locked { path: path.into() })
}

/// Opens a file that is its owner's alone, made if there is none.
fn own(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)
}

fn database(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path: path.into() },
        _ => OpenError::Database { path: path.into(), reason: error.to_string() },
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("it is closed".into())
}

/// What a failure of SQLite means to callers.
fn failure(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Damaged(error.to_string())
        }
        _ => match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..) => StoreError::Damaged(error.to_string()),
            _ => StoreError::Unavailable(error.to_string()),
        },
    }
}

/// How long a connection waits for the lock of another; only opening and checkpoints take one.
const BUSY: Duration = Duration::from_secs(10);

#[cfg(test)]
mod size;
#[cfg(test)]
mod tests;
