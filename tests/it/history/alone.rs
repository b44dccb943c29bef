//! `bobolink history`: the service in a process of its own, and the proof that its file is whole.

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{KEY, publish_many, settings};
use crate::support::{SOON, Server, http, verified, verify};

#[tokio::test(flavor = "multi_thread")]
async fn the_service_alone_reads_what_a_gateway_has_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder, 30).await;
    let more = "history.address = \"127.0.0.1\"\nhistory.port = 0";
    let service = Server::start_command(&settings(&folder, more), &["history"], "history").await;
    let path = "/history/v1/channels/long:a/messages?limit=3";
    let headers = [("x-api-key", KEY)];
    let answer = http(service.address(), hyper::Method::GET, path, &headers, "").await;
    let page: Value = serde_json::from_str(&answer.body).expect("JSON");
    let numbers: Vec<_> =
        page["messages"].as_array().expect("messages").iter().map(|m| &m["data"]["n"]).collect();
    assert_eq!(numbers, [&json!(30), &json!(29), &json!(28)]);
    let ready = crate::support::get(service.address(), "/health/ready").await;
    assert_eq!(ready.status, 200);
    let mut service = service;
    service.signal(Signal::TERM);
    assert!(service.ended(SOON).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_passes_a_whole_file_and_names_what_is_missing_in_another() {
    let folder = tempfile::tempdir().expect("a folder");
    fill(&folder, 30).await;
    let told = verified(folder.path(), &settings(&folder, ""));
    assert!(told.contains("long:a: 30 messages, 0 deleted, dense"), "{told}");

    let damage = rusqlite::Connection::open(folder.path().join("history.db")).expect("opens");
    damage.execute("DELETE FROM messages WHERE offset = 7", []).expect("damaged");
    drop(damage);
    let output = verify(folder.path(), &settings(&folder, ""));
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("30 messages were counted and 29 are there"), "{told}");
}

async fn fill(folder: &TempDir, count: u64) {
    let mut server = Server::start(&settings(folder, "")).await;
    publish_many(&server, "long:a", 1..=count).await;
    server.signal(Signal::TERM);
    assert!(server.ended(SOON).await.success());
}
