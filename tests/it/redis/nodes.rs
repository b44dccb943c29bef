//! Gateways that know each other, and what callers of their API and clients see of that.

use bobolink::client::Client;
use bobolink::protocol::reply::Push;
use hyper::Method;
use serde_json::{Value, json};

use super::gateways::gateway;
use crate::support::{SOON, Server, eventually, http, token};

/// Gateways that know each other.
pub async fn cluster<const N: usize>(settings: &str) -> [Server; N] {
    let servers = futures_util::future::join_all((0..N).map(|_| gateway(settings))).await;
    for server in &servers {
        eventually("they know each other", SOON, async || nodes(server).await.len() == N).await;
    }
    servers.try_into().unwrap_or_else(|_| unreachable!("as many as asked for"))
}

/// What the server API answers.
pub async fn call(server: &Server, method: &str, request: Value) -> Value {
    let (path, body) = (format!("/api/{method}"), request.to_string());
    let answer = http(server.address(), Method::POST, &path, &[], &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).expect("JSON")
}

/// The result of a call that succeeds.
pub async fn done(server: &Server, method: &str, request: Value) -> Value {
    let mut answer = call(server, method, request).await;
    assert_eq!(answer.get("error"), None, "{method}: {answer}");
    answer["result"].take()
}

/// The nodes as `info` shows them.
pub async fn nodes(server: &Server) -> Vec<Value> {
    let mut info = done(server, "info", json!({})).await;
    serde_json::from_value(info["nodes"].take()).expect("a list")
}

/// Channels as `channels` shows them.
pub async fn channels(server: &Server, pattern: &str) -> Value {
    done(server, "channels", json!({ "pattern": pattern })).await["channels"].take()
}

/// A connection of `user`, and its client id.
pub async fn connected(server: &Server, user: &str) -> (Client, String) {
    let mut client = server.open().await;
    let connected = client.connect(&token(user)).await.expect("connected");
    (client, connected.client)
}

/// The next push.
pub async fn push(client: &mut Client) -> Push {
    client.push(SOON).await.expect("a push")
}

/// The code that the server closes the connection with.
pub async fn code_of_close(client: &mut Client) -> Option<u16> {
    client.closed(SOON).await.expect("closed").code
}
