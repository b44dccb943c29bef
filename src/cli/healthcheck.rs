//! `bobolink healthcheck`: asks a running node whether it is ready.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::transport::routes::read_body;

/// Most bytes of an answer that are read; what a node says is far shorter.
const MAX_ANSWER: usize = 4 * 1024;

/// Whom to ask, and how long to wait.
#[derive(Clone, Debug)]
pub struct Target {
    /// A host name or address. One that stands for all addresses (empty, `0.0.0.0`, `::`) means
    /// this machine.
    pub host: String,
    pub port: u16,
    /// `/health/ready` unless `health.handler_prefix` says otherwise.
    pub path: String,
    /// For everything together.
    pub timeout: Duration,
}

/// Why a node counts as not ready.
#[derive(Debug, thiserror::Error)]
pub enum NotReady {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("cannot ask for this path: {0}")]
    Path(#[from] hyper::http::Error),
    #[error("answered {status}: {body}")]
    Status { status: StatusCode, body: String },
}

/// Asks, prints the outcome, and gives the exit code: 0 if the node is ready, 1 if not.
pub async fn run(target: &Target) -> ExitCode {
    let Target { port, path, .. } = target;
    let host = url_host(&target.host);
    match check(target).await {
        Ok(()) => {
            println!("http://{host}:{port}{path}: ready");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("http://{host}:{port}{path}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks a node whether it is ready.
///
/// # Errors
/// Anything but an answer with status 200 in time.
pub async fn check(target: &Target) -> Result<(), NotReady> {
    tokio::time::timeout(target.timeout, ask(target))
        .await
        .unwrap_or(Err(NotReady::Timeout(target.timeout)))
}

async fn ask(target: &Target) -> Result<(), NotReady> {
    let host = url_host(&target.host);
    let address = (host.trim_matches(['[', ']']), target.port);
    let tcp = TcpStream::connect(address).await.map_err(NotReady::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
    let request = Request::get(&target.path)
        .header(HOST, format!("{host}:{}", target.port))
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(());
        }
        let body = read_body(response.into_body(), MAX_ANSWER, target.timeout).await;
        let body = body.map_or_else(|error| error.to_string(), |body| printable(&body));
        Err(NotReady::Status { status, body })
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
        Target { host: "127.0.0.1".to_owned(), port, path: "/health/ready".to_owned(), timeout }
    }

    #[tokio::test]
    async fn the_outcome_follows_the_phase_of_the_node() {
        let (health, lifecycle) = (Arc::new(Health::new()), Lifecycle::new());
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

    #[tokio::test]
    async fn a_silent_port_times_out_and_a_closed_one_refuses() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let port = silent.local_addr().expect("address").port();
        let hasty = Target { timeout: Duration::from_millis(20), ..target(port) };
        assert!(matches!(check(&hasty).await, Err(NotReady::Timeout(_))));
        drop(silent);
        assert!(matches!(check(&target(port)).await, Err(NotReady::Connect(_))));
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
