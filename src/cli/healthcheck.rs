//! `bobolink healthcheck`: asks a running node how it is.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::config::{Config, Tls};
use crate::redis::ClientTls;
use crate::transport::routes::read_body;

/// Most bytes of an answer that are read; what a node says is far shorter.
const MAX_ANSWER: usize = 4 * 1024;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Question {
    /// Whether it answers at all.
    Live,
    /// Whether it should be sent connections.
    Ready,
    /// Whether what is published arrives.
    Delivery,
}

/// Whom to ask, what for, and how long to wait.
#[derive(Clone, Debug)]
pub struct Target {
    /// A host name or address. One that stands for all addresses (empty, `0.0.0.0`, `::`) means
    /// this machine.
    pub host: String,
    pub port: u16,
    /// The node speaks TLS there. Its certificate is not checked: it is made for the name that
    /// clients use, and nothing secret is said.
    pub tls: bool,
    /// `/health/ready` or such, unless `health.handler_prefix` says otherwise.
    pub path: String,
    /// For everything together.
    pub timeout: Duration,
}

/// Why a node counts as not well.
#[derive(Debug, thiserror::Error)]
pub enum NotWell {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("cannot speak TLS: {0}")]
    Tls(#[from] crate::redis::ClientTlsError),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("cannot ask for this path: {0}")]
    Path(#[from] hyper::http::Error),
    #[error("answered {status}: {body}")]
    Status { status: StatusCode, body: String },
}

impl Target {
    /// The node that runs with a configuration, asked on the port where it tells.
    pub fn of(config: &Config, question: Question, timeout: Duration) -> Self {
        let server = &config.http_server;
        let (host, port, tls) = match server.internal() {
            Some((host, port)) => {
                let shared = server.tls.enabled && !server.tls_external;
                (host, port, shared || server.internal_tls.enabled)
            }
            None => (server.address.as_str(), server.port, server.tls.enabled),
        };
        let word = match question {
            Question::Live => "live",
            Question::Ready => "ready",
            Question::Delivery => "delivery",
        };
        let prefix = config.health.handler_prefix.trim_end_matches('/');
        Self { host: host.to_owned(), port, tls, path: format!("{prefix}/{word}"), timeout }
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}:{}{}", url_host(&self.host), self.port, self.path)
    }
}

/// Asks, prints the outcome, and gives the exit code: 0 if all is well, 1 if not.
pub async fn run(target: &Target) -> ExitCode {
    match check(target).await {
        Ok(()) => {
            println!("{}: ok", target.url());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", target.url());
            ExitCode::FAILURE
        }
    }
}

/// Asks a node.
///
/// # Errors
/// Anything but an answer with status 200 in time.
pub async fn check(target: &Target) -> Result<(), NotWell> {
    tokio::time::timeout(target.timeout, connect(target))
        .await
        .unwrap_or(Err(NotWell::Timeout(target.timeout)))
}

async fn connect(target: &Target) -> Result<(), NotWell> {
    let host = url_host(&target.host);
    let host = host.trim_matches(['[', ']']);
    let tcp = TcpStream::connect((host, target.port)).await.map_err(NotWell::Connect)?;
    if !target.tls {
        return ask(target, tcp).await;
    }
    let anyone = Tls { enabled: true, insecure_skip_verify: true, ..Tls::default() };
    let tls = ClientTls::new(&anyone, "healthcheck")?;
    ask(target, tls.begin(host, tcp).await.map_err(NotWell::Connect)?).await
}

async fn ask(
    target: &Target,
    wire: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), NotWell> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(wire)).await?;
    let request = Request::get(&target.path)
        .header(HOST, format!("{}:{}", url_host(&target.host), target.port))
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        let body = read_body(response.into_body(), MAX_ANSWER, target.timeout).await;
        let body = body.map_or_else(|error| error.to_string(), |body| printable(&body));
        Err(NotWell::Status { status, body })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        biased;
        outcome = &mut exchange => outcome,
        // The connection ending is seen by the exchange, which knows what it was waiting for.
        _ = connection => exchange.await,
    }
}

