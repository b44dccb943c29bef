//! Compressed messages: permessage-deflate (RFC 7692) without context takeover.
//!
//! Each message is compressed for itself, in both directions. So a connection keeps no window, one
//! compressor and one inflater serve all connections of a thread, and a message is compressed once
//! for all who receive it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Violation;

mod negotiation;

pub use negotiation::{Agreed, MAX_WINDOW_BITS, MIN_WINDOW_BITS, negotiate};

/// Ends what a sync flush gives. Senders leave it out and receivers put it back (RFC 7692, 7.2).
const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];
/// The same, and an empty last block: the end of a stream, which a message cut short does not reach.
const LAST: [u8; 9] = [0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff];
/// Bytes that one step gives at most. Most messages take one step, and memory for them is taken when
/// their length is known.
const STEP: usize = 16 * 1_024;

thread_local! {
    /// By level and window.
    static COMPRESSORS: RefCell<BTreeMap<(u32, u8), Compressor>> =
        const { RefCell::new(BTreeMap::new()) };
    static INFLATER: RefCell<Option<Inflater>> = const { RefCell::new(None) };
}

/// Compresses the payload of a message. `level` is that of zlib: 0, for no compression, to 9, which
/// stands for all above as well. `window_bits` are what was agreed on; others than 9 to 15 are taken
/// as the nearest of these.
///
/// A thread keeps a compressor for each level and window that it was asked for; one takes about
/// 300 KiB.
pub fn compress(level: u32, window_bits: u8, payload: &[u8]) -> Bytes {
    let level = level.min(Compression::best().level());
    let window_bits = window_bits.clamp(MIN_WINDOW_BITS, MAX_WINDOW_BITS);
    COMPRESSORS.with_borrow_mut(|compressors| {
        let compressor = compressors.entry((level, window_bits));
        compressor.or_insert_with(|| Compressor::new(level, window_bits)).compress(payload)
    })
}

/// Gives back what was compressed.
///
/// # Errors
/// If it has more than `limit` bytes, of which no more than a step is made; if it is corrupt, cut
/// short, or refers to an earlier message.
pub(super) fn inflate(payload: &[u8], limit: usize) -> Result<Bytes, Violation> {
    INFLATER.with_borrow_mut(|inflater| {
        inflater.get_or_insert_with(Inflater::new).inflate(payload, limit)
    })
}

struct Compressor {
    stream: Compress,
    step: Box<[u8]>,
}

impl Compressor {
    fn new(level: u32, window_bits: u8) -> Self {
        let stream = Compress::new_with_window_bits(Compression::new(level), false, window_bits);
        Self { stream, step: vec![0; STEP].into() }
    }

    fn compress(&mut self, payload: &[u8]) -> Bytes {
        self.stream.reset();
        let mut compressed = Vec::new();
        loop {
            let rest = payload.get(self.stream.total_in() as usize..).unwrap_or_default();
            let before = self.stream.total_out();
            // Cannot fail: the stream was reset, and has had nothing but this payload.
            let _ = (self.stream.compress(rest, &mut self.step, FlushCompress::Sync))
                .expect("a sound stream");
            let made = (self.stream.total_out() - before) as usize;
            let made = self.step.get(..made).unwrap_or_default();
            // Room that is left says that everything is out.
            let complete = made.len() < STEP;
            if complete && compressed.is_empty() {
                return Bytes::copy_from_slice(made.strip_suffix(&FLUSHED).unwrap_or(made));
            }
            compressed.extend_from_slice(made);
            if complete {
                let flushed = compressed.strip_suffix(&FLUSHED).map(<[u8]>::len);
                compressed.truncate(flushed.unwrap_or(compressed.len()));
                // It is shared, and may wait in many queues.
                compressed.shrink_to_fit();
                return compressed.into();
            }
        }
    }
}

struct Inflater {
    stream: Decompress,
    step: Box<[u8]>,
}

impl Inflater {
    fn new() -> Self {
        // The largest window understands all smaller ones.
        let stream = Decompress::new_with_window_bits(false, MAX_WINDOW_BITS);
        Self { stream, step: vec![0; STEP].into() }
    }

    fn inflate(&mut self, payload: &[u8], limit: usize) -> Result<Bytes, Violation> {
        self.stream.reset(false);
        let mut inflated = Vec::new();
        // Some senders compress an empty message to nothing, rather than to an empty block. And one
        // that ends with a last block may leave out what an ended stream does not need.
        let ended = payload.is_empty()
            || self.feed(payload, limit, &mut inflated)?
            || self.feed(&LAST, limit, &mut inflated)?;
        if ended { Ok(inflated.into()) } else { Err(Violation::NotDeflate) }
    }

    /// Inflates a piece of a message; says whether a last block ends with it.
    fn feed(
        &mut self,
        mut input: &[u8],
        limit: usize,
        inflated: &mut Vec<u8>,
    ) -> Result<bool, Violation> {
        loop {
            let (read, made) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .decompress(input, &mut self.step, FlushDecompress::Sync)
                .map_err(|_| Violation::NotDeflate)?;
            let read = (self.stream.total_in() - read) as usize;
            let made = (self.stream.total_out() - made) as usize;
            if made > limit.saturating_sub(inflated.len()) {
                return Err(Violation::TooBigInflated);
            }
            input = input.get(read..).unwrap_or_default();
            inflated.extend_from_slice(self.step.get(..made).unwrap_or_default());
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(true),
                // A message may go on behind a last block (RFC 7692, 7.2.3.4).
                Status::StreamEnd => self.stream.reset(false),
                _ if input.is_empty() && made < STEP => return Ok(false),
                _ if read == 0 && made == 0 => return Err(Violation::NotDeflate),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
