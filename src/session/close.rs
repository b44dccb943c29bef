//! The end of a connection, and of single subscriptions.

use std::mem;

use bytes::Bytes;

use super::subscription::Active;
use super::{Session, State};
use crate::channel::Channel;
use crate::hub::SubscriptionKey;
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::reply::{Push, Reply, Unsubscribe};

/// What is left to undo of a connection that has left the hub.
#[must_use]
pub struct Farewell {
    conn_info: Bytes,
    subscriptions: Vec<(Channel, Active)>,
}

impl Session {
    /// Takes the connection out of every list, before the client is told that it closes with
    /// `code`. Nothing more is delivered to it.
    pub fn leave(&self, code: u32) -> Farewell {
        self.outbox().close(Disconnect::CONNECTION_CLOSED);
        let state = mem::replace(&mut *self.state.lock(), State::Closed);
        self.count_disconnect(code);
        let State::Connected(connected) = state else {
            return Farewell { conn_info: Bytes::new(), subscriptions: Vec::new() };
        };
        self.node.hub.connections.remove(&self.connection, connected.registration);
        self.count_left(connected.labels, connected.subscriptions.actives().count());
        let of = |(channel, active): (&Channel, &Active)| (channel.clone(), active.clone());
        let subscriptions: Vec<_> = connected.subscriptions.actives().map(of).collect();
        for (channel, active) in &subscriptions {
            self.node.unsubscribe(channel, active.key);
        }
        Farewell { conn_info: connected.info, subscriptions }
    }

    /// Takes back presence and tells the others. Comes after the socket is closed, so that a slow
    /// backend holds no socket open.
    pub async fn close(&self, farewell: Farewell) {
        for (channel, active) in farewell.subscriptions {
            self.disappear(&channel, active, &farewell.conn_info).await;
        }
    }

    /// Ends this subscription, and no later one of the same channel; tells the client with `code`.
    pub(super) async fn end_exactly(
        &self,
        channel: &Channel,
        key: SubscriptionKey,
        code: &UnsubscribeCode,
    ) {
        let removed = self.connected(|connected| {
            let active = connected.subscriptions.remove_exactly(channel, key)?;
            Some((active, connected.info.clone()))
        });
        let Some((active, conn_info)) = removed.flatten() else { return };
        self.node.unsubscribe(channel, key);
        self.count_subscription_ended();
        self.tell_unsubscribed(channel, code);
        self.disappear(channel, active, &conn_info).await;
    }

    fn tell_unsubscribed(&self, channel: &Channel, code: &UnsubscribeCode) {
        self.count_unsubscribe(code.code);
        let unsubscribe = Unsubscribe { code: code.code, reason: code.reason.to_string() };
        let push = Push {
            channel: channel.to_string(),
            unsubscribe: Some(unsubscribe),
            ..Push::default()
        };
        self.queue(&Reply { push: Some(push), ..Reply::default() });
    }

    /// What others learn of the end of a subscription that has left the hub.
    pub(super) async fn disappear(&self, channel: &Channel, active: Active, conn_info: &Bytes) {
        if active.presence {
            let client = self.connection.id().to_string();
            if let Err(error) = self.node.remove_presence(channel, &client).await {
                tracing::warn!(%channel, client, %error, "presence was not removed");
            }
        }
        if active.join_leave {
            let info = self.client_info(conn_info.clone(), active.info);
            if let Err(error) = self.node.publish_leave(channel, &info).await {
                tracing::warn!(%channel, %error, "leave was not published");
            }
        }
    }
}
