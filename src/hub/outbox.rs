//! What waits to be done for one connection: messages to write, signals to act on, a reason to close.
//!
//! Producers (broadcast, commands, the API, the timing wheel) only ever append here under a short
//! lock and wake the connection's one task, which drains everything that has gathered in a single
//! write. An idle connection's outbox owns no heap memory.

use std::collections::VecDeque;
use std::mem;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::delay::WriteDelay;
use super::message::Message;
use super::signal::Signal;
use crate::protocol::codes::Disconnect;

/// How many signals may wait for one connection. Each subscription raises at most one of its own,
/// so only a flood of API calls about a single connection comes near; past it the connection closes.
const MAX_SIGNALS: usize = 4_096;

/// What a message costs beside its payload, counted with each so that tiny ones cannot pile up.
const MESSAGE_BYTES: usize = 32;

/// Messages and signals for one connection, bounded by `client.queue_max_size` bytes.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct Inner {
    messages: VecDeque<Message>,
    bytes: usize,
    signals: Vec<Signal>,
    rung: bool,
    closing: Option<Disconnect>,
    waker: Option<Waker>,
    /// The connection's task was woken and has not looked since.
    woken: bool,
    /// The connection's task will be woken when the delay of its messages is over.
    delayed: bool,
}

/// What the connection's task can take now.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The last messages are written.
    pub messages: bool,
    /// The last signals are acted on.
    pub signals: bool,
}

impl Wanted {
    pub const ALL: Self = Self { messages: true, signals: true };
}

/// What had gathered when the connection's task looked.
#[derive(Debug, Default)]
pub struct Drained {
    /// Complete encoded messages, in order.
    pub messages: VecDeque<Message>,
    /// Things for the session to do, in order.
    pub signals: Vec<Signal>,
    /// A deadline may be due.
    pub rung: bool,
    /// Set once: write `messages`, then close. Nothing is queued after it.
    pub closing: Option<Disconnect>,
}

impl Outbox {
    /// An empty outbox that takes at most `max_bytes` of messages.
    pub fn new(max_bytes: usize) -> Self {
        Self { inner: Mutex::default(), max_bytes }
    }

    /// Queues a message. Past the bound the connection is a slow consumer: what waits is dropped and
    /// it closes with 3008. After a close nothing is taken.
    pub fn push(&self, message: Message) {
        let mut inner = self.inner.lock();
        inner.push(message, self.max_bytes);
        inner.wake();
    }

    /// Queues a message that may wait for others until `delay` has passed.
    pub fn push_delayed(&self, message: Message, delay: &WriteDelay) {
        let mut inner = self.inner.lock();
        inner.push(message, self.max_bytes);
        if inner.closing.is_some() {
            inner.wake();
        } else if !inner.delayed
            && !inner.woken
            && let Some(waker) = &inner.waker
        {
            // The waker stays for what is not delayed.
            delay.wake_later(waker.clone());
            inner.delayed = true;
        }
    }

    /// Queues something for the session to do.
    pub fn signal(&self, signal: Signal) {
        let mut inner = self.inner.lock();
        if inner.closing.is_some() {
            return;
        }
        if inner.signals.len() >= MAX_SIGNALS {
            inner.closing = Some(Disconnect::SLOW);
        } else {
            inner.signals.push(signal);
        }
        inner.wake();
    }

    /// Says that a deadline of the connection may be due.
    pub fn ring(&self) {
        let mut inner = self.inner.lock();
        inner.rung = true;
        inner.wake();
    }

    /// Closes the connection after what is queued is written; the first reason given stays.
    pub fn close(&self, reason: Disconnect) {
        let mut inner = self.inner.lock();
        if inner.closing.is_none() {
            inner.closing = Some(reason);
            inner.wake();
        }
    }

    /// Bytes that wait to be taken by the connection's task.
    pub fn bytes(&self) -> usize {
        self.inner.lock().bytes
    }

    /// Whether a close was asked for.
    pub fn is_closing(&self) -> bool {
        self.inner.lock().closing.is_some()
    }

