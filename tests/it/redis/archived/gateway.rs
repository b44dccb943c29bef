//! A gateway in the test's own process, so that the test decides when something is stored.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bobolink::broker::Broker;
use bobolink::client::{Client, Endpoint};
use bobolink::config::channel::Namespace;
use bobolink::config::{Config, Secret};
use bobolink::hub::Hub;
use bobolink::lifecycle::Lifecycle;
use bobolink::node::{Node, Parts, Peers};
use bobolink::presence::{MemoryPresence, Presence};
use bobolink::server::rules_of;
use bobolink::time::Clock;
use bobolink::transport::accept::{Listener, Serving};
use bobolink::transport::limits::ConnectionLimits;
use bobolink::transport::origin::AllowedOrigins;
use bobolink::transport::routes::{Routes, handler};
use bobolink::transport::upgrade::WebSocketEndpoint;
use bobolink::transport::websocket::WebSocketSettings;
use hyper::Method;
use tokio_util::sync::CancellationToken;

use crate::support::{SECRET, SOON, token};

/// A node with the archived namespace `long`, whose streams keep ten publications at hand.
pub fn node(hub: Arc<Hub>, broker: Broker, stop: &CancellationToken) -> Arc<Node> {
    let mut config = Config::default();
    config.client.token.hmac_secret_key = Secret::new(SECRET);
    let mut long = Namespace { name: "long".into(), ..Namespace::default() };
    long.options.history_archive = true;
    long.options.history_size = 10;
    long.options.history_ttl = Duration::from_secs(60);
    long.options.force_recovery = true;
    long.options.allow_subscribe_for_client = true;
    config.channel.namespaces.push(long);
    Node::new(Parts {
        name: "test".into(),
        peers: Peers::none(),
        hub,
        broker,
        presence: Presence::Memory(MemoryPresence::default()),
        clock: Clock::real(),
        client: config.client.clone(),
        rules: rules_of(&config).expect("rules"),
        metrics: Arc::default(),
        hard: stop.clone(),
    })
}

/// Serves WebSockets until the process ends.
pub async fn serve(node: &Arc<Node>) -> SocketAddr {
    let lifecycle = Lifecycle::new();
    let endpoint = Arc::new(WebSocketEndpoint {
        node: Arc::clone(node),
        origins: AllowedOrigins::new::<&str>(&[]).expect("no patterns"),
        limits: ConnectionLimits::new(0, 0),
        settings: WebSocketSettings {
            message_size_limit: 65_536,
            inflated_size_limit: 655_360,
            write_timeout: SOON,
            compression: None,
        },
        tracker: lifecycle.tracker.clone(),
        user_header: None,
    });
    let mut routes = Routes::new();
    let upgrade = handler(move |request, peer| {
        let response = endpoint.answer(request, peer);
        async { response }
    });
    routes.add(&[Method::GET], "/connection/websocket", upgrade).expect("a route");
    let listener = Listener::bind("test", "127.0.0.1", 0).await.expect("a port");
    let address = listener.local_addr();
    tokio::spawn(listener.serve(Serving::new(routes, &lifecycle)));
    address
}

/// A connection of `user`.
pub async fn connected(address: SocketAddr, user: &str) -> Client {
    let endpoint = Endpoint::new(&format!("ws://{address}/connection/websocket"));
    let mut client = Client::open(&endpoint.expect("an address")).await.expect("a WebSocket");
    client.connect(&token(user)).await.expect("connected");
    client
}
