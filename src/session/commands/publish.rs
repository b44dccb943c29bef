//! `publish`: data format, permission, then the node's publish with the client's info attached.

use std::sync::Arc;

use super::super::Session;
use crate::channel::permission;
use crate::node::{Payload, Publish};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::PublishRequest;
use crate::protocol::reply::{PublishResult, Reply};
use crate::session::refusal::Refusal;

/// `PublishRequest::kind` of a publication into a stream.
const STREAM: i32 = 0;

pub async fn publish(
    session: &Arc<Session>,
    request: PublishRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    let rules = session.channel(&request.channel)?;
    if request.kind != STREAM {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    let payload = Payload::check(Arc::clone(&rules), request.data)?;
    let (conn_info, chan_info) = session.infos(&request.channel);
    let actor = session.actor(chan_info.is_some());
    permission::publish(&rules, &actor)?;
    let info = session.client_info(conn_info, chan_info.unwrap_or_default());
    let publish = Publish { info: Some(info), ..Publish::default() };
    session.node.publish(&request.channel, payload, publish).await?;
    Ok(Some(Reply { publish: Some(PublishResult {}), ..Reply::default() }))
}