    /// Waits until there is anything of what is wanted, and takes it. A close is always wanted, and
    /// everything queued before it comes along.
    pub fn poll_drain(&self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<Drained> {
        let mut inner = self.inner.lock();
        let wanted = if inner.closing.is_some() { Wanted::ALL } else { wanted };
        let something = inner.closing.is_some()
            || inner.rung
            || (wanted.messages && !inner.messages.is_empty())
            || (wanted.signals && !inner.signals.is_empty());
        if !something {
            inner.woken = false;
            match &mut inner.waker {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        }
        let mut drained = Drained {
            rung: mem::take(&mut inner.rung),
            closing: inner.closing.clone(),
            ..Drained::default()
        };
        if wanted.messages {
            inner.bytes = 0;
            inner.delayed = false;
            drained.messages = mem::take(&mut inner.messages);
        }
        if wanted.signals {
            drained.signals = mem::take(&mut inner.signals);
        }
        Poll::Ready(drained)
    }

    /// Takes the messages that are left, for the last write.
    pub fn take_messages(&self) -> VecDeque<Message> {
        let mut inner = self.inner.lock();
        inner.bytes = 0;
        mem::take(&mut inner.messages)
    }
}

impl Inner {
    fn push(&mut self, message: Message, max_bytes: usize) {
        if self.closing.is_some() {
            return;
        }
        self.bytes += message.payload().len() + MESSAGE_BYTES;
        if self.bytes > max_bytes {
            self.messages = VecDeque::new();
            self.bytes = 0;
            self.closing = Some(Disconnect::SLOW);
        } else {
            self.messages.push_back(message);
        }
    }

    fn wake(&mut self) {
        if !self.woken
            && let Some(waker) = &self.waker
        {
            self.woken = true;
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::frame::Codec;

    fn message(payload: &[u8]) -> Message {
        Message::new(Codec::Json, payload)
    }

    fn payloads(drained: &Drained) -> Vec<&[u8]> {
        drained.messages.iter().map(Message::payload).collect()
    }

    fn drain(outbox: &Outbox) -> Option<Drained> {
        match outbox.poll_drain(&mut Context::from_waker(Waker::noop()), Wanted::ALL) {
            Poll::Ready(drained) => Some(drained),
            Poll::Pending => None,
        }
    }

    #[test]
    fn messages_come_out_in_order_and_once() {
        let outbox = Outbox::new(1_024);
        outbox.push(message(b"a"));
        outbox.push(message(b"b"));
        assert_eq!(payloads(&drain(&outbox).unwrap()), [b"a", b"b"]);
        assert!(drain(&outbox).is_none());
    }

    #[test]
    fn a_queue_over_its_bound_drops_everything_and_closes_as_slow() {
        let outbox = Outbox::new(100);
        outbox.push(message(&[0; 60]));
        outbox.push(message(&[0; 60]));
        outbox.push(message(b"late"));
        let drained = drain(&outbox).unwrap();
        assert!(drained.messages.is_empty());
        assert_eq!(drained.closing, Some(Disconnect::SLOW));
    }

    #[test]
    fn the_bound_counts_more_than_payloads() {
        let outbox = Outbox::new(10 * MESSAGE_BYTES);
        (0..10).for_each(|_| outbox.push(message(b"x")));
        assert_eq!(drain(&outbox).unwrap().closing, Some(Disconnect::SLOW));
    }

    #[test]
    fn what_was_queued_before_a_close_is_kept_and_the_first_reason_stays() {
        let outbox = Outbox::new(1_024);
        outbox.push(message(b"last words"));
        outbox.close(Disconnect::SHUTDOWN);
        outbox.close(Disconnect::INTERNAL);
        outbox.push(message(b"too late"));
        let drained = drain(&outbox).unwrap();
        assert_eq!(payloads(&drained), [b"last words"]);
        assert_eq!(drained.closing, Some(Disconnect::SHUTDOWN));
    }
}
