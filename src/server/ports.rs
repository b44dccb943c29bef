//! What stands in front of the routes: who may tell whose connection it is, and the agent.

use std::sync::Arc;

use super::ServerError;
use crate::config::http_server::HttpServer;
use crate::lifecycle::Lifecycle;
use crate::node::Node;
use crate::time::Clock;
use crate::transport::accept::{Listener, Serving};
use crate::transport::agent::{Agent, Load, Punctuality, Standing};
use crate::transport::proxies::TrustedProxies;
use crate::transport::proxy_protocol::ProxyProtocol;

/// The main port behind proxies, if there are any.
pub fn external(serving: Serving, settings: &HttpServer, clock: &Clock) -> Serving {
    let trusted_proxies = TrustedProxies::new(&settings.trusted_proxies);
    let expected = || Arc::new(ProxyProtocol::new(trusted_proxies.clone(), clock.clone()));
    let proxy_protocol = settings.proxy_protocol.then(expected);
    Serving { proxy_protocol, trusted_proxies, ..serving }
}

/// The internal port. It takes no PROXY header: health checks and scrapers come without one.
pub fn internal(serving: Serving, settings: &HttpServer) -> Serving {
    let trusted_proxies = TrustedProxies::new(&settings.trusted_proxies);
    Serving { trusted_proxies, ..serving }
}

/// Binds the agent's port, if there is to be one.
pub async fn bind_agent(settings: &HttpServer) -> Result<Option<Listener>, ServerError> {
    Ok(match settings.agent() {
        Some((address, port)) => Some(Listener::bind("agent", address, port).await?),
        None => None,
    })
}

/// Tells load balancers about the node until the hard stop.
pub fn serve_agent(listener: Listener, node: &Arc<Node>, lifecycle: &Lifecycle) {
    let punctuality = Arc::new(Punctuality::default());
    let (measured, clock) = (Arc::clone(&punctuality), node.clock.clone());
    let hard = lifecycle.hard.clone();
    tokio::spawn(hard.run_until_cancelled_owned(async move { measured.measure(&clock).await }));

    let (node, asked) = (Arc::clone(node), lifecycle.clone());
    let agent = Agent::new(move || {
        if asked.turns_away() {
            return Standing::Draining;
        }
        let load = Load {
            connections: node.hub.connections.len(),
            limit: node.client.connection_limit as usize,
            lateness: punctuality.lateness(),
        };
        Standing::Serving(load.share())
    });
    tokio::spawn(agent.serve(listener, lifecycle.hard.clone()));
}
