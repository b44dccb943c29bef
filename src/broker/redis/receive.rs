//! From PUB/SUB to the hub.

use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use bytes::Bytes;
use compact_str::CompactString;
use parking_lot::Mutex;

use super::control::ControlNames;
use super::envelope::Incoming;
use super::stored::Stored;
use crate::hub::{self, Hub, Voided};
use crate::redis::{Keys, Receive};
use crate::time::Clock;

/// Takes a message of a PUB/SUB channel that is none of clients: the channel's name, and the message.
pub type Listener = Box<dyn Fn(&str, &Bytes) + Send + Sync>;

/// Gives the subscribers of this node what comes for them.
pub struct Receiver {
    hub: Arc<Hub>,
    clock: Clock,
    keys: Keys,
    spread: Duration,
    control: Option<ControlNames>,
    stored: Option<Arc<Stored>>,
    listener: Option<Listener>,
    /// By shard, those who get nothing more and are told as soon as they could recover.
    voided: Mutex<HashMap<usize, Vec<Voided>>>,
}

impl Receiver {
    /// For messages under the names of `keys`. When a new master may lack what was delivered, those
    /// who have a position are told over the time of `spread`.
    pub fn new(hub: Arc<Hub>, clock: Clock, keys: Keys, spread: Duration) -> Self {
        let voided = Mutex::default();
        Self { hub, clock, keys, spread, control: None, stored: None, listener: None, voided }
    }

    /// Takes control messages as well.
    pub fn with_control(self, control: ControlNames) -> Self {
        Self { control: Some(control), ..self }
    }

    /// Hears what was archived as well.
    pub fn with_stored(self, stored: Arc<Stored>) -> Self {
        Self { stored: Some(stored), ..self }
    }

    /// Has somebody else hear what is not for clients.
    pub fn with_listener(self, listener: Listener) -> Self {
        Self { listener: Some(listener), ..self }
    }
}

impl Receive for Receiver {
    fn message(&self, name: &str, payload: &Bytes) {
        let Some(channel) = self.keys.channel_of(name) else {
            self.stored.iter().for_each(|stored| stored.take(&self.keys, name, payload));
            self.listener.iter().for_each(|listener| listener(name, payload));
            return self.control.iter().for_each(|control| control.take(name, payload));
        };
        let now_ms = self.clock.unix_millis();
        match Incoming::decode(payload) {
            Some(Incoming::Publication { publication, previous, epoch }) => {
                self.hub.publish(channel, &publication, previous.as_ref(), &epoch, now_ms);
            }
            Some(Incoming::Join(info)) => self.hub.join(channel, &info, now_ms),
            Some(Incoming::Leave(info)) => self.hub.leave(channel, &info, now_ms),
            None => tracing::debug!(channel, "a message that is none was left out"),
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.keys.channel_of(name).is_none_or(|channel| self.hub.subscribers(channel) > 0)
    }

    fn wanted(&self, is_ours: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        let mut wanted = Vec::new();
        self.hub.each_channel(|channel, _| {
            if is_ours(channel) {
                wanted.push(self.keys.messages(channel));
            }
        });
        wanted
    }

    fn interrupted(&self, shard: usize, same_history: bool, is_ours: &dyn Fn(&str) -> bool) {
        if same_history {
            return self.hub.doubt_positions(is_ours);
        }
        let voided = self.hub.void_positions(is_ours);
        self.voided.lock().entry(shard).or_default().extend(voided);
    }

    fn resumed(&self, shard: usize) {
        self.control.iter().for_each(ControlNames::attached);
        let Some(voided) = self.voided.lock().remove(&shard) else { return };
        tracing::warn!(shard, subscriptions = voided.len(), "told to recover after a failover");
        tokio::spawn(tell_each(voided, self.spread));
    }
}

/// Tells them one after the other, so that they do not all come back in one moment.
pub(super) async fn tell_each(voided: Vec<Voided>, spread: Duration) {
    let (count, mut waited) = (voided.len().max(1) as f64, Duration::ZERO);
    for (index, voided) in voided.into_iter().enumerate() {
        let due = spread.mul_f64(index as f64 / count);
        if due > waited + hub::TURN {
            tokio::time::sleep(due - waited).await;
            waited = due;
        }
        voided.tell();
    }
}
