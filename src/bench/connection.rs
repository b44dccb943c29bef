//! One WebSocket connection of the generator, from the first packet to its subscriptions and on.

use bytes::Bytes;
use rustix::event::epoll::EventFlags;

use super::event::{Counters, Delivery, Event, Peer};
use super::frames::{self, Frame};
use super::handshake::{Answer, Handshake};
use super::scan::{Message, Scanner};
use super::socket::{self, Got, Stream};
use super::ticker::Ticker;
use crate::protocol::frame::Codec;
use crate::protocol::reply::Reply;
use crate::websocket::frame::OpCode;

/// Bytes of the longest frame that is waited for.
const MAX_FRAME: usize = 64 * 1_024 * 1_024;
/// A connection holds on to a buffer of its own only up to this size.
const KEPT_BUFFER: usize = 16 * 1_024;

/// A WebSocket connection.
#[derive(Debug)]
pub struct Connection {
    peer: Peer,
    stream: Stream,
    state: State,
    /// The start of a frame whose end has not come.
    rest: Vec<u8>,
}

/// What all connections work with: one reused buffer, and where to tell what happened.
#[derive(Debug)]
pub struct Workbench {
    pub codec: Codec,
    pub handshake: Handshake,
    pub scanner: Scanner,
    pub buffer: Box<[u8]>,
    pub counters: Counters,
    /// What names of channels start with, if their numbers are to be read.
    pub channels: Option<Vec<u8>>,
    pub events: Vec<Event>,
    pub clock: Ticker,
}

/// Why a connection is of no use any more.
#[derive(Debug)]
pub struct Ended(pub String);

#[derive(Debug)]
enum State {
    /// The first frame waits until the WebSocket is open.
    Connecting {
        began_ns: u64,
        greeting: Vec<u8>,
        replies: usize,
    },
    Upgrading {
        began_ns: u64,
        greeting: Vec<u8>,
        replies: usize,
    },
    /// So many replies to the first frame have not come.
    Joining {
        began_ns: u64,
        replies: usize,
    },
    Live,
}

impl Connection {
    /// A connection that has begun to connect. `greeting` is the payload of its first frame, with
    /// connect and all subscriptions in it, which the server answers with so many `replies`.
    pub fn new(
        peer: Peer,
        stream: Stream,
        began_ns: u64,
        greeting: Vec<u8>,
        replies: usize,
    ) -> Self {
        let state = State::Connecting { began_ns, greeting, replies };
        Self { peer, stream, state, rest: Vec::new() }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Does what the socket is ready for.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn on_ready(&mut self, flags: EventFlags, bench: &mut Workbench) -> Result<(), Ended> {
        if let State::Connecting { began_ns, greeting, replies } = &mut self.state {
            self.stream
                .connected(flags)
                .map_err(|error| Ended(format!("cannot connect: {error}")))?;
            if !flags.contains(EventFlags::OUT) {
                return Ok(());
            }
            let (began_ns, greeting, replies) = (*began_ns, std::mem::take(greeting), *replies);
            self.state = State::Upgrading { began_ns, greeting, replies };
            self.stream.send(bench.handshake.request())?;
        }
        if flags.contains(EventFlags::OUT) && self.stream.has_waiting() {
            self.stream.flush()?;
        }
        if flags.intersects(socket::READABLE) {
            while self.read(bench)?.may_have_more(flags, &bench.buffer) {}
        }
        Ok(())
    }

    /// Sends commands, encoded and joined, in one frame.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn send(&mut self, codec: Codec, payload: &[u8]) -> Result<(), Ended> {
        let opcode = match codec {
            Codec::Json => OpCode::Text,
            Codec::Protobuf => OpCode::Binary,
        };
        self.send_frame(opcode, payload)
    }

    fn send_frame(&mut self, opcode: OpCode, payload: &[u8]) -> Result<(), Ended> {
        let mut frame = Vec::with_capacity(payload.len() + 14);
        frames::append(opcode, payload, &mut frame);
        Ok(self.stream.send(&frame)?)
    }

    fn read(&mut self, bench: &mut Workbench) -> Result<Got, Ended> {
        let got = self.stream.read(&mut bench.buffer)?;
        let len = match got {
            Got::Nothing => return Ok(got),
            Got::End => return Err(Ended("the server ended it without a close frame".to_owned())),
            Got::Bytes(len) => len,
        };
        let at_ns = bench.clock.now_ns();
        // The buffer is put back below, and after an error this connection is gone, not the others.
        let buffer = std::mem::take(&mut bench.buffer);
        let mut rest = std::mem::take(&mut self.rest);
        let outcome = if rest.is_empty() {
            self.take_in(&buffer[..len], at_ns, bench)
                .map(|used| rest.extend_from_slice(&buffer[used..len]))
        } else {
            rest.extend_from_slice(&buffer[..len]);
            self.take_in(&rest, at_ns, bench).map(|used| drop(rest.drain(..used)))
        };
        bench.buffer = buffer;
        outcome?;
        if rest.len() > MAX_FRAME {
            return Err(Ended(format!("the server sent a frame of more than {MAX_FRAME} bytes")));
        }
        if !rest.is_empty() || rest.capacity() <= KEPT_BUFFER {
            self.rest = rest;
        }
        Ok(got)
    }

