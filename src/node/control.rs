//! What the server does to the connections of a user.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::Node;
use crate::auth::OptionOverride;
use crate::channel::Channel;
use crate::hub::{Connection, Done, ServerSubscribe, Signal};
use crate::protocol::codes::{Disconnect, UnsubscribeCode};
use crate::protocol::publication::StreamPosition;

/// How long a verb waits for sessions that are busy with something else; the verb takes effect in
/// any case.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections of one user, all of them or those that the other fields name.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The empty string means the anonymous user, not everyone.
    pub user: String,
    /// Only the connection with this client id, unless empty.
    pub client: String,
    /// Only the connection with this session id, unless empty. WebSocket connections have none.
    pub session: String,
    /// Not the connections with these client ids.
    pub except: Vec<String>,
}

/// A subscription for the connections of a user.
#[derive(Clone, Debug, Default)]
pub struct UserSubscribe {
    /// Unix seconds; `None` for never.
    pub expire_at: Option<i64>,
    pub info: Bytes,
    pub data: Bytes,
    pub recover_since: Option<StreamPosition>,
    pub overrides: OptionOverride,
}

impl Node {
    /// Subscribes the selected connections; those that have the channel already stay as they are.
    pub async fn subscribe_user(
        &self,
        selection: &Selection,
        channel: &Channel,
        subscribe: &UserSubscribe,
    ) {
        self.signal_each(selection, |done| {
            Signal::Subscribe(Box::new(ServerSubscribe {
                channel: channel.clone(),
                expire_at: subscribe.expire_at,
                info: subscribe.info.clone(),
                data: subscribe.data.clone(),
                recover_since: subscribe.recover_since.clone(),
                overrides: subscribe.overrides,
                done,
            }))
        })
        .await;
    }

    /// Ends the selected connections' subscription to `channel`, or with `None` all they have.
    pub async fn unsubscribe_user(
        &self,
        selection: &Selection,
        channel: Option<&Channel>,
        code: UnsubscribeCode,
    ) {
        self.signal_each(selection, |done| Signal::Unsubscribe {
            channel: channel.cloned(),
            code: code.clone(),
            done,
        })
        .await;
    }

    /// Sets when the selected connections expire (never, if `None`), and perhaps anew what others
    /// see of them.
    pub async fn refresh_user(
        &self,
        selection: &Selection,
        expire_at: Option<i64>,
        info: Option<&Bytes>,
    ) {
        self.signal_each(selection, |done| Signal::Refresh {
            expire_at,
            info: info.cloned(),
            done,
        })
        .await;
    }

    /// Closes the selected connections.
    pub fn disconnect_user(&self, selection: &Selection, disconnect: &Disconnect) {
        for connection in self.select(selection) {
            connection.outbox.close(disconnect.clone());
        }
    }

    async fn signal_each(&self, selection: &Selection, signal: impl Fn(Done) -> Signal) {
        let acted = self.select(selection).into_iter().map(|connection| {
            let (done, acted) = Done::channel();
            connection.outbox.signal(signal(done));
            acted
        });
        let _ = tokio::time::timeout(PATIENCE, join_all(acted)).await;
    }

    fn select(&self, selection: &Selection) -> Vec<Arc<Connection>> {
        let named = |connection: &Connection| {
            let id = connection.id().to_string();
            (selection.client.is_empty() || selection.client == id)
                && selection.session.is_empty()
                && !selection.except.contains(&id)
        };
        let mut connections = self.hub.connections.of_user(&selection.user);
        connections.retain(|connection| named(connection));
        connections
    }
}
