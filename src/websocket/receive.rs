//! Receiving: from the bytes of a peer to its messages, whatever pieces the bytes come in.
//!
//! A frame that came whole is read right out of the input. What has come in part is kept in a box
//! until the rest is there, and grows with the bytes that arrive, not with what a header announces.

use std::fmt;

use bytes::Bytes;

use super::deflate::{self, Agreed};
use super::frame::{Header, MAX_HEADER, OpCode, mask};
pub use super::violation::Violation;

/// Bytes that a message may have, over all its fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// As it comes in, compressed or not.
    pub message: usize,
    /// After decompression.
    pub inflated: usize,
}

/// Which end of the connection receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The frames of its peer are masked.
    Server,
    /// The frames of its peer are not.
    Client,
}

/// What a peer sent.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// Valid UTF-8.
    Text(Bytes),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    /// The last event; there may be no reason.
    Close(Option<CloseReason>),
}

/// Why a peer closes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CloseReason {
    pub code: u16,
    /// At most 123 bytes.
    pub reason: String,
}

/// Reads what one peer sends. Between messages it holds nothing but itself.
pub struct Receiver {
    limits: Limits,
    /// There while a frame or a message has come in part.
    partial: Option<Box<Partial>>,
    role: Role,
    deflate: bool,
    ended: bool,
}

impl Receiver {
    /// Receives as `role`. Compressed messages are taken if `deflate` was agreed on.
    pub fn new(role: Role, limits: Limits, deflate: Option<Agreed>) -> Self {
        Self { limits, partial: None, role, deflate: deflate.is_some(), ended: false }
    }

    /// Takes bytes from the front of `input` until an event is complete, and leaves the rest there.
    /// `None`: the input is used up, and more is needed. After a close frame or an error all input
    /// is dropped.
    ///
    /// # Errors
    /// At the first byte that the peer must not send.
    pub fn receive(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        if self.ended {
            *input = &[];
            return Ok(None);
        }
        let received = self.next_event(input);
        self.ended = matches!(received, Err(_) | Ok(Some(Event::Close(_))));
        if self.ended || self.partial.as_ref().is_some_and(|partial| partial.is_empty()) {
            self.partial = None;
        }
        received
    }

