//! What clients send: one `Command` carries exactly one request.
//!
//! The same structs serve both codecs: the Protobuf field numbers and the JSON names stand side by
//! side, so that a field cannot exist in one and be forgotten in the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::DecodeError;
use super::filter::FilterNode;
use super::json::{is_default, nullable, nullable_list, nullable_map, raw};
use super::publication::StreamPosition;

/// Set in [`SubscribeRequest::flag`]: the client understands numeric channel ids in pushes.
pub const FLAG_CHANNEL_COMPACTION: i64 = 1;
/// Set in [`SubscribeRequest::flag`]: answer error 112 rather than `recovered: false`.
pub const FLAG_REJECT_UNRECOVERED: i64 = 2;

/// One request of a client. `id` is above zero except for `send` and for a pong.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct Command {
    #[prost(uint32, tag = "1")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub id: u32,
    #[prost(message, optional, tag = "4")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectRequest>,
    #[prost(message, optional, tag = "5")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<SubscribeRequest>,
    #[prost(message, optional, tag = "6")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsubscribe: Option<UnsubscribeRequest>,
    #[prost(message, optional, tag = "7")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishRequest>,
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence: Option<PresenceRequest>,
    #[prost(message, optional, tag = "9")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_stats: Option<PresenceStatsRequest>,
    #[prost(message, optional, tag = "10")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryRequest>,
    #[prost(message, optional, tag = "11")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<PingRequest>,
    #[prost(message, optional, tag = "12")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send: Option<SendRequest>,
    #[prost(message, optional, tag = "13")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rpc: Option<RpcRequest>,
    #[prost(message, optional, tag = "14")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshRequest>,
    #[prost(message, optional, tag = "15")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_refresh: Option<SubRefreshRequest>,
}

impl Command {
    /// What the command asks for. Where several requests are set the first in the order of this
    /// function counts.
    ///
    /// # Errors
    /// If there is an id but no request, a request that needs an answer but no id, or a ping.
    pub fn request(self) -> Result<Request, DecodeError> {
        let numbered = self.id > 0;
        let request = if let Some(request) = self.connect {
            Request::Connect(request)
        } else if self.ping.is_some() {
            return Err(DecodeError::Ping);
        } else if let Some(request) = self.subscribe {
            Request::Subscribe(request)
        } else if let Some(request) = self.unsubscribe {
            Request::Unsubscribe(request)
        } else if let Some(request) = self.publish {
            Request::Publish(request)
        } else if let Some(request) = self.presence {
            Request::Presence(request)
        } else if let Some(request) = self.presence_stats {
            Request::PresenceStats(request)
        } else if let Some(request) = self.history {
            Request::History(request)
        } else if let Some(request) = self.rpc {
            Request::Rpc(request)
        } else if let Some(request) = self.send {
            Request::Send(request)
        } else if let Some(request) = self.refresh {
            Request::Refresh(request)
        } else if let Some(request) = self.sub_refresh {
            Request::SubRefresh(request)
        } else if numbered {
            return Err(DecodeError::NoRequest);
        } else {
            Request::Pong
        };
        match request {
            Request::Send(_) | Request::Pong => Ok(request),
            _ if numbered => Ok(request),
            _ => Err(DecodeError::NoId { method: request.method() }),
        }
    }
}

/// The one thing a command asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    Connect(ConnectRequest),
    Subscribe(SubscribeRequest),
    Unsubscribe(UnsubscribeRequest),
    Publish(PublishRequest),
    Presence(PresenceRequest),
    PresenceStats(PresenceStatsRequest),
    History(HistoryRequest),
    Rpc(RpcRequest),
    Send(SendRequest),
    Refresh(RefreshRequest),
    SubRefresh(SubRefreshRequest),
    /// The empty command, a client's answer to a ping.
    Pong,
}

impl Request {
    /// The name of the request on the wire, for metrics and logs.
    pub fn method(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Publish(_) => "publish",
            Self::Presence(_) => "presence",
            Self::PresenceStats(_) => "presence_stats",
            Self::History(_) => "history",
            Self::Rpc(_) => "rpc",
            Self::Send(_) => "send",
            Self::Refresh(_) => "refresh",
            Self::SubRefresh(_) => "sub_refresh",
            Self::Pong => "pong",
        }
    }
}

/// Opens the protocol session of a connection.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
#[serde(default)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub token: String,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    /// Wishes for server-side subscriptions, with recovery positions.
    #[prost(btree_map = "string, message", tag = "3")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_map")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub name: String,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub version: String,
    #[prost(btree_map = "string, string", tag = "6")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_map")]
    pub headers: BTreeMap<String, String>,
    #[prost(int64, tag = "7")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub flag: i64,
    #[prost(string, tag = "8")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub dict: String,
    #[prost(string, tag = "9")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub profile: String,
}

/// Asks for a subscription, optionally with recovery from a position.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
#[serde(default)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub token: String,
    #[prost(bool, tag = "3")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub recover: bool,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub epoch: String,
    #[prost(uint64, tag = "7")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub offset: u64,
    #[prost(bytes = "bytes", tag = "8")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    #[prost(bool, tag = "9")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub positioned: bool,
    #[prost(bool, tag = "10")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub recoverable: bool,
    #[prost(bool, tag = "11")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub join_leave: bool,
    #[prost(string, tag = "12")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub delta: String,
    /// Tags filter: only publications whose tags match are delivered.
    #[prost(message, optional, boxed, tag = "13")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tf: Option<Box<FilterNode>>,
    #[prost(int64, tag = "14")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub flag: i64,
    #[prost(int32, tag = "15")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    #[serde(rename = "type")]
    pub kind: i32,
    #[prost(int32, tag = "16")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub phase: i32,
    #[prost(string, tag = "17")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub cursor: String,
    #[prost(int32, tag = "18")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub limit: i32,
    #[prost(bool, tag = "19")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub asc: bool,
}

