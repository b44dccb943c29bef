//! Connecting, and bringing the database up to date.

use std::time::Duration;

use compact_str::CompactString;
use futures_util::future::BoxFuture;
use mongodb::bson::{Document, doc};
use mongodb::error::{ErrorKind, WriteFailure};
use mongodb::options::{
    Acknowledgment, ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};
use serde::Deserialize;

use super::attempt::{DUPLICATE_KEY, Failure, repeat};
use super::layout::{BUCKETS, CHANNELS, LARGE, STORE};
use super::uri;
use crate::archive::StoreError;
use crate::config::units::Secret;

/// Where the database is and how long it may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A connection string `mongodb://…` of a replica set or of a sharded cluster.
    pub uri: Secret,
    pub database: String,
    /// The longest that a read may take, with all its attempts.
    pub read_timeout: Duration,
    /// The longest that a write may take, with all its attempts.
    pub write_timeout: Duration,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("history.mongo.uri: {0}")]
    Uri(String),
    #[error("history.mongo.uri: {0}")]
    Unavailable(StoreError),
    #[error(
        "history.mongo.uri: the server is no member of a replica set and no router of a cluster, so \
         nothing it says is stored would survive its loss"
    )]
    Alone,
    #[error("history.mongo.uri: the server is older than MongoDB 8.0")]
    TooOld,
    #[error("history.mongo.database: {0} is used by something else")]
    Foreign(String),
    #[error("history.mongo.database: there is no such history: {0}")]
    Missing(String),
    #[error(
        "history.mongo.database: {database} has format {found}, and this version knows up to {known}: \
         it was written by a newer one"
    )]
    Newer { database: String, found: i64, known: i64 },
}

/// Leads from the format of its index to the next. Several processes may run it at the same time, and
/// it may have been run in part before.
pub type Step = for<'a> fn(&'a Database) -> BoxFuture<'a, Result<(), Failure>>;

/// Steps that were released never change; a new format is a new step.
pub const STEPS: &[Step] = &[|database| Box::pin(make_collections(database))];

/// `bulkWrite` over several collections.
const WIRE_OF_8_0: i32 = 25;

/// What stands in the store's document, so that a database of somebody else is noticed.
const APPLICATION: &str = "bobolink";

/// The collection is there.
const NAMESPACE_EXISTS: i32 = 48;

#[derive(Debug, Deserialize)]
struct StoreDocument {
    application: String,
    format: i64,
    first_epoch: String,
}

/// A client whose writes a majority has on disk before they are acknowledged, and whose reads show
/// nothing else.
///
/// # Errors
/// The connection string is none.
pub async fn client(settings: &Settings) -> Result<Client, OpenError> {
    let uri = settings.uri.expose();
    uri::check(uri).map_err(|fault| OpenError::Uri(fault.into()))?;
    let refused = |error: mongodb::error::Error| {
        OpenError::Uri(uri::without_secrets(&error.to_string(), uri))
    };
    let mut options = ClientOptions::parse(uri).await.map_err(refused)?;
    // A little shorter than a read, so that it says why.
    let limit = settings.read_timeout.mul_f64(0.75);
    let bounded = |given: Option<Duration>| Some(given.map_or(limit, |given| given.min(limit)));
    options.server_selection_timeout = bounded(options.server_selection_timeout);
    options.connect_timeout = bounded(options.connect_timeout);
    options.app_name.get_or_insert_with(|| APPLICATION.into());
    options.retry_writes = Some(true);
    options.retry_reads = Some(true);
    options.read_concern = Some(ReadConcern::majority());
    options.write_concern = Some(durable());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    Client::with_options(options).map_err(refused)
}

/// Acknowledged by a majority, each with it in its journal.
pub fn durable() -> WriteConcern {
    WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build()
}

