//! Delta compression in the Fossil format: a publication as a patch of the one before it.
//!
//! A patch is text around literal bytes: the length of the target and a newline; then copies of the
//! source, `<len>@<offset>,`, and literals, `<len>:<bytes>`; last the checksum, `<sum>;`. Numbers are
//! in base 64, most significant digit first. See <https://fossil-scm.org/home/doc/tip/www/delta_format.wiki>.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::EncodeError;
use super::frame::Codec;

/// The longest target that [`apply`] builds, in bytes. A patch of a few bytes can ask for any
/// length; this is far above what message limits let through.
pub const MAX_TARGET: usize = 16 << 20;

/// The `data` of a publication for subscribers with delta compression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaForm {
    /// The patch or the full data; for JSON clients as a JSON string of it.
    pub data: Bytes,
    /// Whether `data` is a patch.
    pub delta: bool,
}

/// Gives `data` as a patch of `previous` where that is the shorter form, else in full; without
/// `previous` always in full. Empty data stays empty.
///
/// # Errors
/// JSON: if `data` is not valid JSON.
pub fn encode_for(
    codec: Codec,
    previous: Option<&[u8]>,
    data: &Bytes,
) -> Result<DeltaForm, EncodeError> {
    let full = match codec {
        _ if data.is_empty() => Bytes::new(),
        Codec::Json => {
            // The client parses what the string holds, so it has to be JSON in itself.
            let _: &RawValue = serde_json::from_slice(data).map_err(|_| EncodeError)?;
            json_string(std::str::from_utf8(data).map_err(|_| EncodeError)?)?
        }
        Codec::Protobuf => data.clone(),
    };
    let patch = match (previous, codec) {
        (None, _) => None,
        (Some(previous), Codec::Json) => {
            create_text(previous, data).map(|patch| json_string(&patch)).transpose()?
        }
        (Some(previous), Codec::Protobuf) => Some(Bytes::from(create(previous, data))),
    };
    Ok(match patch {
        Some(patch) if patch.len() < full.len() => DeltaForm { data: patch, delta: true },
        _ => DeltaForm { data: full, delta: false },
    })
}

/// Makes the patch that turns `source` into `target`. The work is linear in the length of both.
pub fn create(source: &[u8], target: &[u8]) -> Vec<u8> {
    Patcher::new(source, target, false).patch()
}

/// As [`create`], but no literal cuts a character in two, so that the patch is text itself. `None`
/// if source or target is not UTF-8.
pub fn create_text(source: &[u8], target: &[u8]) -> Option<String> {
    std::str::from_utf8(source).ok()?;
    std::str::from_utf8(target).ok()?;
    String::from_utf8(Patcher::new(source, target, true).patch()).ok()
}

/// Applies a patch to the source it was made for. Memory is bounded by the length of the target,
/// and that by [`MAX_TARGET`].
///
/// # Errors
/// If the patch is malformed, or the source is another one than it was made for.
pub fn apply(source: &[u8], patch: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut reader = Reader { rest: patch };
    let target_len = reader.number()? as usize;
    reader.expect(b'\n')?;
    if target_len > MAX_TARGET {
        return Err(DeltaError::TooLong);
    }
    let mut target = Vec::with_capacity(target_len.min(source.len() + patch.len()));
    loop {
        let number = reader.number()?;
        let len = number as usize;
        let piece = match reader.byte()? {
            b'@' => {
                let offset = reader.number()? as usize;
                reader.expect(b',')?;
                let behind = source.get(offset..).ok_or(DeltaError::OutsideSource)?;
                behind.get(..len).ok_or(DeltaError::OutsideSource)?
            }
            b':' => reader.bytes(len)?,
            b';' if !reader.rest.is_empty() => return Err(DeltaError::Malformed),
            b';' if target.len() != target_len => return Err(DeltaError::Length),
            b';' if checksum(&target) != number => return Err(DeltaError::Checksum),
            b';' => return Ok(target),
            _ => return Err(DeltaError::Malformed),
        };
        if piece.len() > target_len - target.len() {
            return Err(DeltaError::Length);
        }
        target.extend_from_slice(piece);
    }
}