/// Ends a subscription.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct UnsubscribeRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
}

/// Publishes into a channel. What Centrifugo does not know is numbered from 1000 on.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
    #[prost(bytes = "bytes", tag = "2")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    #[prost(int32, tag = "3")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    #[serde(rename = "type")]
    pub kind: i32,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub key: String,
    #[prost(bool, tag = "5")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub removed: bool,
    /// A repeat with the same key of the same user in the same channel publishes nothing.
    #[prost(string, tag = "1000")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub idempotency_key: String,
}

/// Asks who is in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
}

/// Asks how many are in a channel.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PresenceStatsRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
}

/// Reads the stream of a channel; see `node::history` for the meaning of `limit`.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
    #[prost(int32, tag = "7")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub limit: i32,
    #[prost(message, optional, tag = "8")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<StreamPosition>,
    #[prost(bool, tag = "9")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub reverse: bool,
}

/// Never sent by current clients; refused.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct PingRequest {}

/// A message without a reply.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct SendRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
}

/// A call to the application backend.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct RpcRequest {
    #[prost(bytes = "bytes", tag = "1")]
    #[serde(with = "raw", skip_serializing_if = "Bytes::is_empty")]
    pub data: Bytes,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub method: String,
}

/// A fresh connection token.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
#[serde(default)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub token: String,
}

/// A fresh subscription token, or (types 1 and 2) keys to track.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
#[serde(default)]
pub struct SubRefreshRequest {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub channel: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub token: String,
    #[prost(int32, tag = "3")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    #[serde(rename = "type")]
    pub kind: i32,
    #[prost(message, repeated, tag = "4")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub track: Vec<TrackBatch>,
    #[prost(string, repeated, tag = "5")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub untrack: Vec<String>,
}

/// Keys of a shared poll subscription with the signature that allows them.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[prost(skip_debug)]
#[serde(default)]
pub struct TrackBatch {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub signature: String,
    #[prost(message, repeated, tag = "2")]
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable_list")]
    pub items: Vec<KeyedItem>,
}

/// A key and the version of it that the client holds.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyedItem {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "nullable")]
    pub key: String,
    #[prost(uint64, tag = "2")]
    #[serde(skip_serializing_if = "is_default", deserialize_with = "nullable")]
    pub version: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_command_is_a_pong() {
        assert_eq!(Command::default().request(), Ok(Request::Pong));
    }

    #[test]
    fn an_id_without_a_request_is_refused() {
        let command = Command { id: 1, ..Default::default() };
        assert_eq!(command.request(), Err(DecodeError::NoRequest));
    }

    #[test]
    fn a_ping_is_refused_even_beside_a_request_that_comes_after_it() {
        let ping = Command { ping: Some(PingRequest {}), ..Default::default() };
        assert_eq!(Command { id: 1, ..ping.clone() }.request(), Err(DecodeError::Ping));
        assert_eq!(ping.clone().request(), Err(DecodeError::Ping));
        let subscribe = Some(SubscribeRequest::default());
        assert_eq!(Command { id: 1, subscribe, ..ping }.request(), Err(DecodeError::Ping));
    }

    #[test]
    fn only_send_needs_no_id() {
        let send = Command { send: Some(SendRequest::default()), ..Default::default() };
        assert_eq!(send.clone().request(), Ok(Request::Send(SendRequest::default())));
        assert!(matches!(Command { id: 3, ..send }.request(), Ok(Request::Send(_))));
        let rpc = Command { rpc: Some(RpcRequest::default()), ..Default::default() };
        assert_eq!(rpc.request(), Err(DecodeError::NoId { method: "rpc" }));
    }

    #[test]
    fn the_first_of_several_requests_counts() {
        let mut command = Command {
            id: 1,
            connect: Some(ConnectRequest::default()),
            subscribe: Some(SubscribeRequest::default()),
            unsubscribe: Some(UnsubscribeRequest::default()),
            publish: Some(PublishRequest::default()),
            presence: Some(PresenceRequest::default()),
            presence_stats: Some(PresenceStatsRequest::default()),
            history: Some(HistoryRequest::default()),
            ping: None,
            send: Some(SendRequest::default()),
            rpc: Some(RpcRequest::default()),
            refresh: Some(RefreshRequest::default()),
            sub_refresh: Some(SubRefreshRequest::default()),
        };
        type Clear = fn(&mut Command);
        let clear: [(&str, Clear); 11] = [
            ("connect", |it| it.connect = None),
            ("subscribe", |it| it.subscribe = None),
            ("unsubscribe", |it| it.unsubscribe = None),
            ("publish", |it| it.publish = None),
            ("presence", |it| it.presence = None),
            ("presence_stats", |it| it.presence_stats = None),
            ("history", |it| it.history = None),
            ("rpc", |it| it.rpc = None),
            ("send", |it| it.send = None),
            ("refresh", |it| it.refresh = None),
            ("sub_refresh", |it| it.sub_refresh = None),
        ];
        for (method, clear) in clear {
            assert_eq!(command.clone().request().map(|it| it.method()), Ok(method));
            clear(&mut command);
        }
    }
}
