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
    /// Being made or being ended; the notification comes when it is active, has failed or is over.
    InFlight(Arc<Notify>),
    /// It receives, and its join is on its way to the others; the notification comes when it is
    /// there. Until then nobody ends it, or its leave might overtake.
    Joining(Box<Active>, Arc<Notify>),
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

    /// Makes the one in flight active, under the hub's copy of the name. If others are to be told,
    /// nobody ends it before [`Subscriptions::joined`], and what is returned is to be notified then.
    pub fn activate(&mut self, channel: Channel, active: Active) -> Option<Arc<Notify>> {
        let place = self.find(&channel).ok()?;
        let found = self.sorted.get_mut(place)?;
        found.channel = channel;
        let Stage::InFlight(done) = &found.stage else { return None };
        let done = Arc::clone(done);
        if active.join_leave {
            found.stage = Stage::Joining(Box::new(active), Arc::clone(&done));
            return Some(done);
        }
        found.stage = Stage::Active(active);
        done.notify_waiters();
        None
    }

    /// The others know of it.
    pub fn joined(&mut self, channel: &str) {
        if let Some(stage) = self.stage_mut(channel)
            && let Stage::Joining(active, _) = stage
        {
            *stage = Stage::Active(Active::clone(active));
        }
    }

    /// Takes out the active one, if it has this `key` or none is asked for. Its place stays taken
    /// until [`Subscriptions::remove`], so that its end and a next beginning cannot mix.
    pub fn begin_end(
        &mut self,
        channel: &str,
        key: Option<SubscriptionKey>,
    ) -> Option<(Channel, Active)> {
        let place = self.find(channel).ok()?;
        let found = self.sorted.get_mut(place)?;
        let Stage::Active(active) = &found.stage else { return None };
        if key.is_some_and(|key| key != active.key) {
            return None;
        }
        let active = active.clone();
        found.stage = Stage::InFlight(Arc::new(Notify::new()));
        Some((found.channel.clone(), active))
    }

    /// Gives the place of `channel` free, and wakes whoever waits for it.
    pub fn remove(&mut self, channel: &str) {
        if let Ok(place) = self.find(channel) {
            self.sorted.remove(place).stage.notify();
        }
    }

    /// What to wait for until `channel` is either subscribed or not.
    pub fn in_flight(&self, channel: &str) -> Option<Arc<Notify>> {
        let place = self.find(channel).ok()?;
        match &self.sorted.get(place)?.stage {
            Stage::InFlight(done) | Stage::Joining(_, done) => Some(Arc::clone(done)),
            Stage::Active(_) => None,
        }
    }

    pub fn active(&self, channel: &str) -> Option<&Active> {
        let place = self.find(channel).ok()?;
        self.sorted.get(place)?.stage.active()
    }

    pub fn active_mut(&mut self, channel: &str) -> Option<&mut Active> {
        match self.stage_mut(channel)? {
            Stage::Active(active) => Some(active),
            Stage::Joining(active, _) => Some(active),
            Stage::InFlight(_) => None,
        }
    }

    /// The channels of all, also of those in flight.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.sorted.iter().map(|subscription| &subscription.channel)
    }

    /// All active ones, in the order of their names.
    pub fn actives(&self) -> impl Iterator<Item = (&Channel, &Active)> {
        self.sorted.iter().filter_map(|subscription| {
            subscription.stage.active().map(|active| (&subscription.channel, active))
        })
    }

    /// The connection ends: whoever waits for one of these to settle need not wait longer.
    pub fn wake_waiting(&self) {
        self.sorted.iter().for_each(|subscription| subscription.stage.notify());
    }

    fn stage_mut(&mut self, channel: &str) -> Option<&mut Stage> {
        let place = self.find(channel).ok()?;
        self.sorted.get_mut(place).map(|subscription| &mut subscription.stage)
    }

    fn find(&self, channel: &str) -> Result<usize, usize> {
        self.sorted.binary_search_by(|subscription| (*subscription.channel).cmp(channel))
    }
}

impl Stage {
    fn active(&self) -> Option<&Active> {
        match self {
            Self::Active(active) => Some(active),
            Self::Joining(active, _) => Some(active),
            Self::InFlight(_) => None,
        }
    }

    fn notify(&self) {
        match self {
            Self::InFlight(done) | Self::Joining(_, done) => done.notify_waiters(),
            Self::Active(_) => {}
        }
    }
}
