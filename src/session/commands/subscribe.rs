//! `subscribe`: checks, decision, reservation, then the steps of [`super::super::establish`].

use std::sync::Arc;

use crate::auth::{OptionOverride, SubscribeClaims, TokenError};
use crate::channel::{Channel, ChannelRules, permission};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::{
    FLAG_CHANNEL_COMPACTION, FLAG_REJECT_UNRECOVERED, SubscribeRequest,
};
use crate::protocol::frame::Codec;
use crate::protocol::publication::StreamPosition;
use crate::protocol::reply::Reply;
use crate::session::Session;
use crate::session::establish::{Grant, Wish};
use crate::session::refusal::Refusal;
use crate::session::subscription::{Conflict, Origin};

/// `SubscribeRequest::kind` of a stream subscription.
const STREAM: i32 = 0;
/// `SubscribeRequest::kind` of a shared poll subscription.
const SHARED_POLL: i32 = 4;

pub async fn subscribe(
    session: &Arc<Session>,
    id: u32,
    request: SubscribeRequest,
) -> Result<Option<Reply>, Refusal> {
    if request.channel.is_empty() || !matches!(request.delta.as_str(), "" | "fossil") {
        return Err(Disconnect::BAD_REQUEST.into());
    }
    let channel = Channel::from(request.channel.as_str());
    let conn_info = reserve(session, &channel)?;
    let slot = session.slot(&channel);
    let grant = authorise(session, &channel, &request).await?;
    let wish = Wish::of(&request, &grant.rules, session.codec())?;
    let mut established = session.establish(&channel, grant, wish, conn_info).await?;
    let message = established.take_reply(session, id)?;
    slot.go_live(established, [message]).await;
    Ok(None)
}

/// Takes the channel's place among the connection's subscriptions.
fn reserve(session: &Session, channel: &Channel) -> Result<bytes::Bytes, Refusal> {
    let limit = session.node.client.channel_limit as usize;
    let reserved = session.connected(|connected| {
        connected.subscriptions.begin(channel, limit).map(|()| connected.info.clone())
    });
    match reserved {
        Some(Ok(conn_info)) => Ok(conn_info),
        Some(Err(Conflict::Exists)) => Err(ErrorCode::ALREADY_SUBSCRIBED.into()),
        Some(Err(Conflict::LimitReached)) => Err(ErrorCode::LIMIT_EXCEEDED.into()),
        None => Err(Disconnect::CONNECTION_CLOSED.into()),
    }
}

/// Decides whether the client may subscribe, and with which options.
async fn authorise(
    session: &Session,
    channel: &Channel,
    request: &SubscribeRequest,
) -> Result<Grant, Refusal> {
    let rules = session.node.rules();
    rules.channels.check_name(channel)?;
    let channel_rules = rules.channels.resolve(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
    match request.kind {
        STREAM => {}
        SHARED_POLL => return Err(ErrorCode::NOT_AVAILABLE.into()),
        _ => return Err(ErrorCode::PERMISSION_DENIED.into()),
    }
    let actor = session.actor(false);
    let mut grant = if request.token.is_empty() {
        permission::subscribe(&rules.channels, channel, &channel_rules, &actor)?;
        Grant::of(channel_rules, Origin::Client, OptionOverride::default())
    } else {
        by_token(session, channel, request, channel_rules).await?
    };
    let options = &grant.rules.options;
    // What may be asked by someone who is about to be a subscriber.
    let soon = session.actor(true);
    let may_read = permission::history(&grant.rules, &soon).is_ok();
    grant.positioned |= request.positioned && (options.allow_positioning || may_read);
    grant.recoverable |= request.recoverable
        && grant.rules.history_enabled()
        && (options.allow_recovery || may_read);
    grant.push_join_leave |= request.join_leave
        && options.join_leave
        && permission::presence(&grant.rules, &soon).is_ok();
    Ok(grant)
}

async fn by_token(
    session: &Session,
    channel: &Channel,
    request: &SubscribeRequest,
    channel_rules: Arc<ChannelRules>,
) -> Result<Grant, Refusal> {
    let now = session.node.clock.unix_seconds();
    let rules = session.node.rules();
    let claims = match rules.subscription_verifier().verify_subscribe(&request.token, now).await {
        Ok(claims) => claims,
        Err(TokenError::Expired) => return Err(ErrorCode::TOKEN_EXPIRED.into()),
        Err(TokenError::Invalid(reason)) => {
            tracing::info!(%channel, client = %session.connection.id(), reason, "invalid subscription token");
            return Err(ErrorCode::PERMISSION_DENIED.into());
        }
    };
    check_claims(session, channel, &claims)?;
    let mut grant = Grant::of(channel_rules, Origin::Client, claims.overrides);
    grant.info = claims.info;
    grant.data = claims.data;
    grant.expire_at = claims.expire_at;
    Ok(grant)
}

/// A token for somebody else is not a mistake that an error reply would help with.
pub fn check_claims(
    session: &Session,
    channel: &str,
    claims: &SubscribeClaims,
) -> Result<(), Disconnect> {
    let client = session.connection.id().to_string();
    let matches = claims.channel == channel
        && claims.user == session.connection.user()
        && (claims.client.is_empty() || claims.client == client);
    if matches { Ok(()) } else { Err(Disconnect::INVALID_TOKEN) }
}

impl Wish {
    /// What a subscribe request asks for, checked against the channel's rules.
    pub fn of(
        request: &SubscribeRequest,
        rules: &ChannelRules,
        codec: Codec,
    ) -> Result<Self, Refusal> {
        let filter = match &request.tf {
            None => None,
            Some(_) if !rules.options.allow_tags_filter => {
                return Err(ErrorCode::BAD_REQUEST.into());
            }
            Some(node) => Some(Arc::new(node.compile().map_err(|_| ErrorCode::BAD_REQUEST)?)),
        };
        let position = StreamPosition { offset: request.offset, epoch: request.epoch.clone() };
        Ok(Self {
            recover: request.recover.then_some(position),
            reject_unrecovered: request.flag & FLAG_REJECT_UNRECOVERED != 0,
            delta: request.delta == "fossil",
            // The JavaScript SDK asks for numbers over Protobuf too, and then drops every push that
            // has one: it compares 64-bit integers by identity.
            compact: rules.compaction
                && codec == Codec::Json
                && request.flag & FLAG_CHANNEL_COMPACTION != 0,
            filter,
        })
    }
}
