//! Publications for years: what a [`MessageStore`] keeps, and the stores there are.
//!
//! A message is known by channel, epoch and offset, and within its channel by a [`MessageId`] that
//! rises with them. Appending is idempotent on the first three, so whoever is unsure whether a batch
//! was stored sends it again. A store remembers a deleted message's place: it counts for density and
//! is never read again.
//!
//! To add a store: implement [`MessageStore`], and run the scenarios of `tests/it/history/contract.rs`
//! with it.

mod blocks;
mod embedded;
mod epochs;
#[cfg(test)]
pub mod faulty;
mod message;
mod mongo;
mod page;
pub mod retention;

use std::sync::Arc;

use compact_str::CompactString;
use futures_util::future::BoxFuture;

pub use self::blocks::{BLOCK, Block, Blocks};
pub use self::embedded::{EmbeddedStore, OpenError, Settings as EmbeddedSettings};
pub use self::epochs::{Chain, End, Epoch, Span};
pub use self::message::{Message, MessageId, NotAnId, Record};
pub use self::mongo::{MongoStore, OpenError as MongoOpenError, Settings as MongoSettings};
pub use self::page::{Anchor, Order, Page, PageQuery, Summary};

/// Most messages that one call reads; larger limits are cut to it.
pub const MAX_READ: usize = 1_000;

/// Letters of an epoch's name, as Centrifugo's.
pub const EPOCH_LETTERS: usize = 8;

/// Keeps messages.
///
/// Calls may come from anywhere at the same time. Each is whole: a failed append has stored nothing,
/// unless it says [`StoreError::Unknown`].
pub trait MessageStore: Send + Sync {
    /// The epoch of every channel that has no message yet; the same for the store's whole life.
    fn first_epoch(&self) -> &str;

    /// Bytes of the longest encoded publication that it takes.
    fn largest(&self) -> usize {
        usize::MAX
    }

    /// Stores a batch in any order. What is there already, or was and is deleted, stays as it is. An
    /// epoch that the channel does not have yet becomes its newest and is open.
    ///
    /// So the caller sees to the order of epochs: the first message of one is appended after everything
    /// of those before it was, or in one batch with it, whose epochs follow their ids. Two calls at the
    /// same time, each with another new epoch of one channel, may put them in either order, and that
    /// order stays.
    ///
    /// Returns once the batch would survive a loss of power.
    fn append(&self, batch: Vec<Record>) -> BoxFuture<'_, Result<Appended, StoreError>>;

    /// Where a channel ends; none if it was never appended to.
    fn tail<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Option<Tail>, StoreError>>;

    /// The epochs of a channel, the oldest first; empty if it was never appended to.
    fn chain<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Chain, StoreError>>;

    /// Says that nothing acknowledged can lie beyond `offset` in an epoch that is not the newest any
    /// more, and that the first message stored of the next epoch is the first that there was in it.
    /// From then on positions of the one lead into the other. The first seal stays.
    fn seal<'a>(
        &'a self,
        channel: &'a str,
        epoch: &'a str,
        offset: u64,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Ranges of offsets above `after` and up to `through` that were never stored, the lowest first
    /// and at most `limit`. A deleted message was stored.
    fn holes<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(u64, u64)>, StoreError>>;

    /// The messages of a span in order, at most [`MAX_READ`] from its beginning.
    fn range<'a>(
        &'a self,
        channel: &'a str,
        span: &'a Span,
    ) -> BoxFuture<'a, Result<Vec<Message>, StoreError>>;

    /// A page of a channel's messages over all its epochs.
    fn page<'a>(
        &'a self,
        channel: &'a str,
        query: &'a PageQuery,
    ) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// What there is of a channel; none if it was never appended to.
    fn summary<'a>(
        &'a self,
        channel: &'a str,
    ) -> BoxFuture<'a, Result<Option<Summary>, StoreError>>;

    /// The names of channels behind `after` that begin with `prefix`, in byte order.
    fn channels<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, StoreError>>;

    /// Deletes messages of a channel; returns those that were there. What is appended behind them in
    /// the meantime stays.
    fn delete<'a>(
        &'a self,
        channel: &'a str,
        what: Deletion,
    ) -> BoxFuture<'a, Result<Deleted, StoreError>>;

    /// Drops the oldest messages of a channel whose ids are below `before`, at most `limit` and never
    /// more than [`MAX_READ`]; returns how many. Fewer than the limit means that no more are due.
    ///
    /// For [`holes`](Self::holes) and everybody who recovers they were never stored, unlike deleted
    /// ones. [`tail`](Self::tail) and [`chain`](Self::chain) stay as they are.
    fn expire<'a>(
        &'a self,
        channel: &'a str,
        before: MessageId,
        limit: usize,
    ) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// Walks a channel and compares what is there with what the store believes to have.
    fn verify<'a>(&'a self, channel: &'a str) -> BoxFuture<'a, Result<Verdict, StoreError>>;

    /// Ends writing; waits until all that was taken is stored.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A store, as everybody shares it.
pub type SharedStore = Arc<dyn MessageStore>;

/// What an append did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Appended {
    /// Messages that were not there before.
    pub stored: usize,
    /// Messages that were, or had been.
    pub duplicates: usize,
}

/// Where a channel ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Its newest epoch.
    pub epoch: CompactString,
    /// The highest offset in it, deleted ones included.
    pub offset: u64,
    /// The highest id that the channel ever had.
    pub last_id: MessageId,
}

/// Which messages to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    Message(MessageId),
    /// Both ends included, in one epoch or, without a name, the newest.
    Offsets {
        epoch: Option<CompactString>,
        from: u64,
        to: u64,
    },
    /// Every message up to where the channel ends when the deletion begins. Its epochs and offsets go
    /// on.
    Channel,
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    pub count: u64,
    /// The epoch it was in; none if nothing was, or it was in several.
    pub epoch: Option<CompactString>,
    /// The lowest and highest offset of the deletion, for those who hold copies.
    pub offsets: Option<(u64, u64)>,
}

/// What a walk through a channel found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages found.
    pub messages: u64,
    /// Messages deleted.
    pub deleted: u64,
    /// Ranges of offsets between the first and the last of an epoch that were never stored: epoch,
    /// first, last.
    pub holes: Vec<(CompactString, u64, u64)>,
    /// What contradicts itself, in words.
    pub faults: Vec<String>,
}

/// Why a store did not do it. All but the last two may pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room left.
    #[error("the history store is full")]
    Full,
    /// More waits to be stored than may.
    #[error("the history store has more to do than it may put off")]
    Busy,
    /// It cannot be reached, or its disk fails.
    #[error("the history store is unavailable: {0}")]
    Unavailable(String),
    /// It may be stored or not.
    #[error("the history store did not answer")]
    Unknown,
    /// What was asked cannot be meant.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Something in it cannot be read.
    #[error("the history store is damaged: {0}")]
    Damaged(String),
}

impl StoreError {
    /// Whether the same call may succeed later. If not, calls that concern other channels still may.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Full | Self::Busy | Self::Unavailable(_) | Self::Unknown => true,
            Self::BadRequest(_) | Self::Damaged(_) => false,
        }
    }
}
