//! A WebSocket connection: one loop in one task, from the upgrade to the last byte.
//!
//! The loop writes what the outbox gathered (everything that waits, joined into few frames and one
//! system call), acts on signals, and reads the next frame only when the commands of the last one
//! are done. A connection that waits holds a socket, this future and an empty outbox: work on a
//! frame and everything rare is boxed while it lasts.

mod incoming;
mod outgoing;

use std::future::poll_fn;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, timeout};

use self::incoming::{Ended, Incoming};
use self::outgoing::Outgoing;
use super::socket::Socket;
use crate::hub::{Compression, Drained, Wanted};
use crate::protocol::codes::Disconnect;
use crate::session::{Flow, Session};
use crate::websocket::Violation;
use crate::websocket::deflate::Agreed;
use crate::websocket::frame::{OpCode, server_header};
use crate::websocket::receive::{self, CloseReason, Limits, Receiver, Role};

/// How long a client may take to receive what is left and the close frame, and then again to close
/// its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limits and habits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketSettings {
    /// Bytes of one incoming message; a larger one closes with 1009.
    pub message_size_limit: usize,
    /// The same after decompression.
    pub inflated_size_limit: usize,
    /// How long a write may be stuck, without one byte that goes out, before the connection is given
    /// up; zero for no limit.
    pub write_timeout: Duration,
    /// How to compress for clients that offer to decompress; `None` to compress for nobody.
    pub compression: Option<CompressionSettings>,
}

/// How the server compresses.
#[derive(Clone, Copy, Debug)]
pub struct CompressionSettings {
    /// 1 (fastest) to 9 (smallest).
    pub level: u32,
    /// Payloads with fewer bytes go as they are.
    pub min_size: usize,
}

/// An upgraded connection: a future that ends when it does. Written by hand, since there is one for
/// each idle connection and an `async fn` holds its arguments twice.
pub struct WebSocket(Life);

#[expect(clippy::large_enum_variant, reason = "nearly all there are, are open")]
enum Life {
    Open(Connection),
    /// Saying goodbye and undoing what the session had.
    Closing(BoxFuture<'static, ()>),
    Closed,
}

impl WebSocket {
    /// Begins with `early`, which came in behind the handshake.
    pub fn new(
        socket: Socket,
        early: Bytes,
        deflate: Option<Agreed>,
        session: Arc<Session>,
        settings: WebSocketSettings,
    ) -> Self {
        session.arm();
        // Armed first: a stop that comes after this look finds the connection.
        if session.hard().is_cancelled() {
            return Self(Life::Closed);
        }
        Self(Life::Open(Connection::new(socket, early, deflate, session, settings)))
    }
}

impl Future for WebSocket {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.0 {
                Life::Open(connection) => {
                    let end = ready!(connection.poll_end(cx));
                    if let Life::Open(connection) = mem::replace(&mut self.0, Life::Closed) {
                        self.0 = Life::Closing(Box::pin(connection.finish(end)));
                    }
                }
                Life::Closing(goodbye) => {
                    ready!(goodbye.as_mut().poll(cx));
                    self.0 = Life::Closed;
                }
                Life::Closed => return Poll::Ready(()),
            }
        }
    }
}

struct Connection {
    socket: Socket,
    session: Arc<Session>,
    write_timeout: Duration,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The last event was from the outbox: it is the client's turn.
    has_drained: bool,
    /// A pong waits to be written. Nothing is read before it is in the socket: a client that pings
    /// and does not read would have its pongs pile up.
    owes_pong: bool,
    /// There while not everything could be written at once.
    stuck: Option<Box<Stuck>>,
    /// The commands of the last frame, until they are done.
    work: Option<BoxFuture<'static, Flow>>,
    /// What signals asked for, until it is done.
    chores: Option<BoxFuture<'static, ()>>,
}

/// How far a write had come when it last did.
struct Stuck {
    written: u64,
    limit: Pin<Box<Sleep>>,
}

/// Why the loop ended.
enum End {
    /// The client is to be told why.
    Close(Disconnect),
    /// The client broke a rule of WebSocket itself: a message too large, a frame that cannot be.
    Violation(Violation),
    /// The connect command was answered with an error: the client is to leave.
    Refused,
    /// The client said goodbye.
    Left(Option<CloseReason>),
    /// The client cannot be reached.
    Gone(Disconnect),
}

enum Event {
    Drained(Drained),
    Worked(Flow),
    ChoresDone,
    Incoming(Result<receive::Event, Ended>),
    Unwritable,
}

