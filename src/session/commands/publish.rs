//! `publish`: data format, permission, then the node's publish with the client's info attached.
//!
//! A client that does not know whether a publish came through sends it again with the same
//! `idempotency_key`. Keys are a user's, so that nobody can take another's place, and not the server
//! API's; an anonymous user's are ignored, as nobody knows whose they are.

use std::sync::Arc;

use super::super::Session;
use crate::broker::KeyOwner;
use crate::channel::permission;
use crate::node::{Payload, Publish};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::PublishRequest;
use crate::protocol::publication::ClientInfo;
use crate::protocol::reply::{PublishResult, Reply};
use crate::session::refusal::Refusal;

/// `PublishRequest::kind` of a publication into a stream.
const STREAM: i32 = 0;

/// Bytes of an idempotency key; a UUID takes 36.
const MAX_KEY_LENGTH: usize = 255;

pub async fn publish(
    session: &Arc<Session>,
    request: PublishRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    let rules = session.channel(&request.channel)?;
    if request.kind != STREAM || request.idempotency_key.len() > MAX_KEY_LENGTH {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    let payload = Payload::check(Arc::clone(&rules), request.data)?;
    let (conn_info, chan_info) = session.infos(&request.channel);
    let actor = session.actor(chan_info.is_some());
    permission::publish(&rules, &actor)?;
    let info = session.client_info(conn_info, chan_info.unwrap_or_default());
    let publish = with_key(session, request.idempotency_key, Some(info));
    session.node.publish(&request.channel, payload, publish).await?;
    Ok(Some(Reply { publish: Some(PublishResult {}), ..Reply::default() }))
}

fn with_key(session: &Session, key: String, info: Option<ClientInfo>) -> Publish {
    let publish = Publish { info, ..Publish::default() };
    let Some(ttl) = session.idempotency_ttl() else { return publish };
    let id = session.connection.user().to_owned();
    let idempotency_owner = KeyOwner::User { id, ttl };
    Publish { idempotency_key: key, idempotency_owner, ..publish }
}
