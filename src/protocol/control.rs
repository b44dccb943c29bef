//! What nodes of one cluster tell each other: the control messages of Centrifugo, in Protobuf.
//!
//! Field numbers are those of `controlpb`, and those of `channels` are the server API's. Fields that are
//! not here are skipped when they are read, and so are messages with none of the contents.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::publication::StreamPosition;

/// The question which channels have subscribers: [`ChannelsRequest`], answered by [`ChannelsResult`].
pub const CHANNELS: &str = "channels";

/// Answers to a question beside 0, which is success.
pub mod answer {
    /// The node failed.
    pub const INTERNAL: u32 = 1;
    /// The question cannot be read.
    pub const BAD_REQUEST: u32 = 2;
    /// No such question.
    pub const UNKNOWN: u32 = 3;
}

/// One message, from one node to all of them or to one.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    /// The node that sends it.
    #[prost(string, tag = "1")]
    pub uid: String,
    #[prost(message, optional, tag = "4")]
    pub node: Option<NodeInfo>,
    #[prost(message, optional, tag = "5")]
    pub unsubscribe: Option<Unsubscribe>,
    #[prost(message, optional, tag = "6")]
    pub disconnect: Option<Disconnect>,
    #[prost(message, optional, tag = "7")]
    pub shutdown: Option<Shutdown>,
    #[prost(message, optional, tag = "8")]
    pub survey_request: Option<SurveyRequest>,
    #[prost(message, optional, tag = "9")]
    pub survey_response: Option<SurveyResponse>,
    #[prost(message, optional, tag = "10")]
    pub subscribe: Option<Subscribe>,
    #[prost(message, optional, tag = "12")]
    pub refresh: Option<Refresh>,
}

/// What a [`Command`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Node(NodeInfo),
    Shutdown,
    Unsubscribe(Unsubscribe),
    Subscribe(Subscribe),
    Disconnect(Disconnect),
    SurveyRequest(SurveyRequest),
    SurveyResponse(SurveyResponse),
    Refresh(Refresh),
}

/// A node as it describes itself, and as the `info` call shows it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeInfo {
    #[prost(string, tag = "1")]
    pub uid: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub version: String,
    #[prost(uint32, tag = "4")]
    pub num_clients: u32,
    /// Different users among them.
    #[prost(uint32, tag = "5")]
    pub num_users: u32,
    /// Channels with a subscriber.
    #[prost(uint32, tag = "6")]
    pub num_channels: u32,
    /// Seconds.
    #[prost(uint32, tag = "7")]
    pub uptime: u32,
    /// Sent once an interval; in between the last ones hold.
    #[prost(message, optional, tag = "8")]
    pub metrics: Option<NodeMetrics>,
    #[prost(uint32, tag = "10")]
    pub num_subs: u32,
}

/// What a node counted in an interval.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeMetrics {
    /// Seconds.
    #[prost(double, tag = "1")]
    pub interval: f64,
    #[prost(btree_map = "string, double", tag = "2")]
    pub items: BTreeMap<String, f64>,
}

/// Subscribes connections of a user. The options are granted, not asked for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscribe {
    #[prost(string, tag = "1")]
    pub user: String,
    #[prost(string, tag = "2")]
    pub channel: String,
    #[prost(bool, tag = "3")]
    pub emit_presence: bool,
    #[prost(bool, tag = "4")]
    pub emit_join_leave: bool,
    /// Unix seconds; 0 for never.
    #[prost(int64, tag = "5")]
    pub expire_at: i64,
    #[prost(bool, tag = "6")]
    pub position: bool,
    #[prost(bool, tag = "7")]
    pub recover: bool,
    #[prost(bytes = "bytes", tag = "8")]
    pub channel_info: Bytes,
    #[prost(string, tag = "9")]
    pub client: String,
    #[prost(bytes = "bytes", tag = "10")]
    pub data: Bytes,
    #[prost(message, optional, tag = "11")]
    pub recover_since: Option<StreamPosition>,
    #[prost(string, tag = "12")]
    pub session: String,
    #[prost(bool, tag = "13")]
    pub push_join_leave: bool,
    /// Who asked for it, by Centrifugo's numbers; see [`FROM_SERVER_API`].
    #[prost(uint32, tag = "14")]
    pub source: u32,
    /// A condition on labels of connections, kept as it is: connections have none here.
    #[prost(bytes = "bytes", optional, tag = "15")]
    pub label_filter: Option<Bytes>,
    /// Of every user, not only `user`.
    #[prost(bool, tag = "16")]
    pub all_users: bool,
}

