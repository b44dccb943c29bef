//! What tokens claim, read from their payload. Nothing here is verified.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::protocol::json::{nullable, nullable_map};

/// What a connection token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectClaims {
    /// The user ID; empty is an anonymous user.
    pub user: String,
    /// Unix seconds at which the connection expires; `None` is never. May lie in the past, since
    /// the claim `expire_at` is apart from the token's own validity.
    pub expire_at: Option<i64>,
    /// What others may see of the connection; empty is nothing.
    pub info: Bytes,
    /// Server-side subscriptions with the options of their namespaces; empty if `subs` is not.
    pub channels: Vec<String>,
    /// Server-side subscriptions with options of their own.
    pub subs: BTreeMap<String, SubscribeOptionsClaim>,
    /// JSON for the application's backend, never shown to a client; empty is none.
    pub meta: Bytes,
}

/// What a subscription token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeClaims {
    /// The user ID, to be compared with the connection's.
    pub user: String,
    /// The channel, to be compared with the request's; never empty.
    pub channel: String,
    /// The client ID, to be compared with the connection's unless empty.
    pub client: String,
    /// Unix seconds at which the subscription expires; `None` is never.
    pub expire_at: Option<i64>,
    /// What others in the channel may see of the connection; empty is nothing.
    pub info: Bytes,
    /// Goes into the subscribe result; empty is nothing.
    pub data: Bytes,
    /// Changes to the namespace's options.
    pub overrides: OptionOverride,
}

/// One server-side subscription of a connection token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptionsClaim {
    /// What others in the channel may see of the connection; empty is nothing.
    pub info: Bytes,
    /// Goes to the client with the subscription; empty is nothing.
    pub data: Bytes,
    /// Changes to the namespace's options.
    pub overrides: OptionOverride,
}

/// Channel options a token sets, whatever the namespace says; `None` leaves the namespace's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named like the channel options they override")]
pub struct OptionOverride {
    pub presence: Option<bool>,
    pub join_leave: Option<bool>,
    pub force_push_join_leave: Option<bool>,
    pub force_recovery: Option<bool>,
    pub force_positioning: Option<bool>,
}

impl ConnectClaims {
    /// Reads the payload of a connection token; `user_id_claim` is empty for `sub`.
    pub(super) fn parse(payload: &[u8], user_id_claim: &str) -> Result<Self, String> {
        let wire: ConnectWire = read(payload)?;
        if !wire.channel.is_empty() {
            return Err("a connection token must not have a channel claim".into());
        }
        let mut subs = BTreeMap::new();
        for (channel, sub) in wire.subs {
            subs.insert(channel, sub.read()?);
        }
        Ok(Self {
            user: user(wire.sub, payload, user_id_claim)?,
            expire_at: expire_at(wire.expire_at, wire.exp),
            info: value_or_base64(wire.info, &wire.b64info, "b64info")?,
            channels: if subs.is_empty() { wire.channels } else { Vec::new() },
            subs,
            meta: wire.meta.map(one_line).unwrap_or_default(),
        })
    }
}

impl SubscribeClaims {
    /// Reads the payload of a subscription token; `user_id_claim` is empty for `sub`.
    pub(super) fn parse(payload: &[u8], user_id_claim: &str) -> Result<Self, String> {
        let wire: SubscribeWire = read(payload)?;
        if wire.channel.is_empty() {
            return Err("a subscription token must have a channel claim".into());
        }
        Ok(Self {
            user: user(wire.sub, payload, user_id_claim)?,
            channel: wire.channel,
            client: wire.client,
            expire_at: expire_at(wire.expire_at, wire.exp),
            info: value_or_base64(wire.info, &wire.b64info, "b64info")?,
            data: value_or_base64(wire.data, &wire.b64data, "b64data")?,
            overrides: wire.overrides.into(),
        })
    }
}

/// The claims that decide whether a token is valid at all.
#[derive(Debug, Deserialize)]
pub(super) struct Validity {
    pub exp: Option<NumericDate>,
    pub nbf: Option<NumericDate>,
    #[serde(default, deserialize_with = "nullable")]
    pub aud: Audience,
    #[serde(default, deserialize_with = "nullable")]
    pub iss: String,
}

impl Validity {
    pub fn parse(payload: &[u8]) -> Result<Self, String> {
        read(payload)
    }
}

/// Unix seconds. JSON allows any number here: a fraction is cut off, what does not fit is clamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct NumericDate(pub i64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        // The cast from a float saturates, and a JSON number is never NaN.
        let seconds = number.as_i64().or(number.as_f64().map(|float| float.floor() as i64));
        Ok(Self(seconds.unwrap_or(i64::MAX)))
    }
}

