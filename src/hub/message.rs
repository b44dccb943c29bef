//! A message as it goes out: encoded once, framed once, compressed at most once, and shared by every
//! outbox that it waits in.

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes};

use crate::protocol::frame::Codec;
use crate::websocket::deflate;
use crate::websocket::frame::{OpCode, server_header};

/// Room for the longest header of a frame that a server sends.
const HEADROOM: usize = 10;

/// How the messages of one connection are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    /// 1 (fastest) to 9 (smallest).
    pub level: u32,
    /// Base-2 logarithm of the window that the client keeps, 9 to 15.
    pub window_bits: u8,
    /// Payloads with fewer bytes go as they are.
    pub min_size: usize,
}

/// A complete message in the one codec of those who get it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Message(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    codec: Codec,
    /// A whole frame: header and payload.
    frame: Bytes,
    payload_at: u8,
    /// The same frame compressed, if anybody asked for it.
    deflated: OnceLock<Bytes>,
}

impl Message {
    /// A message of what `codec` encoded.
    pub fn new(codec: Codec, payload: &[u8]) -> Self {
        Self::compose(codec, payload.len(), |frame| frame.put_slice(payload))
    }

    /// One message that carries several. Their order stays.
    pub fn join(codec: Codec, messages: &[Self]) -> Self {
        let payloads = messages.iter().map(Self::payload);
        let len = payloads.clone().map(|payload| payload.len() + 1).sum();
        Self::compose(codec, len, |frame| codec.put_joined(frame, payloads))
    }

    fn compose(codec: Codec, expected: usize, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut frame = Vec::with_capacity(HEADROOM + expected);
        frame.resize(HEADROOM, 0);
        write(&mut frame);
        let header = server_header(opcode(codec), false, frame.len() - HEADROOM);
        let start = HEADROOM - header.len();
        if let Some(room) = frame.get_mut(start..HEADROOM) {
            room.copy_from_slice(&header);
        }
        Self(Arc::new(Encoded {
            codec,
            frame: Bytes::from(frame).slice(start..),
            payload_at: header.len() as u8,
            deflated: OnceLock::new(),
        }))
    }

    /// What the codec wrote.
    pub fn payload(&self) -> &[u8] {
        self.0.frame.get(self.0.payload_at.into()..).unwrap_or_default()
    }

    /// The WebSocket frame that carries the message.
    pub fn frame(&self, compression: Option<Compression>) -> Bytes {
        match compression {
            Some(how) if self.payload().len() >= how.min_size => {
                // The level is the node's; only another window makes other bytes.
                if how.window_bits == deflate::MAX_WINDOW_BITS {
                    self.0.deflated.get_or_init(|| self.deflate(how)).clone()
                } else {
                    self.deflate(how)
                }
            }
            _ => self.0.frame.clone(),
        }
    }

    /// Whether `other` is this very message.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether it waits, or may wait, anywhere else.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    fn deflate(&self, how: Compression) -> Bytes {
        let payload = deflate::compress(how.level, how.window_bits, self.payload());
        let header = server_header(opcode(self.0.codec), true, payload.len());
        [&*header, &*payload].concat().into()
    }
}

fn opcode(codec: Codec) -> OpCode {
    match codec {
        Codec::Json => OpCode::Text,
        Codec::Protobuf => OpCode::Binary,
    }
}
