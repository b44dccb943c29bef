//! How a node ends, and how it takes new rules without ending.

use std::time::Duration;

use bobolink::client::{Client, Error};
use bobolink::time::Clock;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::support::{
    OPEN, SECRET, SOON, Server, assert_even, eventually, get, token, token_signed_with,
};

const PROBED: &str = "
http_server.internal_port = 0
health.enabled = true
";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_are_sent_away_one_after_the_other_and_the_node_ends_in_time() {
    const CONNECTIONS: usize = 1_000;
    let window = Duration::from_secs(9);
    let timeout = Duration::from_secs(30);
    let settings = format!(
        "{OPEN}{PROBED}shutdown.drain_window = \"{window:?}\"\nshutdown.timeout = \"{timeout:?}\"\n"
    );
    let mut server = Server::start(&settings).await;
    let internal = server.address_of("internal").await;
    // Some that are connected, and some that have not come to it yet.
    let clients =
        stream::iter(0..CONNECTIONS).map(|index| {
            let server = &server;
            async move {
                if index % 20 == 0 { server.open().await } else { server.connected("ann").await }
            }
        });
    let clients: Vec<Client> = clients.buffer_unordered(32).collect().await;
    assert_eq!(get(internal, "/health/ready").await.status, 200);

    let clock = Clock::real();
    let begun = clock.now();
    let mut closing: FuturesUnordered<_> = clients
        .into_iter()
        .map(|mut client| {
            let clock = clock.clone();
            tokio::spawn(async move { (client.closed(SOON).await, clock.now()) })
        })
        .collect();
    server.signal(Signal::TERM);
    eventually("readiness is red", SOON, async || {
        get(internal, "/health/ready").await.status == 503
    })
    .await;
    let still_open = closing.iter().filter(|closing| !closing.is_finished()).count();
    assert!(still_open > CONNECTIONS / 4, "only {still_open} are left when readiness goes red");
    assert_eq!(get(internal, "/health/live").await.status, 200);

    let mut times = Vec::new();
    while let Some(closed) = closing.next().await {
        let (close, at) = closed.expect("a client");
        let close = close.expect("a close");
        assert_eq!((close.code, close.reason.as_str()), (Some(3001), "shutdown"));
        times.push(at);
    }
    assert_eq!(times.len(), CONNECTIONS);
    let status = server.ended(timeout).await;
    assert!(clock.now() - begun < timeout, "it took the whole timeout");
    assert_eq!(status.code(), Some(0));
    // Those that had not connected leave at once, and the others over the first four fifths of the window.
    times.sort();
    assert_even(&times[CONNECTIONS / 20..], begun, window * 4 / 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_node_takes_nobody_new() {
    let settings = format!("{OPEN}shutdown.drain_window = \"10s\"\nshutdown.timeout = \"12s\"\n");
    let server = Server::start(&settings).await;
    let _first = server.connected("ann").await;
    let _second = server.connected("ann").await;
    server.signal(Signal::TERM);
    eventually("the port is closed", SOON, async || {
        TcpStream::connect(server.address()).await.is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_node_at_once() {
    let settings = format!("{OPEN}shutdown.drain_window = \"5m\"\nshutdown.timeout = \"10m\"\n");
    let mut server = Server::start(&settings).await;
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(server.connected("ann").await);
    }
    server.signal(Signal::TERM);
    server.log().wait_for(|line| line["message"] == "draining").await;
    server.signal(Signal::TERM);
    server.ended(SOON).await;
    for mut client in clients {
        client.closed(SOON).await.expect("its end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_client_does_not_hold_the_node() {
    let settings = format!("{OPEN}shutdown.drain_window = \"0s\"\nshutdown.timeout = \"1s\"\n");
    let mut server = Server::start(&settings).await;
    // It never closes its side, and never sends a request at all.
    let _stuck = server.connected("ann").await;
    let _silent = TcpStream::connect(server.address()).await.expect("a connection");
    server.signal(Signal::TERM);
    let status = server.ended(SOON).await;
    assert_eq!(status.code(), Some(0));
}

const CHAT: &str = "
[[channel.namespaces]]
name = \"chat\"
allow_subscribe_for_client = true
";

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_brings_namespaces_and_keys_and_keeps_connections() {
    let mut server = Server::start("").await;
    let mut client = server.connected("ann").await;
    let unknown = client.subscribe("chat:1").await;
    assert!(matches!(unknown, Err(Error::Refused(error)) if error.code == 102));

    server.write_settings(&format!("client.token.hmac_secret_key = \"another\"\n{CHAT}"));
    server.signal(Signal::HUP);
    server.log().wait_for(|line| says(line, "configuration reloaded")).await;
    client.subscribe("chat:1").await.expect("the new namespace is there");
    let mut late = server.open().await;
    let refused = late.connect(&token("ann")).await;
    assert!(matches!(refused, Err(Error::Closed(close)) if close.code == Some(3500)));
    let mut late = server.open().await;
    late.connect(&token_signed_with("another", "ann")).await.expect("the new key is in force");
    assert!(server.is_alive());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_of_a_broken_file_changes_nothing() {
    let mut server = Server::start(CHAT).await;
    let mut client = server.connected("ann").await;
    for (count, broken) in [
        "this is not TOML",
        "client.token.hmac_secret_key = 7\n",
        "[[channel.namespaces]]\nname = \"chat\"\nhistory_size = -1\n",
    ]
    .into_iter()
    .enumerate()
    {
        server.write_settings(broken);
        server.signal(Signal::HUP);
        eventually("the log tells", SOON, async || {
            server.log().count(|line| says(line, "configuration not reloaded")) == count + 1
        })
        .await;
        client.subscribe(&format!("chat:{count}")).await.expect("the old rules hold");
        server.connected("bob").await;
    }
    assert!(server.log().lines().iter().all(|line| !line.contains(SECRET)));
    assert!(server.is_alive());
}

fn says(line: &serde_json::Value, what: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.starts_with(what))
}
