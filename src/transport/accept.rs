//! Binds a port, accepts connections and speaks HTTP/1.1 on them until they upgrade or end.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::proxies::TrustedProxies;
use super::proxy_protocol::{ProxyProtocol, Refused};
use super::routes::{Peer, Routes};
use super::socket::Socket;
use super::tls::TlsServer;
use crate::lifecycle::Lifecycle;

/// Connections the kernel holds for us during a reconnect storm; it caps this at
/// `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Connections accepted before all else that is ready gets a turn. A worker's queue has 256 places, and
/// what overflows it waits behind whatever comes later: of 10,000 handshakes, 200 under way on one
/// processor, the slowest percent took 28 ms with 32 or more, and 12 ms with 16.
const BATCH: usize = 16;

/// Unsent bytes beyond which the kernel calls a socket full, so that backpressure of a slow
/// consumer shows in its queue here, where it is counted, instead of in megabytes of kernel memory.
const NOTSENT_LOWAT: u32 = 32 * 1024;

/// How long the peer's kernel may leave sent data unconfirmed. Ends connections to peers that
/// vanished, and responses that nobody reads.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Most bytes of a request head, and of hyper's read buffer.
const MAX_HEAD_SIZE: usize = 16 * 1024;

/// The wait after an error that accepting at once again would only repeat, such as having no file
/// descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    name: &'static str,
    tcp: TcpListener,
    addr: SocketAddr,
}

/// What a port serves, and for how long.
#[derive(Clone, Debug)]
pub struct Serving {
    pub routes: Arc<Routes>,
    /// Plain TCP if not given.
    pub tls: Option<TlsServer>,
    /// Connections begin with a header that tells whose they are, if given.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
    /// Who may tell in headers of a request whose it is.
    pub trusted_proxies: TrustedProxies,
    pub timeouts: Timeouts,
    /// Ends accepting. Requests under way are answered, then their connections close.
    pub stop: CancellationToken,
    /// Ends every connection that has not upgraded.
    pub hard: CancellationToken,
    /// Counts the connections until they upgrade; from there on the one who upgrades them does.
    pub tracker: TaskTracker,
}

/// How long a peer may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the header of the PROXY protocol.
    pub introduction: Duration,
    /// For the TLS handshake.
    pub handshake: Duration,
    /// To send a request head, from connecting or from the end of the previous response.
    pub head: Duration,
}

/// A port that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("{name} listener: cannot listen on {address:?} port {port}: {source}")]
pub struct BindError {
    name: &'static str,
    address: String,
    port: u16,
    source: io::Error,
}

impl Default for Timeouts {
    /// 10 seconds, Centrifugo's fixed time for request headers, and 5 for the PROXY protocol: long
    /// enough for the header's packet to be sent again once, as its specification asks for.
    fn default() -> Self {
        Self {
            introduction: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
        }
    }
}

impl Serving {
    /// Serves routes without TLS until the lifecycle's soft stop.
    pub fn new(routes: Routes, lifecycle: &Lifecycle) -> Self {
        Self {
            routes: Arc::new(routes),
            tls: None,
            proxy_protocol: None,
            trusted_proxies: TrustedProxies::default(),
            timeouts: Timeouts::default(),
            stop: lifecycle.soft.clone(),
            hard: lifecycle.hard.clone(),
            tracker: lifecycle.tracker.clone(),
        }
    }

    /// Serves routes without TLS until the hard stop, for probes and scrapers that watch a node
    /// drain. The process does not wait for their connections, which are kept alive for long;
    /// neither may [`Listener::serve`] of it be a task of the lifecycle's tracker.
    pub fn through_drain(routes: Routes, lifecycle: &Lifecycle) -> Self {
        let (stop, tracker) = (lifecycle.hard.clone(), TaskTracker::new());
        Self { stop, tracker, ..Self::new(routes, lifecycle) }
    }
}

impl Listener {
    /// Binds `port` (0: any free one) of `address`: an IP address, a host name, or nothing for all
    /// addresses of the machine, IPv6 and IPv4. `name` stands in logs and errors.
    ///
    /// # Errors
    /// A name that does not resolve; a port that is taken or not allowed.
    pub async fn bind(name: &'static str, address: &str, port: u16) -> Result<Self, BindError> {
        let fail = |source| BindError { name, address: address.to_owned(), port, source };
        let tcp = bind_first(address, port).await.map_err(fail)?;
        let addr = tcp.local_addr().map_err(fail)?;
        Ok(Self { name, tcp, addr })
    }

