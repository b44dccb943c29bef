//! History that lasts: the stores, the service, and recovery from far back.

mod alone;
mod cluster;
mod cold;
mod contract;
mod disk;
mod embedded;
mod failover;
mod late;
mod mongo;
mod operated;
mod rest;
mod restart;
mod retention;
mod size;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bobolink::archive::{
    Anchor, EmbeddedSettings, EmbeddedStore, Message, MessageId, MessageStore, Order, PageQuery,
    Record,
};
use bobolink::protocol::publication::Publication;
use bobolink::time::Clock;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::support::Server;

/// Of the server API and of the history service.
const KEY: &str = "an-api-key";

/// A gateway with the archived namespace `long`, whose streams keep ten publications at hand, and its
/// file in `folder`. `more` are further lines, of tables or namespaces.
fn settings(folder: &TempDir, more: &str) -> String {
    let path = folder.path().join("history.db");
    format!(
        "http_api.key = {KEY:?}\n\
         health.enabled = true\n\
         history.path = {path:?}\n\
         {more}\n\
         [[channel.namespaces]]\n\
         name = \"long\"\n\
         history_archive = true\n\
         history_size = 10\n\
         history_ttl = \"60s\"\n\
         force_recovery = true\n\
         allow_subscribe_for_client = true\n"
    )
}

/// Numbers by writer (whose channel is `long:<writer>`), epoch and offset.
type Places = BTreeMap<(usize, String, u64), u64>;

/// Every message of the writers, each channel proven dense.
async fn stored(store: &dyn MessageStore, writers: usize) -> Places {
    let mut stored = Places::new();
    for writer in 0..writers {
        let channel = format!("long:{writer}");
        let verdict = store.verify(&channel).await.expect("a verdict");
        assert_eq!((verdict.holes, verdict.faults), (vec![], vec![]), "{channel}");
        let mut after = None;
        loop {
            let query = PageQuery { after, before: None, order: Order::OldestFirst, limit: 1_000 };
            let page = store.page(&channel, &query).await.expect("a page");
            for message in &page.messages {
                let data: Value = serde_json::from_slice(&message.publication.data).expect("JSON");
                let number = data["n"].as_u64().expect("a number");
                stored.insert((writer, message.epoch.to_string(), message.offset()), number);
            }
            after = page.messages.last().map(|message| Anchor::Id(message.id));
            if !page.more {
                break;
            }
        }
    }
    stored
}

async fn publish(server: &Server, channel: &str, number: u64) {
    let request = json!({ "channel": channel, "data": { "n": number } });
    let result = call(server.address(), "publish", &request).await;
    assert!(result.is_some(), "{channel} {number}");
}

/// Publishes many, in order and in few requests.
async fn publish_many(server: &Server, channel: &str, numbers: impl IntoIterator<Item = u64>) {
    let numbers: Vec<_> = numbers.into_iter().collect();
    for part in numbers.chunks(500) {
        let one = |n: &u64| json!({ "publish": { "channel": channel, "data": { "n": n } } });
        let commands: Vec<_> = part.iter().map(one).collect();
        let answer = post(server.address(), "batch", &json!({ "commands": commands })).await;
        let answer = answer.expect("an answer");
        let replies = answer["replies"].as_array().expect("replies");
        let failed = replies.iter().find(|reply| reply.get("error").is_some());
        assert_eq!((replies.len(), failed), (part.len(), None));
    }
}

/// The epoch of what [`store_many`] stores.
const EPOCH: &str = "stored";

/// Stores messages 1 to `count` of a channel in the file of a gateway that does not run, as that would.
async fn store_many(folder: &TempDir, channel: &str, count: u64) {
    let path = folder.path().join("history.db");
    let settings = EmbeddedSettings { path, cache: 8 << 20 };
    let store = EmbeddedStore::open(&settings, EPOCH.into()).expect("opens");
    let channel: Arc<str> = channel.into();
    let now = Clock::real().unix_millis();
    let offsets: Vec<u64> = (1..=count).collect();
    for part in offsets.chunks(8_000) {
        let record = |offset: &u64| {
            let (offset, data) = (*offset, format!("{{\"n\":{offset}}}").into());
            let publication = Publication { offset, data, ..Publication::default() };
            let id = MessageId::first_at(now - (count - offset) as i64);
            let publication = Arc::new(publication);
            let message = Message { id, epoch: EPOCH.into(), publication };
            Record { channel: Arc::clone(&channel), message }
        };
        store.append(part.iter().map(record).collect()).await.expect("stored");
    }
    store.close().await;
}

/// Calls a method of the server API; none if it failed or nobody answered.
async fn call(address: SocketAddr, method: &str, request: &Value) -> Option<Value> {
    post(address, method, request).await?.get("result").cloned()
}

async fn post(address: SocketAddr, method: &str, request: &Value) -> Option<Value> {
    exchange(address, Method::POST, &format!("/api/{method}"), request.to_string()).await
}

/// The JSON of an answer; none if nobody answered.
async fn exchange(address: SocketAddr, method: Method, path: &str, body: String) -> Option<Value> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", address.to_string())
            .header("x-api-key", KEY)
            .body(Full::new(Bytes::from(body)));
        let response = sender.send_request(request.expect("a request")).await.ok()?;
        let body = response.into_body().collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(Duration::from_secs(60), exchange).await.expect("an answer in time")
}
