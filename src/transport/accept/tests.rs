//! The accept loop over loopback, with peers that behave and peers that do not.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Method, StatusCode};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;
use crate::transport::routes::{empty, handler, text};
use crate::transport::socket::into_socket;
use crate::transport::tls::TlsMaterial;

/// A port being served. Dropping it stops it hard.
struct Port {
    addr: SocketAddr,
    lifecycle: Lifecycle,
    accepting: tokio::task::JoinHandle<()>,
    metrics: Arc<Metrics>,
    /// `/slow` says here that it was asked, and answers when told to.
    asked: mpsc::Receiver<()>,
    answer: mpsc::Sender<()>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.lifecycle.soft.cancel();
        self.lifecycle.hard.cancel();
    }
}

async fn port() -> Port {
    port_with(|_| {}).await
}

async fn port_with(settle: impl FnOnce(&mut Serving)) -> Port {
    let (lifecycle, metrics) = (Lifecycle::new(), Arc::new(Metrics::default()));
    let (asks, asked) = mpsc::channel(1);
    let (answer, answers) = mpsc::channel(1);
    let answers = Arc::new(tokio::sync::Mutex::new(answers));
    let mut routes = Routes::new();
    routes.count_requests(Arc::clone(&metrics));
    let slow = handler(move |_, _| {
        let (asks, answers) = (asks.clone(), Arc::clone(&answers));
        async move {
            asks.send(()).await.expect("test");
            answers.lock().await.recv().await;
            text(StatusCode::OK, "slow answer")
        }
    });
    let peer = handler(|_, peer| async move { text(StatusCode::OK, format!("{peer:?}")) });
    routes.add(&[Method::GET], "/slow", slow).expect("route");
    routes.add(&[Method::GET], "/peer", peer).expect("route");
    routes.add(&[Method::GET], "/echo", echo(lifecycle.tracker.clone())).expect("route");
    let mut serving = Serving::new(routes, &lifecycle);
    settle(&mut serving);
    let listener = Listener::bind("test", "127.0.0.1", 0).await.expect("port");
    let addr = listener.local_addr();
    let accepting = tokio::spawn(listener.serve(serving));
    Port { addr, lifecycle, accepting, metrics, asked, answer }
}

/// Upgrades, tells the options of the socket in its first line, and echoes.
fn echo(tracker: TaskTracker) -> crate::transport::routes::Handler {
    handler(move |request, _| {
        tracker.spawn(async move {
            let upgraded = hyper::upgrade::on(request).await.expect("upgrade");
            let (mut socket, left_over) = into_socket(upgraded).expect("socket");
            if let Socket::Plain(tcp) = &socket {
                let options = SockRef::from(tcp);
                assert!(options.tcp_nodelay().expect("option"));
                assert_eq!(options.tcp_notsent_lowat().expect("option"), NOTSENT_LOWAT);
                assert_eq!(options.tcp_user_timeout().expect("option"), Some(USER_TIMEOUT));
            }
            socket.write_all(&left_over).await.expect("write");
            let (mut from, mut to) = tokio::io::split(socket);
            tokio::io::copy(&mut from, &mut to).await.expect("echo");
            to.shutdown().await.expect("shutdown");
        });
        let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        async move { response }
    })
}

async fn send(port: &Port, bytes: &[u8]) -> TcpStream {
    let mut tcp = TcpStream::connect(port.addr).await.expect("connection");
    tcp.write_all(bytes).await.expect("write");
    tcp
}

/// Everything the server sends until it closes. A reset after garbage counts as closing.
async fn until_closed(mut stream: impl AsyncRead + Unpin) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        all.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

async fn get(port: &Port, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    until_closed(send(port, request.as_bytes()).await).await
}

async fn echoes(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let upgrade =
        "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    // The first bytes of the new protocol come in the same packet as the request.
    stream.write_all(format!("{upgrade}early,").as_bytes()).await.expect("write");
    stream.write_all(b"late").await.expect("write");
    stream.shutdown().await.expect("shutdown");
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nearly,late"), "{answer}");
}

