//! Frames: what one WebSocket message or one chunk of a stream carries, in either codec.
//!
//! A message is encoded once, complete in itself, and shared by every queue it waits in. To make a
//! frame of several the messages are only copied one after the other: Protobuf messages bring their
//! length along, between JSON messages goes a newline.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::command::Command;
use super::publication::Publication;
use super::reply::{Push, Reply, SubscribeResult};
use super::{DecodeError, EncodeError, json, protobuf};

/// How a connection writes its messages; settled when it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    Json,
    Protobuf,
}

impl Codec {
    /// Encodes one reply.
    ///
    /// # Errors
    /// JSON: if a payload in it is not valid JSON.
    pub fn encode_reply(self, reply: &Reply) -> Result<Bytes, EncodeError> {
        self.encode(reply)
    }

    /// Encodes one command, as clients do.
    ///
    /// # Errors
    /// JSON: if a payload in it is not valid JSON.
    pub fn encode_command(self, command: &Command) -> Result<Bytes, EncodeError> {
        self.encode(command)
    }

    /// Encodes the reply that carries `push`.
    ///
    /// # Errors
    /// JSON: if a payload in it is not valid JSON.
    pub fn encode_push(self, push: &Push) -> Result<Bytes, EncodeError> {
        match self {
            Self::Json => json::encode(&JsonPushed { push }, json::SMALL_MESSAGE),
            Self::Protobuf => Ok(protobuf::encode_push(push)),
        }
    }

    /// Encodes the reply whose push carries `publication`; the payload is copied exactly once, into
    /// the message.
    ///
    /// # Errors
    /// JSON: if a payload in it is not valid JSON.
    pub fn encode_publication(
        self,
        channel: &str,
        publication: &Publication,
    ) -> Result<Bytes, EncodeError> {
        match self {
            Self::Json => {
                let expected = publication.data.len() + channel.len() + json::SMALL_MESSAGE;
                json::encode(&JsonPushed { push: JsonPublished { channel, publication } }, expected)
            }
            Self::Protobuf => Ok(protobuf::encode_publication(channel, publication)),
        }
    }

    /// Encodes publications as they stand in the result of a subscribe command.
    ///
    /// # Errors
    /// JSON: if a payload in them is not valid JSON.
    pub fn encode_publications(
        self,
        publications: &[Publication],
    ) -> Result<EncodedPublications, EncodeError> {
        Ok(match self {
            Self::Json => {
                let list = serde_json::value::to_raw_value(publications);
                EncodedPublications::Json(list.map_err(|_| EncodeError)?)
            }
            Self::Protobuf => {
                EncodedPublications::Protobuf(protobuf::encode_publications(publications))
            }
        })
    }

    /// The empty message: a ping from the server, a pong from a client.
    pub fn ping(self) -> Bytes {
        match self {
            Self::Json => Bytes::from_static(b"{}"),
            Self::Protobuf => Bytes::from_static(b"\0"),
        }
    }

    /// Writes what carries these encoded messages together: a frame's payload.
    pub fn put_joined<'a>(self, frame: &mut impl BufMut, messages: impl Iterator<Item = &'a [u8]>) {
        for (index, message) in messages.enumerate() {
            if self == Self::Json && index > 0 {
                frame.put_u8(b'\n');
            }
            frame.put_slice(message);
        }
    }

    /// Makes a frame of encoded messages; a single one is shared rather than copied.
    pub fn join(self, messages: &[Bytes]) -> Bytes {
        if let [message] = messages {
            return message.clone();
        }
        let len = messages.iter().map(|message| message.len() + 1).sum();
        let mut frame = BytesMut::with_capacity(len);
        self.put_joined(&mut frame, messages.iter().map(|message| &message[..]));
        frame.freeze()
    }

    /// The commands of a frame, decoded one by one as they are asked for.
    pub fn commands(self, frame: Bytes) -> Commands {
        Messages::new(self, frame)
    }

    /// The replies of a frame, as clients read them.
    pub fn replies(self, frame: Bytes) -> Replies {
        Messages::new(self, frame)
    }

    fn encode<M: Serialize + prost::Message>(self, message: &M) -> Result<Bytes, EncodeError> {
        match self {
            Self::Json => json::encode(message, json::SMALL_MESSAGE),
            Self::Protobuf => Ok(protobuf::encode(message)),
        }
    }
}

