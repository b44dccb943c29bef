//! Streams and their distribution: what a channel's history is, and how a publication reaches hubs.
//!
//! An enum rather than a trait: the set of brokers is closed, go-to-definition lands on code, and
//! the memory broker is the test double of the others.

mod answers;
mod archive;
mod archived;
mod control;
mod late;
mod memory;
mod redis;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

pub use self::archive::{Archive, Limits};
pub use self::archived::ArchivedBroker;
#[cfg(test)]
pub use self::control::Sent;
pub use self::control::{ControlInlet, ControlMessages, ControlOutlet, Controller, control_queue};
pub use self::memory::MemoryBroker;
pub use self::redis::{ControlNames, Receiver, RedisBroker, RedisControl, Stored, erase};
pub use self::stream::{History, Range, Stream, StreamTop};

use crate::archive::Deleted;
use crate::protocol::publication::{ClientInfo, Publication};

/// Keeps streams and carries publications to the hubs of all nodes.
pub enum Broker {
    /// Everything in this process; lost with it.
    Memory(MemoryBroker),
    /// In this process too, with the streams that a store keeps for years.
    Archived(Box<ArchivedBroker>),
    /// In Redis, together with all nodes that use the same one.
    Redis(Arc<RedisBroker>),
    /// As in memory, but every call gives way to others before and after, as one over a network does.
    #[cfg(test)]
    Yielding(MemoryBroker),
}

/// How a publication is to be treated.
#[derive(Clone, Debug, Default)]
pub struct PublishOptions {
    /// Append to the channel's stream; without it the publication is only delivered, with offset 0.
    pub history: Option<HistoryOptions>,
    /// A repeat with the same key of the same owner publishes nothing and answers the same.
    pub idempotency_key: String,
    pub idempotency_owner: KeyOwner,
    /// If above zero, dropped unless higher than the version that the stream saw last.
    pub version: u64,
    /// The version counts only within this; empty compares with any.
    pub version_epoch: String,
    /// Subscribers that negotiated it may get a patch against the publication before this one.
    pub delta: bool,
    /// The archive has to have it, or what happens if that cannot be.
    pub archive: Option<Archiving>,
}

/// How a publication is archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archiving {
    pub overflow: Overflow,
    /// Answer only once the store has it, rather than what will bring it there.
    pub until_stored: bool,
}

/// What becomes of a publication that cannot be archived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is not published either, and the publisher is told to try again.
    #[default]
    Fail,
    /// It is published, and missing in the archive.
    Drop,
}

/// How much of a stream is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryOptions {
    /// Publications.
    pub size: usize,
    /// Since the last publish.
    pub ttl: Duration,
    /// Of epoch and top offset, since they were last used.
    pub meta_ttl: Duration,
}

/// How long the answer to a publish with an idempotency key of the server API is remembered:
/// Centrifugo's value.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(300);

/// Whose idempotency key it is. Equal keys of different owners have nothing to do with each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyOwner {
    /// The server API; remembered for [`IDEMPOTENCY_TTL`].
    #[default]
    Api,
    /// A user with a name, whose client published.
    User { id: String, ttl: Duration },
}

impl KeyOwner {
    /// How long the answer is remembered.
    pub fn ttl(&self) -> Duration {
        match self {
            Self::Api => IDEMPOTENCY_TTL,
            Self::User { ttl, .. } => *ttl,
        }
    }

    /// The user, or nothing for the server API.
    pub fn user(&self) -> &str {
        match self {
            Self::Api => "",
            Self::User { id, .. } => id,
        }
    }
}

/// Where a publication came to stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// 0 without history.
    pub offset: u64,
    /// Empty without history.
    pub epoch: CompactString,
    /// Nothing was published, for this reason; offset and epoch are the earlier or current ones.
    pub suppressed: Option<Suppressed>,
}

/// Why a publish was a success without publishing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suppressed {
    Idempotency,
    Version,
}

/// The broker could not do it now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// A position of another epoch was given.
    #[error("the position belongs to another epoch of the stream")]
    UnrecoverablePosition,
    /// What was asked cannot be meant.
    #[error("{0}")]
    BadRequest(&'static str),
    /// Nothing was done.
    #[error("the broker is unavailable, try again")]
    Unavailable,
    /// Nothing was done, since the archive could not take it.
    #[error("the archive cannot take more now, try again")]
    ArchiveUnavailable,
    /// It may be done or not.
    #[error("the broker did not answer: done or not, try again with the same idempotency key")]
    OutcomeUnknown,
}

impl Broker {
    /// The connections to Redis, if streams are there.
    pub fn redis(&self) -> Option<&Arc<crate::redis::Redis>> {
        match self {
            Self::Redis(broker) => Some(broker.redis()),
            Self::Memory(_) | Self::Archived(_) => None,
            #[cfg(test)]
            Self::Yielding(_) => None,
        }
    }

    /// Appends to the stream as `options` say and delivers to the subscribers of every node.
    pub async fn publish(
        &self,
        channel: &str,
        publication: Publication,
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        if let Some(archive) = self.archive().filter(|_| options.archive.is_some()) {
            archive.check_size(&publication)?;
        }
        match self {
            // Nobody to archive it: a publish that says it was would be a lie.
            Self::Memory(_) if options.archive.is_some() => Err(BrokerError::ArchiveUnavailable),
            Self::Memory(broker) => Ok(broker.publish(channel, publication, options)),
            Self::Archived(broker) => broker.publish(channel, publication, options).await,
            Self::Redis(broker) => broker.publish(channel, publication, options).await,
            #[cfg(test)]
            Self::Yielding(broker) => {
                Ok(yielding(|| broker.publish(channel, publication, options)).await)
            }
        }
    }