#[tokio::test]
async fn a_stop_finishes_the_request_under_way() {
    let mut port = port().await;
    let waiting = send(&port, b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    port.asked.recv().await.expect("asked");
    port.lifecycle.soft.cancel();
    (&mut port.accepting).await.expect("the accept loop ends");
    assert!(TcpStream::connect(port.addr).await.is_err());

    port.answer.send(()).await.expect("handler");
    let answer = until_closed(waiting).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("slow answer"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(port.lifecycle.stopped(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_hard_stop_ends_the_request_under_way() {
    let mut port = port().await;
    let waiting = send(&port, b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").await;
    port.asked.recv().await.expect("asked");
    port.lifecycle.ask_to_stop();
    port.lifecycle.ask_to_stop();
    assert_eq!(until_closed(waiting).await, "");
    assert!(!port.lifecycle.stopped(Duration::from_secs(60)).await);
    assert!(port.lifecycle.tracker.is_empty());
}

#[tokio::test]
async fn a_stop_closes_idle_connections_at_once() {
    let port = port().await;
    let silent = send(&port, b"").await;
    let mut kept_alive = send(&port, b"GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let mut start = [0; 12];
    kept_alive.read_exact(&mut start).await.expect("answer");
    assert_eq!(&start, b"HTTP/1.1 404");
    port.lifecycle.soft.cancel();
    until_closed(kept_alive).await;
    assert_eq!(until_closed(silent).await, "");
    assert!(port.lifecycle.stopped(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn a_stop_waits_for_upgraded_connections() {
    let mut port = port().await;
    let upgrade =
        "GET /echo HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n1";
    let mut tcp = send(&port, upgrade.as_bytes()).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n1") {
        assert_ne!(tcp.read_buf(&mut answer).await.expect("answer"), 0);
    }
    port.lifecycle.soft.cancel();
    (&mut port.accepting).await.expect("the accept loop ends");
    tcp.write_all(b"2").await.expect("write");
    assert_eq!(tcp.read_u8().await.expect("still open"), b'2');
    assert!(!port.lifecycle.tracker.is_empty());
    tcp.shutdown().await.expect("shutdown");
    assert!(port.lifecycle.stopped(Duration::from_secs(60)).await);
}

#[tokio::test]
async fn an_upgrade_gives_the_socket_back_with_the_bytes_read_ahead() {
    let port = port().await;
    echoes(TcpStream::connect(port.addr).await.expect("connection")).await;
}

#[tokio::test]
async fn garbage_costs_the_sender_its_connection_only() {
    let port = port().await;
    let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
    long.resize(MAX_HEAD_SIZE + 1, b'x');
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
    let table: [(&[u8], &str); 7] = [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not TLS here\r\n\r\n", "400"),
        (b"\r\n\r\n\0\0\0\0\r\n\r\n", "400"),
        (b"GET /a b HTTP/1.1\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1, 2\r\n\r\n", "400"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", ""),
        (&long, "431"),
        (many.as_bytes(), "431"),
    ];
    for (bytes, status) in table {
        let answer = until_closed(send(&port, bytes).await).await;
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        assert_eq!(answer.split(' ').nth(1).unwrap_or_default(), status, "{name}: {answer}");
    }
    assert!(get(&port, "/peer").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn half_a_request_and_then_silence_is_closed() {
    let port = port_with(|serving| serving.timeouts.head = Duration::from_millis(30)).await;
    for half in [&b""[..], b"GET /pe", b"GET /peer HTTP/1.1\r\nHost: te"] {
        until_closed(send(&port, half).await).await;
    }
}

#[tokio::test]
async fn requests_are_counted_by_pattern_and_never_by_path() {
    let port = port().await;
    assert!(get(&port, "/peer").await.starts_with("HTTP/1.1 200"));
    assert!(get(&port, "/some/path").await.starts_with("HTTP/1.1 404"));
    let post = b"POST /peer HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let refused = until_closed(send(&port, post).await).await;
    assert!(
        refused.starts_with("HTTP/1.1 405") && refused.contains("allow: GET, HEAD"),
        "{refused}"
    );

    let text = String::from_utf8(port.metrics.render().to_vec()).expect("text");
    let count = |labels: &str| {
        text.contains(&format!("bobolink_node_incoming_http_requests_total{{{labels}}} 1\n"))
    };
    assert!(count("method=\"GET\",path=\"/peer\",status=\"200\""), "{text}");
    assert!(count("method=\"GET\",path=\"unknown\",status=\"404\""), "{text}");
    assert!(count("method=\"POST\",path=\"unknown\",status=\"405\""), "{text}");
    assert!(!text.contains("/some/path"), "{text}");
}

fn trusted(network: &str) -> TrustedProxies {
    TrustedProxies::new(&[network.parse().expect("network")])
}

fn expecting(network: &str) -> Option<Arc<ProxyProtocol>> {
    Some(Arc::new(ProxyProtocol::new(trusted(network), Clock::real())))
}

const INTRODUCED: &[u8] = b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 443\r\n";

#[tokio::test]
async fn a_trusted_proxy_tells_the_address_before_the_connection() {
    let certificates = Certificates::new();
    let tls = certificates.server(None);
    let plain = port_with(|serving| serving.proxy_protocol = expecting("127.0.0.1/32")).await;
    let answer = until_closed(send(&plain, &[INTRODUCED, GET_PEER].concat()).await).await;
    assert!(answer.contains("addr: 203.0.113.9:5000, tls: false"), "{answer}");

    // Before the handshake, too.
    let secured = port_with(|serving| {
        serving.proxy_protocol = expecting("127.0.0.1/32");
        serving.tls = Some(tls);
    })
    .await;
    let mut stream = certificates.secure(send(&secured, INTRODUCED).await).await.expect("TLS");
    stream.write_all(GET_PEER).await.expect("write");
    let answer = until_closed(stream).await;
    assert!(answer.contains("addr: 203.0.113.9:5000, tls: true"), "{answer}");
}

#[tokio::test]
async fn a_port_for_proxies_closes_on_everybody_else_without_a_word() {
    let port = port_with(|serving| serving.proxy_protocol = expecting("10.0.0.0/8")).await;
    for bytes in [INTRODUCED, GET_PEER, b""] {
        assert_eq!(until_closed(send(&port, bytes).await).await, "");
    }
    let port = port_with(|serving| {
        serving.proxy_protocol = expecting("127.0.0.1/32");
        serving.timeouts.introduction = Duration::from_millis(30);
    })
    .await;
    for bytes in [GET_PEER, b"", b"PROXY", b"PROXY TCP4 1.1.1.1 x 1 2\r\n"] {
        assert_eq!(until_closed(send(&port, bytes).await).await, "");
    }
}

#[tokio::test]
async fn a_port_that_expects_no_header_of_a_proxy_takes_none() {
    let port = port_with(|serving| serving.trusted_proxies = trusted("127.0.0.1/32")).await;
    let two = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x50\x01\xbb";
    for header in [INTRODUCED, two] {
        let answer = until_closed(send(&port, &[header, GET_PEER].concat()).await).await;
        assert!(!answer.contains("200") && !answer.contains("addr"), "{answer}");
    }
}

#[tokio::test]
async fn headers_tell_the_address_if_a_trusted_proxy_sends_them() {
    let request = |name: &str| {
        format!(
            "GET /peer HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
             {name}: 1.1.1.1, 203.0.113.9\r\n\r\n"
        )
    };
    let believing = port_with(|serving| serving.trusted_proxies = trusted("127.0.0.1/32")).await;
    let forwarded = request("X-Forwarded-For");
    let answer = until_closed(send(&believing, forwarded.as_bytes()).await).await;
    assert!(answer.contains("addr: 203.0.113.9:0"), "{answer}");

    let wary = port().await;
    let answer = until_closed(send(&wary, forwarded.as_bytes()).await).await;
    assert!(answer.contains("addr: 127.0.0.1:"), "{answer}");

    // Behind the PROXY protocol it is the client that sends them, and a client is not believed.
    let both = port_with(|serving| {
        serving.trusted_proxies = trusted("127.0.0.1/32");
        serving.proxy_protocol = expecting("127.0.0.1/32");
    })
    .await;
    let forged = [
        INTRODUCED,
        b"GET /peer HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
        X-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\r\n",
    ]
    .concat();
    let answer = until_closed(send(&both, &forged).await).await;
    assert!(answer.contains("addr: 203.0.113.9:5000"), "{answer}");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let port = port().await;
    let error = Listener::bind("internal", "127.0.0.1", port.addr.port()).await.expect_err("taken");
    let expected = format!(
        "internal listener: cannot listen on \"127.0.0.1\" port {}: Address already in use",
        port.addr.port()
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test]
async fn no_address_means_all_and_peers_of_ipv4_look_like_it() {
    let listener = Listener::bind("test", "", 0).await.expect("port");
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, listener.local_addr().port()));
    let (client, accepted) = tokio::join!(client, listener.tcp.accept());
    let (_, from) = accepted.expect("accepted");
    assert_eq!(canonical(from), client.expect("client").local_addr().expect("address"));
}

#[test]
fn errors_of_the_machine_pause_accepting_and_those_of_a_peer_do_not() {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    const ENOBUFS: i32 = 105;
    const ECONNABORTED: i32 = 103;
    for code in [EMFILE, ENFILE, ENOBUFS] {
        assert!(!concerns_one_peer(&io::Error::from_raw_os_error(code)), "{code}");
    }
    assert!(concerns_one_peer(&io::Error::from_raw_os_error(ECONNABORTED)));
}

struct Certificates {
    cert: String,
    key: String,
}

impl Certificates {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("pair");
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    fn server(&self, client_ca_pem: Option<&str>) -> TlsServer {
        let (cert_pem, key_pem) = (&*self.cert, &*self.key);
        let section = "http_server.tls";
        TlsServer::new(&TlsMaterial { section, cert_pem, key_pem, client_ca_pem }).expect("server")
    }

    async fn connect(&self, port: &Port) -> io::Result<client::TlsStream<TcpStream>> {
        self.secure(TcpStream::connect(port.addr).await.expect("connection")).await
    }

    async fn secure(&self, tcp: TcpStream) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let cert = CertificateDer::from_pem_slice(self.cert.as_bytes()).expect("PEM");
        roots.add(cert).expect("root");
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("name");
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }
}

const GET_PEER: &[u8] = b"GET /peer HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn requests_and_upgrades_work_over_tls() {
    let certificates = Certificates::new();
    let tls = certificates.server(None);
    let port = port_with(|serving| serving.tls = Some(tls)).await;
    let mut stream = certificates.connect(&port).await.expect("TLS");
    stream.write_all(GET_PEER).await.expect("write");
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("tls: true"), "{answer}");
    echoes(certificates.connect(&port).await.expect("TLS")).await;
}

#[tokio::test]
async fn new_handshakes_use_the_certificate_of_the_last_reload() {
    let (first, second) = (Certificates::new(), Certificates::new());
    let tls = first.server(None);
    let port = port_with(|serving| serving.tls = Some(tls.clone())).await;
    first.connect(&port).await.expect("the first certificate");
    second.connect(&port).await.expect_err("not yet the second");
    let (cert_pem, key_pem) = (&*second.cert, &*second.key);
    let section = "http_server.tls";
    tls.reload(&TlsMaterial { section, cert_pem, key_pem, client_ca_pem: None }).expect("reload");
    second.connect(&port).await.expect("the second certificate");
}

#[tokio::test]
async fn a_client_without_the_wanted_certificate_gets_nothing() {
    let certificates = Certificates::new();
    let tls = certificates.server(Some(&certificates.cert));
    let port = port_with(|serving| serving.tls = Some(tls)).await;
    // With TLS 1.3 the client is done before the server looks at its certificates.
    if let Ok(mut stream) = certificates.connect(&port).await {
        let _ = stream.write_all(GET_PEER).await;
        assert_eq!(until_closed(stream).await, "");
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_or_never_was_one_is_closed() {
    let tls = Certificates::new().server(None);
    let port = port_with(|serving| {
        serving.tls = Some(tls);
        serving.timeouts.handshake = Duration::from_millis(30);
    })
    .await;
    for bytes in [Bytes::new(), Bytes::from_static(b"\x16\x03\x01"), Bytes::from_static(GET_PEER)] {
        let answer = until_closed(send(&port, &bytes).await).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
}

#[tokio::test]
async fn a_burst_of_connections_leaves_turns_to_others() {
    let listener = Listener::bind("test", "127.0.0.1", 0).await.expect("port");
    // They wait in the kernel until somebody accepts.
    let mut peers = Vec::new();
    for _ in 0..8 * BATCH {
        peers
            .push(TcpStream::connect(listener.local_addr()).await.expect("a place in the backlog"));
    }
    let (taken, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
    let (counted, stopped) = (Arc::clone(&taken), stop.clone());
    let accepting = tokio::spawn(async move {
        let take = |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        listener.accept_until(&stopped, take).await;
    });
    let mut seen = 0;
    while seen < peers.len() {
        tokio::task::yield_now().await;
        let now = taken.load(Ordering::Relaxed);
        assert!(now - seen <= 2 * BATCH, "{} were taken at once", now - seen);
        seen = now;
    }
    stop.cancel();
    accepting.await.expect("it stops");
}
