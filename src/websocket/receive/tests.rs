//! Receiving, case by case of the RFC.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::websocket::deflate::{compress, negotiate};

const LIMITS: Limits = Limits { message: 1_000, inflated: 5_000 };
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn agreed() -> Option<Agreed> {
    negotiate(["permessage-deflate"].into_iter())
}

fn server() -> Receiver {
    Receiver::new(Role::Server, LIMITS, None)
}

fn deflating() -> Receiver {
    Receiver::new(Role::Server, LIMITS, agreed())
}

/// A frame of a client. `first` is its first byte: FIN is 0x80, RSV1 0x40.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut masked = payload.to_vec();
    mask(KEY, 0, &mut masked);
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    [bytes, KEY.to_vec(), masked].concat()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

fn text(text: &str) -> Event {
    Event::Text(Bytes::copy_from_slice(text.as_bytes()))
}

fn binary(payload: &[u8]) -> Event {
    Event::Binary(Bytes::copy_from_slice(payload))
}

fn ping(payload: &'static [u8]) -> Event {
    Event::Ping(Bytes::from_static(payload))
}

fn closing(code: u16, reason: &str) -> Event {
    Event::Close(Some(CloseReason { code, reason: reason.to_owned() }))
}

type Received = (Vec<Event>, Option<Violation>);

/// All that comes of `bytes`, and what they break.
fn receive(receiver: &mut Receiver, mut bytes: &[u8]) -> Received {
    let mut events = Vec::new();
    loop {
        match receiver.receive(&mut bytes) {
            Ok(Some(event)) => events.push(event),
            Ok(None) => {
                assert!(bytes.is_empty(), "all input is taken");
                return (events, None);
            }
            Err(violation) => return (events, Some(violation)),
        }
    }
}

/// The same, in one piece and byte by byte.
fn both_ways(new: impl Fn() -> Receiver, bytes: &[u8]) -> Received {
    let whole = receive(&mut new(), bytes);
    let mut receiver = new();
    let mut events = Vec::new();
    let mut violation = None;
    for byte in bytes.chunks(1) {
        let (more, broken) = receive(&mut receiver, byte);
        events.extend(more);
        violation = violation.or(broken);
    }
    assert_eq!((&events, &violation), (&whole.0, &whole.1), "byte by byte");
    whole
}

fn events(frames: &[Vec<u8>]) -> Vec<Event> {
    let (events, violation) = both_ways(deflating, &frames.concat());
    assert_eq!(violation, None);
    events
}

fn violation(frames: &[Vec<u8>]) -> Violation {
    let (_, violation) = both_ways(deflating, &frames.concat());
    violation.expect("a violation")
}

/// RFC 6455, 5.7.
#[test]
fn the_examples_of_rfc_6455_are_read() {
    let client = |bytes: &[u8]| both_ways(|| Receiver::new(Role::Client, LIMITS, None), bytes);
    let read = |event| (vec![event], None);
    assert_eq!(client(b"\x81\x05Hello"), read(text("Hello")));
    assert_eq!(
        both_ways(server, &[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]),
        read(text("Hello"))
    );
    assert_eq!(client(b"\x01\x03Hel\x80\x02lo"), read(text("Hello")));
    assert_eq!(client(b"\x89\x05Hello"), read(ping(b"Hello")));
    assert_eq!(
        both_ways(server, &[0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]),
        read(Event::Pong(Bytes::from_static(b"Hello")))
    );
    let long = [&[0x82, 0x7e, 0x01, 0x00][..], &[7; 256]].concat();
    assert_eq!(client(&long), read(binary(&[7; 256])));
}

