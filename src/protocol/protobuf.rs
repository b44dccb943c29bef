//! The Protobuf side of the protocol: messages, each behind its length as a varint.

use bytes::Bytes;
use prost::Message;
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, key_len, message, uint32,
};

use super::DecodeError;
use super::publication::Publication;
use super::reply::{Push, SubscribeResult};

/// Tags of the wire, here a second time because some messages are written without building a `Reply`.
const REPLY_ID: u32 = 1;
const REPLY_PUSH: u32 = 4;
const REPLY_SUBSCRIBE: u32 = 6;
const RESULT_PUBLICATIONS: u32 = 7;
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

/// Encodes publications as fields of a [`SubscribeResult`].
pub fn encode_publications(publications: &[Publication]) -> Bytes {
    let len = message::encoded_len_repeated(RESULT_PUBLICATIONS, publications);
    let mut fields = Vec::with_capacity(len);
    message::encode_repeated(RESULT_PUBLICATIONS, publications, &mut fields);
    Bytes::from(fields)
}

/// Encodes the reply to a subscribe command: `result` with `publications` encoded before, which may
/// follow the other fields since fields have no order.
pub fn encode_subscribed(id: u32, result: &SubscribeResult, publications: &[u8]) -> Bytes {
    let result_len = result.encoded_len() + publications.len();
    let id_len = if id == 0 { 0 } else { uint32::encoded_len(REPLY_ID, &id) };
    let len =
        id_len + key_len(REPLY_SUBSCRIBE) + encoded_len_varint(result_len as u64) + result_len;
    prefixed(len, |buffer| {
        if id != 0 {
            uint32::encode(REPLY_ID, &id, buffer);
        }
        encode_key(REPLY_SUBSCRIBE, WireType::LengthDelimited, buffer);
        encode_varint(result_len as u64, buffer);
        result.encode_raw(buffer);
        buffer.extend_from_slice(publications);
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
