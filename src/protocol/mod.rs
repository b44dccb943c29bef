//! The Centrifuge client protocol, version 2: messages, codecs, codes. No sockets, no config. Beside it
//! [`control`], the messages that nodes exchange.
//!
//! To add a field: give it its Protobuf number and JSON name in [`command`], [`reply`] or
//! [`publication`], and name it in `round_trip.rs`, which does not compile without. To add a code: a
//! line in [`codes`], then render `docs/codes.md` anew as that file says.

pub mod command;
pub mod reply;
pub mod publication;
pub mod control;
pub mod codes;
pub mod json;
pub mod protobuf;
pub mod frame;
pub mod delta;
pub mod filter;
mod decimal;
mod redact;

#[cfg(any(test, fuzzing))]
#[cfg(test)]
mod round_trip;

/// Why a frame or a command in it breaks the protocol; the connection ends with code 3501.
///
/// The texts never quote the frame, which may hold tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the frame is empty")]
    EmptyFrame,
    #[error("an empty line stands where a JSON object should")]
    EmptyLine,
    #[error("{0}")]
    Json(#[from] json::JsonError),
    #[error("a Protobuf length prefix is cut short or above 64 bits")]
    LengthPrefix,
    #[error("a Protobuf message announces {announced} bytes, the frame has {present} left")]
    CutShort { announced: u64, present: usize },
    #[error("{0}")]
    Protobuf(#[from] prost::DecodeError),
    #[error("the command has an id but no request")]
    NoRequest,
    #[error("a {method} command needs an id above zero")]
    NoId { method: &'static str },
    #[error("ping is a command of the server; clients answer it with an empty command")]
    Ping,
}

/// A payload on its way to a JSON client is not JSON; that connection ends with code 3506.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a payload for a JSON client is not valid JSON")]
pub struct EncodeError;
