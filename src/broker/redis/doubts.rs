//! After an interruption of PUB/SUB: have those with positions missed something?
//!
//! Each channel where somebody has a position in doubt is looked at once, many in one go, as soon as
//! Redis can be asked again. Nothing is written, so a stream that is gone stays gone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::RedisBroker;
use super::receive::tell_each;
use crate::channel::Channel;
use crate::hub::{Hub, Position};
use crate::redis::{Command, Route, Shard};

/// Channels that are asked for in one go.
const BATCH: usize = 512;
/// So long may a publication be on its way from Redis to a subscriber.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

impl RedisBroker {
    /// Until `stop`, checks positions in `hub` after each interruption. Those who have missed
    /// something are told over the time of `spread`.
    pub fn start(self: &Arc<Self>, hub: &Arc<Hub>, spread: Duration, stop: &CancellationToken) {
        if self.archive.is_some() {
            let (stored, redis) = (Arc::clone(&self.stored), Arc::clone(&self.redis));
            tokio::spawn(stored.watch(redis, stop.clone()));
        }
        for shard in self.redis.shards() {
            let (broker, hub, shard) = (Arc::clone(self), Arc::clone(hub), Arc::clone(shard));
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                let mut attachments = shard.attachments();
                while attachments.changed().await.is_ok() {
                    broker.resolve_doubts(&hub, &shard, spread).await;
                }
            }));
        }
    }

    async fn resolve_doubts(&self, hub: &Hub, shard: &Shard, spread: Duration) {
        let mut behind = Vec::new();
        for batch in hub.doubted(|channel| shard.keeps(channel)).chunks(BATCH) {
            let tops = batch.iter().map(|channel| top_of(shard, channel));
            let now_ms = self.clock.unix_millis();
            for (channel, top) in batch.iter().zip(join_all(tops).await) {
                // Without an answer the next check tells, at the latest that of the tick.
                let Some(top) = top else { continue };
                if !hub.confirm_doubted(channel, &top, now_ms) {
                    behind.push((channel.clone(), top));
                }
            }
        }
        if behind.is_empty() {
            return;
        }
        tokio::time::sleep(ON_ITS_WAY).await;
        let voided = behind.iter().flat_map(|(channel, top)| hub.void_behind(channel, top));
        let voided: Vec<_> = voided.collect();
        if !voided.is_empty() {
            let (shard, subscriptions) = (shard.number(), voided.len());
            tracing::warn!(shard, subscriptions, "publications were missed, told to recover");
            tokio::spawn(tell_each(voided, spread));
        }
    }
}

/// The top of a stream as it stands. A stream that is gone, or that gets another epoch from whoever
/// touches it next, has one that nobody's position is in. `None` without an answer.
async fn top_of(shard: &Shard, channel: &Channel) -> Option<Position> {
    let look = |route: &Route| {
        Command::new("HMGET").arg(route.keys().stream_meta(channel)).args(["e", "f", "s"])
    };
    let answer = shard.call(channel, look).await.ok()?;
    let route = shard.route(channel).ok()?;
    let [epoch, under, offset] = answer.list()? else { return None };
    let holds = under.str().is_none_or(|id| id == route.identity().id || id == route.predecessor());
    let epoch = epoch.str().filter(|_| holds).unwrap_or("gone").into();
    Some(Position { offset: offset.number().unwrap_or(0), epoch })
}
