//! How the gateway stops: load balancers learn of it first, then clients leave one after the other.

use std::sync::Arc;
use std::time::Duration;

use crate::config::shutdown::Shutdown;
use crate::hub;
use crate::lifecycle::{Lifecycle, drain_delay};
use crate::node::Node;
use crate::protocol::codes::Disconnect;
use crate::telemetry::health::{Health, Phase};

/// Returns when the gateway was told to stop and has stopped.
pub async fn until_stopped(
    node: &Arc<Node>,
    health: &Health,
    lifecycle: &Lifecycle,
    settings: &Shutdown,
) {
    lifecycle.left().await;
    health.enter(Phase::Draining);
    lifecycle.stop_softly_after(settings.drain_delay).await;
    drain(node, settings.drain_window);
    let rest = settings.timeout.saturating_sub(settings.drain_delay);
    if !lifecycle.stopped(rest).await {
        tracing::warn!("not every connection left in time");
    }
}

/// Turns readiness red while the administrator wishes for no new connections.
pub fn drain_when_asked(health: &Arc<Health>, lifecycle: &Lifecycle) {
    let (health, mut drains) = (Arc::clone(health), lifecycle.drains());
    let hard = lifecycle.hard.clone();
    tokio::spawn(hard.run_until_cancelled_owned(async move {
        while drains.changed().await.is_ok() {
            health.turn_away(*drains.borrow_and_update());
        }
    }));
}

/// Closes all connections with 3001, spread over the window so that they do not all come back to
/// the other nodes in one moment. A machine that stands still meanwhile delays the rest of them
/// rather than bunch it.
fn drain(node: &Arc<Node>, window: Duration) {
    node.begin_drain();
    // Those that have not authenticated stand in no registry; they leave at once.
    node.wheel.ring_all();
    let connections = node.hub.connections.all();
    let count = connections.len().max(1) as f64;
    tracing::info!(connections = connections.len(), "draining");
    tokio::spawn(async move {
        let mut waited = Duration::ZERO;
        for (index, connection) in connections.into_iter().enumerate() {
            let due = drain_delay(index as f64 / count, window);
            if due > waited + hub::TURN {
                tokio::time::sleep(due - waited).await;
                waited = due;
            }
            connection.outbox.close(Disconnect::SHUTDOWN);
        }
    });
}
