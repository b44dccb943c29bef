//! `connect`: who the client is, and the subscriptions that come with it.
//!
//! Everything is prepared first; then, under the state's lock, the connection enters the hub's
//! registry and becomes connected; then the reply is queued, and only then do the subscriptions go
//! live. A failure before that undoes all of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::auth::{ConnectClaims, OptionOverride, SubscribeOptionsClaim, TokenError};
use crate::channel::{Channel, permission};
use crate::node::{Rules, Selection};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::{ConnectRequest, SubscribeRequest};
use crate::protocol::reply::{ConnectResult, Reply, ServerSideSub};
use crate::session::establish::{Established, Grant, Ready, Wish, ttl};
use crate::session::refusal::Refusal;
use crate::session::subscription::{Origin, Subscriptions};
use crate::session::{Connected, Session, State};
use crate::telemetry::metrics::labels::{ClientName, ClientVersion};

/// What is known of a client that may connect.
#[derive(Default)]
struct Credentials {
    user: String,
    info: Bytes,
    /// Unix seconds; `None` for never.
    expire_at: Option<i64>,
    /// Server-side subscriptions that the token names.
    channels: BTreeMap<Channel, SubscribeOptionsClaim>,
}

pub async fn connect(
    session: &Arc<Session>,
    id: u32,
    request: ConnectRequest,
) -> Result<Option<Reply>, Refusal> {
    begin(session)?;
    let rules = session.node.rules();
    let credentials = authenticate(session, &rules, &request).await?;
    session.connection.authenticate(&credentials.user);
    let now = session.node.clock.unix_seconds();
    if credentials.expire_at.is_some_and(|expire_at| expire_at <= now) {
        return Err(ErrorCode::EXPIRED.into());
    }
    let grants = server_side(session, &rules, &credentials, &request).await?;
    let made = grants.into_iter().map(|(channel, grant)| {
        let asked = request.subs.get(&*channel);
        make(session, channel, grant, asked, credentials.info.clone())
    });
    let made = try_join_all(made).await?;
    let expire_at = credentials.expire_at;
    let labels = (ClientName::of(&request.name), ClientVersion::of(&request.version));
    let (subs, ready) = enter(session, credentials.info, labels, made)?;
    let connect = result(session, subs, expire_at.map(|expire_at| ttl(expire_at, now)));
    session.queue(&Reply { id, connect: Some(connect), ..Reply::default() });
    // All of them at once, before anybody else has a turn.
    let joining: Vec<_> = ready.into_iter().map(|one| session.go_live(one, None)).collect();
    for one in joining {
        session.announce(one).await;
    }
    session.deadlines.lock().connected(session.node.clock.now(), &session.rhythm());
    session.expire_after(expire_at);
    if session.node.is_draining() {
        // It may have entered the registry after the drain went through it.
        session.outbox().close(Disconnect::SHUTDOWN);
    }
    Ok(None)
}

/// Only one connect command may ever be under way.
fn begin(session: &Session) -> Result<(), Refusal> {
    if session.node.is_draining() {
        return Err(Disconnect::SHUTDOWN.into());
    }
    let mut state = session.state.lock();
    match *state {
        State::Connecting => {
            *state = State::Authenticating;
            Ok(())
        }
        State::Authenticating | State::Connected(_) | State::Closed => {
            Err(Disconnect::BAD_REQUEST.into())
        }
    }
}

/// Who the client is, by the first rule that knows: token, trusted header, permission to be nobody.
async fn authenticate(
    session: &Session,
    rules: &Rules,
    request: &ConnectRequest,
) -> Result<Credentials, Refusal> {
    let client = &session.node.client;
    let mut credentials = if !request.token.is_empty() {
        by_token(session, rules, &request.token).await?
    } else if let Some(user) = &session.traits.header_user {
        Credentials { user: user.to_string(), ..Credentials::default() }
    } else if client.allow_anonymous_connect_without_token || client.insecure {
        Credentials::default()
    } else {
        return Err(Disconnect::BAD_REQUEST.into());
    };
    if client.insecure {
        credentials.expire_at = None;
    }
    Ok(credentials)
}

async fn by_token(session: &Session, rules: &Rules, token: &str) -> Result<Credentials, Refusal> {
    let now = session.node.clock.unix_seconds();
    let claims = match rules.connection_tokens.verify_connect(token, now).await {
        Ok(claims) => claims,
        Err(TokenError::Expired) => return Err(ErrorCode::TOKEN_EXPIRED.into()),
        Err(TokenError::Invalid(reason)) => {
            tracing::info!(client = %session.connection.id(), reason, "invalid connection token");
            return Err(Disconnect::INVALID_TOKEN.into());
        }
    };
    if claims.user.is_empty() && session.node.client.disallow_anonymous_connection_tokens {
        return Err(Disconnect::PERMISSION_DENIED.into());
    }
    let ConnectClaims { user, expire_at, info, .. } = claims;
    Ok(Credentials {
        user,
        info,
        expire_at,
        channels: token_channels(claims.channels, claims.subs),
    })
}

/// The server-side subscriptions of a token; `subs` wins over `channels`.
pub fn token_channels(
    channels: Vec<String>,
    subs: BTreeMap<String, SubscribeOptionsClaim>,
) -> BTreeMap<Channel, SubscribeOptionsClaim> {
    if subs.is_empty() {
        let plain = |channel: String| (Channel::from(channel), SubscribeOptionsClaim::default());
        channels.into_iter().map(plain).collect()
    } else {
        subs.into_iter().map(|(channel, options)| (Channel::from(channel), options)).collect()
    }
}

