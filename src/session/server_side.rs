//! What others do to this connection: the API's verbs, and the hub's word that something is missing.

use std::iter;
use std::sync::Arc;

use bytes::Bytes;

use super::establish::{Grant, Wish, ttl};
use super::subscription::Origin;
use super::{Connected, Session, State};
use crate::channel::Channel;
use crate::hub::{Done, Message, ServerSubscribe, Signal};
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::reply::{Push, Refresh, Reply, Subscribe, SubscribeResult};

impl Session {
    pub(super) async fn act_on(self: &Arc<Self>, signal: Signal) {
        match signal {
            Signal::PositionLost { channel, key } => {
                let origin = self.connected(|connected| {
                    let active = connected.subscriptions.active(&channel)?;
                    (active.key == key).then_some(active.origin)
                });
                if let Some(origin) = origin.flatten() {
                    self.lose_position(&channel, key, origin).await;
                }
            }
            Signal::Subscribe(subscribe) => self.subscribed_by_server(*subscribe).await,
            Signal::Unsubscribe { channel, code, done } => {
                self.unsubscribed_by_server(channel, &code, done).await;
            }
            Signal::Refresh { expire_at, info, done } => {
                self.refreshed_by_server(expire_at, info);
                drop(done);
            }
        }
    }

    /// A channel that the connection has already stays as it is.
    async fn subscribed_by_server(self: &Arc<Self>, subscribe: ServerSubscribe) {
        let ServerSubscribe { channel, expire_at, info, data, recover_since, overrides, done } =
            subscribe;
        let Ok(rules) = self.node.channel(&channel) else { return };
        let limit = self.node.client.channel_limit as usize;
        let begun = self.connected(|connected| {
            let begun = connected.subscriptions.begin(&channel, limit);
            begun.map(|()| connected.info.clone())
        });
        let conn_info = match begun {
            Some(Ok(conn_info)) => conn_info,
            Some(Err(super::subscription::Conflict::LimitReached)) => {
                return self.outbox().close(Disconnect::CHANNEL_LIMIT);
            }
            Some(Err(super::subscription::Conflict::Exists)) | None => return,
        };
        let slot = self.slot(&channel);
        let mut grant = Grant::of(rules, Origin::Server, overrides);
        (grant.info, grant.data, grant.expire_at) = (info, data, expire_at);
        let wish = Wish { recover: recover_since, ..Wish::default() };
        let Ok(mut established) = self.establish(&channel, grant, wish, conn_info).await else {
            tracing::debug!(%channel, client = %self.connection.id(), "server-side subscription failed");
            return;
        };
        match self.encode_subscribed(&channel, established.take_result()) {
            Ok(messages) => slot.go_live(established, messages).await,
            Err(disconnect) => self.outbox().close(disconnect),
        }
        drop(done);
    }

    /// The push that tells a client of a subscription, and those with what it missed: the push has no
    /// room for publications, and the client counts on from the position that it names.
    fn encode_subscribed(
        &self,
        channel: &Channel,
        result: SubscribeResult,
    ) -> Result<Vec<Message>, Disconnect> {
        let of_channel = || Push { channel: channel.to_string(), ..Push::default() };
        let subscribe = Subscribe {
            recoverable: result.recoverable,
            epoch: result.epoch,
            offset: result.offset,
            positioned: result.positioned,
            data: result.data,
        };
        let subscribed = Push { subscribe: Some(subscribe), ..of_channel() };
        let missed = result.publications.into_iter();
        let missed = missed.map(|missed| Push { publication: Some(missed), ..of_channel() });
        iter::once(subscribed)
            .chain(missed)
            .map(|push| self.encode(&Reply { push: Some(push), ..Reply::default() }))
            .collect()
    }

    async fn unsubscribed_by_server(
        &self,
        channel: Option<Channel>,
        code: &UnsubscribeCode,
        done: Done,
    ) {
        let all = || {
            let all = |connected: &mut Connected| {
                connected.subscriptions.channels().cloned().collect::<Vec<_>>()
            };
            self.connected(all).unwrap_or_default()
        };
        for channel in channel.map_or_else(all, |channel| vec![channel]) {
            self.end(&channel, None, Some(code)).await;
        }
        drop(done);
    }

    fn refreshed_by_server(&self, expire_at: Option<i64>, info: Option<Bytes>) {
        let now = self.node.clock.unix_seconds();
        if let State::Connected(connected) = &mut *self.state.lock() {
            if let Some(info) = info {
                connected.info = info;
            }
        } else {
            return;
        }
        self.expire_after(expire_at);
        let left = expire_at.map(|expire_at| ttl(expire_at, now));
        let refresh = Refresh { expires: left.is_some(), ttl: left.unwrap_or_default() };
        let push = Push { refresh: Some(refresh), ..Push::default() };
        self.queue(&Reply { push: Some(push), ..Reply::default() });
    }
}
