//! Sessions without sockets: what clients see of the real hub, broker, presence and sessions.
//!
//! A [`Wire`](wire::Wire) stands where the WebSocket loop does and goes on only when asked, one poll
//! at a time; a [`Client`](client::Client) speaks through it and checks all that it is told against
//! the [`Truth`](truth::Truth), the list of what was published. The broker and the presence used
//! here give way to others at each call, so what happens inside of a subscribe can be interleaved.

mod client;
mod deltas;
mod no_loss;
mod publishing;
mod racing;
mod recovering;
mod sizes;
mod subscribing;
mod truth;
mod wire;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::auth::{TokenSettings, TokenVerifier};
use crate::broker::{Broker, MemoryBroker, Published};
use crate::channel::Namespaces;
use crate::config::channel::{DeltaType, RecoveryMode};
use crate::config::{ChannelConfig, ChannelOptions, Client as ClientConfig, Namespace};
use crate::hub::Hub;
use crate::node::{Node, Parts, Payload, Peers, Publish, Rules};
use crate::presence::{MemoryPresence, Presence};
use crate::protocol::command::SubscribeRequest;
use crate::protocol::reply::SubscribeResult;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// Unix seconds at which manual clocks start.
const NOW: u64 = 1_700_000_000;

/// How the backends of a test node behave.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Every call is done at once, as in production.
    AtOnce,
    /// Every call gives way to others before and after, as over a network.
    Yielding,
}

/// A node with the namespaces of [`namespaces`].
fn gateway(pace: Pace, clock: &Clock, adapt: impl FnOnce(&mut ClientConfig)) -> Arc<Node> {
    node_of(pace, clock, &namespaces(), adapt)
}

/// A node whose channel `brief:*` is forgotten 10 s after the last look at it.
fn forgetful_gateway(clock: &Clock) -> Arc<Node> {
    let mut channels = namespaces();
    channels.history_meta_ttl = Duration::from_secs(10);
    node_of(Pace::AtOnce, clock, &channels, |_| {})
}

fn node_of(
    pace: Pace,
    clock: &Clock,
    channels: &ChannelConfig,
    adapt: impl FnOnce(&mut ClientConfig),
) -> Arc<Node> {
    let mut client = ClientConfig {
        ping_interval: Duration::ZERO,
        pong_timeout: Duration::ZERO,
        stale_close_delay: Duration::ZERO,
        presence_update_interval: Duration::from_secs(5),
        channel_position_check_delay: Duration::from_secs(3),
        ..ClientConfig::default()
    };
    adapt(&mut client);
    let tokens =
        TokenSettings { insecure_skip_token_signature_verify: true, ..TokenSettings::default() };
    let hub = Arc::new(Hub::default());
    let broker = MemoryBroker::new(Arc::clone(&hub), clock.clone());
    let presence = MemoryPresence::default();
    Node::new(Parts {
        name: "test".into(),
        peers: Peers::none(),
        hub,
        broker: match pace {
            Pace::AtOnce => Broker::Memory(broker),
            Pace::Yielding => Broker::Yielding(broker),
        },
        presence: match pace {
            Pace::AtOnce => Presence::Memory(presence),
            Pace::Yielding => Presence::Yielding(presence),
        },
        clock: clock.clone(),
        client,
        rules: Rules {
            channels: Namespaces::new(channels).unwrap(),
            connection_tokens: TokenVerifier::new(tokens).unwrap(),
            subscription_tokens: None,
        },
        metrics: Arc::new(Metrics::new("bobolink").unwrap()),
        hard: tokio_util::sync::CancellationToken::new(),
    })
}

/// `stream` recovers, `cache` recovers the latest, `plain` has no history, `asked` leaves it to the
/// client, `brief` forgets even epochs.
fn namespaces() -> ChannelConfig {
    let namespace = |name: &str, adapt: fn(&mut ChannelOptions)| {
        let mut options = open_to_all();
        adapt(&mut options);
        Namespace { name: name.into(), options }
    };
    let stream = |options: &mut ChannelOptions| {
        options.history_size = 8;
        options.history_ttl = Duration::from_secs(60);
        options.force_recovery = true;
        options.presence = true;
        options.join_leave = true;
    };
    ChannelConfig {
        namespaces: vec![
            namespace("stream", stream),
            namespace("cache", |options| {
                options.history_size = 3;
                options.history_ttl = Duration::from_secs(60);
                options.force_recovery = true;
                options.force_recovery_mode = RecoveryMode::Cache;
                options.allow_tags_filter = true;
            }),
            namespace("plain", |options| {
                options.presence = true;
                options.join_leave = true;
                options.force_push_join_leave = true;
            }),
            namespace("asked", |options| {
                options.history_size = 4;
                options.history_ttl = Duration::from_secs(7);
                options.allow_recovery = true;
                options.allow_positioning = true;
            }),
            namespace("brief", |options| {
                options.history_size = 4;
                options.history_ttl = Duration::from_secs(5);
                options.history_meta_ttl = Duration::from_secs(10);
                options.force_recovery = true;
            }),
        ],
        ..ChannelConfig::default()
    }
}

fn open_to_all() -> ChannelOptions {
    ChannelOptions {
        allowed_delta_types: vec![DeltaType::Fossil],
        delta_publish: true,
        allow_tags_filter: true,
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        allow_history_for_client: true,
        allow_presence_for_client: true,
        ..ChannelOptions::default()
    }
}

/// Polls until it is done, and lets nothing else happen in between.
fn finish<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1_000 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
    }
    panic!("it waits for something that does not come");
}

fn publish(node: &Node, channel: &str, data: &str) -> Published {
    publish_with(node, channel, data, Publish::default())
}

fn publish_with(node: &Node, channel: &str, data: &str, publish: Publish) -> Published {
    let data = Bytes::copy_from_slice(data.as_bytes());
    let payload = Payload::check(node.channel(channel).unwrap(), data).unwrap();
    finish(node.publish(channel, payload, publish)).unwrap()
}

fn tagged(key: &str, value: &str) -> Publish {
    Publish { tags: [(key.to_owned(), value.to_owned())].into(), ..Publish::default() }
}

fn to(channel: &str) -> SubscribeRequest {
    SubscribeRequest { channel: channel.to_owned(), ..SubscribeRequest::default() }
}

/// A subscribe request that goes on behind `offset` of the stream that `before` was to.
fn recovering(channel: &str, before: &SubscribeResult, offset: u64) -> SubscribeRequest {
    let epoch = before.epoch.clone();
    SubscribeRequest { recover: true, offset, epoch, ..to(channel) }
}

/// A token whose signature nobody looks at here.
fn token(claims: &serde_json::Value) -> String {
    let part = |value: &str| URL_SAFE_NO_PAD.encode(value);
    format!("{}.{}.c2ln", part(r#"{"alg":"HS256","typ":"JWT"}"#), part(&claims.to_string()))
}
