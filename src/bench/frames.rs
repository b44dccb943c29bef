//! WebSocket frames as the two sides send them: ours masked, the server's read in place.

use std::ops::Range;

use crate::websocket::frame::{Header, OpCode, mask};

/// A frame's mask is there for proxies that do not know WebSocket; any bytes will do here.
const MASK: [u8; 4] = [0x5a, 0xc3, 0x17, 0x8e];
const MASKED: u8 = 0x80;

/// What stands at the start of the bytes that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A whole frame: its payload, and where the next one starts.
    Whole { opcode: OpCode, payload: Range<usize>, end: usize },
    /// More has to come.
    Partial,
    /// Nothing that the generator reads.
    Broken(String),
}

/// Reads the frame at the start of `bytes`.
pub fn first(bytes: &[u8]) -> Frame {
    let (header, start) = match Header::parse(bytes) {
        Ok(Some(parsed)) => parsed,
        // A mask shows before it is there, and a server never sends one.
        Ok(None) if bytes.get(1).is_none_or(|second| second & MASKED == 0) => {
            return Frame::Partial;
        }
        Ok(None) => return Frame::Broken("a masked frame".to_owned()),
        Err(violation) => return Frame::Broken(format!("what is no frame: {violation}")),
    };
    if !header.fin || header.opcode == OpCode::Continuation {
        return Frame::Broken("a message in several frames".to_owned());
    }
    if header.mask.is_some() {
        return Frame::Broken("a masked frame".to_owned());
    }
    if header.compressed {
        return Frame::Broken("a compressed frame, which nobody asked for".to_owned());
    }
    match usize::try_from(header.len).ok().and_then(|len| start.checked_add(len)) {
        Some(end) if end <= bytes.len() => {
            Frame::Whole { opcode: header.opcode, payload: start..end, end }
        }
        Some(_) => Frame::Partial,
        None => Frame::Broken("a frame of more bytes than there are addresses".to_owned()),
    }
}

/// Appends a client's frame.
pub fn append(opcode: OpCode, payload: &[u8], to: &mut Vec<u8>) {
    let (compressed, len) = (false, payload.len() as u64);
    Header { fin: true, compressed, opcode, mask: Some(MASK), len }.put(to);
    let start = to.len();
    to.extend_from_slice(payload);
    if let Some(payload) = to.get_mut(start..) {
        mask(MASK, 0, payload);
    }
}

/// What the payload of a close frame says, for people.
pub fn closing(payload: &[u8]) -> String {
    match payload {
        [a, b, reason @ ..] => {
            let code = u16::from_be_bytes([*a, *b]);
            let reason: String =
                String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).collect();
            format!("the server closed it with {code} {reason:?}")
        }
        _ => "the server closed it without a code".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unmasked(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        match payload.len() {
            len @ 0..126 => frame.push(len as u8),
            len @ 126..=0xffff => {
                frame.push(126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn a_frame_is_whole_only_with_its_last_byte() {
        for len in [0, 5, 125, 126, 4_000, 70_000] {
            let payload = vec![b'x'; len];
            let mut bytes = unmasked(0x81, &payload);
            let end = bytes.len();
            for cut in [0, 1, 2, 3, 9, end - 1].into_iter().filter(|cut| *cut < end) {
                assert_eq!(first(&bytes[..cut]), Frame::Partial, "{cut} of {end}");
            }
            bytes.push(0x81);
            let payload = end - len..end;
            assert_eq!(first(&bytes), Frame::Whole { opcode: OpCode::Text, payload, end });
        }
    }

    #[test]
    fn what_a_server_does_not_send_is_refused() {
        for bytes in [[0x01, 0], [0x80, 0], [0xc1, 0], [0x83, 0], [0x81, 0x80]] {
            assert!(matches!(first(&bytes), Frame::Broken(_)), "{bytes:x?}");
        }
        let huge = [0x82, 127, 255, 255, 255, 255, 255, 255, 255, 255];
        assert!(matches!(first(&huge), Frame::Broken(_)));
    }

    #[test]
    fn a_close_frame_is_told_with_code_and_reason() {
        let told = closing(&[&3_008_u16.to_be_bytes()[..], b"slow\x1b"].concat());
        assert_eq!(told, "the server closed it with 3008 \"slow\"");
        assert_eq!(closing(b""), "the server closed it without a code");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Frame::Whole { payload, end, .. } = first(&bytes) {
                prop_assert!(payload.end == end && end <= bytes.len());
            }
        }

        #[test]
        fn a_masked_frame_holds_what_was_put_in(len in 0..70_000_usize) {
            let payload: Vec<_> = (0..len).map(|at| at as u8).collect();
            let mut frame = Vec::new();
            append(OpCode::Binary, &payload, &mut frame);
            let mask = <[u8; 4]>::try_from(&frame[frame.len() - len - 4..frame.len() - len]);
            let mask = mask.unwrap();
            let body = &frame[frame.len() - len..];
            let read: Vec<_> = body.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            prop_assert_eq!(read, payload);
        }
    }
}
