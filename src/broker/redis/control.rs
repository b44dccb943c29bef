//! Control messages over Redis: every node hears `<prefix>.control` and a channel of its own on every
//! shard, and whoever speaks uses one shard after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use compact_str::CompactString;

use crate::broker::{BrokerError, ControlInlet};
use crate::redis::{CallError, Command, Keys, Redis};
use crate::telemetry::seldom::Seldom;
use crate::time::Clock;

/// Sends control messages through Redis.
pub struct RedisControl {
    redis: Arc<Redis>,
    clock: Clock,
    turn: AtomicUsize,
    complaint: Seldom,
}

/// The PUB/SUB channels on which a node is spoken to, and where what is said goes.
pub struct ControlNames {
    names: [CompactString; 2],
    inlet: ControlInlet,
}

impl RedisControl {
    /// Node `uid` is to hear control messages, with the next connections that are made.
    pub fn new(redis: Arc<Redis>, clock: Clock, uid: &str) -> Self {
        for shard in redis.shards() {
            for name in names(redis.keys(), uid) {
                shard.hear_always(&name);
            }
        }
        Self { redis, clock, turn: AtomicUsize::new(0), complaint: Seldom::default() }
    }

    /// Sends to one node or to all: over the next shard in turn that there is a connection to, since
    /// everybody hears all of them.
    pub(in crate::broker) async fn send(
        &self,
        to: Option<&str>,
        message: &[u8],
    ) -> Result<(), BrokerError> {
        let keys = self.redis.keys();
        let name = to.map_or_else(|| keys.control(), |uid| keys.node(uid));
        let shards = self.redis.shards();
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % shards.len().max(1);
        let (before, from) = shards.split_at_checked(first).unwrap_or_default();
        for shard in from.iter().chain(before) {
            let Ok(attachment) = shard.attachment() else { continue };
            let command = Command::new("PUBLISH").arg(&name).arg(message);
            match attachment.link.call(command).await {
                Ok(_) => return Ok(()),
                // Nothing was sent, so that the next may try.
                Err(CallError::Unavailable) => {}
                Err(CallError::OutcomeUnknown | CallError::TooFewReplicas { .. }) => {
                    return Err(BrokerError::OutcomeUnknown);
                }
                Err(CallError::Refused(answer)) => {
                    if self.complaint.may(self.clock.unix_millis()) {
                        tracing::warn!(%answer, "Redis refused a control message");
                    }
                    return Err(BrokerError::Unavailable);
                }
            }
        }
        Err(BrokerError::Unavailable)
    }

    /// Whether there is a connection to any shard.
    pub(in crate::broker) fn can_hear(&self) -> bool {
        self.redis.shards().iter().any(|shard| shard.attachment().is_ok())
    }
}

impl ControlNames {
    /// What is said to node `uid` goes into `inlet`.
    pub fn new(keys: &Keys, uid: &str, inlet: ControlInlet) -> Self {
        Self { names: names(keys, uid), inlet }
    }

    /// Takes the message of a PUB/SUB channel, if it is one for nodes.
    pub(super) fn take(&self, name: &str, message: &Bytes) {
        if self.names.iter().any(|own| own == name) {
            self.inlet.take(message);
        }
    }

    /// There is a connection again.
    pub(super) fn attached(&self) {
        self.inlet.attached();
    }
}

fn names(keys: &Keys, uid: &str) -> [CompactString; 2] {
    [keys.control(), keys.node(uid)]
}
