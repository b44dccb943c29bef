//! The JSON side of the protocol: newline-separated objects, zero values left out.
//!
//! Payloads stay in the bytes they were written in. They are skipped rather than parsed when they
//! come in, however deep they nest, and checked when they go out, since one bad payload would spoil
//! the frame it shares with others.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;

use super::{DecodeError, EncodeError};

/// What most messages without a payload fit into, in bytes.
pub const SMALL_MESSAGE: usize = 256;

/// Encodes one message, without a newline. `expected_len` sizes the buffer; a good guess saves
/// copies, a bad one costs nothing else.
///
/// # Errors
/// If a payload is not valid JSON.
pub fn encode<M: Serialize>(message: &M, expected_len: usize) -> Result<Bytes, EncodeError> {
    let mut text = Vec::with_capacity(expected_len);
    serde_json::to_writer(&mut text, message).map_err(|_| EncodeError)?;
    // Messages wait in queues by the thousand: what they do not use must not wait with them.
    text.shrink_to_fit();
    Ok(Bytes::from(text))
}

/// Decodes the object at the start of `line`; what follows it on the line is ignored, as are unknown
/// fields. `null` stands for the empty message.
///
/// # Errors
/// If there is no such object, a known field has a value of the wrong type, or messages nest deeper
/// than 127 levels.
pub fn decode<M: DeserializeOwned + Default>(line: &[u8]) -> Result<M, DecodeError> {
    match line.trim_ascii_start().first() {
        None => return Err(DecodeError::EmptyLine),
        // Serde would take an array for a struct whose fields come in order.
        Some(b'[') => return Err(JsonError { what: "an array instead of an object", column: 1 })?,
        Some(_) => {}
    }
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let message = Option::deserialize(&mut deserializer).map_err(JsonError::from)?;
    Ok(message.unwrap_or_default())
}

/// Where a text stops being what the protocol asks for. Does not quote the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at column {column}")]
pub struct JsonError {
    what: &'static str,
    column: usize,
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        let what = match error.classify() {
            Category::Syntax => "malformed or too deeply nested JSON",
            Category::Data => "a JSON value of the wrong type",
            Category::Eof => "JSON that ends too early",
            Category::Io => "unreadable JSON",
        };
        Self { what, column: error.column() }
    }
}

/// For `skip_serializing_if`: zero, false.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Reads `null` as the zero value, as clients of other languages may send it.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// As [`nullable`], for lists, in which single elements may be `null` too.
pub(crate) fn nullable_list<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let list: Option<Vec<Option<T>>> = Option::deserialize(deserializer)?;
    Ok(list.into_iter().flatten().map(Option::unwrap_or_default).collect())
}

/// As [`nullable`], for maps, in which single values may be `null` too.
pub(crate) fn nullable_map<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<BTreeMap<String, T>, D::Error> {
    let map: Option<BTreeMap<String, Option<T>>> = Option::deserialize(deserializer)?;
    let values = map.into_iter().flatten();
    Ok(values.map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

/// Payloads: a JSON value kept as the bytes in which it was written.
pub(crate) mod raw {
    use super::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};
    use serde_json::value::RawValue;

    pub fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let value: &RawValue = serde_json::from_slice(payload).map_err(ser::Error::custom)?;
        let text = value.get();
        if !text.contains(['\n', '\r']) {
            return value.serialize(serializer);
        }
        // A newline ends a message. In valid JSON it only ever stands between two tokens that need
        // no space, because inside strings it is escaped.
        let one_line = text.replace(['\n', '\r'], "");
        RawValue::from_string(one_line).map_err(ser::Error::custom)?.serialize(serializer)
    }

    /// Copies the payload, so that a few kept bytes do not keep the frame they came in.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Bytes::from(Box::<str>::from(value).into_boxed_bytes().into_vec()))
    }
}
