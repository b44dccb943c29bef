//! What the server does to the connections of a user, wherever they are.
//!
//! Other nodes are told first. If they cannot be, nothing is done anywhere: whoever called may call
//! again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::order::{Deed, Order, Selection, UserRefresh, UserSubscribe};
use super::{Error, Node};
use crate::channel::Channel;
use crate::hub::{Connection, Done, ServerSubscribe, Signal};
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::control::Content;

/// How long a verb waits for sessions that are busy with something else; the verb takes effect in
/// any case.
const PATIENCE: Duration = Duration::from_secs(5);

impl Node {
    /// Subscribes the selected connections; those that have the channel already stay as they are.
    ///
    /// # Errors
    /// As all verbs of this file: other nodes could not be told, and nothing was done.
    pub async fn subscribe_user(
        &self,
        selection: Selection,
        channel: Channel,
        subscribe: UserSubscribe,
    ) -> Result<(), Error> {
        let subscribe = subscribe.granted_by(&*self.channel(&channel)?);
        self.give(Order { selection, deed: Deed::Subscribe(channel, subscribe) }).await
    }

    /// Ends the selected connections' subscription to `channel`, or with `None` all they have.
    pub async fn unsubscribe_user(
        &self,
        selection: Selection,
        channel: Option<Channel>,
        code: UnsubscribeCode,
    ) -> Result<(), Error> {
        self.give(Order { selection, deed: Deed::Unsubscribe(channel, code) }).await
    }

    /// Sets when the selected connections expire, and perhaps anew what others see of them.
    pub async fn refresh_user(
        &self,
        selection: Selection,
        refresh: UserRefresh,
    ) -> Result<(), Error> {
        self.give(Order { selection, deed: Deed::Refresh(refresh) }).await
    }

    /// Closes the selected connections.
    pub async fn disconnect_user(
        &self,
        selection: Selection,
        disconnect: Disconnect,
    ) -> Result<(), Error> {
        self.give(Order { selection, deed: Deed::Disconnect(disconnect) }).await
    }

    async fn give(&self, order: Order) -> Result<(), Error> {
        self.tell(None, Content::from(&order)).await?;
        let acted = self.carry_out(order);
        let _ = tokio::time::timeout(PATIENCE, acted).await;
        Ok(())
    }

    /// Does it to the connections of this node. What is returned ends when their sessions have acted,
    /// which they do whether or not anybody waits.
    pub(super) fn carry_out(&self, order: Order) -> impl Future<Output = ()> + use<> {
        let Order { selection, deed } = order;
        let connections = self.select(&selection);
        let mut acting = Vec::new();
        for connection in connections {
            match &deed {
                Deed::Disconnect(disconnect) => connection.outbox.close(disconnect.clone()),
                Deed::Refresh(UserRefresh::Expired) => {
                    connection.outbox.close(Disconnect::CONNECTION_EXPIRED);
                }
                deed => {
                    let (done, acted) = Done::channel();
                    if let Some(signal) = signal(deed, done) {
                        connection.outbox.signal(signal);
                        acting.push(acted);
                    }
                }
            }
        }
        async {
            join_all(acting).await;
        }
    }

    fn select(&self, selection: &Selection) -> Vec<Arc<Connection>> {
        let Selection { user, all_users, client, session, except } = selection;
        if !session.is_empty() {
            return Vec::new();
        }
        let mut connections = match all_users {
            true => self.hub.connections.all(),
            false => self.hub.connections.of_user(user),
        };
        if !client.is_empty() || !except.is_empty() {
            connections.retain(|connection| {
                let id = connection.id().to_string();
                (client.is_empty() || *client == id) && !except.contains(&id)
            });
        }
        connections
    }
}

/// What a session is told, if it is the session that acts.
fn signal(deed: &Deed, done: Done) -> Option<Signal> {
    match deed {
        Deed::Subscribe(channel, subscribe) => Some(Signal::Subscribe(Box::new(ServerSubscribe {
            channel: channel.clone(),
            expire_at: subscribe.expire_at,
            info: subscribe.info.clone(),
            data: subscribe.data.clone(),
            recover_since: subscribe.recover_since.clone(),
            overrides: subscribe.overrides,
            done,
        }))),
        Deed::Unsubscribe(channel, code) => {
            Some(Signal::Unsubscribe { channel: channel.clone(), code: code.clone(), done })
        }
        Deed::Refresh(UserRefresh::Until { expire_at, info }) => {
            Some(Signal::Refresh { expire_at: *expire_at, info: info.clone(), done })
        }
        Deed::Disconnect(_) | Deed::Refresh(UserRefresh::Expired) => None,
    }
}
