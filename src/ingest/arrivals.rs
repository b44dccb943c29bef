//! What gateways say of the archive streams of a cluster: in which of them something comes after a
//! while. So those in which nothing comes need not be looked at all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::redis::{Keys, SLOTS};

/// Whoever hears PUB/SUB puts them in here, and the consumers of this process take them out.
#[derive(Default)]
pub struct Arrivals {
    /// By the number of the shard: those that somebody reads.
    inboxes: Mutex<BTreeMap<usize, Arc<Inbox>>>,
}

/// What was said of one shard since somebody looked.
#[derive(Default)]
pub struct Inbox {
    slots: Mutex<BTreeSet<u16>>,
    bell: Notify,
}

impl Arrivals {
    /// Takes the message of a PUB/SUB channel, if it tells of an arrival.
    pub fn take(&self, keys: &Keys, name: &str, message: &[u8]) {
        if name != keys.archive_arrived() {
            return;
        }
        let Some((shard, slot)) = place(message) else { return };
        let inbox = self.inboxes.lock().get(&shard).cloned();
        if let Some(inbox) = inbox {
            inbox.slots.lock().insert(slot);
            inbox.bell.notify_one();
        }
    }

    /// Where what is said of a shard goes from now on.
    pub(super) fn inbox(&self, shard: usize) -> Arc<Inbox> {
        Arc::clone(self.inboxes.lock().entry(shard).or_default())
    }
}

impl Inbox {
    /// The slots that were named since the last time.
    pub(super) fn take(&self) -> BTreeSet<u16> {
        mem::take(&mut *self.slots.lock())
    }

    /// Waits until one is named.
    pub(super) async fn rung(&self) {
        self.bell.notified().await;
    }
}

/// The number of a shard and a slot of it.
fn place(message: &[u8]) -> Option<(usize, u16)> {
    let (shard, slot) = std::str::from_utf8(message).ok()?.split_once(' ')?;
    let slot = slot.parse().ok().filter(|slot| usize::from(*slot) < SLOTS)?;
    Some((shard.parse().ok()?, slot))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn only_slots_of_shards_that_are_read_are_kept() {
        let (keys, arrivals) = (Keys::new("p"), Arrivals::default());
        let inbox = arrivals.inbox(1);
        let name = keys.archive_arrived();
        for message in ["1 16384", "0 7", "1", "1 x", "-1 7", "1 7 8", ""] {
            arrivals.take(&keys, &name, message.as_bytes());
        }
        arrivals.take(&keys, "p.archive.stored", b"1 7");
        assert!(inbox.rung().now_or_never().is_none() && inbox.take().is_empty());
        for message in ["1 7", "1 0", "1 7"] {
            arrivals.take(&keys, &name, message.as_bytes());
        }
        assert!(inbox.rung().now_or_never().is_some(), "also who looks later");
        assert_eq!(inbox.take(), [0, 7].into());
        assert!(inbox.take().is_empty());
    }
}
