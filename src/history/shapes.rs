//! The JSON of the service.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::archive::{Message, MessageId, Summary};
use crate::protocol::publication::ClientInfo;

/// A message. Either `data` or `b64data` is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageShape {
    /// Unique in its channel; rises with epoch and offset. A number of 63 bits as text.
    pub id: String,
    pub channel: String,
    pub epoch: String,
    pub offset: u64,
    /// Unix milliseconds.
    pub time: i64,
    /// The payload, if it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Box<RawValue>>,
    /// The payload in standard base64, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b64data: Option<String>,
    /// The client that published it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub info: Option<ClientInfo>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The id of the message at the offset before; null for the first, and behind a deleted one.
    pub prev: Option<String>,
}

/// Where a channel ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PositionShape {
    pub epoch: String,
    pub offset: u64,
}

/// Messages in the order that was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageShape {
    pub messages: Vec<MessageShape>,
    /// Leads on in the order of the listing; null at its end.
    pub next_cursor: Option<String>,
    /// Leads back against it, also to messages that come later; null for an empty listing.
    pub prev_cursor: Option<String>,
    pub position: PositionShape,
}

/// What there is of a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelShape {
    pub channel: String,
    /// Messages that can be read.
    pub count: u64,
    pub first: Option<MessageShape>,
    pub last: Option<MessageShape>,
    pub position: PositionShape,
}

/// Channels in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelsShape {
    pub channels: Vec<ChannelShape>,
    /// Leads to the channels behind these; null at the end.
    pub next_cursor: Option<String>,
}

/// What a deletion did.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedShape {
    pub deleted: u64,
}

impl MessageShape {
    pub fn new(channel: &str, message: &Message, prev: Option<MessageId>) -> Self {
        let publication = &message.publication;
        let data = std::str::from_utf8(&publication.data)
            .ok()
            .and_then(|text| RawValue::from_string(text.to_owned()).ok());
        let b64data = data.is_none().then(|| STANDARD.encode(&publication.data));
        Self {
            id: message.id.to_string(),
            channel: channel.to_owned(),
            epoch: message.epoch.to_string(),
            offset: publication.offset,
            time: publication.time,
            data,
            b64data,
            info: publication.info.clone(),
            tags: publication.tags.clone(),
            prev: prev.map(|id| id.to_string()),
        }
    }

    /// Messages from the oldest to the newest, each with the id before it; `prev` is that before the
    /// first.
    pub fn chain(channel: &str, messages: &[Message], prev: Option<MessageId>) -> Vec<Self> {
        let mut before: Option<&Message> = None;
        let mut shapes = Vec::with_capacity(messages.len());
        for message in messages {
            let id = match before.replace(message) {
                None => prev,
                Some(before) => follows(before, message).then_some(before.id),
            };
            shapes.push(Self::new(channel, message, id));
        }
        shapes
    }
}

impl ChannelShape {
    pub fn new(channel: &str, summary: &Summary) -> Self {
        let shape = |message: &Message, prev| MessageShape::new(channel, message, prev);
        Self {
            channel: channel.to_owned(),
            count: summary.count,
            first: summary.first.as_ref().map(|first| shape(first, None)),
            last: summary.last.as_ref().map(|last| shape(last, summary.prev)),
            position: PositionShape { epoch: summary.epoch.to_string(), offset: summary.offset },
        }
    }
}

fn follows(before: &Message, message: &Message) -> bool {
    before.epoch == message.epoch && before.offset() + 1 == message.offset()
}