    /// Whether all that came in was complete, so that nothing of it is kept.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<Event>, Violation> {
        loop {
            if self.partial.as_ref().is_none_or(|partial| partial.frame.is_none()) {
                let Some(header) = self.read_header(input)? else { return Ok(None) };
                self.admit(&header)?;
                if let Some(payload) = split_whole(&header, input) {
                    return event(header.opcode, header.compressed, payload, self.limits).map(Some);
                }
                self.partial.get_or_insert_default().begin(header);
            }
            let Some(partial) = &mut self.partial else { return Ok(None) };
            if !partial.read_payload(input)? {
                return Ok(None);
            }
            if let Some(event) = partial.finish_frame(self.limits)? {
                return Ok(Some(event));
            }
        }
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Violation> {
        if self.partial.as_ref().is_none_or(|partial| partial.cut.len == 0) {
            if let Some((header, size)) = Header::parse(input)? {
                *input = input.get(size..).unwrap_or_default();
                return Ok(Some(header));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let cut = &mut self.partial.get_or_insert_default().cut;
        while let Some(byte) = input.split_off_first() {
            cut.push(*byte);
            if let Some((header, _)) = Header::parse(cut.bytes())? {
                *cut = CutHeader::default();
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Whether a frame with this header may come now, before a byte of its payload is taken.
    fn admit(&self, header: &Header) -> Result<(), Violation> {
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::Unmasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            _ => {}
        }
        if header.compressed && !self.deflate {
            return Err(Violation::ReservedBit);
        }
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.partial.as_ref().and_then(|partial| partial.message.as_ref());
        let so_far = match (message, header.opcode) {
            (Some(message), OpCode::Continuation) => message.payload.len(),
            (None, OpCode::Continuation) => return Err(Violation::NothingToContinue),
            (Some(_), _) => return Err(Violation::MessageInMessage),
            (None, _) => 0,
        };
        if header.len > self.limits.message.saturating_sub(so_far) as u64 {
            return Err(Violation::TooBig);
        }
        Ok(())
    }
}

impl fmt::Debug for Event {
    /// Lengths only: payloads hold tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(payload) => write!(f, "Text({} bytes)", payload.len()),
            Self::Binary(payload) => write!(f, "Binary({} bytes)", payload.len()),
            Self::Ping(payload) => write!(f, "Ping({} bytes)", payload.len()),
            Self::Pong(payload) => write!(f, "Pong({} bytes)", payload.len()),
            Self::Close(reason) => f.debug_tuple("Close").field(reason).finish(),
        }
    }
}

/// What has come of something that is not complete.
#[derive(Default)]
struct Partial {
    cut: CutHeader,
    /// The frame whose payload is coming in.
    frame: Option<Frame>,
    /// The message whose fragments are coming in.
    message: Option<Message>,
}

/// The first bytes of a header.
#[derive(Default)]
struct CutHeader {
    bytes: [u8; MAX_HEADER],
    len: usize,
}

struct Frame {
    header: Header,
    /// Bytes of the payload that are there.
    received: usize,
    /// The payload of a control frame; that of a data frame goes to its message.
    control: Vec<u8>,
}

struct Message {
    opcode: OpCode,
    compressed: bool,
    payload: Vec<u8>,
    /// Up to here the payload is valid text.
    valid: usize,
}

impl CutHeader {
    fn push(&mut self, byte: u8) {
        // A header of full length is complete, so there is a place.
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.cut.len == 0 && self.frame.is_none() && self.message.is_none()
    }

    fn begin(&mut self, header: Header) {
        let Header { opcode, compressed, .. } = header;
        if matches!(opcode, OpCode::Text | OpCode::Binary) {
            self.message = Some(Message { opcode, compressed, payload: Vec::new(), valid: 0 });
        }
        self.frame = Some(Frame { header, received: 0, control: Vec::new() });
    }

    /// Takes what there is of the frame's payload; says whether that was all of it.
    fn read_payload(&mut self, input: &mut &[u8]) -> Result<bool, Violation> {
        let Some(frame) = &mut self.frame else { return Ok(false) };
        let missing = frame.header.len as usize - frame.received;
        let (piece, rest) = input.split_at(missing.min(input.len()));
        *input = rest;
        let payload = match &mut self.message {
            Some(message) if !frame.header.opcode.is_control() => &mut message.payload,
            _ => &mut frame.control,
        };
        let at = payload.len();
        // Of the last fragment the end is known, so that nothing is taken beyond it.
        let most = if frame.header.fin { at + missing } else { usize::MAX };
        grow(payload, at + piece.len(), most);
        payload.extend_from_slice(piece);
        if let Some(key) = frame.header.mask {
            mask(key, frame.received, payload.get_mut(at..).unwrap_or_default());
        }
        frame.received += piece.len();
        if let Some(message) = &mut self.message {
            message.check_text()?;
        }
        Ok(piece.len() == missing)
    }

    /// Ends the frame whose payload is complete; gives the event if it ends one.
    fn finish_frame(&mut self, limits: Limits) -> Result<Option<Event>, Violation> {
        let Some(Frame { header, control, .. }) = self.frame.take() else { return Ok(None) };
        if header.opcode.is_control() {
            return event(header.opcode, false, control, limits).map(Some);
        }
        match self.message.take_if(|_| header.fin) {
            Some(message) => message.finish(limits).map(Some),
            None => Ok(None),
        }
    }
}

impl Message {
    /// Checks what came in since the last time.
    fn check_text(&mut self) -> Result<(), Violation> {
        if self.opcode != OpCode::Text || self.compressed {
            return Ok(());
        }
        let unchecked = self.payload.get(self.valid..).unwrap_or_default();
        self.valid += match std::str::from_utf8(unchecked) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_some() => return Err(Violation::NotUtf8),
            // The last character is cut.
            Err(error) => error.valid_up_to(),
        };
        Ok(())
    }

    fn finish(self, limits: Limits) -> Result<Event, Violation> {
        if self.opcode == OpCode::Text && !self.compressed {
            let complete = self.valid == self.payload.len();
            return if complete {
                Ok(Event::Text(self.payload.into()))
            } else {
                Err(Violation::NotUtf8)
            };
        }
        event(self.opcode, self.compressed, self.payload, limits)
    }
}

/// The payload, without its mask, of a frame that stands for itself and is all there.
fn split_whole(header: &Header, input: &mut &[u8]) -> Option<Vec<u8>> {
    if !header.fin || header.opcode == OpCode::Continuation {
        return None;
    }
    let (payload, rest) = input.split_at_checked(usize::try_from(header.len).ok()?)?;
    *input = rest;
    let mut payload = payload.to_vec();
    if let Some(key) = header.mask {
        mask(key, 0, &mut payload);
    }
    Some(payload)
}

/// Makes room for `len` bytes, twice as much as there was if that is not above `most`: the work
/// stays linear however small the pieces are.
fn grow(payload: &mut Vec<u8>, len: usize, most: usize) {
    if len > payload.capacity() {
        let capacity = (payload.capacity() * 2).min(most).max(len);
        payload.reserve_exact(capacity - payload.len());
    }
}

/// What a complete payload says.
fn event(
    opcode: OpCode,
    compressed: bool,
    payload: Vec<u8>,
    limits: Limits,
) -> Result<Event, Violation> {
    let payload = if compressed {
        deflate::inflate(&payload, limits.inflated)?
    } else {
        Bytes::from(payload)
    };
    Ok(match opcode {
        OpCode::Text => {
            std::str::from_utf8(&payload).map_err(|_| Violation::NotUtf8)?;
            Event::Text(payload)
        }
        OpCode::Binary | OpCode::Continuation => Event::Binary(payload),
        OpCode::Ping => Event::Ping(payload),
        OpCode::Pong => Event::Pong(payload),
        OpCode::Close => Event::Close(close_reason(&payload)?),
    })
}

fn close_reason(payload: &[u8]) -> Result<Option<CloseReason>, Violation> {
    if payload.is_empty() {
        return Ok(None);
    }
    let (code, reason) = payload.split_first_chunk().ok_or(Violation::ShortClose)?;
    let code = u16::from_be_bytes(*code);
    // The others are reserved, or are never sent (RFC 6455, 7.4, and its registry).
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| Violation::NotUtf8)?;
    Ok(Some(CloseReason { code, reason: reason.to_owned() }))
}

#[cfg(test)]
mod tests;
