//! Every look at the server. Since a bucket's key follows from the offset, a look names the keys that
//! it wants and never meets another document. Only where many buckets may be missing, the next one is
//! found by its order, between two keys.

use std::error::Error as _;
use std::time::Duration;

use mongodb::bson::{Binary, Bson, Document, RawDocumentBuf, doc};
use mongodb::error::ErrorKind;
use mongodb::options::WriteModel;
use mongodb::{Client, Collection, Database, Namespace};

use super::attempt::{self, Failure, repeat};
use super::layout::{
    self, BUCKETS, Bucket, CHANNELS, ChannelDocument, Chapter, Header, LARGE, Shelf,
};
use super::open;
use crate::archive::{Order, StoreError};

/// Buckets of one look without their messages: 32,768 offsets, three times what a recovery brings by
/// default.
pub const HEADERS: i64 = 512;

/// Buckets of one look with their messages, of 1 MiB at most each: enough for a page of the longest.
pub const WHOLE: i64 = 17;

/// Large bodies of one look.
const BODIES: usize = 4;

/// The collections, and how long a look may take.
pub struct Looks {
    pub client: Client,
    pub limit: Duration,
    pub channels: Collection<ChannelDocument>,
    pub buckets: Collection<RawDocumentBuf>,
    pub large: Collection<RawDocumentBuf>,
}

impl Looks {
    pub fn new(client: Client, database: &Database, limit: Duration) -> Self {
        Self {
            client,
            limit,
            channels: database.collection(CHANNELS),
            buckets: database.collection(BUCKETS),
            large: database.collection(LARGE),
        }
    }

    /// The epochs of a channel, the oldest first; none if it was never appended to.
    pub async fn chapters(&self, channel: &str) -> Result<Vec<Chapter>, StoreError> {
        let key = doc! { "_id": channel };
        let found = repeat(self.limit, || async { Ok(self.channels.find_one(key.clone()).await?) });
        Ok(found.await?.map(|channel| channel.epochs).unwrap_or_default())
    }

    /// Channels of these names, as many as there are.
    pub async fn channels(&self, names: &[&str]) -> Result<Vec<ChannelDocument>, Failure> {
        let filter = doc! { "_id": { "$in": names } };
        let mut found = self.channels.find(filter).limit(names.len() as i64).await?;
        let mut channels = Vec::with_capacity(names.len());
        while found.advance().await? {
            channels.push(found.deserialize_current()?);
        }
        Ok(channels)
    }

    /// Names behind `from` and not behind `to`, in byte order.
    pub async fn names(
        &self,
        (from, to): (Document, &str),
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut range = from;
        range.insert("$lte", to);
        let filter = doc! { "_id": range };
        repeat(self.limit, || async {
            let collection = self.channels.clone_with_type::<RawDocumentBuf>();
            let find = collection.find(filter.clone()).sort(doc! { "_id": 1 });
            let mut found = find.limit(limit as i64).projection(doc! { "_id": 1 }).await?;
            let mut names = Vec::new();
            while found.advance().await? {
                let name = found.current().get_str("_id").map_err(|e| layout::damaged(&e))?;
                names.push(name.to_owned());
            }
            Ok(names)
        })
        .await
    }

    /// Buckets from one number to another, at most [`HEADERS`], without their messages.
    pub async fn headers(
        &self,
        shelf: &Shelf,
        from: i64,
        to: i64,
    ) -> Result<Vec<Header>, StoreError> {
        self.headers_of(shelf.ids(from, to.min(from.saturating_add(HEADERS - 1)))).await
    }

    /// Buckets with these keys, without their messages, in the order of the keys.
    pub async fn headers_of(&self, keys: Vec<Binary>) -> Result<Vec<Header>, StoreError> {
        let limit = keys.len() as i64;
        let filter = doc! { "_id": { "$in": keys } };
        self.find_headers(&filter, &doc! { "_id": 1 }, limit).await
    }

    /// The first buckets that there are from one number to another, or the last ones.
    pub async fn present(
        &self,
        shelf: &Shelf,
        (from, to): (i64, i64),
        order: Order,
        limit: i64,
    ) -> Result<Vec<Header>, StoreError> {
        let direction = match order {
            Order::OldestFirst => 1,
            Order::NewestFirst => -1,
        };
        self.find_headers(&shelf.between(from, to), &doc! { "_id": direction }, limit).await
    }

    /// Buckets from one number to another, at most [`WHOLE`], the lowest first.
    pub async fn buckets(
        &self,
        shelf: &Shelf,
        from: i64,
        to: i64,
    ) -> Result<Vec<Bucket>, StoreError> {
        let keys = shelf.ids(from, to.min(from.saturating_add(WHOLE - 1)));
        let filter = doc! { "_id": { "$in": &keys } };
        repeat(self.limit, || self.find_buckets(&filter, keys.len() as i64)).await
    }

