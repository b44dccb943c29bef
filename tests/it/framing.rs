//! Our receiver beside another one: the same bytes of a client go into `websocket::receive` and into
//! tungstenite, and where the two differ is written down here.

use std::io::{self, Cursor, Read, Write};

use bobolink::websocket::Violation;
use bobolink::websocket::frame::{Header, OpCode, mask};
use bobolink::websocket::receive::{Event, Limits, Receiver, Role};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{self, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, WebSocket};

/// Bytes of a message.
const LIMIT: usize = 1_000;

/// What came of some bytes.
#[derive(Debug)]
struct Received {
    seen: Vec<Seen>,
    end: End,
    /// What of our rules was broken.
    violation: Option<Violation>,
}

impl PartialEq for Received {
    /// Equal in what tungstenite shows as well.
    fn eq(&self, other: &Self) -> bool {
        (&self.seen, self.end) == (&other.seen, other.end)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was good so far.
    Open,
    Closed,
    /// With the code for the close frame.
    Broken(u16),
}

fn ours(mut bytes: &[u8]) -> Received {
    let limits = Limits { message: LIMIT, inflated: LIMIT };
    let mut receiver = Receiver::new(Role::Server, limits, None);
    let (mut seen, mut violation) = (Vec::new(), None);
    let end = loop {
        match receiver.receive(&mut bytes) {
            Ok(Some(Event::Text(payload))) => seen.push(Seen::Text(payload.into())),
            Ok(Some(Event::Binary(payload))) => seen.push(Seen::Binary(payload.into())),
            Ok(Some(Event::Ping(payload))) => seen.push(Seen::Ping(payload.into())),
            Ok(Some(Event::Pong(payload))) => seen.push(Seen::Pong(payload.into())),
            Ok(Some(Event::Close(reason))) => {
                seen.push(Seen::Close(reason.map(|reason| (reason.code, reason.reason))));
                break End::Closed;
            }
            Ok(None) => break End::Open,
            Err(broken) => {
                violation = Some(broken);
                break End::Broken(broken.close_code());
            }
        }
    };
    Received { seen, end, violation }
}

/// What tungstenite makes of them, with its answers thrown away.
fn theirs(bytes: &[u8]) -> Received {
    let config =
        WebSocketConfig::default().max_message_size(Some(LIMIT)).max_frame_size(Some(LIMIT));
    let stream = Peer(Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(stream, protocol::Role::Server, Some(config));
    let mut seen = Vec::new();
    let end = loop {
        match socket.read() {
            Ok(Message::Text(text)) => seen.push(Seen::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(payload)) => seen.push(Seen::Binary(payload.into())),
            Ok(Message::Ping(payload)) => seen.push(Seen::Ping(payload.into())),
            Ok(Message::Pong(payload)) => seen.push(Seen::Pong(payload.into())),
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                seen.push(Seen::Close(frame));
                break End::Closed;
            }
            Ok(Message::Frame(_)) => unreachable!("reading gives messages"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break End::Open,
            Err(Error::Protocol(_)) => break End::Broken(1002),
            Err(Error::Utf8(_)) => break End::Broken(1007),
            Err(Error::Capacity(_)) => break End::Broken(1009),
            Err(error) => panic!("no such error is known: {error:?}"),
        }
    };
    Received { seen, end, violation: None }
}

struct Peer(Cursor<Vec<u8>>);

impl Read for Peer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn frame(fin: bool, opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let key = [1, 20, 0xff, 0x80];
    let len = payload.len() as u64;
    let mut bytes = Vec::new();
    Header { fin, compressed: false, opcode, mask: Some(key), len }.put(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask(key, 0, &mut bytes[start..]);
    bytes
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(true, OpCode::Close, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A message in fragments, cut anywhere, with control frames between them.
fn message() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let text = "[a-zé€🐦]{0,60}".prop_map(|text| (OpCode::Text, text.into_bytes()));
    let payload = proptest::collection::vec(any::<u8>(), 0..150);
    let binary = payload.prop_map(|payload| (OpCode::Binary, payload));
    let fragment = (any::<Index>(), proptest::option::weighted(0.3, control()));
    let fragments = proptest::collection::vec(fragment, 0..4);
    (prop_oneof![text, binary], fragments).prop_map(|((opcode, payload), fragments)| {
        let mut cuts: Vec<_> =
            fragments.iter().map(|(cut, _)| cut.index(payload.len() + 1)).collect();
        cuts.extend([0, payload.len()]);
        cuts.sort_unstable();
        let last = cuts.len() - 2;
        let mut frames = Vec::new();
        for (at, cut) in cuts.windows(2).enumerate() {
            let opcode = if at == 0 { opcode } else { OpCode::Continuation };
            frames.push(frame(at == last, opcode, &payload[cut[0]..cut[1]]));
            frames.extend(fragments.get(at).and_then(|(_, control)| control.clone()));
        }
        frames
    })
}

fn control() -> impl Strategy<Value = Vec<u8>> {
    let opcode = select(vec![OpCode::Ping, OpCode::Pong]);
    let payload = proptest::collection::vec(any::<u8>(), 0..=125);
    (opcode, payload).prop_map(|(opcode, payload)| frame(true, opcode, &payload))
}

/// What a client may send, frame by frame.
fn conversation() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let some = prop_oneof![3 => message(), 1 => control().prop_map(|frame| vec![frame])];
    let reason = (select(vec![1000_u16, 1001, 1007, 1011, 3000, 3501, 4999]), "[a-zé]{0,60}")
        .prop_map(|(code, reason)| close(code, &reason));
    let ending = prop_oneof![reason, Just(frame(true, OpCode::Close, b""))];
    let messages = proptest::collection::vec(some, 0..6);
    (messages, proptest::option::of(ending))
        .prop_map(|(messages, ending)| messages.into_iter().flatten().chain(ending).collect())
}

/// Frames that may not come anywhere, or not in a certain place, and a few that may.
fn odd_frame() -> impl Strategy<Value = Vec<u8>> {
    let frames = vec![
        frame(true, OpCode::Continuation, b"x"),
        frame(false, OpCode::Continuation, b"x"),
        frame(true, OpCode::Text, b"x"),
        frame(false, OpCode::Binary, b""),
        frame(true, OpCode::Text, b"\xff"),
        frame(true, OpCode::Text, b"\xf0\x9f"),
        frame(false, OpCode::Text, b"\xf0\x9f"),
        frame(true, OpCode::Continuation, b"\x80"),
        frame(true, OpCode::Close, b"\x03"),
        frame(true, OpCode::Close, b"\x03\xe8\xff"),
        frame(false, OpCode::Ping, b""),
        frame(true, OpCode::Ping, &[0; 126]),
        frame(true, OpCode::Binary, &[0; LIMIT]),
        frame(true, OpCode::Binary, &[0; LIMIT + 1]),
        frame(false, OpCode::Text, &[b'x'; LIMIT]),
        frame(true, OpCode::Continuation, &[b'x'; LIMIT]),
        [0x81, 0x01, b'x'].to_vec(),
        [0x89, 0x00].to_vec(),
        [0xc1, 0x80, 0, 0, 0, 0].to_vec(),
        [0xa1, 0x80, 0, 0, 0, 0].to_vec(),
        [0x99, 0x80, 0, 0, 0, 0].to_vec(),
        [0x83, 0x80, 0, 0, 0, 0].to_vec(),
        [0x8b, 0x80, 0, 0, 0, 0].to_vec(),
    ];
    select(frames)
}

proptest! {
    #[test]
    fn what_a_client_may_send_is_received_alike(frames in conversation()) {
        let received = ours(&frames.concat());
        prop_assert!(!matches!(received.end, End::Broken(_)));
        prop_assert_eq!(received, theirs(&frames.concat()));
    }

    #[test]
    fn what_a_client_may_not_send_is_refused_alike(
        mut frames in conversation(),
        odd in odd_frame(),
        at in any::<Index>(),
    ) {
        frames.insert(at.index(frames.len() + 1), odd);
        let (ours, theirs) = both(&frames.concat());
        prop_assert_eq!(ours, theirs);
    }

    /// With some bytes changed, we see what tungstenite sees, but for the differences below.
    #[test]
    fn changed_bytes_are_received_alike(
        frames in conversation(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = frames.concat();
        for (at, byte) in changes {
            let at = at.index(bytes.len().max(1));
            bytes.get_mut(at).into_iter().for_each(|old| *old = byte);
        }
        // Enough that no frame waits for its end, and something that is refused behind it.
        bytes.extend([0; LIMIT + 14]);
        let (ours, theirs) = both(&bytes);
        match ours.violation {
            Some(Violation::Length | Violation::CloseCode) => {
                prop_assert!(theirs.seen.starts_with(&ours.seen), "{ours:?}, but {theirs:?}");
            }
            _ if matches!(ours.seen.last(), Some(Seen::Close(Some((1014, _))))) => {
                prop_assert_eq!(theirs.end, End::Closed);
            }
            _ => prop_assert_eq!(ours, theirs),
        }
    }
}

/// What both make of some bytes. Something that is too big and in the wrong place is both: tungstenite
/// looks at the size first, and here that is no difference.
fn both(bytes: &[u8]) -> (Received, Received) {
    let (ours, mut theirs) = (ours(bytes), theirs(bytes));
    if ours.end == End::Broken(1002) && theirs.end == End::Broken(1009) {
        theirs.end = ours.end;
    }
    (ours, theirs)
}

/// Where we are stricter: tungstenite takes these, and we refuse them.
#[test]
fn what_tungstenite_takes_and_we_refuse_is_known() {
    let check = |bytes: &[u8], taken: Vec<Seen>, violation| {
        let theirs = theirs(bytes);
        assert!(matches!(theirs.end, End::Open | End::Closed), "{bytes:?}");
        assert_eq!(theirs.seen, taken, "{bytes:?}");
        let ours = ours(bytes);
        assert_eq!((ours.seen, ours.violation), (Vec::new(), Some(violation)), "{bytes:?}");
    };
    // A length that could be written shorter (RFC 6455, 5.2).
    for bytes in [
        &[0x82, 0xfe, 0, 1, 0, 0, 0, 0, b'x'][..],
        &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x'],
    ] {
        check(bytes, vec![Seen::Binary(b"x".to_vec())], Violation::Length);
    }
    // A code that no peer may send (7.4), which tungstenite shows as 1002.
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        check(&close(code, ""), vec![bad_code()], Violation::CloseCode);
    }
    // A frame that is not all there, and already cannot be: tungstenite waits for the rest.
    for (bytes, violation) in [
        (&[0x83][..], Violation::ReservedOpCode),
        (&[0x81, 0x05, b'H'], Violation::Unmasked),
        (&[0x80, 0x85, 0, 0, 0, 0, b'H'], Violation::NothingToContinue),
        (&[0x81, 0x85, 0, 0, 0, 0, 0xff], Violation::NotUtf8),
    ] {
        check(bytes, Vec::new(), violation);
    }
}

/// Where we are looser: 1014 was registered after the RFC.
#[test]
fn what_we_take_and_tungstenite_refuses_is_known() {
    let bytes = close(1014, "");
    assert_eq!(ours(&bytes).seen, [Seen::Close(Some((1014, String::new())))]);
    assert_eq!(theirs(&bytes).seen, [bad_code()]);
}

/// How tungstenite shows a close frame with a code that it does not take.
fn bad_code() -> Seen {
    Seen::Close(Some((1002, "Protocol violation".to_owned())))
}
