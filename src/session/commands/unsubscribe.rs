//! `unsubscribe`: ends a subscription that the client no longer wants. No push answers it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::protocol::codes::Disconnect;
use crate::protocol::command::UnsubscribeRequest;
use crate::protocol::reply::{Reply, UnsubscribeResult};
use crate::session::Session;
use crate::session::refusal::Refusal;
use crate::session::subscription::Stage;

/// How long a subscription in flight may take before an unsubscribe gives up on the connection.
const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn unsubscribe(
    session: &Arc<Session>,
    request: UnsubscribeRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    if timeout(IN_FLIGHT_TIMEOUT, settle(session, &request.channel)).await.is_err() {
        return Err(Disconnect::INTERNAL.into());
    }
    let removed = session.connected(|connected| {
        let removed = connected.subscriptions.remove(&request.channel)?;
        Some((removed, connected.info.clone()))
    });
    if let Some(((channel, Stage::Active(active)), conn_info)) = removed.flatten() {
        session.node.unsubscribe(&channel, active.key);
        session.count_subscription_ended();
        session.disappear(&channel, active, &conn_info).await;
    }
    Ok(Some(Reply { unsubscribe: Some(UnsubscribeResult {}), ..Reply::default() }))
}

/// Waits until a subscription in flight is active or has failed.
async fn settle(session: &Session, channel: &str) {
    loop {
        let in_flight = session.connected(|connected| match connected.subscriptions.get(channel) {
            Some(Stage::InFlight(done)) => Some(Arc::clone(done).notified_owned()),
            Some(Stage::Active(_)) | None => None,
        });
        match in_flight.flatten() {
            Some(settled) => settled.await,
            None => return,
        }
    }
}
