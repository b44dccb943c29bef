//! Who is in a channel.

mod memory;
mod redis;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::memory::MemoryPresence;
pub use self::redis::RedisPresence;

use crate::protocol::publication::ClientInfo;

/// Keeps the clients of channels that maintain presence.
pub enum Presence {
    /// In this process, without expiry: a connection that ends removes itself.
    Memory(MemoryPresence),
    /// In Redis, together with all nodes that use the same one.
    Redis(Arc<RedisPresence>),
    /// As in memory, but every call gives way to others before and after, as one over a network does.
    #[cfg(test)]
    Yielding(MemoryPresence),
}

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PresenceCounts {
    pub clients: u32,
    /// Different users.
    pub users: u32,
}

/// Presence could not be read or written now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("presence is unavailable")]
pub struct PresenceError;

impl Presence {
    /// Adds a client, or renews what is known of it. After an error it is to be removed.
    pub async fn add(&self, channel: &str, info: ClientInfo) -> Result<(), PresenceError> {
        match self {
            Self::Memory(presence) => presence.add(channel, info),
            Self::Redis(presence) => presence.add(channel, info).await?,
            #[cfg(test)]
            Self::Yielding(presence) => yielding(|| presence.add(channel, info)).await,
        }
        Ok(())
    }

    /// Removes a client by its id.
    pub async fn remove(&self, channel: &str, client: &str) -> Result<(), PresenceError> {
        match self {
            Self::Memory(presence) => presence.remove(channel, client),
            Self::Redis(presence) => presence.remove(channel, client).await?,
            #[cfg(test)]
            Self::Yielding(presence) => yielding(|| presence.remove(channel, client)).await,
        }
        Ok(())
    }

    /// All clients by their id.
    pub async fn get(&self, channel: &str) -> Result<BTreeMap<String, ClientInfo>, PresenceError> {
        match self {
            Self::Memory(presence) => Ok(presence.get(channel)),
            Self::Redis(presence) => presence.get(channel).await,
            #[cfg(test)]
            Self::Yielding(presence) => Ok(yielding(|| presence.get(channel)).await),
        }
    }

    /// Counts clients and users.
    pub async fn counts(&self, channel: &str) -> Result<PresenceCounts, PresenceError> {
        match self {
            Self::Memory(presence) => Ok(presence.counts(channel)),
            Self::Redis(presence) => presence.counts(channel).await,
            #[cfg(test)]
            Self::Yielding(presence) => Ok(yielding(|| presence.counts(channel)).await),
        }
    }
}

/// Does it in the middle of giving way.
#[cfg(test)]
async fn yielding<T>(call: impl FnOnce() -> T) -> T {
    tokio::task::yield_now().await;
    let answer = call();
    tokio::task::yield_now().await;
    answer
}
