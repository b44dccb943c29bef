//! What happens to positions when the streams they are positions in come into doubt.

use std::sync::Arc;

use super::connections::Connection;
use super::signal::Signal;
use super::{Hub, Position, Shard, Subscribers};
use crate::channel::Channel;

/// A subscription that gets nothing more, and whose session does not know yet.
#[derive(Debug)]
#[must_use]
pub struct Voided {
    connection: Arc<Connection>,
    signal: Signal,
}

impl Voided {
    /// Tells the session, which tells the client to recover.
    pub fn tell(self) {
        self.connection.outbox.signal(self.signal);
    }
}

impl Hub {
    /// Publications may have passed by in these channels: positions there are compared with the
    /// stream at the next occasion, however lately they were confirmed.
    pub fn doubt_positions(&self, is_concerned: impl Fn(&str) -> bool) {
        self.each_concerned(is_concerned, |shard, channel| {
            let Some(subscribers) = shard.get_mut(channel) else { return };
            subscribers.entries.iter_mut().for_each(|(_, entry)| entry.doubt());
        });
    }

    /// The channels in which positions are in doubt.
    pub fn doubted(&self, is_concerned: impl Fn(&str) -> bool) -> Vec<Channel> {
        let mut doubted = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let is_doubted = |subscribers: &Subscribers| {
                subscribers.entries.iter().any(|(_, entry)| entry.is_doubted())
            };
            let channels = shard.iter().filter(|(name, own)| is_concerned(name) && is_doubted(own));
            doubted.extend(channels.map(|(name, _)| name.clone()));
        }
        doubted
    }

    /// Confirms the positions in doubt that have everything up to `top`. `false` if others are left:
    /// something is missing, or on its way.
    pub fn confirm_doubted(&self, channel: &str, top: &Position, now_ms: i64) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(subscribers) = shard.get_mut(channel) else { return true };
        let mut is_settled = true;
        for (_, entry) in subscribers.entries.iter_mut().filter(|(_, entry)| entry.is_doubted()) {
            match entry.is_behind(top) {
                true => is_settled = false,
                false => entry.confirmed(now_ms),
            }
        }
        is_settled
    }

    /// Ends delivery to those whose position is in doubt still, and behind `top`. Whoever calls this
    /// tells them.
    pub fn void_behind(&self, channel: &Channel, top: &Position) -> Vec<Voided> {
        let mut shard = self.shard(channel).lock();
        let Some(subscribers) = shard.get_mut(channel) else { return Vec::new() };
        let behind = subscribers.entries.iter_mut().filter_map(|(_, entry)| {
            let signal =
                (entry.is_doubted() && entry.is_behind(top)).then(|| entry.void(channel))??;
            Some(Voided { connection: Arc::clone(&entry.connection), signal })
        });
        behind.collect()
    }

    /// The streams of these channels are not what they were: nobody with a position there gets
    /// anything more. Whoever calls this tells them, in the time that suits.
    pub fn void_positions(&self, is_concerned: impl Fn(&str) -> bool) -> Vec<Voided> {
        let mut voided = Vec::new();
        self.each_concerned(is_concerned, |shard, channel| {
            let Some((channel, _)) = shard.get_key_value(channel) else { return };
            let channel = channel.clone();
            let Some(subscribers) = shard.get_mut(&channel) else { return };
            voided.extend(subscribers.entries.iter_mut().filter_map(|(_, entry)| {
                let signal = entry.void(&channel)?;
                Some(Voided { connection: Arc::clone(&entry.connection), signal })
            }));
        });
        self.metrics.redis.voided_positions.inc_by(voided.len() as u64);
        voided
    }

    /// One shard's lock after the other: deliveries elsewhere go on.
    fn each_concerned(
        &self,
        is_concerned: impl Fn(&str) -> bool,
        mut act: impl FnMut(&mut Shard, &str),
    ) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let names: Vec<_> = shard.keys().filter(|name| is_concerned(name)).cloned().collect();
            names.iter().for_each(|name| act(&mut shard, name));
        }
    }
}
