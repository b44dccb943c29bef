//! Frames: the header in front of a payload, and the mask over it.

use std::ops::Deref;

use bytes::BufMut;

use super::Violation;

/// Bytes of the longest header: a length of 64 bits, and a mask.
pub const MAX_HEADER: usize = 14;
/// Bytes of the longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;

/// Bytes of the longest header without a mask.
const MAX_SERVER_HEADER: usize = 10;

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;
const MASKED: u8 = 0x80;
/// In place of a length: it follows in 16 bits, or in 64.
const IN_16_BITS: u8 = 126;
const IN_64_BITS: u8 = 127;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpCode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl OpCode {
    /// Whether such a frame stands for itself, and may come between the fragments of a message.
    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }

    fn from_bits(bits: u8) -> Option<Self> {
        let all =
            [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong];
        all.into_iter().find(|opcode| *opcode as u8 == bits)
    }
}

/// What stands in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The last frame of its message.
    pub fin: bool,
    /// The message that begins here is compressed (RSV1).
    pub compressed: bool,
    pub opcode: OpCode,
    pub mask: Option<[u8; 4]>,
    /// Bytes of the payload.
    pub len: u64,
}

impl Header {
    /// Reads the header at the front of `bytes`; gives it with its own size in bytes, or `None` if
    /// it is cut short.
    ///
    /// # Errors
    /// If no extension that we know allows such a header. A cut header already fails if none with
    /// that beginning is allowed.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let mut rest = bytes;
        let Some(&first) = rest.split_off_first() else { return Ok(None) };
        let (fin, compressed) = (first & FIN != 0, first & RSV1 != 0);
        let opcode = OpCode::from_bits(first & 0x0f).ok_or(Violation::ReservedOpCode)?;
        // RSV1 belongs to a message, so to the first of its frames (RFC 7692, 6).
        let compressible = matches!(opcode, OpCode::Text | OpCode::Binary);
        if first & RSV2_AND_3 != 0 || compressed && !compressible {
            return Err(Violation::ReservedBit);
        }
        if opcode.is_control() && !fin {
            return Err(Violation::FragmentedControl);
        }
        let Some(&second) = rest.split_off_first() else { return Ok(None) };
        let Some(len) = parse_len(second & !MASKED, opcode, &mut rest)? else { return Ok(None) };
        let mask = if second & MASKED == 0 {
            None
        } else {
            let Some((key, behind)) = rest.split_first_chunk() else { return Ok(None) };
            rest = behind;
            Some(*key)
        };
        let header = Self { fin, compressed, opcode, mask, len };
        Ok(Some((header, bytes.len() - rest.len())))
    }

    /// Writes the header. The payload behind it has to be masked already if there is a mask.
    pub fn put(&self, out: &mut impl BufMut) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(flag(self.fin, FIN) | flag(self.compressed, RSV1) | self.opcode as u8);
        let masked = flag(self.mask.is_some(), MASKED);
        match (u8::try_from(self.len), u16::try_from(self.len)) {
            (Ok(len), _) if len < IN_16_BITS => out.put_u8(masked | len),
            (_, Ok(len)) => {
                out.put_u8(masked | IN_16_BITS);
                out.put_u16(len);
            }
            _ => {
                out.put_u8(masked | IN_64_BITS);
                out.put_u64(self.len);
            }
        }
        if let Some(key) = self.mask {
            out.put_slice(&key);
        }
    }

    /// Bytes that [`put`](Self::put) writes.
    pub fn size(&self) -> usize {
        let len = match self.len {
            0..126 => 0,
            126..=0xffff => 2,
            _ => 8,
        };
        2 + len + self.mask.map_or(0, |key| key.len())
    }
}

/// The length that `short` stands for, or begins; `None` if the rest of it is missing.
fn parse_len(short: u8, opcode: OpCode, rest: &mut &[u8]) -> Result<Option<u64>, Violation> {
    if opcode.is_control() && usize::from(short) > MAX_CONTROL {
        return Err(Violation::LongControl);
    }
    let (len, least) = match short {
        IN_16_BITS => {
            let Some((len, behind)) = rest.split_first_chunk() else { return Ok(None) };
            *rest = behind;
            (u16::from_be_bytes(*len).into(), u64::from(IN_16_BITS))
        }
        IN_64_BITS => {
            let Some((len, behind)) = rest.split_first_chunk() else { return Ok(None) };
            *rest = behind;
            (u64::from_be_bytes(*len), 1 << 16)
        }
        _ => (short.into(), 0),
    };
    if len < least || len > i64::MAX as u64 {
        return Err(Violation::Length);
    }
    Ok(Some(len))
}

/// The header of a frame that is a whole message or a control frame, as servers send it.
pub fn server_header(opcode: OpCode, compressed: bool, len: usize) -> ServerHeader {
    let header = Header { fin: true, compressed, opcode, mask: None, len: len as u64 };
    let mut bytes = [0; MAX_SERVER_HEADER];
    header.put(&mut bytes.as_mut_slice());
    // At most MAX_SERVER_HEADER.
    ServerHeader { bytes, len: header.size() as u8 }
}

