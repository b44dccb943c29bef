//! The loop: one thread that holds every connection, waits for all of them at once and reads what
//! came into one buffer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use slab::Slab;

use super::connection::{Connection, Ended, Workbench};
use super::event::{Counters, Event, Peer};
use super::handshake::Handshake;
use super::http::ApiConnection;
use super::scan::Scanner;
use super::socket::Stream;
use super::target::Target;
use super::ticker::Ticker;
use crate::protocol::frame::Codec;
use crate::time::Clock;

/// Bytes read at once.
const READ_BUFFER: usize = 64 * 1_024;
/// Connections served between two looks at the schedule.
const TURNS: usize = 128;
/// What epoll looks for at every connection, all its life: it tells once of each change, so that
/// nothing is asked twice and nothing is ever changed. A turn therefore has to read to the end.
const INTEREST: EventFlags =
    EventFlags::IN.union(EventFlags::OUT).union(EventFlags::RDHUP).union(EventFlags::ET);

/// All connections of a run.
pub struct Engine {
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    links: Slab<Link>,
    bench: Workbench,
    target: Target,
    /// For the next connections.
    sockets: VecDeque<Stream>,
    /// Sockets so far, from a number on that differs from run to run.
    made: usize,
}

/// How a connection is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// As when a page is closed.
    Close,
    /// As when a network is gone: the kernel resets the connection.
    Reset,
}

#[derive(Debug)]
enum Link {
    Client(Box<Connection>),
    Api(Box<ApiConnection>),
}

impl Engine {
    /// An engine for connections to `target`.
    ///
    /// # Errors
    /// If there are no more descriptors.
    pub fn new(target: Target, codec: Codec, clock: Clock) -> io::Result<Self> {
        // So that short runs one after the other do not all come from the same few addresses.
        let made = clock.unix().subsec_nanos() as usize;
        let clock = Ticker::new(clock);
        let bench = Workbench {
            codec,
            handshake: Handshake::new(&target, codec),
            scanner: Scanner::new(codec),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            counters: Counters::default(),
            channels: None,
            events: Vec::new(),
            clock,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let ready = Vec::with_capacity(TURNS);
        Ok(Self { epoll, ready, links: Slab::new(), bench, target, sockets: VecDeque::new(), made })
    }

    pub fn codec(&self) -> Codec {
        self.bench.codec
    }

    /// Nanoseconds since the engine began.
    pub fn now_ns(&self) -> u64 {
        self.bench.clock.now_ns()
    }

    pub fn ticker(&self) -> &Ticker {
        &self.bench.clock
    }

    pub fn counters(&self) -> Counters {
        self.bench.counters
    }

    /// Reads from now on which channel a publication came from; names are a number behind `prefix`.
    pub fn read_channels(&mut self, prefix: &str) {
        self.bench.channels = Some(prefix.as_bytes().to_vec());
    }

    /// Makes the sockets of the next `count` connections, which is a good part of what opening them
    /// costs this side.
    ///
    /// # Errors
    /// If there are no more sockets or ports.
    pub fn prepare(&mut self, count: usize) -> io::Result<()> {
        while self.sockets.len() < count {
            let socket = self.socket()?;
            self.sockets.push_back(socket);
        }
        Ok(())
    }

    /// Opens a WebSocket whose first frame is `greeting`, which the server answers with so many
    /// replies; [`Event::Ready`] tells that they came.
    ///
    /// # Errors
    /// If there are no more sockets or ports.
    pub fn dial(&mut self, greeting: Vec<u8>, replies: usize) -> io::Result<Peer> {
        let stream = self.sockets.pop_front().map_or_else(|| self.socket(), Ok)?;
        let began_ns = self.now_ns();
        stream.connect(self.target.address)?;
        let peer = self.links.vacant_key();
        let connection = Connection::new(peer, stream, began_ns, greeting, replies);
        self.register(Link::Client(Box::new(connection)))
    }

    /// Opens a connection to the server API.
    ///
    /// # Errors
    /// If there are no more sockets or ports.
    pub fn dial_api(&mut self, target: &Target) -> io::Result<Peer> {
        let stream = Stream::new(target.address, target.source(self.made))?;
        self.made += 1;
        stream.connect(target.address)?;
        let peer = self.links.vacant_key();
        self.register(Link::Api(Box::new(ApiConnection::new(peer, stream))))
    }

    /// Sends commands, encoded and joined, in one frame. What ends the connection is told by
    /// [`Event::Closed`]; a connection that is gone takes nothing.
    pub fn send(&mut self, peer: Peer, payload: &[u8]) {
        let Some(Link::Client(connection)) = self.links.get_mut(peer) else { return };
        let outcome = connection.send(self.bench.codec, payload);
        self.settle(peer, outcome);
    }

    /// Sends a request to the server API, behind those that wait on this connection.
    pub fn request(&mut self, peer: Peer, request: Vec<u8>) {
        let Some(Link::Api(connection)) = self.links.get_mut(peer) else { return };
        let outcome = connection.request(request);
        self.settle(peer, outcome);
    }

    /// Requests that are not answered on this connection.
    pub fn pending(&self, peer: Peer) -> usize {
        match self.links.get(peer) {
            Some(Link::Api(connection)) => connection.pending(),
            _ => 0,
        }
    }

    /// Ends a connection, of which nothing is told any more.
    pub fn leave(&mut self, peer: Peer, leaving: Leaving) {
        let Some(link) = self.links.try_remove(peer) else { return };
        if leaving == Leaving::Reset {
            // A socket that cannot be reset is gone already.
            let _ = link.stream().reset_on_close();
        }
        self.bench.events.retain(|event| event.peer() != peer);
    }

    /// Reads nothing from a connection any more; the kernel keeps a little for it, and then it is up
    /// to the server.
    pub fn stop_reading(&mut self, peer: Peer, kernel_bytes: usize) {
        if let Some(link) = self.links.get(peer) {
            let stream = link.stream();
            // A larger buffer or a socket that is gone only makes the test milder.
            let _ = stream.limit_receive_buffer(kernel_bytes);
            let _ = epoll::delete(&self.epoll, stream);
        }
    }

    /// Reads again from a connection that was stopped.
    pub fn read_again(&mut self, peer: Peer) {
        if let Some(link) = self.links.get(peer) {
            let data = EventData::new_u64(peer as u64);
            // One that cannot be looked for stays silent, as it was.
            let _ = epoll::add(&self.epoll, link.stream(), data, INTEREST);
        }
    }

    /// Waits until `until_ns` for something to happen and takes part of it; `events` are then the
    /// new ones, in the order of each connection.
    ///
    /// # Errors
    /// If the kernel cannot wait.
    pub fn poll(&mut self, until_ns: u64, events: &mut Vec<Event>) -> io::Result<()> {
        events.clear();
        // What sending has told of connections that ended.
        events.append(&mut self.bench.events);
        let left = if events.is_empty() { until_ns.saturating_sub(self.now_ns()) } else { 0 };
        let timeout = timespec(Duration::from_nanos(left));
        self.ready.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.ready), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for at in 0..self.ready.len() {
            let Some(epoll::Event { flags, data }) = self.ready.get(at).copied() else { break };
            let peer = data.u64() as Peer;
            let Some(link) = self.links.get_mut(peer) else { continue };
            let outcome = match link {
                Link::Client(connection) => connection.on_ready(flags, &mut self.bench),
                Link::Api(connection) => connection.on_ready(flags, &mut self.bench),
            };
            self.settle(peer, outcome);
        }
        events.append(&mut self.bench.events);
        Ok(())
    }

