//! Who may read what: the server's key opens everything, a user's token what the channel allows.

use std::sync::Arc;

use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts as Head;

use super::Parts;
use super::problem::Problem;
use crate::auth::TokenError;
use crate::channel::{Actor, ChannelRules, Refusal, permission};
use crate::node::Rules;

/// The header of a subscription token, which makes its user count as a subscriber of its channel.
pub const SUBSCRIPTION_TOKEN: &str = "x-subscription-token";

/// Allows whoever has the server's key; everybody may be asked for a reason.
pub fn backend(parts: &Parts, head: &Head) -> Result<(), Problem> {
    if parts.access.admits(head) {
        return Ok(());
    }
    if bearer(head).is_some() {
        return Err(Problem::denied("only the server API's key allows this"));
    }
    Err(Problem::unauthorized("the API key is missing or wrong; it goes into the header X-API-Key"))
}

/// Allows deleting in a channel, to backends.
pub fn deleter(parts: &Parts, head: &Head, channel: &str) -> Result<(), Problem> {
    backend(parts, head)?;
    archived(&(parts.rules)(), channel).map(drop)
}

/// Allows reading a channel: to backends, and to users as on a connection.
pub async fn reader(parts: &Parts, head: &Head, channel: &str) -> Result<(), Problem> {
    let rules = (parts.rules)();
    if has_key(head) || parts.access.admits(head) {
        backend(parts, head)?;
        archived(&rules, channel)?;
        return Ok(());
    }
    let (user, subscribed) = user(parts, &rules, head, channel).await?;
    if let Err(Refusal::BadRequest) = rules.channels.check_name(channel) {
        return Err(Problem::bad("channel", "too long, or with characters that are not allowed"));
    }
    let channel_rules = archived(&rules, channel)?;
    let actor = Actor { user: &user, subscribed, insecure: parts.insecure };
    permission::history(&channel_rules, &actor).map_err(|_| {
        Problem::denied(
            "needs allow_history_for_client, or allow_history_for_subscriber and a subscription \
             token in X-Subscription-Token",
        )
    })
}

fn archived(rules: &Rules, channel: &str) -> Result<Arc<ChannelRules>, Problem> {
    let found = rules.channels.resolve(channel).ok_or_else(Problem::unknown_channel)?;
    if found.options.history_archive { Ok(found) } else { Err(Problem::not_archived()) }
}

/// Who asks, by the tokens of the request, and whether as a subscriber.
async fn user(
    parts: &Parts,
    rules: &Rules,
    head: &Head,
    channel: &str,
) -> Result<(String, bool), Problem> {
    let now = parts.clock.unix_seconds();
    let connected = match bearer(head) {
        None => None,
        Some(token) => {
            let verified = rules.connection_tokens.verify_connect(token, now).await;
            let claims = verified.map_err(|error| refused("connection", &error))?;
            if claims.expire_at.is_some_and(|expire_at| expire_at <= now) {
                return Err(Problem::unauthorized("the connection token has expired"));
            }
            Some(claims.user)
        }
    };
    let token = head.headers.get(SUBSCRIPTION_TOKEN).and_then(|value| value.to_str().ok());
    let Some(token) = token else {
        return match connected {
            Some(user) => Ok((user, false)),
            None if parts.insecure => Ok((String::new(), false)),
            None => Err(Problem::unauthorized(
                "needs a connection token as bearer of Authorization, or the API key in X-API-Key",
            )),
        };
    };
    let verified = rules.subscription_verifier().verify_subscribe(token, now).await;
    let claims = verified.map_err(|error| refused("subscription", &error))?;
    if claims.expire_at.is_some_and(|expire_at| expire_at <= now) {
        return Err(Problem::unauthorized("the subscription token has expired"));
    }
    // One for a single connection proves nothing here, where there is none.
    let fits = claims.channel == channel
        && claims.client.is_empty()
        && connected.as_ref().is_none_or(|user| *user == claims.user);
    if !fits {
        return Err(Problem::denied("the subscription token is for another channel or user"));
    }
    Ok((claims.user, true))
}

fn refused(kind: &str, error: &TokenError) -> Problem {
    match error {
        TokenError::Expired => Problem::unauthorized(format!("the {kind} token has expired")),
        TokenError::Invalid(reason) => {
            tracing::info!(reason, "invalid {kind} token");
            Problem::unauthorized(format!("the {kind} token is not valid"))
        }
    }
}

fn has_key(head: &Head) -> bool {
    let authorization = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let scheme = authorization.and_then(|value| value.split_once(' ')).map(|(scheme, _)| scheme);
    let query = head.uri.query().unwrap_or_default();
    head.headers.contains_key("x-api-key")
        || scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("apikey"))
        || query.split('&').any(|parameter| parameter.starts_with("api_key="))
}

fn bearer(head: &Head) -> Option<&str> {
    let value = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
