//! A WebSocket connection: one loop in one task, from the upgrade to the last byte.
//!
//! The loop writes what the outbox gathered (everything that waits, joined into few frames and one
//! system call), acts on signals, and reads the next frame only when the commands of the last one
//! are done. A connection that waits holds a socket, this future and an empty outbox: work on a
//! frame and everything rare is boxed while it lasts.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::{Sink, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::counted::Counted;
use super::socket::Socket;
use crate::hub::{Drained, Wanted};
use crate::protocol::codes::Disconnect;
use crate::protocol::frame::Codec;
use crate::session::{Flow, Session};

/// Bytes read at once: a client's frame is small, and the buffer is held while idle.
const READ_BUFFER: usize = 1_024;
/// Bytes joined before a system call; held only while something waits to be written.
const WRITE_BUFFER: usize = 16 * 1_024;
/// Messages joined into one frame at most, as Centrifugo does.
const MESSAGES_PER_FRAME: usize = 16;
/// Bytes of a reason: a control frame holds 125, the code takes two.
const MAX_REASON: usize = 123;
/// How long a client may take to receive what is left and the close frame, and then again to close
/// its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct WebSocketSettings {
    /// Bytes of one incoming message; a larger one closes with 1009.
    pub message_size_limit: usize,
    /// How long a write may be stuck, without one byte that goes out, before the connection is given
    /// up; zero for no limit.
    pub write_timeout: Duration,
}

/// Serves an upgraded connection until it ends. `early` is what came in behind the handshake.
pub async fn serve(
    socket: Socket,
    early: Bytes,
    session: Arc<Session>,
    settings: WebSocketSettings,
) {
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(settings.message_size_limit))
        .max_frame_size(Some(settings.message_size_limit));
    let stream = WebSocketStream::from_partially_read(
        Counted::new(socket),
        early.into(),
        Role::Server,
        Some(config),
    )
    .await;
    let mut connection = Connection {
        stream,
        session,
        write_timeout: settings.write_timeout,
        unwritten: VecDeque::new(),
        flushing: false,
        owes_pong: false,
        stuck: None,
        work: None,
        chores: None,
    };
    let end = connection.run().await;
    Box::pin(connection.finish(end)).await;
}

struct Connection {
    stream: WebSocketStream<Counted<Socket>>,
    session: Arc<Session>,
    write_timeout: Duration,
    /// Messages taken from the outbox.
    unwritten: VecDeque<Bytes>,
    /// Something was handed to the stream and is not in the socket yet.
    flushing: bool,
    /// The stream has queued a pong. Nothing is read before it is in the socket: a client that pings
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
    /// The client's message was larger than it may be.
    TooBig,
    /// What came is no WebSocket frame that a client may send.
    Broken,
    /// The connect command was answered with an error: the client is to leave.
    Refused,
    /// The client left, or cannot be reached.
    Gone(Disconnect),
}

enum Event {
    Drained(Drained),
    Worked(Flow),
    ChoresDone,
    Incoming(Option<Result<Message, tungstenite::Error>>),
    Unwritable,
}

impl Connection {
    async fn run(&mut self) -> End {
        self.session.arm();
        loop {
            match poll_fn(|cx| self.poll_event(cx)).await {
                Event::Drained(drained) => {
                    if let Some(end) = self.take(drained) {
                        return end;
                    }
                }
                Event::Worked(flow) => {
                    self.work = None;
                    if flow == Flow::Refused {
                        return End::Refused;
                    }
                }
                Event::ChoresDone => self.chores = None,
                Event::Unwritable => return End::Gone(Disconnect::WRITE_ERROR),
                Event::Incoming(Some(Ok(message))) => {
                    if let Some(end) = self.receive(message) {
                        return end;
                    }
                }
                Event::Incoming(Some(Err(tungstenite::Error::Capacity(_)))) => return End::TooBig,
                Event::Incoming(Some(Err(tungstenite::Error::Utf8(_)))) => {
                    return End::Close(Disconnect::BAD_REQUEST);
                }
                Event::Incoming(Some(Err(tungstenite::Error::Protocol(error))))
                    if error != ProtocolError::ResetWithoutClosingHandshake =>
                {
                    return End::Broken;
                }
                Event::Incoming(Some(Err(_)) | None) => {
                    return End::Gone(Disconnect::CONNECTION_CLOSED);
                }
            }
        }
    }

