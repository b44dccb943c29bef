//! What comes in over one socket: bytes until there is a message.
//!
//! A socket is read into a buffer of the thread, so a connection that waits holds none. Bytes behind
//! the first message are kept until the connection comes back for them.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};

use crate::websocket::Violation;
use crate::websocket::receive::{Event, Receiver};

/// Bytes read by one system call at most.
const READ_BYTES: usize = 16 * 1_024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// The receiving side of a connection.
pub struct Incoming {
    receiver: Receiver,
    unread: Bytes,
}

/// Why nothing more comes in.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the stream ended")]
    Eof,
}

impl Incoming {
    /// `early` is what came in before anybody asked.
    pub fn new(receiver: Receiver, early: Bytes) -> Self {
        Self { receiver, unread: early }
    }

    /// The next message or control frame.
    pub fn poll_event<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Event, Ended>> {
        if !self.unread.is_empty() {
            let mut rest = &self.unread[..];
            let event = self.receiver.receive(&mut rest)?;
            let taken = self.unread.len() - rest.len();
            self.unread.advance(taken);
            if self.unread.is_empty() {
                self.unread = Bytes::new();
            }
            if let Some(event) = event {
                return Poll::Ready(Ok(event));
            }
        }
        READ.with_borrow_mut(|buffer| {
            loop {
                let mut buffer = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *socket).poll_read(cx, &mut buffer))?;
                let mut rest = buffer.filled();
                if rest.is_empty() {
                    return Poll::Ready(Err(Ended::Eof));
                }
                if let Some(event) = self.receiver.receive(&mut rest)? {
                    self.unread = Bytes::copy_from_slice(rest);
                    return Poll::Ready(Ok(event));
                }
            }
        })
    }
}
