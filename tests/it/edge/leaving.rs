//! A stop that is announced, without HAProxy: what the node says, and whom it still serves.

use std::net::SocketAddr;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::support::{OPEN, SOON, Server, eventually, get};

const SETTINGS: &str = "
http_server.internal_port = 0
http_server.agent_port = 0
health.enabled = true
";

async fn ask(agent: SocketAddr) -> String {
    let mut stream = TcpStream::connect(agent).await.expect("the agent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_node_says_so_first_and_serves_on_for_the_delay() {
    let times = "shutdown.drain_delay = \"12s\"\nshutdown.drain_window = \"1s\"\n";
    let mut server = Server::start(&format!("{OPEN}{SETTINGS}{times}")).await;
    let (internal, agent) = (server.address_of("internal").await, server.address_of("agent").await);
    assert!(ask(agent).await.starts_with("ready up "));
    let mut early = server.subscribed("ann", "news").await;

    server.signal(Signal::TERM);
    eventually("the agent drains and readiness is red", SOON, async || {
        ask(agent).await == "drain\n" && get(internal, "/health/ready").await.status == 503
    })
    .await;
    assert_eq!(server.log().count(|line| line["message"] == "draining"), 0);
    // Load balancers that have not looked yet send connections, and they are served.
    let mut late = server.connected("bob").await;
    late.publish("news", "1").await.expect("published");
    early.publication(SOON).await.expect("delivered");

    for mut client in [early, late] {
        let close = client.closed(SOON).await.expect("a close");
        assert_eq!((close.code, close.reason.as_str()), (Some(3001), "shutdown"));
    }
    assert_eq!(server.ended(SOON).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_the_delay() {
    let times = "shutdown.drain_delay = \"50s\"\nshutdown.drain_window = \"1s\"\n\
                 shutdown.timeout = \"60s\"\n";
    let mut server = Server::start(&format!("{OPEN}{SETTINGS}{times}")).await;
    let agent = server.address_of("agent").await;
    let mut client = server.connected("ann").await;
    server.signal(Signal::TERM);
    eventually("it is leaving", SOON, async || ask(agent).await == "drain\n").await;
    server.signal(Signal::TERM);
    client.closed(SOON).await.expect("its end");
    server.ended(SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_agent_unless_it_is_asked_for() {
    let server = Server::start(OPEN).await;
    assert_eq!(server.log().count(|line| line["listener"] == "agent"), 0);
}
