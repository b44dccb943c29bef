//! The end of a connection, and of single subscriptions.

use std::mem;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

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
    subscriptions: Vec<Left>,
}

struct Left {
    channel: Channel,
    active: Active,
    /// Ends when a join that is still on its way has arrived.
    joined: Option<OwnedNotified>,
}

impl Session {
    /// Takes the connection out of every list, before the client is told that it closes with
    /// `code`. Nothing more is delivered to it.
    pub fn leave(&self, code: u32) -> Farewell {
        self.outbox().close(Disconnect::CONNECTION_CLOSED);
        let (state, subscriptions) = self.take_state();
        self.count_disconnect(code);
        let State::Connected(connected) = state else {
            return Farewell { conn_info: Bytes::new(), subscriptions: Vec::new() };
        };
        self.node.hub.connections.remove(&self.connection, connected.registration);
        self.count_left(connected.labels, subscriptions.len());
        for left in &subscriptions {
            self.node.unsubscribe(&left.channel, left.active.key);
        }
        Farewell { conn_info: connected.info, subscriptions }
    }

    /// Closes the state. What waits for a join is made under the lock: the join cannot arrive unheard.
    fn take_state(&self) -> (State, Vec<Left>) {
        let mut state = self.state.lock();
        let taken = mem::replace(&mut *state, State::Closed);
        let State::Connected(connected) = &taken else { return (taken, Vec::new()) };
        let subscriptions = &connected.subscriptions;
        subscriptions.wake_waiting();
        let left = |(channel, active): (&Channel, &Active)| Left {
            channel: channel.clone(),
            active: active.clone(),
            joined: subscriptions.in_flight(channel).map(Notify::notified_owned),
        };
        let left = subscriptions.actives().map(left).collect();
        (taken, left)
    }

    /// Takes back presence and tells the others. Comes after the socket is closed, so that a slow
    /// backend holds no socket open.
    pub async fn close(&self, farewell: Farewell) {
        for Left { channel, active, joined } in farewell.subscriptions {
            if let Some(joined) = joined {
                joined.await;
            }
            self.disappear(&channel, active, &farewell.conn_info).await;
        }
    }

    /// Ends the subscription of `channel` once none is in flight; with a `key` only this one, and no
    /// later one of the same channel. The client is told, if at all, when all is undone: what it
    /// does next meets nothing of the old subscription.
    pub(super) async fn end(
        &self,
        channel: &str,
        key: Option<SubscriptionKey>,
        tell: Option<&UnsubscribeCode>,
    ) {
        self.settle(channel).await;
        let begun = self.connected(|connected| {
            let begun = connected.subscriptions.begin_end(channel, key)?;
            self.count_subscription_ended(connected.labels);
            Some((begun, connected.info.clone()))
        });
        let Some(((channel, active), conn_info)) = begun.flatten() else { return };
        self.node.unsubscribe(&channel, active.key);
        self.disappear(&channel, active, &conn_info).await;
        self.connected(|connected| {
            if let Some(code) = tell {
                self.tell_unsubscribed(&channel, code);
            }
            connected.subscriptions.remove(&channel);
        });
    }

    /// Waits until `channel` is either subscribed or not.
    pub(super) async fn settle(&self, channel: &str) {
        loop {
            let in_flight = self.connected(|connected| {
                connected.subscriptions.in_flight(channel).map(Notify::notified_owned)
            });
            match in_flight.flatten() {
                Some(settled) => settled.await,
                None => return,
            }
        }
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
    async fn disappear(&self, channel: &Channel, active: Active, conn_info: &Bytes) {
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
