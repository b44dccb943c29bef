//! `unsubscribe`: ends a subscription that the client no longer wants. No push answers it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::protocol::codes::Disconnect;
use crate::protocol::command::UnsubscribeRequest;
use crate::protocol::reply::{Reply, UnsubscribeResult};
use crate::session::Session;
use crate::session::refusal::Refusal;

/// How long a subscription in flight may take before an unsubscribe gives up on the connection.
const IN_FLIGHT_TIMEOUT: Duration = Duration::from_secs(5);

pub async fn unsubscribe(
    session: &Arc<Session>,
    request: UnsubscribeRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    if timeout(IN_FLIGHT_TIMEOUT, session.settle(&request.channel)).await.is_err() {
        return Err(Disconnect::INTERNAL.into());
    }
    session.end(&request.channel, None, None).await;
    Ok(Some(Reply { unsubscribe: Some(UnsubscribeResult {}), ..Reply::default() }))
}
