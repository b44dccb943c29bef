//! What others ask of a connection's session.

use bytes::Bytes;
use tokio::sync::oneshot;

use super::SubscriptionKey;
use crate::auth::OptionOverride;
use crate::channel::Channel;
use crate::protocol::codes::UnsubscribeCode;
use crate::protocol::publication::StreamPosition;

/// Something for a session to do, left in its connection's outbox.
#[derive(Debug)]
pub enum Signal {
    /// A subscription missed publications: it ends, and the client is told to recover.
    PositionLost { channel: Channel, key: SubscriptionKey },
    /// The server subscribes the connection.
    Subscribe(Box<ServerSubscribe>),
    /// The server ends one subscription, or with no channel all of them.
    Unsubscribe { channel: Option<Channel>, code: UnsubscribeCode, done: Done },
    /// The server sets when the connection expires (never, if `None`), and perhaps anew what others
    /// see of it.
    Refresh { expire_at: Option<i64>, info: Option<Bytes>, done: Done },
}

/// A subscription that the server makes on a connection's behalf.
#[derive(Debug)]
pub struct ServerSubscribe {
    pub channel: Channel,
    /// Unix seconds at which the subscription ends.
    pub expire_at: Option<i64>,
    /// What others see of the connection in this channel.
    pub info: Bytes,
    /// Handed to the client with the subscription.
    pub data: Bytes,
    pub recover_since: Option<StreamPosition>,
    pub overrides: OptionOverride,
    pub done: Done,
}

/// Dropped when the session has acted (or is gone), which is what the asker waits for.
#[derive(Debug)]
pub struct Done(#[allow(dead_code, reason = "its drop is the message")] oneshot::Sender<()>);

impl Done {
    /// The token to hand over, and the future that ends when it was dropped.
    pub fn channel() -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), async {
            let _ = receiver.await;
        })
    }
}