/// One audience or several, RFC 7519 section 4.1.3.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    pub fn as_slice(&self) -> &[String] {
        match self {
            Self::One(audience) => std::slice::from_ref(audience),
            Self::Many(audiences) => audiences,
        }
    }
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

#[derive(Deserialize)]
struct ConnectWire {
    sub: Option<Box<RawValue>>,
    exp: Option<NumericDate>,
    expire_at: Option<NumericDate>,
    #[serde(default, deserialize_with = "nullable")]
    channel: String,
    #[serde(default, deserialize_with = "nullable")]
    channels: Vec<String>,
    #[serde(default, deserialize_with = "nullable_map")]
    subs: BTreeMap<String, SubscribeOptionsWire>,
    info: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nullable")]
    b64info: String,
    meta: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct SubscribeWire {
    sub: Option<Box<RawValue>>,
    exp: Option<NumericDate>,
    expire_at: Option<NumericDate>,
    #[serde(default, deserialize_with = "nullable")]
    channel: String,
    #[serde(default, deserialize_with = "nullable")]
    client: String,
    info: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nullable")]
    b64info: String,
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nullable")]
    b64data: String,
    #[serde(default, rename = "override", deserialize_with = "nullable")]
    overrides: OverrideWire,
}

#[derive(Default, Deserialize)]
struct SubscribeOptionsWire {
    info: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nullable")]
    b64info: String,
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "nullable")]
    b64data: String,
    #[serde(default, rename = "override", deserialize_with = "nullable")]
    overrides: OverrideWire,
}

impl SubscribeOptionsWire {
    fn read(self) -> Result<SubscribeOptionsClaim, String> {
        Ok(SubscribeOptionsClaim {
            info: value_or_base64(self.info, &self.b64info, "b64info")?,
            data: value_or_base64(self.data, &self.b64data, "b64data")?,
            overrides: self.overrides.into(),
        })
    }
}

#[derive(Default, Deserialize)]
struct OverrideWire {
    presence: Option<Flag>,
    join_leave: Option<Flag>,
    force_push_join_leave: Option<Flag>,
    force_recovery: Option<Flag>,
    force_positioning: Option<Flag>,
}

#[derive(Deserialize)]
struct Flag {
    #[serde(default)]
    value: bool,
}

impl From<OverrideWire> for OptionOverride {
    fn from(wire: OverrideWire) -> Self {
        let value = |flag: Option<Flag>| flag.map(|flag| flag.value);
        Self {
            presence: value(wire.presence),
            join_leave: value(wire.join_leave),
            force_push_join_leave: value(wire.force_push_join_leave),
            force_recovery: value(wire.force_recovery),
            force_positioning: value(wire.force_positioning),
        }
    }
}

/// The reason names the place and not the value, so that it can be logged.
fn read<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(payload)
        .map_err(|error| format!("the claims cannot be read, at column {}", error.column()))
}

/// A missing claim is an anonymous user.
fn user(sub: Option<Box<RawValue>>, payload: &[u8], claim: &str) -> Result<String, String> {
    let value = if claim.is_empty() {
        sub
    } else {
        let mut claims: HashMap<String, Option<Box<RawValue>>> = read(payload)?;
        claims.remove(claim).flatten()
    };
    match value {
        Some(value) => serde_json::from_str(value.get())
            .map_err(|_| "the claim that holds the user ID must be a string".into()),
        None => Ok(String::new()),
    }
}

/// The claim `expire_at` decides over `exp`, also by saying 0 for "never".
fn expire_at(claim: Option<NumericDate>, exp: Option<NumericDate>) -> Option<i64> {
    match claim {
        Some(NumericDate(0)) => None,
        Some(NumericDate(seconds)) => Some(seconds),
        None => exp.map(|NumericDate(seconds)| seconds),
    }
}

fn value_or_base64(
    value: Option<Box<RawValue>>,
    base64: &str,
    base64_claim: &str,
) -> Result<Bytes, String> {
    if base64.is_empty() {
        return Ok(value.map(one_line).unwrap_or_default());
    }
    STANDARD
        .decode(base64)
        .map(Bytes::from)
        .map_err(|_| format!("{base64_claim} must be standard base64 with padding"))
}

/// A JSON value without line breaks, which would end a frame of newline-separated messages early.
/// Strings cannot contain any, so all of them are mere white space.
fn one_line(value: Box<RawValue>) -> Bytes {
    let mut bytes = Box::<str>::from(value).into_boxed_bytes().into_vec();
    for byte in &mut bytes {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests;