    fn socket(&mut self) -> io::Result<Stream> {
        let socket = Stream::new(self.target.address, self.target.source(self.made))?;
        self.made += 1;
        Ok(socket)
    }

    fn register(&mut self, link: Link) -> io::Result<Peer> {
        let peer = self.links.vacant_key();
        epoll::add(&self.epoll, link.stream(), EventData::new_u64(peer as u64), INTEREST)?;
        Ok(self.links.insert(link))
    }

    /// What follows from a connection's turn: it may be gone.
    fn settle(&mut self, peer: Peer, outcome: Result<(), Ended>) {
        if let Err(Ended(why)) = outcome {
            self.links.try_remove(peer);
            self.bench.events.push(Event::Closed { peer, why });
        }
    }
}

impl Link {
    fn stream(&self) -> &Stream {
        match self {
            Self::Client(connection) => connection.stream(),
            Self::Api(connection) => connection.stream(),
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn connections_to_this_machine_come_from_an_address_each_from_the_first_on() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let target = Target::new(&url).unwrap();
        let mut engine = Engine::new(target, Codec::Json, Clock::real()).unwrap();
        let peers = (0..20).map(|_| {
            engine.dial(Vec::new(), 0).unwrap();
            listener.accept().unwrap().1.ip()
        });
        let peers: HashSet<_> = peers.collect();
        assert_eq!(peers.len(), 20);
        assert!(
            peers
                .iter()
                .all(|peer| peer.is_loopback() && *peer != listener.local_addr().unwrap().ip())
        );
    }
}