/// Every server-side subscription that the connection gets: of the token, the personal channel, and
/// those that the client wishes and may have.
async fn server_side(
    session: &Session,
    rules: &Rules,
    credentials: &Credentials,
    request: &ConnectRequest,
) -> Result<BTreeMap<Channel, Grant>, Refusal> {
    let mut grants = BTreeMap::new();
    for (channel, options) in &credentials.channels {
        if channel.is_empty() {
            return Err(ErrorCode::BAD_REQUEST.into());
        }
        let channel_rules = rules.channels.resolve(channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
        let mut grant = Grant::of(channel_rules, Origin::Token, options.overrides);
        (grant.info, grant.data) = (options.info.clone(), options.data.clone());
        grants.insert(channel.clone(), grant);
    }
    if let Some((channel, grant)) = personal_channel(session, rules).await? {
        grants.entry(channel).or_insert(grant);
    }
    for name in request.subs.keys() {
        let channel_rules = rules.channels.resolve(name).ok_or(Disconnect::BAD_REQUEST)?;
        if permission::wish(&rules.channels, name, &channel_rules, &session.actor(false)) {
            let grant = Grant::of(channel_rules, Origin::Server, OptionOverride::default());
            grants.entry(Channel::from(name.as_str())).or_insert(grant);
        }
    }
    if grants.len() > session.node.client.channel_limit as usize {
        return Err(Disconnect::CHANNEL_LIMIT.into());
    }
    Ok(grants)
}

/// The user's own channel. If it may be held only once, its other holders are sent away.
async fn personal_channel(
    session: &Session,
    rules: &Rules,
) -> Result<Option<(Channel, Grant)>, Refusal> {
    let personal = &session.node.client.subscribe_to_user_personal_channel;
    let user = session.connection.user();
    if !personal.enabled || user.is_empty() {
        return Ok(None);
    }
    let name = rules.channels.personal_channel(&personal.personal_channel_namespace, user);
    let channel = Channel::from(name);
    let channel_rules = rules.channels.resolve(&channel).ok_or(ErrorCode::UNKNOWN_CHANNEL)?;
    if personal.single_connection {
        let others = session.node.presence_counts(&channel, &channel_rules).await;
        if others.is_ok_and(|counts| counts.clients > 0) {
            let all = Selection { user: user.to_owned(), ..Selection::default() };
            session.node.disconnect_user(all, Disconnect::CONNECTION_LIMIT).await?;
        }
    }
    let grant = Grant::of(channel_rules, Origin::Server, OptionOverride::default());
    Ok(Some((channel, grant)))
}

async fn make(
    session: &Arc<Session>,
    channel: Channel,
    grant: Grant,
    asked: Option<&SubscribeRequest>,
    conn_info: Bytes,
) -> Result<(Channel, Established), Refusal> {
    let wish = match asked {
        Some(asked) => Wish { compact: false, ..Wish::of(asked, &grant.rules, session.codec())? },
        None => Wish::default(),
    };
    let established = session.establish(&channel, grant, wish, conn_info).await?;
    Ok((channel, established))
}

/// Registers the connection with all that was made for it; from here on the API finds it.
fn enter(
    session: &Session,
    info: Bytes,
    labels: (ClientName, ClientVersion),
    made: Vec<(Channel, Established)>,
) -> Result<(Vec<ServerSideSub>, Vec<Ready>), Refusal> {
    let mut state = session.state.lock();
    if !matches!(*state, State::Authenticating) || session.outbox().is_closing() {
        return Err(Disconnect::CONNECTION_CLOSED.into());
    }
    let limit = session.node.client.user_connection_limit as usize;
    let registration = session.node.hub.connections.add(&session.connection, limit);
    let registration = registration.ok_or(Disconnect::CONNECTION_LIMIT)?;
    session.count_entered(labels);
    let subscriptions = Subscriptions::default();
    let mut connected = Connected { registration, info, subscriptions, labels, ticking: false };
    let mut subs = Vec::with_capacity(made.len());
    let mut ready = Vec::with_capacity(made.len());
    for (channel, established) in made {
        // Names are unique and were counted already.
        let _ = connected.subscriptions.begin(&channel, usize::MAX);
        let (result, one) = established.commit(&mut connected.subscriptions);
        session.count_subscription_made(labels);
        subs.push(ServerSideSub { channel: channel.to_string(), result: Some(result) });
        ready.push(one);
    }
    *state = State::Connected(Box::new(connected));
    Ok((subs, ready))
}

fn result(session: &Session, subs: Vec<ServerSideSub>, ttl: Option<u32>) -> ConnectResult {
    let client = &session.node.client;
    let pings = !session.traits.native_ping && !client.ping_interval.is_zero();
    ConnectResult {
        client: session.connection.id().to_string(),
        version: format!("{} OSS", env!("CARGO_PKG_VERSION")),
        expires: ttl.is_some(),
        ttl: ttl.unwrap_or_default(),
        subs,
        ping: if pings { client.ping_interval.as_secs().max(1) as u32 } else { 0 },
        pong: pings && !client.pong_timeout.is_zero(),
        time: if client.connect_include_server_time { session.node.clock.unix_millis() } else { 0 },
        publish_idempotency_ttl: session.idempotency_ttl().map_or(0, seconds),
        ..ConnectResult::default()
    }
}

/// At least one: 0 would say that there are no keys.
fn seconds(ttl: Duration) -> u32 {
    u32::try_from(ttl.as_secs().max(1)).unwrap_or(u32::MAX)
}
