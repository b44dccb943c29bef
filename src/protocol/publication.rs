//! What travels in channels: publications, who sent them, and positions in a stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::{is_default, nullable, raw};

/// One message of a channel, as brokers store it and as clients receive it.
///
/// `time` (unix milliseconds), `epoch`, `version` and `prev_data` are the broker's; what of them a
/// client may see is decided where a push is encoded.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// The payload: for JSON clients a JSON value embedded as it is, for Protobuf clients any bytes.
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub info: Option<ClientInfo>,
    /// Position in the channel's stream; the first publication has 1, a publication without history 0.
    #[prost(uint64, tag = "6")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub tags: BTreeMap<String, String>,
    /// `data` is a patch against the previous publication's data rather than the data itself.
    #[prost(bool, tag = "8")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub delta: bool,
    /// Unix milliseconds at which the broker took the publication.
    #[prost(int64, tag = "9")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub time: i64,
    #[prost(string, tag = "10")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
    #[prost(string, tag = "11")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub key: String,
    #[prost(bool, tag = "12")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub removed: bool,
    #[prost(sint64, tag = "13")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub score: i64,
    #[prost(string, tag = "14")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub epoch: String,
    /// The publication before this one, kept between a broker and its nodes only.
    #[prost(bytes = "bytes", tag = "15")]
    #[serde(skip)]
    pub prev_data: Bytes,
    #[prost(uint64, tag = "16")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub version: u64,
}

/// A connection as others in a channel see it.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    #[prost(string, tag = "1")]
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    #[prost(string, tag = "2")]
    #[serde(deserialize_with = "nullable")]
    pub client: String,
    #[prost(bytes = "bytes", tag = "3")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub chan_info: Bytes,
}

/// A place in a channel's stream: the offset counts within one epoch.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamPosition {
    #[prost(uint64, tag = "1")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub epoch: String,
}