/// Refuses servers that cannot keep what they acknowledge.
///
/// # Errors
/// Nobody answers within `limit`, or it is not a server for us.
pub async fn check_server(client: &Client, limit: Duration) -> Result<(), OpenError> {
    let admin = client.database("admin");
    let hello = repeat(limit, || async { Ok(admin.run_command(doc! { "hello": 1 }).await?) });
    let hello = hello.await.map_err(OpenError::Unavailable)?;
    if !hello.contains_key("setName") && !hello.get_str("msg").is_ok_and(|text| text == "isdbgrid")
    {
        return Err(OpenError::Alone);
    }
    let wire = hello.get_i32("maxWireVersion").unwrap_or(0);
    if wire < WIRE_OF_8_0 { Err(OpenError::TooOld) } else { Ok(()) }
}

/// Brings the database up to date and returns the first epoch of its channels; `fresh` if it has none
/// yet. Without a fresh one nothing is made.
///
/// # Errors
/// It is of somebody else or of a newer version, is not there, or does not answer.
pub async fn prepare(
    database: &Database,
    limit: Duration,
    steps: &[Step],
    fresh: Option<&str>,
) -> Result<CompactString, OpenError> {
    let store = database.collection::<StoreDocument>(STORE);
    let key = doc! { "_id": "history" };
    let found = repeat(limit, || async { Ok(store.find_one(key.clone()).await?) });
    let found = found.await.map_err(OpenError::Unavailable)?;
    let format = check_format(database, found.as_ref(), steps.len())?;
    let Some(fresh) = fresh.or_else(|| Some(found.as_ref()?.first_epoch.as_str())) else {
        return Err(OpenError::Missing(database.name().to_owned()));
    };
    for (index, step) in steps.iter().enumerate().skip(format) {
        repeat(limit, || step(database)).await.map_err(OpenError::Unavailable)?;
        if found.is_some() {
            let (database, format) = (database.name(), index + 1);
            tracing::info!(database, "the history was brought to format {format}");
        }
    }
    if found.is_none() {
        let made = doc! {
            "_id": "history", "application": APPLICATION, "format": steps.len() as i64,
            "first_epoch": fresh,
        };
        let made = repeat(limit, || insert(database, made.clone())).await;
        made.map_err(OpenError::Unavailable)?;
    }
    let stored = repeat(limit, || async {
        store.update_one(key.clone(), doc! { "$max": { "format": steps.len() as i64 } }).await?;
        Ok(store.find_one(key.clone()).await?)
    });
    let stored = stored.await.map_err(OpenError::Unavailable)?;
    check_format(database, stored.as_ref(), steps.len())?;
    Ok(stored.map_or_else(|| fresh.into(), |stored| stored.first_epoch.into()))
}

/// Makes the store's document, unless somebody else does so at this moment: the first one names the
/// epoch.
async fn insert(database: &Database, document: Document) -> Result<(), Failure> {
    match database.collection::<Document>(STORE).insert_one(document).await {
        Err(error) if !is_duplicate(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn is_duplicate(error: &mongodb::error::Error) -> bool {
    matches!(&*error.kind, ErrorKind::Write(WriteFailure::WriteError(failed))
        if failed.code == DUPLICATE_KEY)
}

/// The format that the database has.
fn check_format(
    database: &Database,
    found: Option<&StoreDocument>,
    known: usize,
) -> Result<usize, OpenError> {
    let Some(found) = found else { return Ok(0) };
    if found.application != APPLICATION {
        return Err(OpenError::Foreign(database.name().to_owned()));
    }
    let (database, known) = (database.name().to_owned(), known as i64);
    if found.format > known {
        return Err(OpenError::Newer { database, found: found.format, known });
    }
    Ok(usize::try_from(found.format).unwrap_or(0))
}

/// Buckets are texts that resemble each other, which zstd makes much smaller than snappy. Collections
/// that are there, perhaps sharded already, stay as they are.
async fn make_collections(database: &Database) -> Result<(), Failure> {
    for name in [CHANNELS, BUCKETS, LARGE, STORE] {
        let engine = doc! { "wiredTiger": { "configString": "block_compressor=zstd" } };
        match database.create_collection(name).storage_engine(engine).await {
            Err(error) if !is_command(&error, NAMESPACE_EXISTS) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

fn is_command(error: &mongodb::error::Error, code: i32) -> bool {
    matches!(&*error.kind, ErrorKind::Command(failed) if failed.code == code)
}