impl Connection {
    fn new(
        socket: Socket,
        early: Bytes,
        deflate: Option<Agreed>,
        session: Arc<Session>,
        settings: WebSocketSettings,
    ) -> Self {
        let limits =
            Limits { message: settings.message_size_limit, inflated: settings.inflated_size_limit };
        let compression = deflate.zip(settings.compression).map(|(agreed, how)| Compression {
            level: how.level,
            window_bits: agreed.window_bits(),
            min_size: how.min_size,
        });
        Self {
            socket,
            write_timeout: settings.write_timeout,
            incoming: Incoming::new(Receiver::new(Role::Server, limits, deflate), early),
            outgoing: Outgoing::new(session.codec(), compression),
            session,
            has_drained: false,
            owes_pong: false,
            stuck: None,
            work: None,
            chores: None,
        }
    }

    /// Ready when there is a reason to end.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let end = match ready!(self.poll_event(cx)) {
                Event::Drained(drained) => self.take(drained),
                Event::Worked(flow) => {
                    self.work = None;
                    (flow == Flow::Refused).then_some(End::Refused)
                }
                Event::ChoresDone => {
                    self.chores = None;
                    None
                }
                Event::Unwritable => Some(End::Gone(Disconnect::WRITE_ERROR)),
                Event::Incoming(Ok(event)) => self.receive(event),
                Event::Incoming(Err(ended)) => Some(End::of(ended)),
            };
            if let Some(end) = end {
                return Poll::Ready(end);
            }
        }
    }

    /// Whatever can go on next; what is to be written comes before what is to be read.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let writing = match self.outgoing.poll_write(&mut self.socket, cx) {
            Poll::Ready(Ok(())) => {
                self.owes_pong = false;
                self.stuck = None;
                false
            }
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Unwritable),
            Poll::Pending => true,
        };
        if writing && self.poll_stuck(cx).is_ready() {
            return Poll::Ready(Event::Unwritable);
        }
        // Whoever is written to without a pause is heard all the same, its pongs above all.
        let mut silent = false;
        if mem::take(&mut self.has_drained) && self.work.is_none() {
            match self.poll_incoming(cx) {
                Poll::Ready(event) => return Poll::Ready(Event::Incoming(event)),
                Poll::Pending => silent = true,
            }
        }
        let wanted = Wanted { messages: !writing, signals: self.chores.is_none() };
        if let Poll::Ready(drained) = self.session.outbox().poll_drain(cx, wanted) {
            self.has_drained = true;
            return Poll::Ready(Event::Drained(drained));
        }
        if let Some(chores) = &mut self.chores
            && chores.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Event::ChoresDone);
        }
        match &mut self.work {
            Some(work) => work.as_mut().poll(cx).map(Event::Worked),
            None if silent => Poll::Pending,
            None => self.poll_incoming(cx).map(Event::Incoming),
        }
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Result<receive::Event, Ended>> {
        if self.owes_pong {
            return Poll::Pending;
        }
        self.incoming.poll_event(&mut self.socket, cx)
    }

    fn take(&mut self, drained: Drained) -> Option<End> {
        self.outgoing.extend(drained.messages);
        if let Some(disconnect) = drained.closing {
            return Some(End::Close(disconnect));
        }
        if drained.rung && self.session.hard().is_cancelled() {
            return Some(End::Gone(Disconnect::SHUTDOWN));
        }
        if drained.rung && self.session.on_ring() {
            self.outgoing.push_control(&control_frame(OpCode::Ping, b""));
        }
        if !drained.signals.is_empty() {
            self.chores = Some(self.session.on_signals(drained.signals));
        }
        None
    }

    fn receive(&mut self, event: receive::Event) -> Option<End> {
        match event {
            receive::Event::Text(payload) | receive::Event::Binary(payload) => {
                self.work = Some(self.session.on_frame(payload));
            }
            receive::Event::Ping(payload) => {
                self.outgoing.push_control(&control_frame(OpCode::Pong, &payload));
                self.owes_pong = true;
            }
            receive::Event::Pong(_) => self.session.heard(),
            receive::Event::Close(reason) => return Some(End::Left(reason)),
        }
        None
    }

    /// Ready when nothing could be written for too long. A slow client gets the time it needs: what
    /// it may leave waiting is bounded by its queue.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_timeout.is_zero() {
            return Poll::Pending;
        }
        let written = self.outgoing.written();
        let limit = self.write_timeout;
        let anew = || Stuck { written, limit: Box::pin(tokio::time::sleep(limit)) };
        let stuck = self.stuck.get_or_insert_with(|| Box::new(anew()));
        if stuck.written != written {
            **stuck = anew();
        }
        stuck.limit.as_mut().poll(cx)
    }

    /// Says goodbye as `end` asks, closes the socket, then undoes what the session had.
    async fn finish(mut self, end: End) {
        let farewell = self.session.leave(end.code());
        if matches!(&end, End::Close(disconnect) if *disconnect == Disconnect::SLOW) {
            self.outgoing.clear_messages();
        }
        let hard = self.session.hard().clone();
        hard.run_until_cancelled(self.part(&end)).await;
        let Self { socket, session, work, chores, .. } = self;
        drop(socket);
        if let Some(work) = work {
            work.await;
        }
        if let Some(chores) = chores {
            chores.await;
        }
        session.close(farewell).await;
    }

    /// Tells the client and gives it time to close, if anybody is there.
    async fn part(&mut self, end: &End) {
        if !end.is_heard() {
            return;
        }
        let said = timeout(CLOSE_TIMEOUT, self.say(end.close_frame())).await;
        if said.is_ok_and(|said| said.is_ok()) {
            let refused = matches!(end, End::Refused);
            let _ = timeout(CLOSE_TIMEOUT, self.linger(refused)).await;
        }
    }

    /// Writes what is left, and the close frame if there is one.
    async fn say(&mut self, close_frame: Option<Bytes>) -> std::io::Result<()> {
        self.outgoing.extend(self.session.outbox().take_messages());
        poll_fn(|cx| self.outgoing.poll_write(&mut self.socket, cx)).await?;
        if let Some(frame) = close_frame {
            self.outgoing.push_control(&frame);
            poll_fn(|cx| self.outgoing.poll_write(&mut self.socket, cx)).await?;
        }
        Ok(())
    }

    /// Waits for the client to close. A refused one decides by itself when; for the others our side
    /// ends first. Closing with unread data would reset the connection, and the client might never
    /// see why.
    async fn linger(&mut self, refused: bool) {
        if refused && self.until_closed().await.is_err() {
            return;
        }
        if self.socket.shutdown().await.is_err() {
            return;
        }
        let mut unread = [0; 1_024];
        while self.socket.read(&mut unread).await.is_ok_and(|count| count > 0) {}
    }

    /// Reads on until the client says goodbye, and answers. As long as it is read, its pongs must go
    /// out too.
    async fn until_closed(&mut self) -> Result<(), Ended> {
        loop {
            match poll_fn(|cx| self.incoming.poll_event(&mut self.socket, cx)).await? {
                receive::Event::Ping(payload) => {
                    self.outgoing.push_control(&control_frame(OpCode::Pong, &payload));
                    poll_fn(|cx| self.outgoing.poll_write(&mut self.socket, cx)).await?;
                }
                receive::Event::Close(reason) => {
                    return Ok(self.say(End::Left(reason).close_frame()).await?);
                }
                _ => {}
            }
        }
    }
}