    /// The bound address, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Accepts connections until `serving.stop`, then closes the port. Logs the line `listening`
    /// with the field `address` first. Connections run in tasks of `serving.tracker`.
    pub async fn serve(self, serving: Serving) {
        let tls = serving.tls.is_some();
        let serving = Arc::new(serving);
        self.accept_until(&serving.stop, |tcp, addr| {
            let peer = Peer { addr, tls };
            serving.tracker.spawn(connection(Arc::clone(&serving), tcp, peer));
        })
        .await;
    }

    /// Hands each connection and its peer to `take` until `stop`, then closes the port.
    pub(super) async fn accept_until(
        self,
        stop: &CancellationToken,
        mut take: impl FnMut(TcpStream, SocketAddr),
    ) {
        tracing::info!(listener = self.name, address = %self.addr, "listening");
        let mut stop = pin!(stop.cancelled());
        let mut failing = false;
        let mut taken = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut stop => break,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok((tcp, addr)) => {
                    failing = false;
                    take(tcp, canonical(addr));
                    taken += 1;
                    if taken % BATCH == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Err(error) if concerns_one_peer(&error) => {}
                Err(error) => {
                    if !failing {
                        tracing::error!(listener = self.name, %error, "cannot accept connections");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        tracing::info!(listener = self.name, address = %self.addr, "stopped listening");
    }
}

async fn bind_first(address: &str, port: u16) -> io::Result<TcpListener> {
    if address.is_empty() {
        // A machine without IPv6 has no such sockets; there IPv4 is all addresses.
        return listen((Ipv6Addr::UNSPECIFIED, port).into()).or_else(|error| match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
            _ => listen((Ipv4Addr::UNSPECIFIED, port).into()),
        });
    }
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for addr in tokio::net::lookup_host((address, port)).await? {
        match listen(addr) {
            Ok(tcp) => return Ok(tcp),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

/// Options set on a listening socket hold for the connections accepted from it.
fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.ip() == Ipv6Addr::UNSPECIFIED {
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// An IPv4 peer of an IPv6 socket, as IPv4.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an accept failed for reasons of the one connection, so that the next may succeed.
fn concerns_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

async fn connection(serving: Arc<Serving>, mut tcp: TcpStream, mut peer: Peer) {
    let opened = async {
        peer.addr = introduce(&serving, &mut tcp, peer.addr).await?;
        secure(&serving, tcp).await.map_err(|error| {
            tracing::debug!(remote_addr = %peer.addr, %error, "TLS handshake failed");
        })
    };
    let socket = tokio::select! {
        opened = opened => match opened {
            Ok(socket) => socket,
            Err(()) => return,
        },
        () = serving.hard.cancelled() => return,
    };
    if let Err(error) = speak_http(&serving, socket, peer).await {
        let error = &error as &dyn std::error::Error;
        tracing::debug!(remote_addr = %peer.addr, error, "HTTP ended");
    }
}

/// Whose connection it is; an error is in the log.
async fn introduce(
    serving: &Serving,
    tcp: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, ()> {
    let Some(protocol) = &serving.proxy_protocol else { return Ok(peer) };
    protocol.enter(tcp, peer, serving.timeouts.introduction).await.map_err(|error: Refused| {
        if protocol.should_tell(&error) {
            tracing::warn!(remote_addr = %peer, %error, "connection refused");
        } else {
            tracing::debug!(remote_addr = %peer, %error, "connection refused");
        }
    })
}

async fn secure(serving: &Serving, tcp: TcpStream) -> io::Result<Socket> {
    let Some(tls) = &serving.tls else { return Ok(Socket::Plain(tcp)) };
    let handshake = tls.acceptor().accept(tcp);
    let stream = tokio::time::timeout(serving.timeouts.handshake, handshake).await??;
    Ok(Socket::Tls(Box::new(stream)))
}

async fn speak_http(serving: &Arc<Serving>, socket: Socket, peer: Peer) -> hyper::Result<()> {
    let shared = Arc::clone(serving);
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let serving = Arc::clone(&shared);
        let addr = serving.trusted_proxies.client_of(request.headers(), peer.addr);
        let peer = Peer { addr, ..peer };
        async move { Ok::<_, Infallible>(serving.routes.answer(request, peer).await) }
    });
    let http = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.timeouts.head)
        .max_buf_size(MAX_HEAD_SIZE)
        .pipeline_flush(false)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut http = pin!(http);
    tokio::select! {
        ended = http.as_mut() => return ended,
        () = serving.stop.cancelled() => http.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        ended = http => ended,
        () = serving.hard.cancelled() => Ok(()),
    }
}

#[cfg(test)]
mod tests;
