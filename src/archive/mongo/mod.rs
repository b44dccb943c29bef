//! A store in MongoDB: a replica set or a sharded cluster, shared by any number of processes.
//!
//! 64 offsets are one document (`layout` says what stands in it). A message is added by one atomic
//! update together with the bit that says that it was stored, so a replay changes nothing, and the
//! proof of density reads one number for 64 messages. Every write is idempotent and repeated until a
//! majority has it on disk or its time is over; every look goes along a key with a bound on both sides.

mod append;
mod attempt;
mod count;
mod delete;
mod density;
mod expire;
mod layout;
mod looks;
mod narrow;
mod open;
mod places;
mod read;
mod seek;
mod uri;
mod verify;
mod walk;

use std::future::Future;
use std::time::Duration;

use compact_str::CompactString;
use futures_util::future::BoxFuture;
use mongodb::bson::doc;
use mongodb::options::UpdateOneModel;
use tokio::sync::RwLock;
use tokio::time::timeout;

use self::layout::signed;
use self::looks::Looks;
use self::places::Places;
use super::{
    Appended, Chain, Deleted, Deletion, MAX_READ, Message, MessageId, MessageStore, Page,
    PageQuery, Record, Span, StoreError, Summary, Tail, Verdict,
};

pub use self::open::{OpenError, Settings};

/// See the [module](self).
pub struct MongoStore {
    first_epoch: CompactString,
    looks: Looks,
    places: Places,
    read_timeout: Duration,
    write_timeout: Duration,
    /// Held by writers; true once it is closed.
    closed: RwLock<bool>,
}

impl MongoStore {
    /// Connects, and brings an older format up to date. `epoch` names the first epoch of all channels
    /// of a new database.
    ///
    /// # Errors
    /// Nobody answers within the time for writes, or the database is not for us.
    pub async fn open(settings: &Settings, epoch: CompactString) -> Result<Self, OpenError> {
        Self::open_or_make(settings, Some(&epoch)).await
    }

    /// Opens a database that is there.
    ///
    /// # Errors
    /// As [`MongoStore::open`]; or there is nothing in it.
    pub async fn open_existing(settings: &Settings) -> Result<Self, OpenError> {
        Self::open_or_make(settings, None).await
    }

    /// Without the name of a first epoch nothing is made.
    async fn open_or_make(settings: &Settings, fresh: Option<&str>) -> Result<Self, OpenError> {
        let client = open::client(settings).await?;
        let limit = settings.write_timeout;
        open::check_server(&client, limit).await?;
        let database = client.database(&settings.database);
        let first_epoch = open::prepare(&database, limit, open::STEPS, fresh).await?;
        Ok(Self {
            first_epoch,
            // A little shorter than the whole, so that it says why.
            looks: Looks::new(client, &database, settings.read_timeout.mul_f64(0.9)),
            read_timeout: settings.read_timeout,
            places: Places::default(),
            write_timeout: limit,
            closed: RwLock::new(false),
        })
    }

    /// A read that somebody waits for.
    async fn bounded<T>(
        &self,
        read: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let done = timeout(self.read_timeout, read).await;
        done.unwrap_or_else(|_| Err(StoreError::Unavailable(attempt::no_answer(self.read_timeout))))
    }

    /// A write that a close waits for.
    async fn open_for<T>(
        &self,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let closed = self.closed.read().await;
        if *closed {
            return Err(StoreError::Unavailable("it is closed".into()));
        }
        write.await
    }
}

impl MessageStore for MongoStore {
    fn first_epoch(&self) -> &str {
        &self.first_epoch
    }

    fn largest(&self) -> usize {
        layout::LARGEST
    }

    fn append(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        let append = append::append(&self.looks, &self.places, self.write_timeout, batch);
        Box::pin(self.open_for(append))
    }

    fn tail<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Tail>, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            density::tail(&self.looks, channel, &chapters).await
        }))
    }

    fn chain<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Chain, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            density::chain(&self.looks, channel, &chapters).await
        }))
    }

    fn seal<'a>(
        &'a self,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let open = doc! { "$elemMatch": { "name": epoch, "sealed": { "$exists": false } } };
        let update = UpdateOneModel::builder()
            .namespace(self.looks.channels.namespace())
            .filter(doc! { "_id": channel, "epochs": open })
            .update(doc! { "$set": { "epochs.$.sealed": signed(offset) } })
            .build();
        let write = async move { self.looks.write_all(self.write_timeout, &[update.into()]).await };
        Box::pin(self.open_for(write))
    }

    fn holes<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, u64)>, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            density::holes(&self.looks, channel, &chapters, span, limit).await
        }))
    }

    fn range<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            read::range(&self.looks, channel, &chapters, span).await
        }))
    }

    fn page<'a>(
        &'a self,
        channel: &'a str,
        query: &'a PageQuery,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            read::page(&self.looks, channel, &chapters, query).await
        }))
    }

    fn summary<'a>(
        &'a self,
        channel: &'a str,
    ) -> BoxFuture<'a, Result<Option<Summary>, StoreError>> {
        Box::pin(self.bounded(async move {
            let chapters = self.looks.chapters(channel).await?;
            read::summary(&self.looks, channel, &chapters).await
        }))
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(self.bounded(async move {
            let from = match after.filter(|after| *after >= prefix) {
                Some(after) => doc! { "$gt": after },
                None => doc! { "$gte": prefix },
            };
            let to = format!("{prefix}{}", char::MAX);
            let mut names = self.looks.names((from, &to), limit.min(MAX_READ)).await?;
            names.retain(|name| name.starts_with(prefix));
            Ok(names)
        }))
    }

    fn delete<'a>(
        &'a self,
        channel: &'a str,
        what: Deletion,
    ) -> BoxFuture<'a, Result<Deleted, StoreError>> {
        Box::pin(self.open_for(async move {
            let chapters = self.looks.chapters(channel).await?;
            delete::delete(&self.looks, self.write_timeout, channel, &chapters, &what).await
        }))
    }

    fn expire<'a>(
        &'a self,
        channel: &'a str,
        before: MessageId,
        limit: usize,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(self.open_for(async move {
            let chapters = self.looks.chapters(channel).await?;
            let with = (&self.looks, &self.places, self.write_timeout);
            expire::expire(with, channel, &chapters, before, limit).await
        }))
    }

    fn verify<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Verdict, StoreError>> {
        Box::pin(async move {
            let chapters = self.looks.chapters(channel).await?;
            verify::verify(&self.looks, channel, &chapters).await
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            *self.closed.write().await = true;
        })
    }
}
