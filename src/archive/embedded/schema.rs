//! The tables of the file, and how an older file becomes a current one.

use std::path::Path;

use compact_str::CompactString;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::{BUSY, OpenError, database};

/// Marks the file as ours: `Bobl`.
const APPLICATION_ID: i64 = 0x426f_626c;

/// Bytes after which the write-ahead log is cut back when it was worked off.
const LOG_LIMIT: i64 = 64 * 1024 * 1024;

/// Each step leads from the format of its index to the next. Steps that were released never change;
/// a new format is a new step.
pub const STEPS: &[&str] = &[
    "
    CREATE TABLE store (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

    -- `messages` can be read, `deleted` were there; `last_id` is the highest id there ever was.
    CREATE TABLE channels (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        messages INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        last_id INTEGER NOT NULL
    ) STRICT;

    -- In order of `place`, the newest last; `sealed` is the offset that nothing lies beyond.
    CREATE TABLE epochs (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        name TEXT NOT NULL,
        sealed INTEGER,
        PRIMARY KEY (channel, place)
    ) STRICT, WITHOUT ROWID;

    -- Offsets that were stored, deleted ones included: none missing between first and last, and at
    -- least one between two runs.
    CREATE TABLE runs (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        PRIMARY KEY (channel, place, first)
    ) STRICT, WITHOUT ROWID;

    -- Ids rise with (place, offset), so both are looked up along the one key.
    CREATE TABLE messages (
        channel INTEGER NOT NULL,
        place INTEGER NOT NULL,
        offset INTEGER NOT NULL,
        id INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (channel, place, offset)
    ) STRICT, WITHOUT ROWID;
",
    "
    -- Of what expired: the lowest offset that the epoch began with, and the highest that is gone.
    ALTER TABLE epochs ADD COLUMN began INTEGER;
    ALTER TABLE epochs ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
",
];

/// A connection to the file.
pub fn connect(path: &Path, cache: usize, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(
        None,
        "cache_size",
        -(i64::try_from(cache / 1_024).unwrap_or(8_192)),
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Whether there is nothing in the file.
pub fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let text = "SELECT count(*) = 0 FROM sqlite_schema";
    connection.query_row(text, [], |row| row.get(0))
}

/// Makes the tables, or brings those of an older format up to date, in one transaction each step.
///
/// # Errors
/// The file is of somebody else, or of a newer version.
pub fn prepare(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), OpenError> {
    let fail = |error: rusqlite::Error| database(path, &error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, found) =
        (number("application_id").map_err(fail)?, number("user_version").map_err(fail)?);
    let has_tables = !is_empty(connection).map_err(fail)?;
    let known = steps.len() as i64;
    if application != APPLICATION_ID && (has_tables || application != 0) {
        return Err(OpenError::Foreign { path: path.into() });
    }
    if found > known {
        return Err(OpenError::Newer { path: path.into(), found, known });
    }
    set_up(connection).map_err(fail)?;
    for (index, step) in steps.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let version = index as i64 + 1;
        let apply = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        };
        apply(connection).map_err(fail)?;
    }
    if (1..known).contains(&found) {
        tracing::info!(path = %path.display(), found, "the history file was brought to format {known}");
    }
    Ok(())
}

/// The name of the first epoch of this file; `fresh` if it has none yet.
pub fn first_epoch(connection: &Connection, fresh: &str) -> rusqlite::Result<CompactString> {
    let read = || {
        let text = "SELECT value FROM store WHERE key = 'first_epoch'";
        connection.query_row(text, [], |row| row.get::<_, String>(0)).optional()
    };
    if let Some(name) = read()? {
        return Ok(name.into());
    }
    connection.execute("INSERT INTO store VALUES ('first_epoch', ?1)", params![fresh])?;
    Ok(fresh.into())
}

/// Every commit is on the disk when it returns; what was deleted is overwritten.
fn set_up(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_LIMIT, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "secure_delete", "ON", |_| Ok(()))
}
