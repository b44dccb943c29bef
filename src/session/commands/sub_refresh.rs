//! `sub_refresh`: a fresh subscription token.

use std::sync::Arc;

use super::subscribe::check_claims;
use crate::auth::TokenError;
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::SubRefreshRequest;
use crate::protocol::reply::{Reply, SubRefreshResult};
use crate::session::Session;
use crate::session::establish::ttl;
use crate::session::refusal::Refusal;

/// `SubRefreshRequest::kind` of a token; the others track keys.
const TOKEN: i32 = 0;

pub async fn sub_refresh(
    session: &Arc<Session>,
    request: SubRefreshRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    if session.infos(&request.channel).1.is_none() {
        return Err(ErrorCode::PERMISSION_DENIED.into());
    }
    if request.kind != TOKEN || request.token.is_empty() {
        return Err(ErrorCode::BAD_REQUEST.into());
    }
    let now = session.node.clock.unix_seconds();
    let rules = session.node.rules();
    let claims = match rules.subscription_verifier().verify_subscribe(&request.token, now).await {
        Ok(claims) => claims,
        // An expired token prolongs nothing, and the client is told to bring another.
        Err(TokenError::Expired) => return Err(ErrorCode::TOKEN_EXPIRED.into()),
        Err(TokenError::Invalid(reason)) => {
            tracing::info!(client = %session.connection.id(), reason, "invalid subscription token");
            return Err(Disconnect::INVALID_TOKEN.into());
        }
    };
    check_claims(session, &request.channel, &claims)?;
    rules.channels.resolve(&request.channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
    if claims.expire_at.is_some_and(|expire_at| expire_at <= now) {
        return Err(ErrorCode::EXPIRED.into());
    }
    session.connected(|connected| {
        if let Some(active) = connected.subscriptions.active_mut(&request.channel) {
            active.info = claims.info;
            active.expire_at = claims.expire_at;
        }
    });
    let left = claims.expire_at.map(|expire_at| ttl(expire_at, now));
    let result = SubRefreshResult {
        expires: left.is_some(),
        ttl: left.unwrap_or_default(),
        ..SubRefreshResult::default()
    };
    Ok(Some(Reply { sub_refresh: Some(result), ..Reply::default() }))
}
