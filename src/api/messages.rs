//! Requests and results of the methods, in the words of Centrifugo's API.
//!
//! Reading JSON: `null` is the zero value, unknown fields are ignored, payloads stay in the bytes
//! they were written in. Writing: zero values are left out, except where a caller counts on them.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use super::ApiError;
use crate::auth::OptionOverride;
use crate::broker::Published;
use crate::protocol::control::{NodeInfo, NodeMetrics};
use crate::protocol::json::{is_default, nullable, nullable_list, nullable_map, raw};
use crate::protocol::publication::{ClientInfo, Publication, StreamPosition};

/// Publishes into a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// Any JSON value, also `null`.
    #[serde(with = "raw")]
    pub data: Bytes,
    /// Unless empty, the data in standard base64, in the place of `data`.
    #[serde(deserialize_with = "nullable")]
    pub b64data: String,
    /// Deliver only, without a place in the stream.
    #[serde(deserialize_with = "nullable")]
    pub skip_history: bool,
    #[serde(deserialize_with = "nullable_map")]
    pub tags: BTreeMap<String, String>,
    /// A repeat with the same key publishes nothing and gets the same answer.
    #[serde(deserialize_with = "nullable")]
    pub idempotency_key: String,
    /// Send patches to subscribers that negotiated them.
    #[serde(deserialize_with = "nullable")]
    pub delta: bool,
    /// If above zero, publish only if the stream has not seen this version or a later one.
    #[serde(deserialize_with = "nullable")]
    pub version: u64,
    /// The version counts only within this; empty compares with any.
    #[serde(deserialize_with = "nullable")]
    pub version_epoch: String,
    /// `stored`: answer once the archive has it; empty: as the namespace says.
    #[serde(deserialize_with = "nullable")]
    pub archive_ack: String,
}

/// Publishes the same into many channels; fields as in [`PublishRequest`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BroadcastRequest {
    #[serde(deserialize_with = "nullable_list")]
    pub channels: Vec<String>,
    #[serde(with = "raw")]
    pub data: Bytes,
    #[serde(deserialize_with = "nullable")]
    pub b64data: String,
    #[serde(deserialize_with = "nullable")]
    pub skip_history: bool,
    #[serde(deserialize_with = "nullable_map")]
    pub tags: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub idempotency_key: String,
    #[serde(deserialize_with = "nullable")]
    pub delta: bool,
    #[serde(deserialize_with = "nullable")]
    pub version: u64,
    #[serde(deserialize_with = "nullable")]
    pub version_epoch: String,
    #[serde(deserialize_with = "nullable")]
    pub archive_ack: String,
}

/// Subscribes connections of a user to a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct SubscribeRequest {
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// Empty is the anonymous user, not everyone.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// Unix seconds at which the subscription ends; 0 for never.
    #[serde(deserialize_with = "nullable")]
    pub expire_at: i64,
    /// What others in the channel see of the connection.
    #[serde(deserialize_with = "optional_payload")]
    pub info: Bytes,
    /// Unless empty, the info in standard base64, in the place of `info`.
    #[serde(deserialize_with = "nullable")]
    pub b64info: String,
    /// Only the connection with this client id.
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// Handed to the client with the subscription.
    #[serde(deserialize_with = "optional_payload")]
    pub data: Bytes,
    /// Unless empty, the data in standard base64, in the place of `data`.
    #[serde(deserialize_with = "nullable")]
    pub b64data: String,
    /// Hand over what was published since.
    pub recover_since: Option<StreamPosition>,
    /// Options in the place of the namespace's.
    #[serde(rename = "override", deserialize_with = "nullable")]
    pub overrides: Overrides,
    /// Only the connection with this session id.
    #[serde(deserialize_with = "nullable")]
    pub session: String,
}

/// Channel options for one subscription; `None` leaves the namespace's.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "named like the channel options they override")]
pub struct Overrides {
    pub presence: Option<BoolValue>,
    pub join_leave: Option<BoolValue>,
    pub force_recovery: Option<BoolValue>,
    pub force_positioning: Option<BoolValue>,
    pub force_push_join_leave: Option<BoolValue>,
}

/// A boolean that can be absent in Protobuf too.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct BoolValue {
    #[serde(deserialize_with = "nullable")]
    pub value: bool,
}

/// Ends subscriptions of a user's connections; `client` and `session` narrow to one of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct UnsubscribeRequest {
    /// Empty is every channel.
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    #[serde(deserialize_with = "nullable")]
    pub session: String,
}

/// Closes a user's connections; `client` and `session` narrow to one of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct DisconnectRequest {
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// The close frame; `None` for 3503 `force disconnect`.
    pub disconnect: Option<CloseCode>,
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// Client ids that stay.
    #[serde(deserialize_with = "nullable_list")]
    pub whitelist: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub session: String,
}