    /// Tells subscribers that a client came; returns once no leave can overtake it.
    pub async fn publish_join(&self, channel: &str, info: &ClientInfo) -> Result<(), BrokerError> {
        match self {
            Self::Memory(broker) => broker.publish_join(channel, info),
            Self::Archived(broker) => broker.streams().publish_join(channel, info),
            Self::Redis(broker) => broker.publish_join(channel, info).await?,
            #[cfg(test)]
            Self::Yielding(broker) => yielding(|| broker.publish_join(channel, info)).await,
        }
        Ok(())
    }

    /// Tells subscribers that a client left.
    pub async fn publish_leave(&self, channel: &str, info: &ClientInfo) -> Result<(), BrokerError> {
        match self {
            Self::Memory(broker) => broker.publish_leave(channel, info),
            Self::Archived(broker) => broker.streams().publish_leave(channel, info),
            Self::Redis(broker) => broker.publish_leave(channel, info).await?,
            #[cfg(test)]
            Self::Yielding(broker) => yielding(|| broker.publish_leave(channel, info)).await,
        }
        Ok(())
    }

    /// Reads a stream; the stream's epoch exists from the first read on.
    pub async fn history(
        &self,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        match self {
            Self::Memory(broker) => broker.history(channel, range, meta_ttl),
            Self::Archived(broker) => broker.streams().history(channel, range, meta_ttl),
            Self::Redis(broker) => broker.history(channel, range, meta_ttl).await,
            #[cfg(test)]
            Self::Yielding(broker) => yielding(|| broker.history(channel, range, meta_ttl)).await,
        }
    }

    /// Reads the stream of a channel that is archived: it goes on where the archive ends.
    pub async fn archived_history(
        &self,
        channel: &str,
        range: &Range,
        options: &HistoryOptions,
    ) -> Result<History, BrokerError> {
        match self {
            Self::Archived(broker) => broker.history(channel, range, options).await,
            Self::Redis(broker) => broker.archived_history(channel, range, options.meta_ttl).await,
            _ => self.history(channel, range, options.meta_ttl).await,
        }
    }

    /// The archive, if there is one.
    pub fn archive(&self) -> Option<&Archive> {
        match self {
            Self::Archived(broker) => Some(broker.archive()),
            Self::Redis(broker) => broker.archive(),
            _ => None,
        }
    }

    /// Begins to archive, until the broker is dropped.
    pub fn start_archiving(&self) {
        if let Self::Archived(broker) = self {
            broker.start();
        }
    }

    /// For how long the oldest of what is to be archived has waited in the queue of a channel, if
    /// anything has. What was published since that time may not be in the archive yet.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] and [`BrokerError::OutcomeUnknown`]: it cannot be known.
    pub async fn archive_lag(&self, channel: &str) -> Result<Option<Duration>, BrokerError> {
        match self {
            Self::Redis(broker) => broker.archive_lag(channel).await,
            // What is in a stream is in the archive.
            _ => Ok(None),
        }
    }

    /// Takes what was deleted in the archive out of everything that has copies.
    ///
    /// # Errors
    /// [`BrokerError::Unavailable`] and [`BrokerError::OutcomeUnknown`]: streams may have copies.
    pub async fn forget(&self, channel: &str, deleted: &Deleted) -> Result<(), BrokerError> {
        if let Some(archive) = self.archive() {
            archive.blocks().forget(channel);
        }
        match self {
            Self::Archived(broker) => broker.forget(channel, deleted),
            Self::Redis(broker) => broker.forget(channel, deleted).await?,
            _ => {}
        }
        Ok(())
    }

    /// Drops a stream's publications; epoch and offset go on.
    pub async fn remove_history(&self, channel: &str) -> Result<(), BrokerError> {
        match self {
            Self::Memory(broker) => broker.remove_history(channel),
            Self::Archived(broker) => broker.streams().remove_history(channel),
            Self::Redis(broker) => broker.remove_history(channel).await?,
            #[cfg(test)]
            Self::Yielding(broker) => yielding(|| broker.remove_history(channel)).await,
        }
        Ok(())
    }

    /// Makes this node receive the channel's publications; called before the position is read.
    pub async fn subscribe(&self, channel: &str) -> Result<(), BrokerError> {
        match self {
            Self::Memory(_) | Self::Archived(_) => Ok(()),
            Self::Redis(broker) => broker.subscribe(channel).await,
            #[cfg(test)]
            Self::Yielding(_) => {
                yielding(|| ()).await;
                Ok(())
            }
        }
    }

    /// The channel has lost its last subscriber on this node.
    pub fn unsubscribe(&self, channel: &str) {
        if let Self::Redis(broker) = self {
            broker.unsubscribe(channel);
        }
    }

    /// Whether a client's position without an epoch matches whatever epoch there is. Where epochs
    /// change when publications may be lost, it must not.
    pub fn trusts_unnamed_epochs(&self) -> bool {
        !matches!(self, Self::Redis(_))
    }

    /// Drops what has expired; called about once a second.
    pub fn sweep(&self) {
        match self {
            Self::Memory(broker) => broker.sweep(),
            Self::Archived(broker) => broker.streams().sweep(),
            // Redis does so itself.
            Self::Redis(_) => {}
            #[cfg(test)]
            Self::Yielding(broker) => broker.sweep(),
        }
    }
}

/// A publication as streams share it.
pub type SharedPublication = Arc<Publication>;

/// Does it in the middle of giving way.
#[cfg(test)]
async fn yielding<T>(call: impl FnOnce() -> T) -> T {
    tokio::task::yield_now().await;
    let answer = call();
    tokio::task::yield_now().await;
    answer
}