/// Publications that many replies carry; see [`Codec::encode_publications`].
#[derive(Clone, Debug)]
pub enum EncodedPublications {
    /// The list.
    Json(Box<RawValue>),
    /// The fields, each behind its key and length.
    Protobuf(Bytes),
}

impl EncodedPublications {
    pub fn codec(&self) -> Codec {
        match self {
            Self::Json(_) => Codec::Json,
            Self::Protobuf(_) => Codec::Protobuf,
        }
    }

    /// Encodes the reply to the subscribe command `id`: `result`, which has no publications of its
    /// own, with these.
    ///
    /// # Errors
    /// JSON: if the result's data is not valid JSON.
    pub fn encode_subscribed(
        &self,
        id: u32,
        result: &SubscribeResult,
    ) -> Result<Bytes, EncodeError> {
        match self {
            Self::Json(publications) => {
                let expected = publications.get().len() + json::SMALL_MESSAGE;
                let subscribe = JsonSubscribeResult { result, publications };
                json::encode(&JsonSubscribed { id, subscribe }, expected)
            }
            Self::Protobuf(publications) => {
                Ok(protobuf::encode_subscribed(id, result, publications))
            }
        }
    }
}

/// A [`Reply`] with an id and a borrowed result.
#[derive(Serialize)]
struct JsonSubscribed<'a> {
    #[serde(skip_serializing_if = "json::is_default")]
    id: u32,
    subscribe: JsonSubscribeResult<'a>,
}

#[derive(Serialize)]
struct JsonSubscribeResult<'a> {
    #[serde(flatten)]
    result: &'a SubscribeResult,
    publications: &'a RawValue,
}

/// A [`Reply`] with nothing but a borrowed push.
#[derive(Serialize)]
struct JsonPushed<P> {
    push: P,
}

/// A [`Push`] with nothing but a borrowed publication.
#[derive(Serialize)]
struct JsonPublished<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(rename = "pub")]
    publication: &'a Publication,
}

/// See [`Codec::commands`].
pub type Commands = Messages<Command>;
/// See [`Codec::replies`].
pub type Replies = Messages<Reply>;

/// Decodes the messages of a frame lazily: what stands behind a message that closes the connection
/// is never looked at. After an error there is nothing more.
#[derive(Debug)]
pub struct Messages<M> {
    codec: Codec,
    frame: Bytes,
    /// Where the next message starts; `None` when there is none.
    next: Option<usize>,
    message: PhantomData<M>,
}

impl<M: prost::Message + DeserializeOwned + Default> Messages<M> {
    fn new(codec: Codec, mut frame: Bytes) -> Self {
        if codec == Codec::Json && frame.len() > 1 && frame.ends_with(b"\n") {
            frame.truncate(frame.len() - 1);
        }
        Self { codec, frame, next: Some(0), message: PhantomData }
    }

    /// How many bytes of the frame have been read.
    pub fn consumed(&self) -> usize {
        self.next.unwrap_or(self.frame.len())
    }

    fn decode_at(&mut self, start: usize) -> Result<M, DecodeError> {
        let rest = self.frame.get(start..).unwrap_or_default();
        if start == 0 && rest.is_empty() {
            return Err(DecodeError::EmptyFrame);
        }
        match self.codec {
            Codec::Json => {
                let newline = rest.iter().position(|byte| *byte == b'\n');
                let line = rest.get(..newline.unwrap_or(rest.len())).unwrap_or_default();
                let message = json::decode(line)?;
                self.next = newline.map(|len| start + len + 1);
                Ok(message)
            }
            Codec::Protobuf => {
                let (bytes, behind) = protobuf::split_first(rest)?;
                let message = protobuf::decode(bytes)?;
                self.next = (!behind.is_empty()).then(|| self.frame.len() - behind.len());
                Ok(message)
            }
        }
    }
}

impl<M: prost::Message + DeserializeOwned + Default> Iterator for Messages<M> {
    type Item = Result<M, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.next.take()?;
        Some(self.decode_at(start))
    }
}

#[cfg(test)]
mod tests;