/// Code and reason of a close frame.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CloseCode {
    #[serde(deserialize_with = "nullable")]
    pub code: u32,
    #[serde(deserialize_with = "nullable")]
    pub reason: String,
}

/// Sets when a user's connections expire; `client` and `session` narrow to one of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RefreshRequest {
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    /// They have expired: close them.
    #[serde(deserialize_with = "nullable")]
    pub expired: bool,
    /// Unix seconds; 0 for never.
    #[serde(deserialize_with = "nullable")]
    pub expire_at: i64,
    /// What others see of the connections from now on; empty leaves it.
    #[serde(deserialize_with = "optional_payload")]
    pub info: Bytes,
    #[serde(deserialize_with = "nullable")]
    pub session: String,
}

/// Asks about one channel: presence, presence_stats and history_remove.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChannelRequest {
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
}

/// Reads a channel's stream.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    #[serde(deserialize_with = "nullable")]
    pub channel: String,
    /// Publications at most; 0 for only the top, below zero for all.
    #[serde(deserialize_with = "nullable")]
    pub limit: i32,
    /// Start behind this position.
    pub since: Option<StreamPosition>,
    /// From the newest to the oldest.
    #[serde(deserialize_with = "nullable")]
    pub reverse: bool,
}

/// Asks who the nodes are.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct InfoRequest {}

/// Calls a procedure of the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RpcRequest {
    #[serde(deserialize_with = "nullable")]
    pub method: String,
    #[serde(deserialize_with = "optional_payload")]
    pub params: Bytes,
}

/// Asks which channels have subscribers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChannelsRequest {
    /// A glob over names; empty for all.
    #[serde(deserialize_with = "nullable")]
    pub pattern: String,
}

/// Where a publication came to stand; both zero without history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PublishResult {
    #[serde(skip_serializing_if = "is_default")]
    pub offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub epoch: String,
}

impl From<Published> for PublishResult {
    fn from(published: Published) -> Self {
        Self { offset: published.offset, epoch: published.epoch.into() }
    }
}

/// What became of each channel, in the order asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BroadcastResult {
    pub responses: Vec<PublishResponse>,
}

/// What became of one channel of a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PublishResponse {
    Result(PublishResult),
    Error(ApiError),
}

/// It is done; there is nothing to say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {}

/// The clients in a channel, by id.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PresenceResult {
    pub presence: BTreeMap<String, ClientInfo>,
}

/// How many are in a channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PresenceStatsResult {
    pub num_clients: u32,
    /// Different users.
    pub num_users: u32,
}

/// Part of a stream, and the stream's top.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HistoryResult {
    /// Of their fields, data, info, offset and tags.
    pub publications: Vec<Publication>,
    pub epoch: String,
    pub offset: u64,
}

/// The running nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct InfoResult {
    pub nodes: Vec<NodeResult>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodeResult {
    pub uid: String,
    pub name: String,
    pub version: String,
    pub num_clients: u32,
    pub num_users: u32,
    pub num_subs: u32,
    pub num_channels: u32,
    /// Seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub uptime: u32,
    /// Of the last interval, once there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetricsResult>,
}

/// What a node counted in an interval.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct MetricsResult {
    /// Seconds.
    pub interval: f64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub items: BTreeMap<String, f64>,
}

impl From<NodeInfo> for NodeResult {
    fn from(node: NodeInfo) -> Self {
        Self {
            uid: node.uid,
            name: node.name,
            version: node.version,
            num_clients: node.num_clients,
            num_users: node.num_users,
            num_subs: node.num_subs,
            num_channels: node.num_channels,
            uptime: node.uptime,
            metrics: node.metrics.map(Into::into),
        }
    }
}

impl From<NodeMetrics> for MetricsResult {
    fn from(metrics: NodeMetrics) -> Self {
        Self { interval: metrics.interval, items: metrics.items }
    }
}

/// What a procedure returned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RpcResult {
    #[serde(serialize_with = "raw::serialize", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
}

/// Channels with subscribers, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelsResult {
    pub channels: BTreeMap<String, ChannelResult>,
}

/// One channel with subscribers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChannelResult {
    pub num_clients: u32,
}

impl From<Overrides> for OptionOverride {
    fn from(overrides: Overrides) -> Self {
        let value = |option: Option<BoolValue>| option.map(|option| option.value);
        Self {
            presence: value(overrides.presence),
            join_leave: value(overrides.join_leave),
            force_push_join_leave: value(overrides.force_push_join_leave),
            force_recovery: value(overrides.force_recovery),
            force_positioning: value(overrides.force_positioning),
        }
    }
}

/// A payload that may as well not be there, which is what `null` says.
fn optional_payload<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let value = Option::<Box<RawValue>>::deserialize(deserializer)?;
    let text = value.map(|value| Box::<str>::from(value).into_boxed_bytes().into_vec());
    Ok(text.map(Bytes::from).unwrap_or_default())
}

#[cfg(test)]
mod tests;