/// RFC 7692, 7.2.3: the frames as they stand there, from a server.
#[test]
fn the_examples_of_rfc_7692_are_read() {
    let client = |bytes: &[u8]| both_ways(|| Receiver::new(Role::Client, LIMITS, agreed()), bytes);
    let hello = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    for (frames, what) in [
        (&hello[..], "7.2.3.1"),
        (&[0x41, 0x03, 0xf2, 0x48, 0xcd, 0x80, 0x04, 0xc9, 0xc9, 0x07, 0x00], "7.2.3.1 in two"),
        (b"\xc1\x0b\x00\x05\x00\xfa\xffHello\x00", "7.2.3.3"),
        (&[0xc1, 0x08, 0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00], "7.2.3.4"),
        (b"\xc1\x0d\xf2\x48\x05\0\0\0\xff\xff\xca\xc9\xc9\x07\0", "7.2.3.5"),
        (b"\x41\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x80\x00", "7.2.3.6, ended by an empty frame"),
    ] {
        assert_eq!(client(frames), (vec![text("Hello")], None), "{what}");
    }
    assert_eq!(client(&[0xc1, 0x01, 0x00]), (vec![text("")], None), "7.2.3.6");
    let taking_over = [&hello[..], &[0xc1, 0x05, 0xf2, 0x00, 0x11, 0x00, 0x00]].concat();
    let refused = (vec![text("Hello")], Some(Violation::NotDeflate));
    assert_eq!(client(&taking_over), refused, "7.2.3.2, which was not agreed on");
}

#[test]
fn each_kind_of_frame_is_an_event() {
    let frames = [
        frame(0x81, "hé".as_bytes()),
        frame(0x82, &[0xff; 300]),
        frame(0x82, b""),
        frame(0x89, b"1"),
        frame(0x8a, b""),
        close(1000, b"bye"),
    ];
    let expected = [
        text("hé"),
        binary(&[0xff; 300]),
        binary(b""),
        ping(b"1"),
        Event::Pong(Bytes::new()),
        closing(1000, "bye"),
    ];
    assert_eq!(events(&frames), expected);
}

#[test]
fn fragments_become_one_message_with_control_frames_between() {
    let frames = [
        frame(0x01, b"one, "),
        frame(0x89, b"between"),
        frame(0x00, b""),
        frame(0x00, b"two, "),
        frame(0x8a, b""),
        frame(0x80, b"three"),
        frame(0x02, b""),
        frame(0x80, b""),
        frame(0x81, b"four"),
    ];
    let expected = [
        ping(b"between"),
        Event::Pong(Bytes::new()),
        text("one, two, three"),
        binary(b""),
        text("four"),
    ];
    assert_eq!(events(&frames), expected);
}

#[test]
fn fragments_out_of_order_are_refused() {
    for first in [0x00, 0x80] {
        assert_eq!(violation(&[frame(first, b"x")]), Violation::NothingToContinue);
        let ended = [frame(0x01, b"x"), frame(0x80, b"y"), frame(first, b"z")];
        assert_eq!(violation(&ended), Violation::NothingToContinue);
    }
    for first in [0x01, 0x02, 0x81, 0x82, 0xc1] {
        let inside = [frame(0x01, b"x"), frame(first, b"y")];
        assert_eq!(violation(&inside), Violation::MessageInMessage, "{first:#x}");
    }
}

#[test]
fn each_end_of_a_connection_masks_as_it_must() {
    let unmasked = [0x81, 0x01, b'x'];
    let broken = |violation| (vec![], Some(violation));
    assert_eq!(both_ways(server, &unmasked), broken(Violation::Unmasked));
    assert_eq!(both_ways(server, &[0x8a, 0x00]), broken(Violation::Unmasked));
    let client = || Receiver::new(Role::Client, LIMITS, None);
    assert_eq!(both_ways(client, &frame(0x81, b"x")), broken(Violation::Masked));
}

#[test]
fn a_compressed_bit_needs_an_agreement_and_a_message() {
    let compressed = compress(1, 15, b"x");
    let refused = (vec![], Some(Violation::ReservedBit));
    assert_eq!(both_ways(server, &frame(0xc1, &compressed)), refused, "not agreed on");
    for first in [0xc8, 0xc9, 0xca] {
        assert_eq!(violation(&[frame(first, b"")]), Violation::ReservedBit, "{first:#x}");
    }
    let continued = [frame(0x41, &compressed), frame(0xc0, b"")];
    assert_eq!(violation(&continued), Violation::ReservedBit);
    assert_eq!(events(&[frame(0x81, b"x")]), [text("x")], "a message may go without");
}

