//! What operators do with the service: prove its file, reload it, serve it over TLS, ask amiss.

use std::process::{Command, Output};

use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{KEY, publish_many, settings, store_many};
use crate::redis::process::RedisServer;
use crate::support::{Answer, SOON, Server, eventually, http};
use crate::tls::{certificate, secured};

/// Where the service alone listens.
const ALONE: &str = "history.address = \"127.0.0.1\"\nhistory.port = 0";

const NAMESPACES: &str = "
[[channel.namespaces]]
name = \"brief\"
history_size = 10
history_ttl = \"60s\"
";

async fn ask(server: &Server, method: Method, path: &str) -> Answer {
    http(server.address(), method, path, &[("x-api-key", KEY)], "").await
}

/// A refusal: status, code and field.
fn problem(answer: &Answer) -> (u16, Value, Value) {
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{}", answer.body);
    let problem: Value = serde_json::from_str(&answer.body).expect("JSON");
    (answer.status, problem["code"].clone(), problem["field"].clone())
}

fn verify(folder: &TempDir, channels: &[&str]) -> (Output, String) {
    let file = folder.path().join("verify.toml");
    std::fs::write(&file, settings(folder, "")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_bobolink"));
    command.args(["history", "verify", "-c"]).arg(file).args(channels);
    let output = command.output().expect("the program");
    let told = [&output.stdout[..], &output.stderr[..]].concat();
    (output, String::from_utf8_lossy(&told).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_makes_nothing_and_says_what_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    for is_empty in [false, true] {
        if is_empty {
            std::fs::write(&path, "").expect("a file");
        }
        let (output, told) = verify(&folder, &[]);
        assert!(!output.status.success(), "{told}");
        assert!(told.contains("there is no such history"), "{told}");
        assert_eq!(std::fs::metadata(&path).map_or(0, |file| file.len()), 0);
    }
    std::fs::remove_file(&path).expect("removed");
    store_many(&folder, "long:a", 30).await;
    let (output, told) = verify(&folder, &[]);
    assert!(output.status.success(), "{told}");
    assert!(told.contains("1 channels with 30 messages, 0 deleted; 0 not sound, 0 unknown"));
    let (output, told) = verify(&folder, &["long:typo", "long:a"]);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("long:typo: unknown channel\nlong:a: 30 messages"), "{told}");
    assert!(told.contains("0 not sound, 1 unknown"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_in_channels_that_have_no_archive() {
    let (redis, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let server = Server::start(&(redis.settings() + &settings(&folder, "") + NAMESPACES)).await;
    eventually("the gateway is ready", SOON, async || {
        ask(&server, Method::GET, "/health/ready").await.status == 200
    })
    .await;
    publish_many(&server, "brief:a", 1..=3).await;
    for (channel, code) in [("brief:a", "not_archived"), ("nowhere:a", "unknown_channel")] {
        let channel = format!("/history/v1/channels/{channel}");
        for path in ["", "/messages?from_offset=1&to_offset=2", "/messages/1"] {
            let answer = ask(&server, Method::DELETE, &format!("{channel}{path}")).await;
            assert_eq!(problem(&answer), (404, json!(code), json!(null)), "{path}");
        }
    }
    let request = json!({ "channel": "brief:a", "limit": 10 });
    let history = super::call(server.address(), "history", &request).await.expect("a result");
    assert_eq!(history["publications"].as_array().map(Vec::len), Some(3), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_puts_new_namespaces_in_force_in_the_service_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = settings(&folder, ALONE);
    let service = Server::start_command(&before, &["history"], "history").await;
    let status = async || ask(&service, Method::GET, "/history/v1/channels/new:a").await.status;
    assert_eq!(status().await, 404);
    let named = "[[channel.namespaces]]\nname = \"new\"\nhistory_archive = true\n\
                 history_size = 10\nhistory_ttl = \"60s\"\n";
    service.write_settings(&format!("{before}{named}nonsense"));
    service.signal(Signal::HUP);
    service.log().wait_for(|line| line["message"] == "configuration not reloaded").await;
    assert_eq!(status().await, 404);
    service.write_settings(&format!("{before}{named}"));
    service.signal(Signal::HUP);
    eventually("the namespace is known", SOON, async || status().await == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_alone_speaks_tls_as_the_gateway_does() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, tls) = certificate();
    let settings = settings(&folder, ALONE) + &tls;
    let service = Server::start_command(&settings, &["history"], "history").await;
    let mut stream = secured(&service, &root).await.expect("TLS");
    let request = format!(
        "GET /history/v1/channels/long:a HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {KEY}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The end may come without a word.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_below_the_prefix_is_a_problem() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "")).await;
    publish_many(&server, "long:a", 1..=3).await;
    for (method, path, status, code) in [
        (Method::POST, "/history/v1/channels", 405, "method_not_allowed"),
        (Method::PUT, "/history/v1/channels/long:a/messages", 405, "method_not_allowed"),
        (Method::GET, "/history", 404, "not_found"),
        (Method::GET, "/history/", 404, "not_found"),
        (Method::POST, "/history/nothing", 404, "not_found"),
    ] {
        let answer = ask(&server, method, path).await;
        assert_eq!(problem(&answer), (status, json!(code), json!(null)), "{path}");
    }
    let messages = |channel: &str, query: &str| {
        format!("/history/v1/channels/long:{channel}/messages?{query}&epoch=other")
    };
    let unknown = (400, json!("bad_request"), json!("epoch"));
    let answer = ask(&server, Method::GET, &messages("a", "before_offset=3")).await;
    assert_eq!(problem(&answer), unknown);
    let answer = ask(&server, Method::DELETE, &messages("a", "from_offset=1&to_offset=3")).await;
    assert_eq!(problem(&answer), unknown);
    let empty = ask(&server, Method::GET, &messages("empty", "after_offset=3")).await;
    assert_eq!(empty.status, 200, "its stream may have begun an epoch: {}", empty.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_older_file_is_said_to_be_brought_up_to_date() {
    let folder = tempfile::tempdir().expect("a folder");
    let formats = async || {
        let mut server = Server::start(&settings(&folder, "")).await;
        server.signal(Signal::TERM);
        server.ended(SOON).await;
        let lines = server.log().lines();
        lines.into_iter().filter(|line| line.contains("format")).collect::<Vec<_>>()
    };
    assert!(formats().await.is_empty(), "a new file");
    let file = rusqlite::Connection::open(folder.path().join("history.db")).expect("opens");
    let older = "ALTER TABLE epochs DROP COLUMN began; ALTER TABLE epochs DROP COLUMN expired;
                 PRAGMA user_version = 1";
    file.execute_batch(older).expect("as the first version had it");
    drop(file);
    let told = formats().await;
    assert!(told.len() == 1 && told[0].contains("was brought to format 2"), "{told:?}");
}
