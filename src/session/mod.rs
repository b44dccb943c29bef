//! One connection's protocol life.
//!
//! The transport owns the socket and one loop; a [`Session`] is what that loop talks to: frames,
//! signals and rings of the timing wheel go in, messages appear in the connection's outbox. A
//! session's state changes only under its lock and never across a wait, so commands that run at the
//! same time, signals of the API and the presence tick cannot see it half done.
//!
//! To add a command: its messages in `protocol`, one file in [`commands`] with the checks in the
//! order of its doc, one arm in `dispatch`.

mod catching_up;
mod close;
mod commands;
mod count;
mod deadlines;
mod dispatch;
mod establish;
mod missed;
mod recovery;
mod refusal;
mod server_side;
mod starting_point;
mod subscription;
mod tick;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::deadlines::{Deadlines, Due, Rhythm};
use self::refusal::Refusal;
use self::subscription::Subscriptions;
use crate::channel::{Actor, ChannelRules};
use crate::hub::{Connection, Message, Outbox, Registration, Signal};
use crate::node::Node;
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::frame::Codec;
use crate::protocol::publication::ClientInfo;
use crate::protocol::reply::Reply;
use crate::telemetry::metrics::labels::{ClientName, ClientVersion, FrameType};

/// A connection between the protocol's first and last message.
pub struct Session {
    connection: Arc<Connection>,
    node: Arc<Node>,
    traits: Traits,
    state: Mutex<State>,
    deadlines: Mutex<Deadlines>,
    /// Present if commands of this connection may run at the same time.
    parallel: Option<Arc<Semaphore>>,
}

/// What the transport knows of a connection before its first message.
#[derive(Clone, Debug, Default)]
pub struct Traits {
    /// The client wants native WebSocket pings in the place of the protocol's.
    pub native_ping: bool,
    /// The user, as a trusted proxy in front has set it in `client.user_id_http_header`.
    pub header_user: Option<Box<str>>,
}

/// What the transport does after a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    /// The connect command failed: nothing more is read, and the client is given time to leave.
    Refused,
}

enum State {
    Connecting,
    /// A connect command is being worked on.
    Authenticating,
    Connected(Box<Connected>),
    Closed,
}

/// What there is of an authenticated connection.
struct Connected {
    registration: Registration,
    /// What others see of the connection.
    info: Bytes,
    subscriptions: Subscriptions,
    labels: (ClientName, ClientVersion),
    /// A presence tick is under way.
    ticking: bool,
}

impl Session {
    /// A session for a connection that was just made.
    pub fn open(node: &Arc<Node>, codec: Codec, traits: Traits) -> Arc<Self> {
        let client = &node.client;
        let outbox = Outbox::new(client.queue_max_size);
        let stale = node.clock.now() + client.stale_close_delay;
        let stale = (!client.stale_close_delay.is_zero()).then_some(stale);
        let parallel = client.concurrency as usize;
        Arc::new(Self {
            connection: Connection::new(Uuid::new_v4(), codec, outbox),
            node: Arc::clone(node),
            traits,
            state: Mutex::new(State::Connecting),
            deadlines: Mutex::new(Deadlines::connecting(stale)),
            parallel: (parallel > 1).then(|| Arc::new(Semaphore::new(parallel))),
        })
    }

    /// The connection's id, which its client learns when it has authenticated.
    pub fn id(&self) -> Uuid {
        self.connection.id()
    }

    pub fn codec(&self) -> Codec {
        self.connection.codec()
    }

    /// Where the messages for this connection appear.
    pub fn outbox(&self) -> &Outbox {
        &self.connection.outbox
    }