/// The host as it stands in a URL.
fn url_host(host: &str) -> String {
    match host.trim_matches(['[', ']']) {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        v6 if v6.contains(':') => format!("[{v6}]"),
        host => host.to_owned(),
    }
}

/// Text for a terminal: no control characters, whoever answered.
fn printable(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;
    use crate::lifecycle::Lifecycle;
    use crate::telemetry::health::{Health, Phase};
    use crate::transport::accept::{Listener, Serving};
    use crate::transport::probes::add_health;
    use crate::transport::routes::Routes;

    fn target(port: u16) -> Target {
        let timeout = Duration::from_secs(10);
        let path = "/health/ready".to_owned();
        Target { host: "127.0.0.1".to_owned(), port, tls: false, path, timeout }
    }

    #[tokio::test]
    async fn the_outcome_follows_the_phase_of_the_node() {
        let (health, lifecycle) = (Arc::new(Health::default()), Lifecycle::new());
        let mut routes = Routes::new();
        add_health(&mut routes, "/health", &health).expect("routes");
        let listener = Listener::bind("test", "127.0.0.1", 0).await.expect("port");
        let target = target(listener.local_addr().port());
        tokio::spawn(listener.serve(Serving::through_drain(routes, &lifecycle)));

        let starting = check(&target).await.expect_err("starting").to_string();
        assert!(starting.contains("503") && starting.contains("starting"), "{starting}");
        health.enter(Phase::Ready);
        check(&target).await.expect("ready");
        assert_eq!(run(&target).await, ExitCode::SUCCESS);
        lifecycle.ask_to_stop();
        health.enter(Phase::Draining);
        let draining = check(&target).await.expect_err("draining").to_string();
        assert!(draining.contains("draining"), "{draining}");
        assert_eq!(run(&target).await, ExitCode::FAILURE);
    }

    #[test]
    fn the_port_and_the_path_are_those_of_the_configuration() {
        let url = |adapt: fn(&mut Config), question| {
            let mut config = Config::default();
            adapt(&mut config);
            Target::of(&config, question, Duration::ZERO).url()
        };
        assert_eq!(url(|_| (), Question::Ready), "http://127.0.0.1:8000/health/ready");
        let secured: fn(&mut Config) = |config| config.http_server.tls.enabled = true;
        assert_eq!(url(secured, Question::Live), "https://127.0.0.1:8000/health/live");
        let internal: fn(&mut Config) = |config| {
            config.http_server.internal_port = Some(9000);
            config.http_server.tls.enabled = true;
            config.http_server.tls_external = true;
            config.health.handler_prefix = "/up/".into();
        };
        assert_eq!(url(internal, Question::Delivery), "http://127.0.0.1:9000/up/delivery");
    }

    #[tokio::test]
    async fn a_silent_port_times_out_and_a_closed_one_refuses() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = silent.local_addr().expect("address").port();
        let hasty = Target { timeout: Duration::from_millis(20), ..target(port) };
        assert!(matches!(check(&hasty).await, Err(NotWell::Timeout(_))));
        drop(silent);
        assert!(matches!(check(&target(port)).await, Err(NotWell::Connect(_))));
    }

    #[test]
    fn an_address_for_all_means_this_machine() {
        for (given, expected) in [
            ("", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
            ("::", "[::1]"),
            ("[::]", "[::1]"),
            ("fe80::1", "[fe80::1]"),
            ("node.internal", "node.internal"),
        ] {
            assert_eq!(url_host(given), expected);
        }
    }

    #[test]
    fn an_answer_cannot_play_with_the_terminal() {
        assert_eq!(printable(b"\x1b[2Jgone\n"), "[2Jgone");
    }
}