#[test]
fn a_compressed_message_is_inflated_over_its_fragments() {
    let plain = "all the same ".repeat(100);
    let compressed = compress(1, 15, plain.as_bytes());
    let (head, tail) = compressed.split_at(10);
    let frames = [frame(0x41, head), frame(0x89, b"1"), frame(0x00, b""), frame(0x80, tail)];
    assert_eq!(events(&frames), [ping(b"1"), text(&plain)]);
    assert_eq!(events(&[frame(0xc2, &compressed)]), [binary(plain.as_bytes())]);
    assert_eq!(events(&[frame(0xc1, b"")]), [text("")]);
}

#[test]
fn compressed_data_must_be_sound_and_its_text_text() {
    assert_eq!(violation(&[frame(0xc1, &[0xff; 9])]), Violation::NotDeflate);
    let not_text = compress(1, 15, &[b'x', 0xff]);
    assert_eq!(violation(&[frame(0xc1, &not_text)]), Violation::NotUtf8);
    assert_eq!(violation(&[frame(0x41, &not_text), frame(0x80, b"")]), Violation::NotUtf8);
    assert_eq!(events(&[frame(0xc2, &not_text)]), [binary(&[b'x', 0xff])]);
}

#[test]
fn text_may_be_cut_inside_a_character_and_must_be_whole_at_the_end() {
    let plain = "κόσμε, 🐦 \u{10ffff} \u{e000}";
    for at in 0..=plain.len() {
        let (head, tail) = plain.as_bytes().split_at(at);
        let frames = [frame(0x01, head), frame(0x89, b"1"), frame(0x80, tail)];
        assert_eq!(events(&frames), [ping(b"1"), text(plain)], "cut at {at}");
        if !plain.is_char_boundary(at) {
            assert_eq!(violation(&[frame(0x81, head)]), Violation::NotUtf8, "ends at {at}");
            let cut = [frame(0x01, head), frame(0x80, b"")];
            assert_eq!(violation(&cut), Violation::NotUtf8, "ends at {at}");
        }
    }
}

#[test]
fn what_is_not_text_is_refused_at_its_first_wrong_byte() {
    for (bytes, what) in [
        (&b"\xff"[..], "never in UTF-8"),
        (b"\xc0\xaf", "overlong"),
        (b"\xe0\x80\x80", "overlong"),
        (b"\xed\xa0\x80", "a surrogate"),
        (b"\xf4\x90\x80\x80", "above U+10FFFF"),
        (b"\x80", "a continuation byte alone"),
        (b"\xe2\x28\xa1", "a character broken off"),
    ] {
        assert_eq!(violation(&[frame(0x81, bytes)]), Violation::NotUtf8, "{what}");
        let mut receiver = server();
        let unfinished = frame(0x01, &[bytes, &[b'x'; 50]].concat());
        // The frame, and the message, would go on.
        let (_, broken) = receive(&mut receiver, &unfinished[..6 + bytes.len()]);
        assert_eq!(broken, Some(Violation::NotUtf8), "{what}");
    }
    assert_eq!(events(&[frame(0x82, b"\xff")]), [binary(b"\xff")]);
}

#[test]
fn a_close_frame_has_no_body_or_a_code_that_may_be_sent() {
    assert_eq!(events(&[frame(0x88, b"")]), [Event::Close(None)]);
    for code in [1000, 1001, 1002, 1003, 1007, 1010, 1011, 1013, 1014, 3000, 3500, 4000, 4999] {
        assert_eq!(events(&[close(code, b"")]), [closing(code, "")]);
    }
    let longest = "é".repeat(61) + "!";
    assert_eq!(events(&[close(3501, longest.as_bytes())]), [closing(3501, &longest)]);
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65_535] {
        assert_eq!(violation(&[close(code, b"")]), Violation::CloseCode, "{code}");
    }
    assert_eq!(violation(&[frame(0x88, &[3])]), Violation::ShortClose);
    assert_eq!(violation(&[close(1000, b"\xff")]), Violation::NotUtf8);
}

#[test]
fn after_a_close_frame_or_a_violation_nothing_is_read() {
    let behind_close = [frame(0x01, b"x"), close(1000, b""), frame(0x80, b"y"), vec![0xff; 9]];
    assert_eq!(events(&behind_close), [closing(1000, "")]);
    let mut receiver = server();
    assert_eq!(receive(&mut receiver, &[0xff]).1, Some(Violation::ReservedOpCode));
    assert_eq!(receive(&mut receiver, &frame(0x81, b"x")), (vec![], None));
    assert!(receiver.is_idle());
}