    /// Whatever can go on next; what is to be written comes before what is to be read.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let writing = match self.poll_write(cx) {
            Poll::Ready(Ok(())) => false,
            Poll::Ready(Err(_)) => return Poll::Ready(Event::Unwritable),
            Poll::Pending => true,
        };
        if writing && self.poll_stuck(cx).is_ready() {
            return Poll::Ready(Event::Unwritable);
        }
        let wanted = Wanted { messages: !writing, signals: self.chores.is_none() };
        if let Poll::Ready(drained) = self.session.outbox().poll_drain(cx, wanted) {
            return Poll::Ready(Event::Drained(drained));
        }
        if let Some(chores) = &mut self.chores
            && chores.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Event::ChoresDone);
        }
        match &mut self.work {
            Some(work) => work.as_mut().poll(cx).map(Event::Worked),
            None if self.owes_pong => Poll::Pending,
            None => Pin::new(&mut self.stream).poll_next(cx).map(Event::Incoming),
        }
    }

    fn take(&mut self, drained: Drained) -> Option<End> {
        self.unwritten.extend(drained.messages);
        if let Some(disconnect) = drained.closing {
            return Some(End::Close(disconnect));
        }
        if drained.rung && self.session.on_ring() {
            let ping = Message::Ping(Bytes::new());
            self.flushing = true;
            if Pin::new(&mut self.stream).start_send(ping).is_err() {
                return Some(End::Gone(Disconnect::WRITE_ERROR));
            }
        }
        if !drained.signals.is_empty() {
            self.chores = Some(self.session.on_signals(drained.signals));
        }
        None
    }

    fn receive(&mut self, message: Message) -> Option<End> {
        match message {
            Message::Text(text) => self.work = Some(self.session.on_frame(text.into())),
            Message::Binary(bytes) => self.work = Some(self.session.on_frame(bytes)),
            Message::Pong(_) => self.session.heard(),
            Message::Close(_) => return Some(End::Gone(Disconnect::CONNECTION_CLOSED)),
            Message::Ping(_) => (self.flushing, self.owes_pong) = (true, true),
            Message::Frame(_) => {}
        }
        None
    }

    /// Writes what waits, joined into frames.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tungstenite::Error>> {
        while !self.unwritten.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_ready(cx))?;
            let frame = next_frame(self.session.codec(), &mut self.unwritten);
            Pin::new(&mut self.stream).start_send(frame)?;
            self.flushing = true;
        }
        if self.flushing {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            (self.flushing, self.owes_pong) = (false, false);
            self.stuck = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when nothing could be written for too long. A slow client gets the time it needs: what
    /// it may leave waiting is bounded by its queue.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.write_timeout.is_zero() {
            return Poll::Pending;
        }
        let written = self.stream.get_ref().written();
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
        let code = match &end {
            End::Close(disconnect) | End::Gone(disconnect) => disconnect.code,
            End::TooBig => u16::from(CloseCode::Size).into(),
            End::Broken => u16::from(CloseCode::Protocol).into(),
            // It was told by a reply, and leaves by itself.
            End::Refused => Disconnect::CONNECTION_CLOSED.code,
        };
        let farewell = self.session.leave(code);
        let frame = match &end {
            End::Close(Disconnect { code: 3000, .. })
            | End::Gone(Disconnect { code: 3009, .. }) => None,
            End::Close(disconnect) => {
                if *disconnect == Disconnect::SLOW {
                    self.unwritten.clear();
                }
                let reason = Utf8Bytes::from(fitting(&disconnect.reason));
                Some(Some(CloseFrame { code: CloseCode::from(disconnect.code as u16), reason }))
            }
            End::TooBig => Some(Some(without_reason(CloseCode::Size))),
            End::Broken => Some(Some(without_reason(CloseCode::Protocol))),
            // The stream has queued its answer to the client's close frame, if there was one.
            End::Refused | End::Gone(_) => Some(None),
        };
        let refused = matches!(end, End::Refused);
        if let Some(frame) = frame
            && timeout(CLOSE_TIMEOUT, self.say(frame)).await.is_ok_and(|said| said.is_ok())
        {
            let _ = timeout(CLOSE_TIMEOUT, self.linger(refused)).await;
        }
        let Self { stream, session, work, chores, .. } = self;
        drop(stream);
        if let Some(work) = work {
            work.await;
        }
        if let Some(chores) = chores {
            chores.await;
        }
        session.close(farewell).await;
    }

    /// Writes what is left, and the close frame if there is one.
    async fn say(&mut self, frame: Option<CloseFrame>) -> Result<(), tungstenite::Error> {
        self.unwritten.extend(self.session.outbox().take_messages());
        poll_fn(|cx| self.poll_write(cx)).await?;
        match frame {
            Some(frame) => self.stream.close(Some(frame)).await,
            None => poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx)).await,
        }
    }

    /// Waits for the client to close. A refused one decides by itself when; for the others our side
    /// ends first. Closing with unread data would reset the connection, and the client might never
    /// see why.
    async fn linger(&mut self, refused: bool) {
        if refused {
            while let Some(Ok(message)) =
                poll_fn(|cx| Pin::new(&mut self.stream).poll_next(cx)).await
            {
                // As long as the client is read, its pongs must go out too.
                self.flushing = matches!(message, Message::Ping(_));
                if poll_fn(|cx| self.poll_write(cx)).await.is_err() {
                    return;
                }
            }
            return;
        }
        let socket = self.stream.get_mut();
        if socket.shutdown().await.is_err() {
            return;
        }
        let mut unread = [0; 1_024];
        while socket.read(&mut unread).await.is_ok_and(|count| count > 0) {}
    }
}

fn without_reason(code: CloseCode) -> CloseFrame {
    CloseFrame { code, reason: Utf8Bytes::from_static("") }
}

/// As much of a reason as a close frame holds.
fn fitting(reason: &str) -> &str {
    let end = reason.floor_char_boundary(MAX_REASON);
    reason.get(..end).unwrap_or_default()
}

fn next_frame(codec: Codec, unwritten: &mut VecDeque<Bytes>) -> Message {
    let count = unwritten.len().min(MESSAGES_PER_FRAME);
    let payload = match unwritten.pop_front() {
        Some(single) if count == 1 => single,
        Some(first) => {
            let mut joined = BytesMut::with_capacity(first.len() * count + count);
            codec.append(&mut joined, &first);
            unwritten.drain(..count - 1).for_each(|message| codec.append(&mut joined, &message));
            joined.freeze()
        }
        None => Bytes::new(),
    };
    let kind = match codec {
        Codec::Json => Data::Text,
        Codec::Protobuf => Data::Binary,
    };
    // What the codec wrote is valid text, so the frame goes out without another look at it.
    Message::Frame(Frame::message(payload, OpCode::Data(kind), true))
}