impl End {
    fn of(ended: Ended) -> Self {
        match ended {
            // As Centrifugo, which takes text for the commands it should hold.
            Ended::Violation(Violation::NotUtf8) => Self::Close(Disconnect::BAD_REQUEST),
            Ended::Violation(violation) => Self::Violation(violation),
            Ended::Io(_) | Ended::Eof => Self::Gone(Disconnect::CONNECTION_CLOSED),
        }
    }

    /// The code under which the end is counted.
    fn code(&self) -> u32 {
        match self {
            Self::Close(disconnect) | Self::Gone(disconnect) => disconnect.code,
            Self::Violation(violation) => violation.close_code().into(),
            // A refused one was told by a reply, and leaves by itself.
            Self::Refused | Self::Left(_) => Disconnect::CONNECTION_CLOSED.code,
        }
    }

    /// Whether anybody is there to hear a goodbye.
    fn is_heard(&self) -> bool {
        !matches!(self, Self::Close(Disconnect { code: 3000, .. }) | Self::Gone(Disconnect { .. }))
    }

    fn close_frame(&self) -> Option<Bytes> {
        let (code, reason) = match self {
            Self::Close(disconnect) => (disconnect.code as u16, &*disconnect.reason),
            Self::Violation(violation) => (violation.close_code(), violation.reason()),
            // The answer repeats the code, if there was one.
            Self::Left(Some(reason)) => (reason.code, ""),
            Self::Left(None) => return Some(control_frame(OpCode::Close, b"").into()),
            Self::Refused | Self::Gone(_) => return None,
        };
        let reason = fitting(reason).as_bytes();
        let payload = [&code.to_be_bytes(), reason].concat();
        Some(control_frame(OpCode::Close, &payload).into())
    }
}

fn control_frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    [&*server_header(opcode, false, payload.len()), payload].concat()
}

/// Bytes of a reason: a control frame holds 125, the code takes two.
const MAX_REASON: usize = 123;

/// As much of a reason as a close frame holds.
fn fitting(reason: &str) -> &str {
    let end = reason.floor_char_boundary(MAX_REASON);
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every idle connection keeps exactly this, so it grows only for a reason.
    #[test]
    fn an_idle_connection_stays_small() {
        let bytes = size_of::<WebSocket>();
        assert!(bytes <= 320, "{bytes} bytes");
    }
}
