//! Whose address a node sees behind HAProxy, and what is done with it.

use std::net::SocketAddr;

use bobolink::client::{Client, Endpoint, Error};
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::balancer::{Balancer, NodePorts};
use crate::support::{OPEN, SOON, eventually, token};

/// Connects from an address of our choice: all of 127.0.0.0/8 is this machine.
async fn connect_from(address: [u8; 4], to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((address, 0)))?;
    socket.connect(to).await
}

async fn client_from(address: [u8; 4], balancer: &Balancer, endpoint: &Endpoint) -> SocketAddr {
    let stream = connect_from(address, balancer.clients()).await.expect("a connection");
    let own = stream.local_addr().expect("an address");
    let mut client = Client::open_on(stream, endpoint).await.expect("a WebSocket");
    client.connect(&token("ann")).await.expect("connected");
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_sees_the_clients_address_and_not_what_the_client_claims() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let node = nodes[0].start(&format!("{OPEN}log.level = \"debug\"\n")).await;
    let balancer = Balancer::start(&nodes, &[]).await;
    balancer.uses("gateway-1").await;

    let claim = |endpoint: Endpoint, name: &'static str| {
        endpoint.header(HeaderName::from_static(name), HeaderValue::from_static("203.0.113.9"))
    };
    let honest = balancer.endpoint();
    let forged = claim(claim(balancer.endpoint(), "x-forwarded-for"), "x-real-ip");
    for (address, endpoint) in [([127, 0, 0, 2], honest), ([127, 0, 0, 3], forged)] {
        let own = client_from(address, &balancer, &endpoint).await.to_string();
        let is_seen = |line: &serde_json::Value| {
            line["message"] == "connected" && line["remote_addr"] == own.as_str()
        };
        node.log().wait_for(is_seen).await;
    }
    assert!(node.log().lines().iter().all(|line| !line.contains("203.0.113.9")));
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_proxy_there_is_no_way_in() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let node = nodes[0].start(OPEN).await;
    let refused = Client::open(&node.endpoint()).await.expect_err("a refusal");
    assert!(matches!(refused, Error::Handshake(_)), "{refused}");
    let line = node.log().wait_for(|line| line["message"] == "connection refused").await;
    assert_eq!(line["level"], "WARN");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("PROXY protocol")), "{line}");

    // From an address that is no proxy's not even a sound header opens the port.
    let mut stranger = connect_from([127, 0, 0, 9], node.address()).await.expect("a connection");
    let introduced = b"PROXY TCP4 203.0.113.9 127.0.0.1 5000 443\r\n";
    // The node may have closed it already.
    let _ = stranger.write_all(introduced).await;
    let refused = Client::open_on(stranger, &node.endpoint()).await.expect_err("a refusal");
    assert!(matches!(refused, Error::Handshake(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_opens_only_so_many_connections_and_the_others_do_not_feel_it() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let _node = nodes[0].start(OPEN).await;
    let balancer = Balancer::start(&nodes, &[("CONNECTIONS_PER_ADDRESS", "5")]).await;
    balancer.uses("gateway-1").await;
    let endpoint = balancer.endpoint();

    let (mut open, mut refused) = (Vec::new(), 0);
    for _ in 0..15 {
        let stream = connect_from([127, 0, 0, 4], balancer.clients()).await;
        match stream {
            Ok(stream) => match Client::open_on(stream, &endpoint).await {
                Ok(client) => open.push(client),
                Err(_) => refused += 1,
            },
            Err(_) => refused += 1,
        }
    }
    assert!(!open.is_empty() && open.len() <= 5, "{} were let in", open.len());
    assert!(refused >= 10);
    client_from([127, 0, 0, 5], &balancer, &endpoint).await;
    eventually("the refusals are counted", SOON, async || {
        balancer.server("clients", "FRONTEND").await.number("dses") >= 10
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_another_balancer_it_is_the_address_in_the_header_that_counts() {
    let nodes = [NodePorts::choose(), NodePorts::choose()];
    let node = nodes[0].start(&format!("{OPEN}log.level = \"debug\"\n")).await;
    let limit = [("CONNECTIONS_PER_ADDRESS", "5")];
    let balancer = Balancer::start_behind_another(&nodes, &limit).await;
    balancer.uses("gateway-1").await;

    let mut open = Vec::new();
    for number in 1..=12 {
        let mut client = introduced(&balancer, number).await.expect("a WebSocket");
        client.connect(&token("ann")).await.expect("connected");
        open.push(client);
    }
    let is_seen = |line: &serde_json::Value| {
        line["message"] == "connected" && line["remote_addr"] == "203.0.113.12:5000"
    };
    node.log().wait_for(is_seen).await;

    // All of them came from one address, and so do these; now it is one in the header as well.
    let mut let_in = 0;
    for _ in 0..12 {
        let client = introduced(&balancer, 99).await;
        let_in += usize::from(client.is_ok());
        open.extend(client);
    }
    assert!((1..=5).contains(&let_in), "{let_in} were let in");
}

/// A WebSocket of 203.0.113.`number`, as the other balancer says.
async fn introduced(balancer: &Balancer, number: u8) -> Result<Client<TcpStream>, Error> {
    let mut stream = TcpStream::connect(balancer.clients()).await.expect("a connection");
    let header = format!("PROXY TCP4 203.0.113.{number} 127.0.0.1 5000 443\r\n");
    stream.write_all(header.as_bytes()).await.expect("sent");
    Client::open_on(stream, &balancer.endpoint()).await
}
