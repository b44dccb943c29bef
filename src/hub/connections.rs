//! The connections of this node, by user.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use ahash::{HashMap, RandomState};
use parking_lot::Mutex;
use slab::Slab;
use uuid::Uuid;

use super::outbox::Outbox;
use crate::protocol::frame::Codec;

const SHARDS: usize = 64;

/// A connection as the rest of the node sees it: who it is, and where to leave things for it.
pub struct Connection {
    id: Uuid,
    codec: Codec,
    user: OnceLock<Arc<str>>,
    /// Everything that goes to this connection goes through here.
    pub outbox: Outbox,
}

impl Connection {
    /// A connection whose user is not known yet.
    pub fn new(id: Uuid, codec: Codec, outbox: Outbox) -> Arc<Self> {
        Arc::new(Self { id, codec, user: OnceLock::new(), outbox })
    }

    /// The client id, as it appears on the wire.
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Says who the user is, once; registering comes later, when all else is ready.
    pub fn authenticate(&self, user: &str) {
        let _ = self.user.set(Arc::from(user));
    }

    /// The user, once authenticated; the empty string is the anonymous user.
    pub fn user(&self) -> &str {
        self.user.get().map_or("", |user| user)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("user", &self.user()).finish()
    }
}

/// Takes a connection out of the registry; given by [`Connections::add`], used once.
#[derive(Debug)]
pub struct Registration {
    key: usize,
}

type ByUser = HashMap<Arc<str>, Slab<Arc<Connection>>>;

/// All authenticated connections of this node.
pub struct Connections {
    hasher: RandomState,
    shards: Box<[Mutex<ByUser>]>,
    count: AtomicUsize,
}

impl Default for Connections {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { hasher: RandomState::new(), shards, count: AtomicUsize::new(0) }
    }
}

impl Connections {
    /// Registers `connection` under its user, unless that one has `limit` connections here already
    /// (0: no limit). The anonymous user is never limited.
    pub fn add(&self, connection: &Arc<Connection>, limit: usize) -> Option<Registration> {
        let user = connection.user.get_or_init(|| Arc::from(""));
        let mut shard = self.shard(user).lock();
        let of_user = shard.entry(Arc::clone(user)).or_insert_with(|| Slab::with_capacity(1));
        if limit > 0 && !user.is_empty() {
            // One that was told to leave makes room at once.
            let staying = of_user.iter().filter(|(_, other)| !other.outbox.is_closing());
            if staying.count() >= limit {
                return None;
            }
        }
        let key = of_user.insert(Arc::clone(connection));
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(Registration { key })
    }

    /// Forgets a connection.
    pub fn remove(&self, connection: &Connection, registration: Registration) {
        let user = connection.user();
        let mut shard = self.shard(user).lock();
        let Some(of_user) = shard.get_mut(user) else { return };
        if of_user.try_remove(registration.key).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        if of_user.is_empty() {
            shard.remove(user);
            shrink(&mut shard);
        }
    }

    /// The connections of exactly this user; the empty string means the anonymous ones.
    pub fn of_user(&self, user: &str) -> Vec<Arc<Connection>> {
        let shard = self.shard(user).lock();
        shard
            .get(user)
            .into_iter()
            .flatten()
            .map(|(_, connection)| Arc::clone(connection))
            .collect()
    }

    /// Every connection.
    pub fn all(&self) -> Vec<Arc<Connection>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            let shard = shard.lock();
            let connections = shard.values().flatten();
            all.extend(connections.map(|(_, connection)| Arc::clone(connection)));
        }
        all
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many different users there are; the anonymous one counts once.
    pub fn users(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, user: &str) -> &Mutex<ByUser> {
        &self.shards[self.hasher.hash_one(user) as usize % SHARDS]
    }
}

/// Gives memory back after a crowd has left.
pub(super) fn shrink<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > 64 && map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::codes::Disconnect;

    fn connection(user: &str) -> Arc<Connection> {
        let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(1_024));
        connection.authenticate(user);
        connection
    }

    #[test]
    fn the_empty_user_is_exactly_the_anonymous_one() {
        let connections = Connections::default();
        let (anonymous, alice) = (connection(""), connection("alice"));
        connections.add(&anonymous, 0).unwrap();
        connections.add(&alice, 0).unwrap();
        assert_eq!(connections.of_user("").len(), 1);
        assert_eq!(connections.of_user("")[0].id(), anonymous.id());
        assert_eq!(connections.users(), 2);
    }

    #[test]
    fn the_limit_holds_per_user_and_never_for_the_anonymous() {
        let connections = Connections::default();
        let first = connection("bob");
        let registration = connections.add(&first, 1).unwrap();
        assert!(connections.add(&connection("bob"), 1).is_none());
        connections.remove(&first, registration);
        assert!(connections.add(&connection("bob"), 1).is_some());
        let second = connections.of_user("bob").remove(0);
        assert!(connections.add(&connection("bob"), 1).is_none());
        second.outbox.close(Disconnect::CONNECTION_LIMIT);
        assert!(connections.add(&connection("bob"), 1).is_some(), "one that leaves makes room");
        assert!((0..3).all(|_| connections.add(&connection(""), 1).is_some()));
        assert_eq!(connections.len(), 5);
    }
}
