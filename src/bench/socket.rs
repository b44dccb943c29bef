//! A TCP connection that never blocks, with what could not be written yet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Most bytes that may wait for a server which does not read; more is an error.
const MAX_WAITING: usize = 8 * 1_024 * 1_024;

/// One connection.
#[derive(Debug)]
pub struct Stream {
    tcp: TcpStream,
    waiting: Vec<u8>,
    written: usize,
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

impl Stream {
    /// Starts to connect; it is done, well or not, when the socket can be written to.
    ///
    /// # Errors
    /// If there are no more sockets or ports.
    pub fn dial(to: SocketAddr, from: Option<IpAddr>) -> io::Result<Self> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(to), kind, Some(Protocol::TCP))?;
        socket.set_tcp_nodelay(true)?;
        if let Some(from) = from {
            socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
        }
        match socket.connect(&SockAddr::from(to)) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { tcp: socket.into(), waiting: Vec::new(), written: 0 })
    }

    /// Why it could not connect, once it can be written to.
    ///
    /// # Errors
    /// That reason.
    pub fn connected(&self) -> io::Result<()> {
        self.tcp.take_error()?.map_or(Ok(()), Err)
    }

    /// Reads what is there, up to the size of the buffer.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
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
