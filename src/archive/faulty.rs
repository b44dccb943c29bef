//! A store for tests that fails where it is told to, and notes what it was asked.

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::{
    Appended, Chain, Deleted, Deletion, Message, MessageId, MessageStore, Page, PageQuery, Record,
    SharedStore, Span, StoreError, Summary, Tail, Verdict,
};

/// What a store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Append,
    Channels,
    Expire,
    Page,
    Tail,
    Other,
}

/// Says whether a call about a channel fails.
type Fault = Box<dyn Fn(Call, &str) -> Option<StoreError> + Send + Sync>;

/// See the [module](self).
pub struct Faulty {
    store: SharedStore,
    fault: Fault,
    asked: Mutex<Vec<(Call, String)>>,
}

impl Faulty {
    pub fn new(
        store: SharedStore,
        fault: impl Fn(Call, &str) -> Option<StoreError> + Send + Sync + 'static,
    ) -> Self {
        Self { store, fault: Box::new(fault), asked: Mutex::default() }
    }

    /// The channels that were asked for so.
    pub fn asked(&self, call: Call) -> Vec<String> {
        let asked = self.asked.lock();
        asked.iter().filter(|(made, _)| *made == call).map(|(_, name)| name.clone()).collect()
    }

    /// A store takes a moment, in which it may be asked for other things.
    async fn check(&self, call: Call, channel: &str) -> Result<(), StoreError> {
        self.asked.lock().push((call, channel.to_owned()));
        tokio::task::yield_now().await;
        (self.fault)(call, channel).map_or(Ok(()), Err)
    }
}

impl MessageStore for Faulty {
    fn first_epoch(&self) -> &str {
        self.store.first_epoch()
    }

    fn append(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<Appended, StoreError>> {
        Box::pin(async move {
            let channel = batch.first().map(|record| record.channel.to_string());
            self.check(Call::Append, &channel.unwrap_or_default()).await?;
            self.store.append(batch).await
        })
    }

    fn tail<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Tail>, StoreError>> {
        Box::pin(async move {
            self.check(Call::Tail, channel).await?;
            self.store.tail(channel).await
        })
    }

    fn chain<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Chain, StoreError>> {
        Box::pin(async move {
            self.check(Call::Other, channel).await?;
            self.store.chain(channel).await
        })
    }

    fn seal<'a>(
        &'a self,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.check(Call::Other, channel).await?;
            self.store.seal(channel, epoch, offset).await
        })
    }

    fn holes<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, u64)>, StoreError>> {
        self.store.holes(channel, span, limit)
    }

    fn range<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>> {
        self.store.range(channel, span)
    }

    fn page<'a>(
        &'a self,
        channel: &'a str,
        query: &'a PageQuery,
    ) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            self.check(Call::Page, channel).await?;
            self.store.page(channel, query).await
        })
    }

    fn summary<'a>(
        &'a self,
        channel: &'a str,
    ) -> BoxFuture<'a, Result<Option<Summary>, StoreError>> {
        self.store.summary(channel)
    }

    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            self.check(Call::Channels, prefix).await?;
            self.store.channels(prefix, after, limit).await
        })
    }

    fn delete<'a>(
        &'a self,
        channel: &'a str,
        what: Deletion,
    ) -> BoxFuture<'a, Result<Deleted, StoreError>> {
        self.store.delete(channel, what)
    }

    fn expire<'a>(
        &'a self,
        channel: &'a str,
        before: MessageId,
        limit: usize,
    ) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            self.check(Call::Expire, channel).await?;
            self.store.expire(channel, before, limit).await
        })
    }

    fn verify<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Verdict, StoreError>> {
        self.store.verify(channel)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.store.close()
    }
}
