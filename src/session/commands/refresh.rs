//! `refresh`: a fresh connection token.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::connect::token_channels;
use crate::auth::TokenError;
use crate::channel::Channel;
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::RefreshRequest;
use crate::protocol::reply::{RefreshResult, Reply};
use crate::session::Session;
use crate::session::establish::ttl;
use crate::session::refusal::Refusal;
use crate::session::subscription::Origin;

pub async fn refresh(
    session: &Arc<Session>,
    request: RefreshRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.token.is_empty() {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    let now = session.node.clock.unix_seconds();
    let rules = session.node.rules();
    let claims = match rules.connection_tokens.verify_connect(&request.token, now).await {
        Ok(claims) => claims,
        Err(TokenError::Expired) => return Err(Disconnect::CONNECTION_EXPIRED.into()),
        Err(TokenError::Invalid(reason)) => {
            tracing::info!(client = %session.connection.id(), reason, "invalid token to refresh with");
            return Err(Disconnect::INVALID_TOKEN.into());
        }
    };
    if claims.user != session.connection.user() {
        return Err(Disconnect::INVALID_TOKEN.into());
    }
    if claims.expire_at.is_some_and(|expire_at| expire_at <= now) {
        return Err(ErrorCode::EXPIRED.into());
    }
    let named: BTreeSet<Channel> =
        token_channels(claims.channels, claims.subs).into_keys().collect();
    for channel in &named {
        rules.channels.resolve(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
    }
    if !has_exactly(session, &named) {
        return Err(Disconnect::INSUFFICIENT_STATE.into());
    }
    if !claims.info.is_empty() {
        session.connected(|connected| connected.info = claims.info);
    }
    session.expire_after(claims.expire_at);
    let left = claims.expire_at.map(|expire_at| ttl(expire_at, now));
    let result = RefreshResult {
        expires: left.is_some(),
        ttl: left.unwrap_or_default(),
        ..RefreshResult::default()
    };
    Ok(Some(Reply { refresh: Some(result), ..Reply::default() }))
}

/// Whether the channels that a token names are those that the last one named. A set that changed
/// is for the client to reconnect with.
fn has_exactly(session: &Session, named: &BTreeSet<Channel>) -> bool {
    let same = session.connected(|connected| {
        let all_there =
            named.iter().all(|channel| connected.subscriptions.active(channel).is_some());
        let none_gone = connected
            .subscriptions
            .actives()
            .all(|(channel, active)| active.origin != Origin::Token || named.contains(channel));
        all_there && none_gone
    });
    same == Some(true)
}
