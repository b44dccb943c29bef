//! Presence of a single node.

use std::collections::BTreeMap;

use ahash::{HashMap, HashSet, RandomState};
use parking_lot::Mutex;

use super::PresenceCounts;
use crate::protocol::publication::ClientInfo;

const SHARDS: usize = 64;

type Shard = HashMap<Box<str>, HashMap<Box<str>, ClientInfo>>;

/// See [`super::Presence::Memory`].
pub struct MemoryPresence {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl Default for MemoryPresence {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), shards }
    }
}

impl MemoryPresence {
    pub(super) fn add(&self, channel: &str, info: ClientInfo) {
        let mut shard = self.shard(channel).lock();
        if !shard.contains_key(channel) {
            shard.insert(Box::from(channel), HashMap::default());
        }
        if let Some(clients) = shard.get_mut(channel) {
            clients.insert(Box::from(info.client.as_str()), info);
        }
    }

    pub(super) fn remove(&self, channel: &str, client: &str) {
        let mut shard = self.shard(channel).lock();
        if let Some(clients) = shard.get_mut(channel) {
            clients.remove(client);
            if clients.is_empty() {
                shard.remove(channel);
            }
        }
    }

    pub(super) fn get(&self, channel: &str) -> BTreeMap<String, ClientInfo> {
        let shard = self.shard(channel).lock();
        let clients = shard.get(channel).into_iter().flatten();
        clients.map(|(client, info)| (client.to_string(), info.clone())).collect()
    }

    pub(super) fn counts(&self, channel: &str) -> PresenceCounts {
        let shard = self.shard(channel).lock();
        let Some(clients) = shard.get(channel) else { return PresenceCounts::default() };
        let users: HashSet<&str> = clients.values().map(|info| info.user.as_str()).collect();
        PresenceCounts { clients: clients.len() as u32, users: users.len() as u32 }
    }

    fn shard(&self, channel: &str) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(channel) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(user: &str, client: &str) -> ClientInfo {
        ClientInfo { user: user.into(), client: client.into(), ..ClientInfo::default() }
    }

    #[test]
    fn users_are_counted_once_and_an_empty_channel_is_forgotten() {
        let presence = MemoryPresence::default();
        presence.add("c", info("alice", "1"));
        presence.add("c", info("alice", "2"));
        presence.add("c", info("bob", "3"));
        assert_eq!(presence.counts("c"), PresenceCounts { clients: 3, users: 2 });
        for client in ["1", "2", "3", "3"] {
            presence.remove("c", client);
        }
        assert_eq!(presence.counts("c"), PresenceCounts::default());
        assert!(presence.shards.iter().all(|shard| shard.lock().is_empty()));
    }

    #[test]
    fn adding_again_renews_what_is_known() {
        let presence = MemoryPresence::default();
        presence.add("c", info("alice", "1"));
        let renewed = ClientInfo { conn_info: "{}".into(), ..info("alice", "1") };
        presence.add("c", renewed.clone());
        assert_eq!(presence.get("c").into_values().collect::<Vec<_>>(), [renewed]);
    }
}
