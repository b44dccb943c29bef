//! A TCP connection that never blocks, with what could not be written yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Most bytes that may wait for a server which does not read; more is an error.
const MAX_WAITING: usize = 8 * 1_024 * 1_024;
/// Reads after which the kernel is told again to take its time with acknowledgements.
const READS_PER_REMINDER: u8 = 32;

/// What of an event says that a read brings something, be it the end.
pub const READABLE: EventFlags =
    EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::HUP).union(EventFlags::ERR);

/// One connection.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    waiting: Vec<u8>,
    written: usize,
    reads: u8,
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// So many bytes stand in the buffer.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The peer has said its last.
    End,
}

impl Got {
    /// Whether another read may bring more of what the event with these flags told of. A read that
    /// leaves room in the buffer has taken all but the peer's end.
    pub fn may_have_more(self, flags: EventFlags, buffer: &[u8]) -> bool {
        match self {
            Self::Bytes(len) => len == buffer.len() || flags.intersects(READABLE - EventFlags::IN),
            Self::Nothing | Self::End => false,
        }
    }
}

impl Stream {
    /// A socket with a port of its own, ready to [connect](Stream::connect) to such an address.
    ///
    /// # Errors
    /// If there are no more sockets or ports.
    pub fn new(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
        }
        let mut stream = Self { tcp: socket.into(), waiting: Vec::new(), written: 0, reads: 0 };
        // The first request then carries the acknowledgement of the handshake.
        stream.delay_acknowledgements();
        Ok(stream)
    }

    /// Starts to connect; it is done, well or not, when the socket can be written to.
    ///
    /// # Errors
    /// If there are no more ports.
    pub fn connect(&self, to: SocketAddr) -> io::Result<()> {
        match socket2::SockRef::from(&self.tcp).connect(&SockAddr::from(to)) {
            Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Why it could not connect, if an event with these flags says that it could not.
    ///
    /// # Errors
    /// That reason.
    pub fn connected(&self, flags: EventFlags) -> io::Result<()> {
        if !flags.intersects(EventFlags::ERR | EventFlags::HUP) {
            return Ok(());
        }
        self.tcp.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads what is there, up to the size of the buffer.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        self.delay_acknowledgements();
        loop {
            return match self.tcp.read(buffer) {
                Ok(0) => Ok(Got::End),
                Ok(len) => Ok(Got::Bytes(len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Got::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// Writes; what the socket does not take now waits for [`Stream::flush`].
    ///
    /// # Errors
    /// If the connection is broken, or more than 8 MiB wait.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() - self.written > MAX_WAITING {
            return Err(io::Error::other("the server does not read what it is sent"));
        }
        self.flush()
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.tcp.write(rest) {
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // Thousands of connections that once sent something should not hold on to its bytes.
        self.waiting = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Has the kernel acknowledge a few messages at once, as a client far away does with what comes
    /// in quick succession. Otherwise each read sends a packet of its own, which is more than half
    /// of what reading costs. The kernel falls back by itself whenever nothing more came in time.
    fn delay_acknowledgements(&mut self) {
        if self.reads == 0 {
            // Without it all is as right, only dearer.
            let _ = socket2::SockRef::from(&self.tcp).set_tcp_quickack(false);
        }
        self.reads = (self.reads + 1) % READS_PER_REMINDER;
    }

    /// Whether something waits to be written.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Makes the coming close a reset: nothing is flushed, and the server learns of it at once.
    ///
    /// # Errors
    /// If the socket is of no use any more.
    pub fn reset_on_close(&self) -> io::Result<()> {
        socket2::SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO))
    }

    /// Lets the kernel keep about so many bytes that nobody reads.
    ///
    /// # Errors
    /// If the socket is of no use any more.
    pub fn limit_receive_buffer(&self, bytes: usize) -> io::Result<()> {
        socket2::SockRef::from(&self.tcp).set_recv_buffer_size(bytes)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}
