//! Who is in a channel.

mod memory;

use std::collections::BTreeMap;

pub use self::memory::MemoryPresence;

use crate::protocol::publication::ClientInfo;

/// Keeps the clients of channels that maintain presence.
pub enum Presence {
    /// In this process, without expiry: a connection that ends removes itself.
    Memory(MemoryPresence),
    /// The same, but every call gives way to others before and after, as one over a network does.
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
    /// Adds a client, or renews what is known of it.
    pub async fn add(&self, channel: &str, info: ClientInfo) -> Result<(), PresenceError> {
        match self {
            Self::Memory(presence) => presence.add(channel, info),
            #[cfg(test)]
            Self::Yielding(presence) => yielding(|| presence.add(channel, info)).await,
        }
        Ok(())
    }

    /// Removes a client by its id.
    pub async fn remove(&self, channel: &str, client: &str) -> Result<(), PresenceError> {
        match self {
            Self::Memory(presence) => presence.remove(channel, client),
            #[cfg(test)]
            Self::Yielding(presence) => yielding(|| presence.remove(channel, client)).await,
        }
        Ok(())
    }

    /// All clients by their id.
    pub async fn get(&self, channel: &str) -> Result<BTreeMap<String, ClientInfo>, PresenceError> {
        match self {
            Self::Memory(presence) => Ok(presence.get(channel)),
            #[cfg(test)]
            Self::Yielding(presence) => Ok(yielding(|| presence.get(channel)).await),
        }
    }

    /// Counts clients and users.
    pub async fn counts(&self, channel: &str) -> Result<PresenceCounts, PresenceError> {
        match self {
            Self::Memory(presence) => Ok(presence.counts(channel)),
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
