//! The presence tick: renews presence, checks positions, ends expired subscriptions.

use std::sync::Arc;
use std::time::Duration;

use super::Session;
use super::subscription::{Active, Origin};
use crate::channel::Channel;
use crate::hub::SubscriptionKey;
use crate::protocol::codes::{Disconnect, UnsubscribeCode};

/// So long may a publication be on its way from the broker to a subscriber.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

impl Session {
    /// Starts a tick beside everything else the connection does, so that a slow backend delays
    /// neither pings nor commands. A connection without subscriptions has nothing to do.
    pub(super) fn begin_tick(self: &Arc<Self>) {
        let due = self.connected(|connected| {
            let has_duty = |active: &Active| {
                active.presence || active.positioned || active.expire_at.is_some()
            };
            let actives = connected.subscriptions.actives();
            let due = actives.filter(|(_, active)| has_duty(active));
            let due: Vec<_> = due.map(|(name, active)| (name.clone(), active.clone())).collect();
            // While a backend hangs, ticks do not pile up behind it.
            let begins = !due.is_empty() && !connected.ticking;
            connected.ticking |= begins;
            begins.then_some(due)
        });
        if let Some(due) = due.flatten() {
            let session = Arc::clone(self);
            tokio::spawn(async move {
                session.tick(due).await;
                session.connected(|connected| connected.ticking = false);
            });
        }
    }

    async fn tick(&self, due: Vec<(Channel, Active)>) {
        for (channel, active) in due {
            if self.outbox().is_closing() {
                return;
            }
            if self.has_expired(&active) {
                self.expire_subscription(&channel, &active).await;
                continue;
            }
            if active.presence {
                self.renew_presence(&channel, &active).await;
            }
            if active.positioned {
                self.check_position(&channel, &active).await;
            }
        }
    }

    fn has_expired(&self, active: &Active) -> bool {
        let grace = self.node.client.expired_sub_close_delay.as_secs() as i64;
        let now = self.node.clock.unix_seconds();
        active.expire_at.is_some_and(|expire_at| expire_at.saturating_add(grace) <= now)
    }

    async fn expire_subscription(&self, channel: &Channel, active: &Active) {
        if active.origin.is_server_side() {
            return self.outbox().close(Disconnect::SUBSCRIPTION_EXPIRED);
        }
        self.end(channel, Some(active.key), Some(&UnsubscribeCode::EXPIRED)).await;
    }

    /// Adds the entry anew. The subscription may end in the meantime, and another one begin: so what
    /// fits the connection's state is done until that state is the same afterwards.
    async fn renew_presence(&self, channel: &Channel, active: &Active) {
        let mut key = Some(active.key);
        loop {
            let infos = self.connected(|connected| {
                let active = connected.subscriptions.active(channel)?;
                Some((connected.info.clone(), active.info.clone(), active.presence))
            });
            let done = match infos.flatten() {
                Some((conn_info, chan_info, true)) => {
                    let info = self.client_info(conn_info, chan_info);
                    self.node.add_presence(channel, info).await
                }
                _ => {
                    let client = self.connection.id().to_string();
                    self.node.remove_presence(channel, &client).await
                }
            };
            if let Err(error) = done {
                let client = self.connection.id();
                tracing::warn!(%channel, %client, %error, "presence was not renewed");
            }
            self.settle(channel).await;
            let after = self.connected(|connected| {
                connected.subscriptions.active(channel).map(|active| active.key)
            });
            if after.flatten() == key {
                return;
            }
            key = after.flatten();
        }
    }

    /// Compares the subscription's position with the stream, if nothing has confirmed it lately.
    /// A broker that does not answer proves nothing: the next tick tries again.
    async fn check_position(&self, channel: &Channel, active: &Active) {
        let delay = self.node.client.channel_position_check_delay.as_millis() as i64;
        let now_ms = self.node.clock.unix_millis();
        let Some((_, confirmed_ms)) = self.node.hub.position(channel, active.key) else { return };
        if now_ms - confirmed_ms <= delay {
            return;
        }
        let Ok(rules) = self.node.channel(channel) else { return };
        let Ok(top) = self.node.stream_top(channel, rules.history_meta_ttl).await else { return };
        // Looked up after the read, since then most of what was published before it has come; what
        // is still on its way gets a moment.
        let is_behind = || {
            let (position, _) = self.node.hub.position(channel, active.key)?;
            let is_other = !position.epoch.is_empty() && position.epoch != top.epoch;
            Some((is_other, position.offset < top.offset))
        };
        let is_lost = match is_behind() {
            None => return,
            Some((false, true)) => {
                tokio::time::sleep(ON_ITS_WAY).await;
                is_behind().is_some_and(|(is_other, is_short)| is_other || is_short)
            }
            Some((is_other, _)) => is_other,
        };
        if is_lost {
            self.lose_position(channel, active.key, active.origin).await;
        } else {
            self.node.hub.confirm_position(channel, active.key, now_ms);
        }
    }

    /// The subscription misses something: the client is to recover.
    pub(super) async fn lose_position(
        &self,
        channel: &Channel,
        key: SubscriptionKey,
        origin: Origin,
    ) {
        match origin {
            Origin::Client => {
                self.end(channel, Some(key), Some(&UnsubscribeCode::INSUFFICIENT_STATE)).await;
            }
            Origin::Token | Origin::Server => {
                self.outbox().close(Disconnect::INSUFFICIENT_STATE);
            }
        }
    }
}
