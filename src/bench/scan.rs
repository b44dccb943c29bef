//! What a message from the server is, found by looking at its bytes.
//!
//! Publications of the run and confirmations of publishing are all that comes often, so they alone
//! are told here; anything else is decoded by [`crate::protocol`]. Of the publications a sample is
//! decoded too and has to say the same.

use memchr::{memchr, memmem};
use prost::encoding::decode_varint;

use super::payload::{MARKER, Mark};
use crate::protocol::frame::Codec;
use crate::protocol::publication::Publication;
use crate::protocol::reply::Reply;
use crate::protocol::{json, protobuf};

/// One in so many publications is decoded in full.
const SAMPLE: u64 = 1_000;
const OFFSET: &[u8] = b"\"offset\":";
const CHANNEL: &[u8] = b"\"channel\":\"";
/// What follows the id in replies that are no errors.
const MADE: [&[u8]; 2] = [b",\"connect\":{", b",\"subscribe\":{"];
/// Protobuf keys: field number times 8 plus the wire type.
const REPLY_ID: u8 = 0x08;
const REPLY_PUSH: u8 = 0x22;
const REPLY_CONNECT: u8 = 0x2a;
const REPLY_SUBSCRIBE: u8 = 0x32;
const REPLY_PUBLISH: u8 = 0x42;
const PUSH_CHANNEL: u64 = 0x12;
const PUSH_PUBLICATION: u64 = 0x22;
const PUBLICATION_DATA: u64 = 0x22;
const PUBLICATION_OFFSET: u64 = 0x30;

/// One message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    Ping,
    /// A publication of a run; the offset is 0 without history.
    Published {
        mark: Mark,
        offset: u64,
    },
    /// The server took what was published with this command.
    Acknowledged(u32),
    /// A connect or a subscribe command succeeded; what the result says is for whoever needs it.
    Made,
    /// Has to be decoded.
    Other,
}

/// A message, without its length or line end, and the rest of the frame.
pub type Split<'a> = (&'a [u8], &'a [u8]);

/// Looks at messages in one codec.
#[derive(Debug)]
pub struct Scanner {
    codec: Codec,
    marker: memmem::Finder<'static>,
    offset: memmem::Finder<'static>,
    seen: u64,
}

impl Scanner {
    pub fn new(codec: Codec) -> Self {
        let marker = memmem::Finder::new(MARKER);
        Self { codec, marker, offset: memmem::Finder::new(OFFSET), seen: 0 }
    }

