//! A node for the tests of this layer.

use std::sync::Arc;

use super::Api;
use crate::auth::{TokenSettings, TokenVerifier};
use crate::broker::{Broker, MemoryBroker};
use crate::channel::Namespaces;
use crate::config::{ChannelConfig, Client};
use crate::hub::Hub;
use crate::node::{Node, Parts, Peers, Rules};
use crate::presence::{MemoryPresence, Presence};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::ApiProtocol;
use crate::time::Clock;

/// The methods on a node with nothing configured.
pub fn api() -> Api {
    Api::new(node(&ChannelConfig::default()), ApiProtocol::Http)
}

/// A node that keeps everything in memory, on a clock that stands.
pub fn node(channels: &ChannelConfig) -> Arc<Node> {
    let clock = Clock::manual(1_000);
    let hub = Arc::new(Hub::default());
    Node::new(Parts {
        name: "here".to_owned(),
        peers: Peers::none(),
        hub: Arc::clone(&hub),
        broker: Broker::Memory(MemoryBroker::new(hub, clock.clone())),
        presence: Presence::Memory(MemoryPresence::default()),
        clock,
        client: Client::default(),
        rules: Rules {
            channels: Namespaces::new(channels).expect("valid namespaces"),
            connection_tokens: TokenVerifier::new(TokenSettings::default()).expect("no keys"),
            subscription_tokens: None,
        },
        metrics: Arc::new(Metrics::default()),
        hard: tokio_util::sync::CancellationToken::new(),
    })
}