/// Why a patch cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    #[error("the patch is malformed or cut short")]
    Malformed,
    #[error("the patch announces more than {MAX_TARGET} bytes")]
    TooLong,
    #[error("the patch copies from outside the source")]
    OutsideSource,
    #[error("the patch gives another length than it announces")]
    Length,
    #[error("the checksum does not match; the patch was made for another source")]
    Checksum,
}

const DIGITS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~";

/// Length of the pieces by which places in the source are found; one machine word.
const WINDOW: usize = 8;
/// Places of the source tried for one place of the target.
const MAX_CANDIDATES: usize = 32;
/// Bytes compared for each byte of the target, on average, before the rest goes as a literal. Only
/// inputs made of near repetitions come close.
const WORK_PER_BYTE: usize = 64;

/// A stretch of the target that the source holds too.
#[derive(Clone, Copy)]
struct Stretch {
    source_at: usize,
    target_at: usize,
    len: usize,
}

struct Patcher<'a> {
    source: &'a [u8],
    target: &'a [u8],
    /// Pieces begin and end between characters.
    text: bool,
    index: Index,
    /// Bytes that may still be compared.
    work: usize,
    patch: Vec<u8>,
}

impl<'a> Patcher<'a> {
    fn new(source: &'a [u8], target: &'a [u8], text: bool) -> Self {
        let work = target.len().saturating_mul(WORK_PER_BYTE);
        Self { source, target, text, index: Index::new(source), work, patch: Vec::new() }
    }

    fn patch(mut self) -> Vec<u8> {
        put_number(&mut self.patch, self.target.len());
        self.patch.push(b'\n');
        let mut written = 0;
        let mut at = 0;
        while let Some(window) = window_at(self.target, at)
            && self.work > 0
        {
            let Some(copy) = self.longest_copy(window, at, written) else {
                at += 1;
                continue;
            };
            self.put_literal(written, copy.target_at);
            self.put_copy(copy);
            written = copy.target_at + copy.len;
            at = written;
        }
        self.put_literal(written, self.target.len());
        put_number(&mut self.patch, checksum(self.target) as usize);
        self.patch.push(b';');
        self.patch
    }

    /// The longest stretch around `at`, reaching back to `written` at most, that is worth a copy.
    fn longest_copy(&mut self, window: u64, at: usize, written: usize) -> Option<Stretch> {
        let mut longest: Option<Stretch> = None;
        let mut candidate = self.index.first(window);
        for _ in 0..MAX_CANDIDATES {
            let Some(block) = candidate else { break };
            candidate = self.index.after(block);
            self.work = self.work.saturating_sub(1);
            let source_at = block as usize * WINDOW;
            if window_at(self.source, source_at) != Some(window) {
                continue;
            }
            let copy = self.extend(source_at, at, written);
            self.work = self.work.saturating_sub(copy.len);
            if copy.len > longest.map_or(0, |it| it.len) {
                longest = Some(copy);
            }
            if copy.target_at + copy.len == self.target.len() || self.work == 0 {
                break;
            }
        }
        longest.filter(|copy| copy.len > copy.cost(written))
    }

    /// Grows the match of a window in both directions.
    fn extend(&self, source_at: usize, target_at: usize, written: usize) -> Stretch {
        let (source_before, source_behind) = self.source.split_at(source_at);
        let (target_before, target_behind) = self.target.split_at(target_at);
        let pending = target_before.get(written..).unwrap_or_default();
        let equal = |(a, b): &(&u8, &u8)| a == b;
        let ahead = source_behind.iter().zip(target_behind).take_while(equal).count();
        let back = source_before.iter().rev().zip(pending.iter().rev()).take_while(equal).count();
        let mut start = target_at - back;
        let mut end = target_at + ahead;
        if self.text {
            while start < end && !self.between_characters(start) {
                start += 1;
            }
            while start < end && !self.between_characters(end) {
                end -= 1;
            }
        }
        // `start` lies at most `back` before `target_at`, so the source has as much before it.
        Stretch { source_at: source_at + start - target_at, target_at: start, len: end - start }
    }

    fn between_characters(&self, at: usize) -> bool {
        self.target.get(at).is_none_or(|byte| byte & 0xc0 != 0x80)
    }