    /// The id of the message at an offset; none if there is none that can be read.
    pub async fn id_at(&self, shelf: &Shelf, offset: i64) -> Result<Option<i64>, StoreError> {
        let key = doc! { "_id": shelf.id(layout::bucket_of(offset)) };
        let mut fields = layout::header_fields();
        fields.insert(format!("messages.{}", layout::slot_of(offset)), 1);
        repeat(self.limit, || async {
            let find = self.buckets.find(key.clone()).projection(fields.clone()).limit(1);
            let mut cursor = find.await?;
            if !cursor.advance().await? {
                return Ok(None);
            }
            let bucket = Bucket::read(cursor.current())?;
            Ok(bucket.living().find(|(at, _)| *at == offset).map(|(_, slot)| slot.id))
        })
        .await
    }

    /// Buckets with these keys, each with its own.
    pub async fn buckets_of(&self, keys: &[Binary]) -> Result<Vec<(Binary, Bucket)>, Failure> {
        let find = self.buckets.find(doc! { "_id": { "$in": keys } }).limit(keys.len() as i64);
        let (mut cursor, mut buckets) = (find.await?, Vec::with_capacity(keys.len()));
        while cursor.advance().await? {
            let key = cursor.current().get_binary("_id").map_err(|e| layout::damaged(&e))?;
            let key = layout::binary(key.bytes.to_vec());
            buckets.push((key, Bucket::read(cursor.current())?));
        }
        Ok(buckets)
    }

    /// The large bodies of these keys, in their order; none for one that is not there.
    pub async fn bodies(&self, keys: &[Binary]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let mut bodies = vec![None; keys.len()];
        for (part, places) in keys.chunks(BODIES).zip(bodies.chunks_mut(BODIES)) {
            let filter = doc! { "_id": { "$in": part } };
            let found = repeat(self.limit, || async {
                let large = self.large.clone_with_type::<Document>();
                let mut cursor = large.find(filter.clone()).limit(part.len() as i64).await?;
                let mut found = Vec::new();
                while cursor.advance().await? {
                    found.push(cursor.deserialize_current()?);
                }
                Ok(found)
            });
            for document in found.await? {
                let Some(Bson::Binary(key)) = document.get("_id") else { continue };
                let place = part.iter().zip(&mut *places).find(|(asked, _)| *asked == key);
                if let (Some((_, place)), Ok(body)) = (place, document.get_binary_generic("body")) {
                    *place = Some(body.clone());
                }
            }
        }
        Ok(bodies)
    }

    /// Does each of these writes by itself. Returns those that failed, with their codes and messages.
    ///
    /// # Errors
    /// It is not known which were done.
    pub async fn write(
        &self,
        writes: Vec<WriteModel>,
    ) -> Result<Vec<(usize, i32, String)>, Failure> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let write = self.client.bulk_write(writes).ordered(false);
        let done = write.write_concern(open::durable()).await;
        let Err(error) = done else { return Ok(Vec::new()) };
        match &*error.kind {
            // Without a source and a concern that failed, the server has answered for every write.
            ErrorKind::BulkWrite(failed)
                if error.source().is_none() && failed.write_concern_errors.is_empty() =>
            {
                let failed = failed.write_errors.iter();
                Ok(failed.map(|(at, error)| (*at, error.code, error.message.clone())).collect())
            }
            _ => Err(error.into()),
        }
    }

    /// Does all of these writes, which must be idempotent.
    pub async fn write_all(
        &self,
        limit: Duration,
        writes: &[WriteModel],
    ) -> Result<(), StoreError> {
        repeat(limit, || async {
            match self.write(writes.to_vec()).await?.into_iter().next() {
                None => Ok(()),
                Some((_, code, message)) => Err(attempt::of_code(code, &message)),
            }
        })
        .await
    }

    pub fn bucket_namespace(&self) -> Namespace {
        self.buckets.namespace()
    }

    async fn find_headers(
        &self,
        filter: &Document,
        sort: &Document,
        limit: i64,
    ) -> Result<Vec<Header>, StoreError> {
        repeat(self.limit, || async {
            let find = self.buckets.find(filter.clone()).sort(sort.clone()).limit(limit);
            let find = find.projection(layout::header_fields()).batch_size(HEADERS as u32 + 1);
            let (mut cursor, mut headers) = (find.await?, Vec::new());
            while cursor.advance().await? {
                headers.push(Header::read(cursor.current())?);
            }
            Ok(headers)
        })
        .await
    }

    async fn find_buckets(&self, filter: &Document, limit: i64) -> Result<Vec<Bucket>, Failure> {
        let find = self.buckets.find(filter.clone()).sort(doc! { "_id": 1 }).limit(limit);
        let (mut cursor, mut buckets) = (find.await?, Vec::new());
        while cursor.advance().await? {
            buckets.push(Bucket::read(cursor.current())?);
        }
        Ok(buckets)
    }
}