/// The bytes of a header without a mask; see [`server_header`].
#[derive(Clone, Copy, Debug)]
pub struct ServerHeader {
    bytes: [u8; MAX_SERVER_HEADER],
    len: u8,
}

impl Deref for ServerHeader {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or_default()
    }
}

/// Puts a mask over a piece of a payload, or takes it off. `offset` is where in the payload the piece
/// begins.
pub fn mask(key: [u8; 4], offset: usize, payload: &mut [u8]) {
    let mut key = key;
    key.rotate_left(offset % 4);
    let [a, b, c, d] = key;
    let twice = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ twice).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header that [`Header::parse`] takes.
    fn header() -> impl Strategy<Value = Header> {
        let opcode = prop_oneof![
            Just(OpCode::Continuation),
            Just(OpCode::Text),
            Just(OpCode::Binary),
            Just(OpCode::Close),
            Just(OpCode::Ping),
            Just(OpCode::Pong),
        ];
        let len = prop_oneof![0..200_u64, 65_000..66_000_u64, 0..=i64::MAX as u64];
        (any::<bool>(), any::<bool>(), opcode, any::<Option<[u8; 4]>>(), len).prop_map(
            |(fin, compressed, opcode, mask, len)| {
                let control = opcode.is_control();
                Header {
                    fin: fin || control,
                    compressed: compressed && !control && opcode != OpCode::Continuation,
                    opcode,
                    mask,
                    len: if control { len % 126 } else { len },
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_header_is_read_as_it_was_written(header in header(), behind: [u8; 3]) {
            let mut bytes = Vec::new();
            header.put(&mut bytes);
            prop_assert_eq!(bytes.len(), header.size());
            prop_assert!(bytes.len() <= MAX_HEADER);
            for cut in 0..bytes.len() {
                prop_assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
            }
            bytes.extend(behind);
            prop_assert_eq!(Header::parse(&bytes), Ok(Some((header, header.size()))));
        }

        #[test]
        fn what_is_read_is_written_the_same(bytes: [u8; MAX_HEADER]) {
            if let Ok(Some((header, size))) = Header::parse(&bytes) {
                let mut written = Vec::new();
                header.put(&mut written);
                prop_assert_eq!(&written, &bytes[..size], "there is only one form");
            }
        }

        /// Otherwise what a peer is told would depend on how its bytes were cut.
        #[test]
        fn a_cut_header_fails_as_the_whole_one_does(bytes: [u8; MAX_HEADER]) {
            let whole = Header::parse(&bytes);
            for cut in 0..MAX_HEADER {
                match Header::parse(&bytes[..cut]) {
                    Ok(None) => {}
                    early => prop_assert_eq!(early, whole),
                }
            }
        }

        #[test]
        fn a_mask_is_the_key_over_and_over(
            key: [u8; 4],
            payload: Vec<u8>,
            cut in any::<proptest::sample::Index>(),
        ) {
            let plain: Vec<_> =
                payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
            let mut pieces = payload.clone();
            let cut = cut.index(payload.len() + 1);
            let (head, tail) = pieces.split_at_mut(cut);
            mask(key, 0, head);
            mask(key, cut, tail);
            prop_assert_eq!(pieces, plain);
        }
    }

    #[test]
    fn each_length_has_its_shortest_form() {
        for (len, bytes) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(*server_header(OpCode::Binary, false, len), *bytes, "{len}");
        }
        assert_eq!(*server_header(OpCode::Text, true, 5), [0xc1, 5]);
        assert_eq!(*server_header(OpCode::Pong, false, 0), [0x8a, 0]);
    }

    #[test]
    fn another_form_of_a_length_is_refused() {
        for bytes in [
            &[0x82, 126, 0, 125][..],
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255],
            &[0x82, 127, 0, 0, 0, 0, 0, 0, 0, 5],
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
            &[0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(Header::parse(bytes), Err(Violation::Length), "{bytes:?}");
        }
    }

    #[test]
    fn reserved_bits_and_opcodes_are_refused_by_the_first_byte() {
        for bits in [0x20, 0x10, 0x30, 0x60] {
            assert_eq!(Header::parse(&[0x81 | bits]), Err(Violation::ReservedBit), "{bits:#x}");
        }
        for opcode in [0x8, 0x9, 0xa, 0x0] {
            assert_eq!(Header::parse(&[0xc0 | opcode]), Err(Violation::ReservedBit), "RSV1");
        }
        for opcode in (0x3..=0x7).chain(0xb..=0xf) {
            assert_eq!(Header::parse(&[0x80 | opcode]), Err(Violation::ReservedOpCode));
        }
        assert_eq!(Header::parse(&[0xc1]), Ok(None), "whether it was agreed on, others know");
    }

    #[test]
    fn a_control_frame_is_short_and_whole() {
        for opcode in [0x8, 0x9, 0xa] {
            assert_eq!(Header::parse(&[opcode]), Err(Violation::FragmentedControl));
            assert_eq!(Header::parse(&[0x80 | opcode, 126]), Err(Violation::LongControl));
            assert_eq!(Header::parse(&[0x80 | opcode, 0xff]), Err(Violation::LongControl));
            assert!(matches!(Header::parse(&[0x80 | opcode, 125]), Ok(Some(_))));
        }
    }
}