    fn put_copy(&mut self, copy: Stretch) {
        put_number(&mut self.patch, copy.len);
        self.patch.push(b'@');
        put_number(&mut self.patch, copy.source_at);
        self.patch.push(b',');
    }

    fn put_literal(&mut self, from: usize, to: usize) {
        let Some(literal @ [_, ..]) = self.target.get(from..to) else { return };
        put_number(&mut self.patch, literal.len());
        self.patch.push(b':');
        self.patch.extend_from_slice(literal);
    }
}

impl Stretch {
    /// Bytes that the copy and the head of the literal before it take in the patch.
    fn cost(&self, written: usize) -> usize {
        let literal = self.target_at - written;
        digits(self.len) + digits(self.source_at) + digits(literal) + 3
    }
}

/// Where in the source a window may stand: chains of blocks with the same hash.
struct Index {
    /// The first block of each chain, plus one; 0 where there is none.
    heads: Vec<u32>,
    /// For each block the next one of its chain, plus one.
    next: Vec<u32>,
    shift: u32,
}

impl Index {
    fn new(source: &[u8]) -> Self {
        let blocks = (source.len() / WINDOW).min(u32::MAX as usize - 1);
        let bits = usize::BITS - blocks.leading_zeros();
        let mut index = Self {
            heads: vec![0; 1 << bits],
            next: vec![0; blocks],
            // At least one bit is kept: a shift by all 64 would overflow.
            shift: u64::BITS - bits.max(1),
        };
        // From the end, so that chains begin with the first place in the source.
        for block in (0..blocks).rev() {
            let Some(window) = window_at(source, block * WINDOW) else { continue };
            let bucket = index.bucket(window);
            if let (Some(head), Some(next)) =
                (index.heads.get_mut(bucket), index.next.get_mut(block))
            {
                *next = std::mem::replace(head, block as u32 + 1);
            }
        }
        index
    }

    fn first(&self, window: u64) -> Option<u32> {
        self.heads.get(self.bucket(window))?.checked_sub(1)
    }

    fn after(&self, block: u32) -> Option<u32> {
        self.next.get(block as usize)?.checked_sub(1)
    }

    /// Multiplicative hashing: the upper bits depend on all bytes of the window.
    fn bucket(&self, window: u64) -> usize {
        (window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> self.shift) as usize
    }
}

fn window_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk::<WINDOW>().map(|window| u64::from_le_bytes(*window))
}

/// The sum of all big-endian words, the last one filled up with zeros.
fn checksum(bytes: &[u8]) -> u32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last.iter_mut().zip(tail).for_each(|(to, from)| *to = *from);
    words
        .iter()
        .fold(u32::from_be_bytes(last), |sum, word| sum.wrapping_add(u32::from_be_bytes(*word)))
}

fn digits(number: usize) -> usize {
    (usize::BITS - number.leading_zeros()).div_ceil(6).max(1) as usize
}

fn put_number(patch: &mut Vec<u8>, number: usize) {
    for place in (0..digits(number)).rev() {
        patch.push(DIGITS[number >> (6 * place) & 63]);
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn number(&mut self) -> Result<u32, DeltaError> {
        let mut number: Option<u32> = None;
        while let Some((first, rest)) = self.rest.split_first()
            && let Some(digit) = DIGITS.iter().position(|digit| digit == first)
        {
            let above = number.unwrap_or(0).checked_mul(64).ok_or(DeltaError::Malformed)?;
            number = Some(above + digit as u32);
            self.rest = rest;
        }
        number.ok_or(DeltaError::Malformed)
    }

    fn byte(&mut self) -> Result<u8, DeltaError> {
        let (first, rest) = self.rest.split_first().ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn expect(&mut self, byte: u8) -> Result<(), DeltaError> {
        if self.byte()? == byte { Ok(()) } else { Err(DeltaError::Malformed) }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DeltaError> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(DeltaError::Malformed)?;
        self.rest = rest;
        Ok(bytes)
    }
}

fn json_string(text: &str) -> Result<Bytes, EncodeError> {
    // Payloads are JSON mostly, so about every eighth byte is a quote to be escaped.
    super::json::encode(&text, text.len() + text.len() / 8 + 2)
}

#[cfg(test)]
mod tests;
