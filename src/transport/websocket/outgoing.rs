//! What goes out over one socket: messages joined into frames, many frames into one system call.
//!
//! What is joined is remembered by the thread that joined it: the subscribers of a busy channel
//! mostly wait for the same messages, and the second of them gets the first one's bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::hub::{Compression, Message};
use crate::protocol::frame::Codec;

/// Messages joined into one frame at most, as Centrifugo does.
const MESSAGES_PER_FRAME: usize = 16;
/// Bytes joined for one system call. Far more than a socket takes at once saves nothing, and what
/// was joined is a copy.
const BATCH_BYTES: usize = 32 * 1_024;

/// Messages and control frames that are to be written, in order. Holds no memory when there are none.
#[derive(Debug)]
pub struct Outgoing {
    codec: Codec,
    compression: Option<Compression>,
    messages: VecDeque<Message>,
    /// Whole control frames. They go between two batches.
    control: Option<Box<BytesMut>>,
    /// What the socket is to take next; may begin inside a frame.
    batch: Bytes,
    written: u64,
}

impl Outgoing {
    pub fn new(codec: Codec, compression: Option<Compression>) -> Self {
        Self {
            codec,
            compression,
            messages: VecDeque::new(),
            control: None,
            batch: Bytes::new(),
            written: 0,
        }
    }

    /// Adds messages behind those that wait.
    pub fn extend(&mut self, messages: VecDeque<Message>) {
        if self.messages.is_empty() {
            self.messages = messages;
        } else {
            self.messages.extend(messages);
        }
    }

    /// Adds a whole control frame. It may overtake messages.
    pub fn push_control(&mut self, frame: &[u8]) {
        self.control.get_or_insert_default().extend_from_slice(frame);
    }

    /// Drops the messages that were not begun.
    pub fn clear_messages(&mut self) {
        self.messages = VecDeque::new();
    }

    /// How many bytes the socket has taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Writes until everything is in the socket.
    pub fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.batch.is_empty() && !self.begin_batch() {
                return Pin::new(socket).poll_flush(cx);
            }
            let count = ready!(Pin::new(&mut *socket).poll_write(cx, &self.batch))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count as u64;
            self.batch.advance(count);
        }
    }

    /// Makes the next batch; `false` if there is nothing to write.
    fn begin_batch(&mut self) -> bool {
        if let Some(control) = self.control.take() {
            self.batch = control.freeze();
        } else if self.messages.len() > 1 {
            self.batch = joined(self.codec, self.compression, &mut self.messages);
        } else if let Some(only) = self.messages.pop_front() {
            self.batch = only.frame(self.compression);
        } else {
            // The last batch may be a part of something large.
            self.batch = Bytes::new();
            self.messages = VecDeque::new();
            return false;
        }
        true
    }
}

/// The batch that a thread joined last.
#[derive(Default)]
struct Remembered {
    messages: Vec<Message>,
    compression: Option<Compression>,
    batch: Bytes,
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = RefCell::default();
}

/// Takes messages from the front, as many as one batch carries.
fn joined(
    codec: Codec,
    compression: Option<Compression>,
    messages: &mut VecDeque<Message>,
) -> Bytes {
    let mut bytes = 0;
    let fits = |message: &&Message| {
        let fits = bytes < BATCH_BYTES;
        bytes += message.payload().len();
        fits
    };
    let count = messages.iter().take_while(fits).count();
    // A thread keeps a batch until the next one, so it must not be large: the last message may be.
    let is_small = messages.iter().take(count).all(|message| message.payload().len() < BATCH_BYTES);
    if !is_small || !messages.front().is_some_and(Message::is_shared) {
        return join(codec, compression, &messages.drain(..count).collect::<Vec<_>>());
    }
    REMEMBERED.with_borrow_mut(|last| {
        let same = last.messages.len() == count
            && last.compression == compression
            && last.messages.iter().zip(&*messages).all(|(last, now)| last.is(now));
        if same {
            messages.drain(..count);
            return last.batch.clone();
        }
        last.messages.clear();
        last.messages.extend(messages.drain(..count));
        last.compression = compression;
        last.batch = join(codec, compression, &last.messages);
        last.batch.clone()
    })
}

