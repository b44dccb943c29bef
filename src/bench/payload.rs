//! What the publications of a run carry: who sent them, in which place, and when they were due.
//!
//! A payload is the JSON object `{"bench":"<fields>","pad":"xxx"}` for clients of both codecs. The
//! fields have a fixed width, so that they are read by position, and `pad` brings the payload to the
//! size that was asked for.

/// How a payload starts. The fields follow.
pub const MARKER: &[u8] = b"{\"bench\":\"";
/// Bytes of a payload without any padding.
pub const MIN_SIZE: usize = MARKER.len() + FIELDS + BEFORE_PAD.len() + AFTER_PAD.len();

const BEFORE_PAD: &[u8] = b"\",\"pad\":\"";
const AFTER_PAD: &[u8] = b"\"}";
/// Hexadecimal digits of each field of a [`Mark`], in its order.
const WIDTHS: [usize; 5] = [4, 6, 6, 8, 14];
const FIELDS: usize = 4 + 6 + 6 + 8 + 14;

/// Where a publication stands among all of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Tells the publications of one measurement from what an earlier one left behind.
    pub run: u16,
    /// Number of the channel, below 2^24.
    pub channel: u32,
    /// Which of the channel's publishers sent it, below 2^24.
    pub voice: u32,
    /// Counts the publications of this voice in this channel, from 0.
    pub sequence: u32,
    /// When it was due, in nanoseconds of the engine's clock, below 2^56 (two years).
    pub due_ns: u64,
}

impl Mark {
    /// Appends the payload of `size` bytes, or of [`MIN_SIZE`] if that is more.
    pub fn write(&self, size: usize, payload: &mut Vec<u8>) {
        payload.extend_from_slice(MARKER);
        for (value, width) in self.fields().into_iter().zip(WIDTHS) {
            for digit in (0..width).rev() {
                let nibble = (value >> (digit * 4)) & 0xf;
                payload.push(b"0123456789abcdef"[nibble as usize]);
            }
        }
        payload.extend_from_slice(BEFORE_PAD);
        payload.resize(payload.len() + size.saturating_sub(MIN_SIZE), b'x');
        payload.extend_from_slice(AFTER_PAD);
    }

    /// Reads the mark of a payload that starts at the start of `payload`.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let mut rest = payload.strip_prefix(MARKER)?;
        let mut values = [0; WIDTHS.len()];
        for (value, width) in values.iter_mut().zip(WIDTHS) {
            let (digits, behind) = rest.split_at_checked(width)?;
            for digit in digits {
                *value = (*value << 4) | u64::from(nibble(*digit)?);
            }
            rest = behind;
        }
        let [run, channel, voice, sequence, due_ns] = values;
        // Their widths are those of the types.
        Some(Self {
            run: run as u16,
            channel: channel as u32,
            voice: voice as u32,
            sequence: sequence as u32,
            due_ns,
        })
    }

    fn fields(&self) -> [u64; WIDTHS.len()] {
        let Self { run, channel, voice, sequence, due_ns } = *self;
        [run.into(), channel.into(), voice.into(), sequence.into(), due_ns]
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_has_the_size_that_was_asked_for_and_is_json() {
        for size in [MIN_SIZE, MIN_SIZE + 1, 128, 4_096] {
            let mut payload = Vec::new();
            Mark::default().write(size, &mut payload);
            assert_eq!(payload.len(), size);
            serde_json::from_slice::<serde_json::Value>(&payload).expect("JSON");
        }
    }

    #[test]
    fn what_is_no_payload_has_no_mark() {
        let mut payload = Vec::new();
        Mark::default().write(128, &mut payload);
        for cut in 0..MARKER.len() + FIELDS {
            assert_eq!(Mark::read(&payload[..cut]), None);
        }
        payload[MARKER.len()] = b'g';
        assert_eq!(Mark::read(&payload), None);
        assert_eq!(Mark::read(b"{\"text\":\"hello\"}"), None);
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(
            run in any::<u16>(),
            channel in 0..1_u32 << 24,
            voice in 0..1_u32 << 24,
            sequence in any::<u32>(),
            due_ns in 0..1_u64 << 56,
            size in 0..300_usize,
        ) {
            let mark = Mark { run, channel, voice, sequence, due_ns };
            let mut payload = Vec::new();
            mark.write(size, &mut payload);
            prop_assert_eq!(Mark::read(&payload), Some(mark));
        }
    }
}
