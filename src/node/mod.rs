//! The gateway's verbs: hub, broker, presence, channel rules and tokens together.
//!
//! Sessions and the server API say what is to happen in these words; neither touches a broker.
//! To add a verb: one method in the file of its noun, used by `session/commands` and `api/commands`.

mod channels;
mod control;
mod history;
mod order;
mod past;
mod peers;
mod presence;
mod publish;
mod registry;
mod subscribe;
mod survey;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::history::HistoryQuery;
pub use self::order::{CLOSE_CODES, MAX_CLOSE_REASON, Selection, UserRefresh, UserSubscribe};
pub use self::past::{Density, PastError};
pub use self::peers::Peers;
pub use self::publish::{Payload, Publish};
pub use self::subscribe::Pending;

use crate::auth::TokenVerifier;
use crate::broker::{Broker, BrokerError};
use crate::channel::Namespaces;
use crate::config::Client;
use crate::hub::{Hub, Wheel, WriteDelays};
use crate::presence::{Presence, PresenceError};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// One gateway process.
pub struct Node {
    pub id: Uuid,
    pub name: String,
    pub hub: Arc<Hub>,
    pub broker: Broker,
    pub presence: Presence,
    pub wheel: Wheel,
    pub write_delays: WriteDelays,
    pub clock: Clock,
    /// Limits and intervals of connections.
    pub client: Client,
    pub metrics: Arc<Metrics>,
    /// Ends every connection at once.
    pub hard: CancellationToken,
    peers: Peers,
    rules: ArcSwap<Rules>,
    started: Instant,
    draining: AtomicBool,
}

/// What a reload replaces, as one piece: a request sees either all of the old or all of the new.
pub struct Rules {
    pub channels: Namespaces,
    pub connection_tokens: TokenVerifier,
    /// Checks subscription tokens if they have keys of their own.
    pub subscription_tokens: Option<TokenVerifier>,
}

impl Rules {
    /// The verifier of subscription tokens.
    pub fn subscription_verifier(&self) -> &TokenVerifier {
        self.subscription_tokens.as_ref().unwrap_or(&self.connection_tokens)
    }
}

/// The parts of a node.
pub struct Parts {
    pub name: String,
    pub peers: Peers,
    pub hub: Arc<Hub>,
    pub broker: Broker,
    pub presence: Presence,
    pub clock: Clock,
    pub client: Client,
    pub rules: Rules,
    pub metrics: Arc<Metrics>,
    pub hard: CancellationToken,
}

/// Why a verb could not be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The channel's namespace is not configured.
    #[error("unknown channel")]
    UnknownChannel,
    /// What was asked cannot be meant; the text says what and why.
    #[error("{0}")]
    BadRequest(&'static str),
    /// The channel's namespace has this switched off.
    #[error("{0}")]
    NotAvailable(&'static str),
    /// The position is of another epoch of the stream.
    #[error("unrecoverable position")]
    UnrecoverablePosition,
    /// A backend or another node failed; try again.
    #[error("{0}")]
    Internal(&'static str),
    /// The same, with a text that callers of the server API may act upon.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A publication may have been published or not, and what was may be lost again.
    #[error("the broker did not answer: published or not")]
    OutcomeUnknown,
}

impl From<BrokerError> for Error {
    fn from(error: BrokerError) -> Self {
        match error {
            BrokerError::UnrecoverablePosition => Self::UnrecoverablePosition,
            BrokerError::BadRequest(what) => Self::BadRequest(what),
            // Which of the two it was is in the log.
            BrokerError::Unavailable => {
                Self::Unavailable("Redis is unavailable or refuses, nothing was done, try again")
            }
            BrokerError::ArchiveUnavailable => {
                Self::Unavailable("the archive cannot take more now, nothing was done, try again")
            }
            BrokerError::OutcomeUnknown => {
                Self::Unavailable("Redis did not answer, done or not, try again")
            }
        }
    }
}

impl From<PresenceError> for Error {
    fn from(PresenceError: PresenceError) -> Self {
        Self::Unavailable("presence is unavailable, try again")
    }
}

impl Node {
    pub fn new(parts: Parts) -> Arc<Self> {
        let now = parts.clock.now();
        Arc::new(Self {
            id: parts.peers.id(),
            name: parts.name,
            peers: parts.peers,
            hub: parts.hub,
            broker: parts.broker,
            presence: parts.presence,
            wheel: Wheel::new(now),
            write_delays: WriteDelays::default(),
            clock: parts.clock,
            client: parts.client,
            metrics: parts.metrics,
            hard: parts.hard,
            rules: ArcSwap::from_pointee(parts.rules),
            started: now,
            draining: AtomicBool::new(false),
        })
    }

    /// The channel rules and tokens in force.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Puts other channel rules and tokens in force.
    pub fn reload(&self, rules: Rules) {
        self.rules.store(Arc::new(rules));
    }

    /// How long the node has been up.
    pub fn uptime(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.started)
    }

    /// Rings every connection, whether it has authenticated or not: there is news for all.
    pub fn ring_all(&self) {
        self.wheel.ring_all();
        for connection in self.hub.connections.all() {
            connection.outbox.ring();
        }
    }

    /// From now on new connections are turned away with 3001.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