fn join(codec: Codec, compression: Option<Compression>, messages: &[Message]) -> Bytes {
    if let [only] = messages {
        return only.frame(compression);
    }
    if messages.len() <= MESSAGES_PER_FRAME {
        return Message::join(codec, messages).frame(compression);
    }
    let mut batch = BytesMut::with_capacity(BATCH_BYTES);
    for of_frame in messages.chunks(MESSAGES_PER_FRAME) {
        batch.extend_from_slice(&join(codec, compression, of_frame));
    }
    batch.freeze()
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::websocket::deflate;
    use crate::websocket::frame::{OpCode, server_header};
    use crate::websocket::receive::{Event, Limits, Receiver, Role};

    /// Takes at most `most` bytes at a time, and every other time none.
    struct Socket {
        most: usize,
        taken: Vec<u8>,
        writes: usize,
        full: bool,
    }

    impl Socket {
        fn taking(most: usize) -> Self {
            Self { most, taken: Vec::new(), writes: 0, full: true }
        }
    }

    impl AsyncWrite for Socket {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.full = !self.full;
            if self.full {
                return Poll::Pending;
            }
            self.writes += 1;
            let count = bytes.len().min(self.most);
            self.taken.extend_from_slice(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn write_all(outgoing: &mut Outgoing, socket: &mut Socket) {
        let mut cx = Context::from_waker(Waker::noop());
        while outgoing.poll_write(socket, &mut cx).is_pending() {}
    }

    fn messages(codec: Codec, payloads: &[Vec<u8>]) -> VecDeque<Message> {
        payloads.iter().map(|payload| Message::new(codec, payload)).collect()
    }

    fn compressing() -> (deflate::Agreed, Compression) {
        let agreed = deflate::negotiate(["permessage-deflate"].into_iter()).expect("agreed");
        let window_bits = agreed.window_bits();
        (agreed, Compression { level: 1, window_bits, min_size: 0 })
    }

    /// What a client makes of the bytes.
    fn received(bytes: &[u8], deflate: Option<deflate::Agreed>) -> Vec<Event> {
        let limits = Limits { message: 1 << 20, inflated: 1 << 20 };
        let mut receiver = Receiver::new(Role::Client, limits, deflate);
        let mut rest = bytes;
        let next = || receiver.receive(&mut rest).expect("valid frames");
        std::iter::from_fn(next).collect()
    }

    fn text(event: &Event) -> &[u8] {
        match event {
            Event::Text(payload) => payload,
            other => panic!("not a text: {other:?}"),
        }
    }

    #[test]
    fn what_waits_leaves_in_one_write_with_at_most_16_messages_a_frame() {
        let payloads: Vec<_> = (0..40).map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect();
        let mut outgoing = Outgoing::new(Codec::Json, None);
        outgoing.extend(messages(Codec::Json, &payloads));
        let mut socket = Socket::taking(usize::MAX);
        write_all(&mut outgoing, &mut socket);
        assert_eq!(socket.writes, 1);
        let events = received(&socket.taken, None);
        let lines = |event| text(event).split(|byte| *byte == b'\n').count();
        assert_eq!(events.iter().map(lines).collect::<Vec<_>>(), [16, 16, 8]);
    }

    #[test]
    fn one_batch_is_no_longer_than_is_worth_copying() {
        let payloads = vec![vec![b'1'; BATCH_BYTES / 4]; 9];
        let mut outgoing = Outgoing::new(Codec::Json, None);
        outgoing.extend(messages(Codec::Json, &payloads));
        let mut socket = Socket::taking(usize::MAX);
        write_all(&mut outgoing, &mut socket);
        assert_eq!(socket.writes, 3);
    }

    #[test]
    fn subscribers_with_the_same_messages_share_what_was_joined() {
        let shared = messages(Codec::Json, &[b"1".to_vec(), b"2".to_vec()]);
        let other = messages(Codec::Json, &[b"1".to_vec(), b"2".to_vec()]);
        let kept = (shared.clone(), other.clone());
        let join = |mut messages| joined(Codec::Json, None, &mut messages);
        let (first, second, third) = (join(shared.clone()), join(shared), join(other));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_ne!(first.as_ptr(), third.as_ptr(), "equal, but not the same");
        assert_eq!(first, third);
        drop(kept);
    }

    #[test]
    fn what_was_joined_for_one_kind_of_client_is_not_for_another() {
        let shared = messages(Codec::Json, &[b"1".to_vec(), b"2".to_vec()]);
        let (agreed, compression) = compressing();
        let plain = joined(Codec::Json, None, &mut shared.clone());
        let compressed = joined(Codec::Json, Some(compression), &mut shared.clone());
        assert_eq!(text(&received(&plain, None)[0]), b"1\n2");
        assert_eq!(text(&received(&compressed, Some(agreed))[0]), b"1\n2");
        assert_ne!(plain, compressed);
    }

    #[test]
    fn a_message_is_compressed_once_and_only_from_the_smallest_size_on() {
        let (agreed, compression) = compressing();
        let long = Message::new(Codec::Json, &[b'7'; 1_000]);
        let frame = long.frame(Some(compression));
        assert!(frame.len() < 100);
        assert_eq!(frame.as_ptr(), long.frame(Some(compression)).as_ptr());
        assert_eq!(text(&received(&frame, Some(agreed))[0]), [b'7'; 1_000]);
        let above = Some(Compression { min_size: 1_001, ..compression });
        assert_eq!(long.frame(above), long.frame(None));
        let narrow = Some(Compression { window_bits: 9, ..compression });
        let narrow = long.frame(narrow);
        assert_eq!(text(&received(&narrow, Some(agreed))[0]), [b'7'; 1_000]);
    }

    #[test]
    fn a_control_frame_goes_between_batches_and_never_into_a_frame() {
        let mut outgoing = Outgoing::new(Codec::Protobuf, None);
        outgoing.extend(messages(Codec::Protobuf, &vec![vec![1; 500]; 200]));
        let mut socket = Socket::taking(700);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(outgoing.poll_write(&mut socket, &mut cx).is_pending());
        outgoing.push_control(&[&*server_header(OpCode::Pong, false, 2), b"hi"].concat());
        write_all(&mut outgoing, &mut socket);
        let events = received(&socket.taken, None);
        let is_pong = |event: &Event| matches!(event, Event::Pong(payload) if payload == "hi");
        let at = events.iter().position(is_pong).expect("a pong");
        assert!(0 < at && at < events.len() - 1, "at {at} of {}", events.len());
    }

    proptest! {
        #[test]
        fn every_message_arrives_whole_and_in_order_however_the_socket_takes_them(
            payloads in prop::collection::vec("[0-9]{1,300}", 1..60),
            most in 1_usize..4_000,
            compress in any::<bool>(),
        ) {
            let (agreed, compression) = compressing();
            let (agreed, compression) =
                if compress { (Some(agreed), Some(compression)) } else { (None, None) };
            let mut outgoing = Outgoing::new(Codec::Json, compression);
            let bytes: Vec<_> = payloads.iter().map(|text| text.clone().into_bytes()).collect();
            outgoing.extend(messages(Codec::Json, &bytes));
            let mut socket = Socket::taking(most);
            write_all(&mut outgoing, &mut socket);
            prop_assert_eq!(outgoing.written(), socket.taken.len() as u64);
            let events = received(&socket.taken, agreed);
            let lines: Vec<_> = events.iter().map(text).collect();
            prop_assert_eq!(lines.join(&b'\n'), payloads.join("\n").into_bytes());
        }
    }
}
