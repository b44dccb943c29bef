//! The Protobuf side of the protocol: messages, each behind its length as a varint.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len, message};

use super::DecodeError;
use super::publication::Publication;
use super::reply::Push;

/// Tags of the wire, here a second time because pushes are written without building a `Reply`.
const REPLY_PUSH: u32 = 4;
const PUSH_CHANNEL: u32 = 2;
const PUSH_PUBLICATION: u32 = 4;

/// Encodes one message behind its length. The empty message is the single byte 0.
pub fn encode<M: Message>(message: &M) -> Bytes {
    let len = message.encoded_len();
    prefixed(len, |buffer| message.encode_raw(buffer))
}

/// Encodes the reply that carries `push`.
pub fn encode_push(push: &Push) -> Bytes {
    let len = message::encoded_len(REPLY_PUSH, push);
    prefixed(len, |buffer| message::encode(REPLY_PUSH, push, buffer))
}

/// Encodes the reply with the push that carries `publication`, straight from the parts.
pub fn encode_publication(channel: &str, publication: &Publication) -> Bytes {
    let channel_len = match channel.len() {
        0 => 0,
        len => key_len(PUSH_CHANNEL) + encoded_len_varint(len as u64) + len,
    };
    let push_len = channel_len + message::encoded_len(PUSH_PUBLICATION, publication);
    let len = key_len(REPLY_PUSH) + encoded_len_varint(push_len as u64) + push_len;
    prefixed(len, |buffer| {
        encode_key(REPLY_PUSH, WireType::LengthDelimited, buffer);
        encode_varint(push_len as u64, buffer);
        if !channel.is_empty() {
            encode_key(PUSH_CHANNEL, WireType::LengthDelimited, buffer);
            encode_varint(channel.len() as u64, buffer);
            buffer.extend_from_slice(channel.as_bytes());
        }
        message::encode(PUSH_PUBLICATION, publication, buffer);
    })
}

/// Splits the first message off `frame`: its bytes without the length, and the rest of the frame.
///
/// # Errors
/// If the length is not a varint or the frame has fewer bytes than it says.
pub fn split_first(frame: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut rest = frame;
    let announced =
        prost::encoding::decode_varint(&mut rest).map_err(|_| DecodeError::LengthPrefix)?;
    usize::try_from(announced)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or(DecodeError::CutShort { announced, present: rest.len() })
}

/// Decodes a message without its length. Payloads are copied, so that they do not keep the frame.
///
/// # Errors
/// If the bytes are not such a message, or messages nest deeper than 100 levels.
pub fn decode<M: Message + Default>(message: &[u8]) -> Result<M, DecodeError> {
    Ok(M::decode(message)?)
}

fn prefixed(len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut buffer = Vec::with_capacity(encoded_len_varint(len as u64) + len);
    encode_varint(len as u64, &mut buffer);
    write(&mut buffer);
    debug_assert_eq!(buffer.len(), buffer.capacity());
    Bytes::from(buffer)
}