    /// Splits the first message off a frame's payload; `None` at its end.
    ///
    /// # Errors
    /// A frame that is cut short.
    pub fn split_first<'a>(&self, frame: &'a [u8]) -> Result<Option<Split<'a>>, &'static str> {
        if frame.is_empty() {
            return Ok(None);
        }
        match self.codec {
            Codec::Json => Ok(Some(match memchr(b'\n', frame) {
                Some(at) => (&frame[..at], &frame[at + 1..]),
                None => (frame, &[]),
            })),
            Codec::Protobuf => match protobuf::split_first(frame) {
                Ok(parts) => Ok(Some(parts)),
                Err(_) => Err("a frame whose last message is cut short"),
            },
        }
    }

    /// What a message is.
    ///
    /// # Errors
    /// If decoding in full, which is done for a sample, says something else.
    pub fn look(&mut self, message: &[u8]) -> Result<Message, String> {
        let found = match self.codec {
            Codec::Json => self.look_at_json(message),
            Codec::Protobuf => look_at_protobuf(message).unwrap_or(Message::Other),
        };
        if let Message::Published { mark, offset } = found {
            if self.seen.is_multiple_of(SAMPLE) {
                self.compare(message, mark, offset)?;
            }
            self.seen += 1;
        }
        Ok(found)
    }

    /// The number behind `prefix` in the name of the channel that a publication came from; `None` if
    /// the channel has no such name.
    pub fn channel(&self, message: &[u8], prefix: &[u8]) -> Option<u32> {
        let name = match self.codec {
            Codec::Json => {
                let from = memmem::find(message, CHANNEL)? + CHANNEL.len();
                let rest = message.get(from..)?;
                rest.get(..memchr(b'"', rest)?)?
            }
            Codec::Protobuf => {
                let mut rest = message.strip_prefix(&[REPLY_PUSH])?;
                field(delimited(&mut rest)?, PUSH_CHANNEL)?
            }
        };
        std::str::from_utf8(name.strip_prefix(prefix)?).ok()?.parse().ok()
    }

    /// Decodes a message in full.
    ///
    /// # Errors
    /// What is not of the protocol.
    pub fn decode(&self, message: &[u8]) -> Result<Reply, String> {
        let decoded = match self.codec {
            Codec::Json => json::decode(message),
            Codec::Protobuf => protobuf::decode(message),
        };
        decoded.map_err(|error| format!("the server sent what is not of the protocol: {error}"))
    }

    fn look_at_json(&self, message: &[u8]) -> Message {
        if message == b"{}" {
            return Message::Ping;
        }
        if let Some(rest) = message.strip_prefix(b"{\"id\":") {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            return match &rest[digits..] {
                b",\"publish\":{}}" => Message::Acknowledged(decimal(rest) as u32),
                behind if MADE.iter().any(|made| behind.starts_with(made)) => Message::Made,
                _ => Message::Other,
            };
        }
        if !message.starts_with(b"{\"push\":{") {
            return Message::Other;
        }
        let Some(at) = self.marker.find(message) else { return Message::Other };
        let Some(mark) = Mark::read(&message[at..]) else { return Message::Other };
        // Servers write it behind the payload; if this one does not, it is found in front.
        let behind = self.offset.find(&message[at..]).map(|found| at + found);
        let offset = behind.or_else(|| self.offset.find(&message[..at]));
        let offset = offset.map_or(0, |at| decimal(&message[at + OFFSET.len()..]));
        Message::Published { mark, offset }
    }

    fn compare(&self, message: &[u8], mark: Mark, offset: u64) -> Result<(), String> {
        let decoded = self.decode(message)?;
        let publication = decoded.push.and_then(|push| push.publication);
        let Some(Publication { data, offset: decoded, .. }) = publication else {
            return Err("a publication was seen where decoding finds none".to_owned());
        };
        if Mark::read(&data) == Some(mark) && decoded == offset {
            return Ok(());
        }
        Err(format!("a publication was seen with offset {offset}, decoding gives {decoded}"))
    }
}

/// The number at the start of a text, 0 without one. Past 64 bits it wraps; the sample would tell.
fn decimal(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |value: u64, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

/// `None` for what is not a publication of the run, a confirmation or a ping.
fn look_at_protobuf(message: &[u8]) -> Option<Message> {
    let Some((key, mut rest)) = message.split_first() else { return Some(Message::Ping) };
    match *key {
        REPLY_ID => {
            let id = decode_varint(&mut rest).ok()?;
            match rest {
                [REPLY_PUBLISH, 0] => Some(Message::Acknowledged(id as u32)),
                [REPLY_CONNECT | REPLY_SUBSCRIBE, ..] => Some(Message::Made),
                _ => None,
            }
        }
        REPLY_PUSH => {
            let push = delimited(&mut rest)?;
            let publication = field(push, PUSH_PUBLICATION)?;
            published(publication)
        }
        _ => None,
    }
}

fn published(mut publication: &[u8]) -> Option<Message> {
    let (mut mark, mut offset) = (None, 0);
    while !publication.is_empty() {
        match decode_varint(&mut publication).ok()? {
            PUBLICATION_DATA => mark = Mark::read(delimited(&mut publication)?),
            PUBLICATION_OFFSET => offset = decode_varint(&mut publication).ok()?,
            key => skip(key, &mut publication)?,
        }
    }
    mark.map(|mark| Message::Published { mark, offset })
}

/// The bytes of the first field with this key.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    while !message.is_empty() {
        match decode_varint(&mut message).ok()? {
            key if key == wanted => return delimited(&mut message),
            key => skip(key, &mut message)?,
        }
    }
    None
}

fn delimited<'a>(message: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(decode_varint(message).ok()?).ok()?;
    let (value, rest) = message.split_at_checked(len)?;
    *message = rest;
    Some(value)
}

/// Passes over the value of a field; of the wire types only the ones in use are known.
fn skip(key: u64, message: &mut &[u8]) -> Option<()> {
    match key & 7 {
        0 => decode_varint(message).ok().map(drop),
        2 => delimited(message).map(drop),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