    /// Works through the commands of a frame, in order.
    pub fn on_frame(self: &Arc<Self>, frame: Bytes) -> BoxFuture<'static, Flow> {
        let session = Arc::clone(self);
        Box::pin(async move { session.work_through(frame).await })
    }

    /// Acts on signals, in order.
    pub fn on_signals(self: &Arc<Self>, signals: Vec<Signal>) -> BoxFuture<'static, ()> {
        let session = Arc::clone(self);
        Box::pin(async move {
            for signal in signals {
                session.act_on(signal).await;
            }
        })
    }

    /// Cancelled when every connection is to end at once. Connections are rung then.
    pub fn hard(&self) -> &CancellationToken {
        &self.node.hard
    }

    /// Does what is due; `true` if the transport is to send a native ping.
    pub fn on_ring(self: &Arc<Self>) -> bool {
        if self.node.is_draining() && matches!(*self.state.lock(), State::Connecting) {
            self.connection.outbox.close(Disconnect::SHUTDOWN);
            return false;
        }
        let now = self.node.clock.now();
        let mut native_ping = false;
        loop {
            let due = self.deadlines.lock().take_due(now, &self.rhythm());
            match due {
                None => break,
                Some(Due::Stale) => self.connection.outbox.close(Disconnect::STALE),
                Some(Due::NoPong) => self.connection.outbox.close(Disconnect::NO_PONG),
                Some(Due::Expired) => self.connection.outbox.close(Disconnect::CONNECTION_EXPIRED),
                Some(Due::Ping) if self.traits.native_ping => native_ping = true,
                Some(Due::Ping) => {
                    let ping = self.codec().ping();
                    self.count_sent(FrameType::ServerPing, ping.len());
                    self.connection.outbox.push(Message::new(self.codec(), &ping));
                }
                Some(Due::PresenceTick) => self.begin_tick(),
            }
        }
        self.arm();
        native_ping
    }

    /// Puts the next deadline into the timing wheel.
    pub fn arm(&self) {
        if let Some(at) = self.deadlines.lock().arm(self.node.clock.now()) {
            self.node.wheel.schedule(at, &self.connection);
        }
    }

    /// Notes that the client answered a native ping.
    pub fn heard(&self) {
        if self.traits.native_ping {
            let late_at = self.deadlines.lock().heard();
            self.count_round_trip(late_at);
        }
    }

    fn rhythm(&self) -> Rhythm {
        let client = &self.node.client;
        Rhythm {
            ping_interval: client.ping_interval,
            pong_timeout: client.pong_timeout,
            presence_interval: client.presence_update_interval,
        }
    }

    /// Queues a reply; one that the client's codec cannot carry closes the connection.
    fn queue(&self, reply: &Reply) {
        match self.encode(reply) {
            Ok(message) => self.connection.outbox.push(message),
            Err(disconnect) => self.connection.outbox.close(disconnect),
        }
    }

    /// Encodes a reply that is about to be queued.
    fn encode(&self, reply: &Reply) -> Result<Message, Disconnect> {
        let payload = self.codec().encode_reply(reply);
        let payload = payload.map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
        self.count_sent(count::frame_type_of_reply(reply), payload.len());
        Ok(Message::new(self.codec(), &payload))
    }

    /// Runs `with` on the connected state, if that is what there is.
    fn connected<T>(&self, with: impl FnOnce(&mut Connected) -> T) -> Option<T> {
        match &mut *self.state.lock() {
            State::Connected(connected) => Some(with(connected)),
            State::Connecting | State::Authenticating | State::Closed => None,
        }
    }

    /// The rules of a channel that the client names, if the name is one that clients may use.
    fn channel(&self, channel: &str) -> Result<Arc<ChannelRules>, Refusal> {
        let rules = self.node.rules();
        rules.channels.check_name(channel)?;
        rules.channels.resolve(channel).ok_or_else(|| ErrorCode::UNKNOWN_CHANNEL.into())
    }

    /// The connection's info, and its info in `channel` if it is subscribed there.
    fn infos(&self, channel: &str) -> (Bytes, Option<Bytes>) {
        let infos = self.connected(|connected| {
            let of_channel = connected.subscriptions.active(channel).map(|a| a.info.clone());
            (connected.info.clone(), of_channel)
        });
        infos.unwrap_or_default()
    }

    /// The connection as the permission rules see it.
    fn actor(&self, subscribed: bool) -> Actor<'_> {
        Actor { user: self.connection.user(), subscribed, insecure: self.node.client.insecure }
    }

    /// How long the idempotency keys of this connection's publishes are remembered, if at all.
    fn idempotency_ttl(&self) -> Option<Duration> {
        let ttl = self.node.client.publish_idempotency_ttl;
        (!ttl.is_zero() && !self.connection.user().is_empty()).then_some(ttl)
    }

    /// The connection as the permission rules of `channel` see it.
    fn actor_in(&self, channel: &str) -> Actor<'_> {
        self.actor(self.infos(channel).1.is_some())
    }

    /// The connection as others see it, in general or in a channel that it is subscribed to.
    fn client_info(&self, conn_info: Bytes, chan_info: Bytes) -> ClientInfo {
        ClientInfo {
            user: self.connection.user().to_owned(),
            client: self.connection.id().to_string(),
            conn_info,
            chan_info,
        }
    }

    /// Sets the moment at which credentials that end at `expire_at` (unix seconds; `None` never)
    /// close the connection.
    fn expire_after(&self, expire_at: Option<i64>) {
        let at = expire_at.map(|expire_at| {
            let left = expire_at.saturating_sub(self.node.clock.unix_seconds());
            let left = u64::try_from(left).unwrap_or(0).min(MAX_TTL_SECONDS);
            let grace = self.node.client.expired_close_delay;
            self.node.clock.now() + Duration::from_secs(left) + grace
        });
        self.deadlines.lock().expire_at(at);
        self.arm();
    }
}

/// A time to live is capped to a year, as Centrifugo does: farther ahead nobody can mean it.
const MAX_TTL_SECONDS: u64 = 365 * 24 * 3_600;

#[cfg(test)]
mod tests;
