//! What travels in channels: publications, who sent them, and positions in a stream.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::json::{is_default, nullable, nullable_map, raw};

/// One message of a channel, as brokers store it and as clients receive it.
///
/// `time`, `epoch`, `version` and `prev_data` are the broker's; the `for_client_*` views hold what of
/// them a client may see.
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
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable_map")]
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

impl Publication {
    /// From what a broker keeps at an offset of a stream.
    ///
    /// # Errors
    /// It is no publication.
    pub fn kept(data: Bytes, offset: u64) -> Result<Self, prost::DecodeError> {
        let mut publication = <Self as prost::Message>::decode(data)?;
        publication.offset = offset;
        // Between nodes it only says that patches are allowed.
        publication.delta = false;
        Ok(publication)
    }

    /// What subscribers of `channel` get when it is published. The epoch goes along only with the
    /// first publication of a stream, by which they notice that it began anew.
    pub fn for_client_live(&self, channel: &str) -> Self {
        let epoch = if self.offset == 1 { self.epoch.clone() } else { String::new() };
        Self { epoch, ..self.for_client_history(channel) }
    }

    /// What a client gets when it recovers or reads the history of `channel`.
    pub fn for_client_history(&self, channel: &str) -> Self {
        Self {
            version: self.version,
            ..self.for_client_delta(channel, self.data.clone(), self.delta)
        }
    }

    /// What a subscriber with delta compression gets: `data` is the patch (`delta` set) or the full
    /// data, in the form that [`encode_for`](super::delta::encode_for) gives it.
    pub fn for_client_delta(&self, channel: &str, data: Bytes, delta: bool) -> Self {
        let elsewhere = self.channel != channel;
        Self {
            data,
            delta,
            info: self.info.clone(),
            offset: self.offset,
            tags: self.tags.clone(),
            channel: if elsewhere { self.channel.clone() } else { String::new() },
            key: self.key.clone(),
            removed: self.removed,
            score: self.score,
            // The broker's own.
            time: 0,
            epoch: String::new(),
            prev_data: Bytes::new(),
            version: 0,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field set.
    fn stored() -> Publication {
        Publication {
            data: Bytes::from_static(b"{}"),
            info: Some(ClientInfo { user: "anna".into(), ..Default::default() }),
            offset: 2,
            tags: BTreeMap::from([("lang".into(), "de".into())]),
            delta: true,
            time: 1_700_000_000_000,
            channel: "news".into(),
            key: "key".into(),
            removed: true,
            score: -3,
            epoch: "xyz".into(),
            prev_data: Bytes::from_static(b"[]"),
            version: 4,
        }
    }

    #[test]
    fn clients_never_see_the_time_or_the_previous_data() {
        let expected = Publication {
            time: 0,
            epoch: String::new(),
            prev_data: Bytes::new(),
            channel: String::new(),
            ..stored()
        };
        assert_eq!(stored().for_client_live("news"), expected);
        assert_eq!(stored().for_client_history("news"), expected);
    }

    #[test]
    fn only_the_first_live_publication_of_a_stream_tells_the_epoch() {
        let first = Publication { offset: 1, ..stored() };
        assert_eq!(first.for_client_live("news").epoch, "xyz");
        assert_eq!(first.for_client_history("news").epoch, "");
        assert_eq!(first.for_client_delta("news", Bytes::new(), false).epoch, "");
    }

    #[test]
    fn the_channel_is_told_only_where_it_differs_from_the_subscribed_one() {
        assert_eq!(stored().for_client_live("news").channel, "");
        assert_eq!(stored().for_client_live("news:*").channel, "news");
    }

    #[test]
    fn delta_views_tell_no_version() {
        let patch = Bytes::from_static(b"patch");
        let expected =
            Publication { data: patch.clone(), version: 0, ..stored().for_client_history("news") };
        assert_eq!(stored().for_client_delta("news", patch, true), expected);
    }
}