#[test]
fn a_message_may_be_as_long_as_the_limit_and_no_longer() {
    let full = vec![b'x'; LIMITS.message];
    let (head, tail) = full.split_at(400);
    assert_eq!(events(&[frame(0x82, &full)]), [binary(&full)]);
    assert_eq!(events(&[frame(0x02, head), frame(0x80, tail)]), [binary(&full)]);
    assert_eq!(events(&[frame(0x02, head), frame(0x00, tail), frame(0x80, b"")]), [binary(&full)]);
    let over = [full.clone(), vec![b'x']].concat();
    for first in [0x82, 0x81, 0x01, 0xc1] {
        assert_eq!(violation(&[frame(first, &over)]), Violation::TooBig, "{first:#x}");
    }
    let fragments = [frame(0x02, head), frame(0x00, tail), frame(0x80, b"x")];
    assert_eq!(violation(&fragments), Violation::TooBig);
    // A control frame is not part of a message.
    let between = [frame(0x02, head), frame(0x89, b"x"), frame(0x80, tail)];
    assert_eq!(events(&between), [ping(b"x"), binary(&full)]);
}

#[test]
fn the_header_alone_decides_that_a_frame_is_too_big() {
    let one_more = LIMITS.message as u16 + 1;
    let header = [&[0x82, 0xfe][..], &one_more.to_be_bytes(), &KEY].concat();
    assert_eq!(both_ways(server, &header), (vec![], Some(Violation::TooBig)));
    let huge = [&[0x82, 0xff][..], &i64::MAX.to_be_bytes(), &KEY].concat();
    assert_eq!(both_ways(server, &huge), (vec![], Some(Violation::TooBig)));
    let limits = Limits { message: usize::MAX, inflated: 0 };
    let mut receiver = Receiver::new(Role::Server, limits, None);
    assert_eq!(receive(&mut receiver, &huge), (vec![], None), "and takes no memory");
    assert_eq!(capacity(&receiver), 0);
}

#[test]
fn a_compressed_message_is_limited_before_and_after() {
    let bomb = compress(9, 15, &vec![b'a'; LIMITS.inflated + 1]);
    assert!(bomb.len() < LIMITS.message);
    assert_eq!(violation(&[frame(0xc1, &bomb)]), Violation::TooBigInflated);
    let full = vec![b'a'; LIMITS.inflated];
    assert_eq!(events(&[frame(0xc2, &compress(9, 15, &full))]), [binary(&full)]);
}

/// Bytes kept for payloads.
fn capacity(receiver: &Receiver) -> usize {
    receiver.partial.as_ref().map_or(0, |partial| {
        let message = partial.message.as_ref().map_or(0, |message| message.payload.capacity());
        message + partial.frame.as_ref().map_or(0, |frame| frame.control.capacity())
    })
}

#[test]
fn memory_grows_with_the_bytes_that_came_and_ends_with_the_message() {
    let limits = Limits { message: 1 << 20, inflated: 0 };
    let mut receiver = Receiver::new(Role::Server, limits, None);
    let frame = frame(0x82, &[7; 1 << 20]);
    let header = frame.len() - (1 << 20);
    for (at, piece) in frame.chunks(1_000).enumerate() {
        let (events, violation) = receive(&mut receiver, piece);
        assert_eq!(violation, None);
        let arrived = (at * 1_000 + piece.len()).saturating_sub(header);
        assert!(capacity(&receiver) <= 2 * arrived, "{} for {arrived}", capacity(&receiver));
        for event in events {
            let Event::Binary(payload) = event else { panic!("a binary message") };
            let owned: Vec<u8> = payload.into();
            assert_eq!((owned.len(), owned.capacity()), (1 << 20, 1 << 20), "no more than needed");
        }
    }
    assert!(receiver.is_idle());
}

#[test]
fn a_flood_of_empty_fragments_takes_no_memory() {
    let mut receiver = server();
    let (start, empty) = (frame(0x01, b"x"), frame(0x00, b""));
    assert_eq!(receive(&mut receiver, &start), (vec![], None));
    let before = capacity(&receiver);
    let flood = empty.repeat(10_000);
    assert_eq!(receive(&mut receiver, &flood), (vec![], None));
    assert_eq!(capacity(&receiver), before);
    assert_eq!(receive(&mut receiver, &frame(0x80, b"y")), (vec![text("xy")], None));
}

