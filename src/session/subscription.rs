//! The subscriptions of one connection: at most one a channel, in flight or active.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::hub::SubscriptionKey;

/// Sorted by channel: a connection has few, and a sorted vector of exactly their number is the
/// smallest thing to look them up in.
#[derive(Debug, Default)]
pub struct Subscriptions {
    sorted: Vec<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    channel: Channel,
    stage: Stage,
}

/// How far a subscription is.
#[derive(Debug)]
pub enum Stage {
    /// Being made; the notification comes when it is active or has failed.
    InFlight(Arc<Notify>),
    Active(Active),
}

/// A subscription that receives.
#[derive(Clone, Debug)]
pub struct Active {
    pub key: SubscriptionKey,
    /// What others see of the connection in this channel.
    pub info: Bytes,
    /// Unix seconds; `None` for never.
    pub expire_at: Option<i64>,
    pub origin: Origin,
    pub presence: bool,
    pub join_leave: bool,
    pub positioned: bool,
}

/// Who made a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client asked for it.
    Client,
    /// The connection token names it.
    Token,
    /// Another rule of the server: personal channel, granted wish, API.
    Server,
}

impl Origin {
    /// Whether the client cannot simply resubscribe: such a one is told by closing the connection.
    pub fn is_server_side(self) -> bool {
        self != Self::Client
    }
}

/// Why a subscription cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// Subscribed or being subscribed already.
    Exists,
    /// The connection has as many as it may.
    LimitReached,
}

impl Subscriptions {
    /// Begins one, counting those in flight against `limit`.
    pub fn begin(&mut self, channel: &Channel, limit: usize) -> Result<(), Conflict> {
        match self.find(channel) {
            Ok(_) => Err(Conflict::Exists),
            Err(_) if self.sorted.len() >= limit => Err(Conflict::LimitReached),
            Err(place) => {
                if self.sorted.len() == self.sorted.capacity() && self.sorted.len() < 4 {
                    self.sorted.reserve_exact(1);
                }
                let stage = Stage::InFlight(Arc::new(Notify::new()));
                self.sorted.insert(place, Subscription { channel: channel.clone(), stage });
                Ok(())
            }
        }
    }

    /// Makes the one in flight active, under the hub's copy of the name.
    pub fn activate(&mut self, channel: Channel, active: Active) {
        let Ok(place) = self.find(&channel) else { return };
        if let Some(found) = self.sorted.get_mut(place) {
            found.channel = channel;
            if let Stage::InFlight(done) =
                std::mem::replace(&mut found.stage, Stage::Active(active))
            {
                done.notify_waiters();
            }
        }
    }

    /// Removes whatever there is for `channel`.
    pub fn remove(&mut self, channel: &str) -> Option<(Channel, Stage)> {
        let place = self.find(channel).ok()?;
        let removed = self.sorted.remove(place);
        if let Stage::InFlight(done) = &removed.stage {
            done.notify_waiters();
        }
        Some((removed.channel, removed.stage))
    }

    /// Removes the active one with this key, and no later one of the same channel.
    pub fn remove_exactly(&mut self, channel: &str, key: SubscriptionKey) -> Option<Active> {
        let active = self.active(channel)?;
        if active.key != key {
            return None;
        }
        match self.remove(channel)?.1 {
            Stage::Active(active) => Some(active),
            Stage::InFlight(_) => None,
        }
    }

    pub fn get(&self, channel: &str) -> Option<&Stage> {
        let place = self.find(channel).ok()?;
        self.sorted.get(place).map(|subscription| &subscription.stage)
    }

    pub fn active(&self, channel: &str) -> Option<&Active> {
        match self.get(channel)? {
            Stage::Active(active) => Some(active),
            Stage::InFlight(_) => None,
        }
    }

    pub fn active_mut(&mut self, channel: &str) -> Option<&mut Active> {
        let place = self.find(channel).ok()?;
        match &mut self.sorted.get_mut(place)?.stage {
            Stage::Active(active) => Some(active),
            Stage::InFlight(_) => None,
        }
    }

    /// All active ones, in the order of their names.
    pub fn actives(&self) -> impl Iterator<Item = (&Channel, &Active)> {
        self.sorted.iter().filter_map(|subscription| match &subscription.stage {
            Stage::Active(active) => Some((&subscription.channel, active)),
            Stage::InFlight(_) => None,
        })
    }

    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|subscription| (*subscription.channel).cmp(channel))
    }
}