    /// Takes whole frames; how many bytes they were.
    fn take_in(&mut self, bytes: &[u8], at_ns: u64, bench: &mut Workbench) -> Result<usize, Ended> {
        let mut used = 0;
        if let State::Upgrading { began_ns, greeting, replies } = &mut self.state {
            match bench.handshake.answer(bytes) {
                Answer::Partial => return Ok(0),
                Answer::Refused(why) => return Err(Ended(why)),
                Answer::Open { from } => used = from,
            }
            let (greeting, replies) = (std::mem::take(greeting), *replies);
            self.state = State::Joining { began_ns: *began_ns, replies };
            self.send(bench.codec, &greeting)?;
        }
        while let Some(left) = bytes.get(used..) {
            match frames::first(left) {
                Frame::Partial => break,
                Frame::Broken(what) => return Err(Ended(format!("the server sent {what}"))),
                Frame::Whole { opcode, payload, end } => {
                    let payload = left.get(payload).unwrap_or_default();
                    self.take_frame(opcode, payload, at_ns, bench)?;
                    used += end;
                }
            }
        }
        Ok(used)
    }

    fn take_frame(
        &mut self,
        opcode: OpCode,
        payload: &[u8],
        at_ns: u64,
        bench: &mut Workbench,
    ) -> Result<(), Ended> {
        match opcode {
            OpCode::Text | OpCode::Binary | OpCode::Continuation => {}
            OpCode::Ping => return self.send_frame(OpCode::Pong, payload),
            OpCode::Pong => return Ok(()),
            OpCode::Close => return Err(Ended(frames::closing(payload))),
        }
        let (mut rest, mut publications) = (payload, 0);
        while let Some((message, behind)) =
            bench.scanner.split_first(rest).map_err(|what| Ended(what.to_owned()))?
        {
            rest = behind;
            match bench.scanner.look(message).map_err(Ended)? {
                Message::Published { mark, offset } => {
                    let names = bench.channels.as_deref();
                    let channel = names.and_then(|name| bench.scanner.channel(message, name));
                    let delivery = Delivery { peer: self.peer, channel, mark, offset, at_ns };
                    bench.events.push(Event::Published(delivery));
                    publications += 1;
                }
                Message::Acknowledged(id) => {
                    bench.counters.replies += 1;
                    bench.events.push(Event::Acknowledged { peer: self.peer, id });
                }
                Message::Ping => {
                    bench.counters.pings += 1;
                    let pong: Bytes = bench.codec.ping();
                    self.send(bench.codec, &pong)?;
                }
                Message::Made if matches!(self.state, State::Joining { .. }) => {
                    let message = Bytes::copy_from_slice(message);
                    bench.events.push(Event::Made { peer: self.peer, message });
                    self.joined(at_ns, &mut bench.events);
                }
                Message::Made | Message::Other => {
                    let reply = bench.scanner.decode(message).map_err(Ended)?;
                    self.take_reply(reply, at_ns, bench)?;
                }
            }
        }
        bench.counters.publications += publications;
        bench.counters.frames += u64::from(publications > 0);
        Ok(())
    }

    fn take_reply(&mut self, reply: Reply, at_ns: u64, bench: &mut Workbench) -> Result<(), Ended> {
        let (peer, events) = (self.peer, &mut bench.events);
        if reply.id == 0 {
            if let Some(push) = reply.push {
                events.push(Event::Pushed { peer, push: Box::new(push) });
            }
            return Ok(());
        }
        let is_joining = matches!(self.state, State::Joining { .. });
        if let Some(error) = reply.error.as_ref().filter(|_| is_joining) {
            let refusal = format!("{} {:?}", error.code, error.message);
            return Err(Ended(format!("the server refused it with {refusal}")));
        }
        bench.counters.replies += u64::from(!is_joining);
        events.push(Event::Replied { peer, reply: Box::new(reply), at_ns });
        self.joined(at_ns, events);
        Ok(())
    }

    /// One reply to the first frame fewer is to come.
    fn joined(&mut self, at_ns: u64, events: &mut Vec<Event>) {
        let State::Joining { began_ns, replies } = &mut self.state else { return };
        *replies = replies.saturating_sub(1);
        if *replies == 0 {
            let took_ns = at_ns.saturating_sub(*began_ns);
            self.state = State::Live;
            events.push(Event::Ready { peer: self.peer, took_ns });
        }
    }
}

impl From<std::io::Error> for Ended {
    fn from(error: std::io::Error) -> Self {
        Self(format!("the connection broke: {error}"))
    }
}
