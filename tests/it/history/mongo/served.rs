//! Processes on one archive in MongoDB: a gateway, a history service, the walk that verifies.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::super::{KEY, call, publish, publish_many, settings};
use super::LONG;
use crate::support::{ReplicaSet, SOON, Server, http, recovering, verified};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_and_a_service_share_the_archive_and_clients_recover_from_it() {
    let set = ReplicaSet::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!(
        "history.store = \"mongo\"\nhistory.mongo.uri = {:?}\nhistory.mongo.read_timeout = \"20s\"",
        set.uri()
    );
    let mut server = Server::start(&settings(&folder, &more)).await;
    publish_many(&server, "long:a", 1..=600).await;
    let position =
        call(server.address(), "history", &json!({ "channel": "long:a", "limit": 0 })).await;
    let epoch = position.expect("a position")["epoch"].as_str().expect("an epoch").to_owned();

    let alone = format!("{more}\nhistory.address = \"127.0.0.1\"\nhistory.port = 0");
    let service = Server::start_command(&settings(&folder, &alone), &["history"], "history").await;
    let path = "/history/v1/channels/long:a/messages?limit=2";
    let headers = [("x-api-key", KEY)];
    let answer = http(service.address(), hyper::Method::GET, path, &headers, "").await;
    let page: Value = serde_json::from_str(&answer.body).expect("JSON");
    let numbers: Vec<_> =
        page["messages"].as_array().expect("messages").iter().map(|m| &m["data"]["n"]).collect();
    assert_eq!(numbers, [&json!(600), &json!(599)], "beside the gateway that writes");

    server.signal(Signal::TERM);
    assert!(server.ended(SOON).await.success());
    let server = Server::start(&settings(&folder, &more)).await;
    let mut client = server.connected("ann").await;
    let made = client.subscribe_with(recovering("long:a", 5, &epoch)).await.expect("subscribed");
    assert!(made.recovered, "the restart is invisible");
    publish(&server, "long:a", 601).await;
    let mut offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
    while offsets.last() != Some(&601) {
        offsets.push(client.publication(LONG).await.expect("a publication").1.offset);
    }
    assert_eq!(offsets, (6..=601).collect::<Vec<_>>());

    let told = verified(folder.path(), &settings(&folder, &more));
    assert!(told.contains("long:a: 601 messages, 0 deleted, dense"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_document_cannot_hold_is_refused_before_it_is_published() {
    let set = ReplicaSet::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let more = format!("history.store = \"mongo\"\nhistory.mongo.uri = {:?}", set.uri());
    let server = Server::start(&settings(&folder, &more)).await;
    let publish = async |bytes: usize| {
        let request = json!({ "channel": "long:a", "data": "x".repeat(bytes) }).to_string();
        let headers = [("x-api-key", KEY)];
        let path = "/api/publish";
        http(server.address(), hyper::Method::POST, path, &headers, &request).await.body
    };
    let refused = publish(15 << 20).await;
    assert!(refused.contains("\"code\":107"), "{refused}");
    let taken = publish((15 << 20) - 100).await;
    assert!(taken.contains("\"offset\":1"), "{taken}");
}