/// [`Subscribe::source`] of what the server API asks for.
pub const FROM_SERVER_API: u32 = 10;

/// Ends subscriptions of a user's connections; an empty channel is every channel.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Unsubscribe {
    #[prost(string, tag = "1")]
    pub channel: String,
    #[prost(string, tag = "2")]
    pub user: String,
    #[prost(string, tag = "3")]
    pub client: String,
    #[prost(string, tag = "4")]
    pub session: String,
    #[prost(uint32, tag = "5")]
    pub code: u32,
    #[prost(string, tag = "6")]
    pub reason: String,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub label_filter: Option<Bytes>,
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}

/// Closes connections of a user.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Disconnect {
    #[prost(string, tag = "1")]
    pub user: String,
    /// Client ids that stay.
    #[prost(string, repeated, tag = "2")]
    pub whitelist: Vec<String>,
    #[prost(uint32, tag = "3")]
    pub code: u32,
    #[prost(string, tag = "4")]
    pub reason: String,
    /// Whether clients come back, in case the code does not say so.
    #[prost(bool, tag = "5")]
    pub reconnect: bool,
    #[prost(string, tag = "6")]
    pub client: String,
    #[prost(string, tag = "7")]
    pub session: String,
    #[prost(bytes = "bytes", optional, tag = "8")]
    pub label_filter: Option<Bytes>,
    #[prost(bool, tag = "9")]
    pub all_users: bool,
}

/// Moves the moment at which a user's connections expire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Refresh {
    #[prost(string, tag = "1")]
    pub user: String,
    #[prost(string, tag = "2")]
    pub client: String,
    /// They have expired: close them.
    #[prost(bool, tag = "3")]
    pub expired: bool,
    /// Unix seconds; 0 for never.
    #[prost(int64, tag = "4")]
    pub expire_at: i64,
    #[prost(bytes = "bytes", tag = "5")]
    pub info: Bytes,
    #[prost(string, tag = "6")]
    pub session: String,
    #[prost(bytes = "bytes", optional, tag = "7")]
    pub label_filter: Option<Bytes>,
    #[prost(bool, tag = "8")]
    pub all_users: bool,
}

/// The sender stops: it is no node any more.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Shutdown {}

/// A question to nodes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SurveyRequest {
    /// Chosen by the one who asks.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, tag = "2")]
    pub op: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// A node's answer to a question.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SurveyResponse {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// 0, or one of [`answer`].
    #[prost(uint32, tag = "2")]
    pub code: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// Asks for channels with subscribers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChannelsRequest {
    /// A glob; empty for all.
    #[prost(string, tag = "1")]
    pub pattern: String,
}

/// Channels with subscribers on one node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ChannelsResult {
    #[prost(btree_map = "string, message", tag = "1")]
    pub channels: BTreeMap<String, ChannelInfo>,
}

/// One of them.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct ChannelInfo {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
}

impl Command {
    /// The message of node `uid` with this content.
    pub fn new(uid: &str, content: Content) -> Self {
        let mut command = Self { uid: uid.to_owned(), ..Self::default() };
        match content {
            Content::Node(node) => command.node = Some(node),
            Content::Shutdown => command.shutdown = Some(Shutdown {}),
            Content::Unsubscribe(unsubscribe) => command.unsubscribe = Some(unsubscribe),
            Content::Subscribe(subscribe) => command.subscribe = Some(subscribe),
            Content::Disconnect(disconnect) => command.disconnect = Some(disconnect),
            Content::SurveyRequest(request) => command.survey_request = Some(request),
            Content::SurveyResponse(response) => command.survey_response = Some(response),
            Content::Refresh(refresh) => command.refresh = Some(refresh),
        }
        command
    }

    /// What it says; `None` if that is nothing that is known here. Of several contents the first
    /// counts, in the order in which Centrifugo looks for them.
    pub fn into_content(self) -> Option<Content> {
        self.node
            .map(Content::Node)
            .or(self.shutdown.map(|_| Content::Shutdown))
            .or(self.unsubscribe.map(Content::Unsubscribe))
            .or(self.subscribe.map(Content::Subscribe))
            .or(self.disconnect.map(Content::Disconnect))
            .or(self.survey_request.map(Content::SurveyRequest))
            .or(self.survey_response.map(Content::SurveyResponse))
            .or(self.refresh.map(Content::Refresh))
    }

    /// The bytes that go out.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }
}

#[cfg(test)]
mod tests;