/// Otherwise a client could have megabytes copied for each that it sends.
#[test]
fn fragments_of_one_byte_do_not_move_the_message_each_time() {
    let mut payload = Vec::new();
    let mut moves = 0;
    for len in 1..=100_000 {
        let before = payload.capacity();
        grow(&mut payload, len, usize::MAX);
        moves += usize::from(payload.capacity() != before);
        payload.push(0);
    }
    assert!(moves < 20, "{moves} moves");
}

#[test]
fn nothing_is_kept_between_messages_however_they_came() {
    assert!(size_of::<Receiver>() <= 48, "{} bytes", size_of::<Receiver>());
    let messages = [
        vec![frame(0x81, b"x")],
        vec![frame(0x8a, b"")],
        vec![frame(0x01, b"x"), frame(0x89, b"1"), frame(0x80, b"y")],
        vec![frame(0xc1, &compress(1, 15, b"x"))],
    ];
    let mut receiver = deflating();
    for message in messages.map(|frames| frames.concat()) {
        assert_eq!(receive(&mut receiver, &message).1, None);
        assert!(receiver.is_idle());
        for byte in message.chunks(1) {
            assert!(receive(&mut receiver, byte).1.is_none());
        }
        assert!(receiver.is_idle(), "byte by byte");
    }
}

#[test]
fn an_event_is_taken_at_a_time_and_the_rest_stays() {
    let bytes = [frame(0x89, b"1"), frame(0x81, b"two"), vec![0x81]].concat();
    let mut input = &bytes[..];
    let mut receiver = server();
    assert_eq!(receiver.receive(&mut input), Ok(Some(ping(b"1"))));
    assert_eq!(input.len(), bytes.len() - 7);
    assert_eq!(receiver.receive(&mut input), Ok(Some(text("two"))));
    assert_eq!(input, [0x81]);
    assert_eq!(receiver.receive(&mut input), Ok(None));
    assert!(input.is_empty() && !receiver.is_idle());
    assert_eq!(receiver.receive(&mut input), Ok(None), "no input is not an end");
}

#[test]
fn what_a_peer_said_is_not_shown() {
    let shown = format!("{:?}", [text("secret"), binary(b"secret"), ping(b"secret")]);
    assert_eq!(shown, "[Text(6 bytes), Binary(6 bytes), Ping(6 bytes)]");
}

/// Frames of a client that mostly follow each other as they should, with some bytes replaced.
fn bytes_of_a_client() -> impl Strategy<Value = Vec<u8>> {
    let data = prop_oneof![
        "[a-zé🐦]{0,80}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..200),
        "[ab]{0,400}".prop_map(|text| compress(1, 15, text.as_bytes()).to_vec()),
    ];
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x82, 0xc1, 0xc2, 0x89, 0x8a]),
        4 => prop::sample::select(vec![0x01, 0x00, 0x80, 0x41]),
        1 => Just(0x88),
    ];
    let control = proptest::collection::vec(any::<u8>(), 0..125);
    let one = (first, data, control).prop_map(|(first, data, control)| {
        frame(first, if first & 0x08 == 0 { &data } else { &control })
    });
    let changes = proptest::collection::vec((any::<Index>(), any::<u8>()), 0..3);
    (proptest::collection::vec(one, 1..12), changes).prop_map(|(frames, changes)| {
        let mut bytes = frames.concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn how_the_bytes_are_cut_changes_nothing(
        bytes in bytes_of_a_client(),
        cuts in proptest::collection::vec(any::<Index>(), 0..12),
    ) {
        let whole = receive(&mut deflating(), &bytes);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let (mut receiver, mut events, mut violation) = (deflating(), Vec::new(), None);
        for cut in cuts.windows(2) {
            let (more, broken) = receive(&mut receiver, &bytes[cut[0]..cut[1]]);
            events.extend(more);
            violation = violation.or(broken);
        }
        prop_assert_eq!((events, violation), whole);
    }
}
