//! Compressing and inflating, against the examples of the RFC and against each other.

use proptest::prelude::*;

use super::*;

/// Above what any test message has.
const NO_LIMIT: usize = 1 << 24;

/// What some publications look like: JSON with repetitions near and far.
fn json(len: usize) -> Vec<u8> {
    let mut text = String::new();
    for line in 0.. {
        text += &format!("{{\"line\":{line},\"user\":\"user-{}\"}}", line * 7919 % 1000);
        if text.len() >= len {
            break;
        }
    }
    text.into_bytes()
}

/// Bytes without any pattern, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

/// RFC 7692, 7.2.3.1 and 7.2.3.6.
#[test]
fn messages_are_compressed_as_in_the_rfc() {
    for level in 1..=9 {
        let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        for _ in 0..2 {
            assert_eq!(*compress(level, 15, b"Hello"), hello, "level {level}, no context");
        }
        assert_eq!(*compress(level, 15, b""), [0], "level {level}");
    }
    assert_eq!(*compress(0, 15, b"Hello"), *b"\x00\x05\x00\xfa\xffHello\x00");
}

/// RFC 7692, 7.2.3.1 and 7.2.3.3 to 7.2.3.6.
#[test]
fn the_forms_of_the_rfc_are_inflated() {
    for (compressed, what) in [
        (&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..], "one block"),
        (b"\x00\x05\x00\xfa\xffHello\x00", "a block without compression"),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "a last block"),
        (&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], "a last block, and nothing behind"),
        (
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
            "two blocks",
        ),
    ] {
        assert_eq!(inflate(compressed, 5).as_deref(), Ok(&b"Hello"[..]), "{what}");
    }
    assert_eq!(inflate(&[0], 0).as_deref(), Ok(&b""[..]));
    assert_eq!(inflate(&[2, 0], 0).as_deref(), Ok(&b""[..]));
    assert_eq!(inflate(&[], 0).as_deref(), Ok(&b""[..]));
}

/// RFC 7692, 7.2.3.2: the second `Hello` refers to the first. Without context takeover that would be
/// somebody else's message.
#[test]
fn no_message_reaches_into_an_earlier_one() {
    let first = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let second = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert!(inflate(&first, NO_LIMIT).is_ok());
    assert_eq!(inflate(&second, NO_LIMIT), Err(Violation::NotDeflate));
    // Nor from behind a last block, with which a window ends as well.
    let behind_a_last_block = [&[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00], &second[..]].concat();
    assert_eq!(inflate(&behind_a_last_block, NO_LIMIT), Err(Violation::NotDeflate));
}

#[test]
fn corrupt_data_is_refused_and_the_next_message_is_not() {
    let whole = compress(6, 15, &json(2_000));
    for (garbage, what) in [
        (&[0xff; 20][..], "a block of a type that is not"),
        (b"\x00\x05\x00\xfa\xfeHello\x00", "a length that contradicts itself"),
        (&[0x03, 0x00, 0xff, 0xff], "a bad block behind a last one"),
        (&whole[..whole.len() - 1], "cut in front of the flush"),
        (&whole[..whole.len() / 2], "cut in the middle"),
        (&whole[..1], "cut behind the first byte"),
    ] {
        assert_eq!(inflate(garbage, NO_LIMIT), Err(Violation::NotDeflate), "{what}");
        assert_eq!(inflate(&whole, NO_LIMIT).as_deref(), Ok(&json(2_000)[..]));
    }
}

#[test]
fn the_limit_is_kept_to_the_byte() {
    // One step exactly, one byte more and less, and several.
    for len in [1, 100, STEP - 1, STEP, STEP + 1, 5 * STEP, 5 * STEP + 1] {
        for plain in [json(len), noise(len), vec![b'a'; len]] {
            let compressed = compress(1, 15, &plain);
            assert_eq!(inflate(&compressed, plain.len()).as_deref(), Ok(&plain[..]), "{len}");
            assert_eq!(inflate(&compressed, plain.len() - 1), Err(Violation::TooBigInflated));
        }
    }
}

#[test]
fn a_bomb_is_left_where_the_limit_is() {
    let limit = 3 * STEP;
    let bomb = compress(6, 15, &vec![0; 100 * limit]);
    assert!(bomb.len() < limit / 5, "{} bytes", bomb.len());
    let mut inflater = Inflater::new();
    assert_eq!(inflater.inflate(&bomb, limit), Err(Violation::TooBigInflated));
    assert!(inflater.stream.total_out() <= (limit + STEP) as u64, "and no more was made of it");
}

#[test]
fn what_is_shared_takes_no_more_than_its_length() {
    for plain in [json(100), json(200_000), noise(200_000)] {
        let compressed = compress(1, 15, &plain);
        let len = compressed.len();
        let owned: Vec<u8> = compressed.into();
        assert_eq!((owned.len(), owned.capacity()), (len, len));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_compressed_is_inflated(
        level in 0..=9_u32,
        window_bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS,
        len in prop_oneof![0..300_usize, STEP - 20..STEP + 20, 0..100_000_usize],
        noisy: bool,
    ) {
        let plain = if noisy { noise(len) } else { json(len) };
        let compressed = compress(level, window_bits, &plain);
        prop_assert!(!compressed.ends_with(&FLUSHED));
        // Level 1 codes every byte as one of the fixed table, in nine bits at most.
        prop_assert!(compressed.len() <= plain.len() + plain.len() / 8 + 32);
        prop_assert_eq!(inflate(&compressed, plain.len()), Ok(Bytes::from(plain)));
    }

    /// A client with a small window could not follow a reference beyond it. Noise can only get shorter
    /// by referring to the same noise earlier on.
    #[test]
    fn a_window_agreed_on_is_kept(
        level in 1..=9_u32,
        window_bits in MIN_WINDOW_BITS..=MAX_WINDOW_BITS,
        distance in prop_oneof![100..2_000_usize, 100..40_000_usize],
    ) {
        let plain = [noise(distance), noise(distance.min(4_000))].concat();
        let refers = compress(level, window_bits, &plain).len() < plain.len();
        let window = 1 << window_bits;
        if distance > window {
            prop_assert!(!refers, "{} bytes back", distance);
        }
        // zlib leaves the last bytes of a window out.
        if distance < window - 300 {
            prop_assert!(refers, "{} bytes back would be possible", distance);
        }
    }

    #[test]
    fn any_bytes_are_inflated_or_refused(bytes: Vec<u8>, limit in 0..100_000_usize) {
        if let Ok(inflated) = inflate(&bytes, limit) {
            prop_assert!(inflated.len() <= limit);
        }
    }
}
