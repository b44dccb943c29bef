//! What readers are shown while one of several consumers is late.

use std::ops::RangeInclusive;

use bobolink::archive::MessageId;
use bobolink::config::redis::Addresses;
use bobolink::redis::{Command, Route};
use bobolink::time::Clock;
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::service::{KEY, STREAM, settings, start};
use super::{EPOCH, Stage, publication};
use crate::redis::process::RedisServer;
use crate::support::{SOON, Server, eventually, http};

async fn text(service: &Server, path: &str) -> String {
    let path = format!("/history/v1/channels/long:a/{path}");
    let answer = http(service.address(), Method::GET, &path, &[("x-api-key", KEY)], "").await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

async fn page(service: &Server, query: &str) -> Value {
    serde_json::from_str(&text(service, &format!("messages{query}")).await).expect("JSON")
}

fn offsets(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["offset"].as_u64().expect("an offset")).collect()
}

/// Appends as the script that publishes does, each with the id of its time.
async fn publish(stage: &Stage, offsets: RangeInclusive<u64>) {
    for offset in offsets {
        stage.call("long:a", |route| dated(route, offset)).await;
    }
}

fn dated(route: &Route, offset: u64) -> Command {
    let id = MessageId::first_at(Clock::real().unix_millis());
    let command = Command::new("XADD").arg(route.keys().archive_stream("long:a")).arg("*");
    let command = command.arg("c").arg("long:a").arg("e").arg(EPOCH).arg("n").number(offset - 1);
    let command = command.arg("o").number(offset).arg("i").number(id.number());
    command.arg("d").arg(publication("long:a", offset))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_on_gets_what_another_consumer_was_late_with() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    let patient = settings(&folder, &server).replace("\"2s\"", "\"1h\"");
    let mut service = start(&patient).await;
    publish(&stage, 1..=10).await;
    eventually("the first are shown", SOON, async || {
        offsets(&page(&service, "").await) == (1..=10).rev().collect::<Vec<_>>()
    })
    .await;
    let seen = page(&service, "").await;

    // The next five are in the hands of one that is never heard of again.
    service.signal(Signal::TERM);
    service.ended(SOON).await;
    publish(&stage, 11..=15).await;
    let read = ["XREADGROUP", "GROUP", "history", "gone", "COUNT", "9", "STREAMS", STREAM, ">"];
    assert_eq!(server.cli(&read).iter().filter(|line| *line == "long:a").count(), 5);
    let mut service = start(&patient).await;
    publish(&stage, 16..=20).await;
    let count = async |service: &Server| {
        let path = "/history/v1/channels/long:a";
        let answer = http(service.address(), Method::GET, path, &[("x-api-key", KEY)], "").await;
        let channel: Value = serde_json::from_str(&answer.body).expect("JSON");
        channel["count"].as_u64()
    };
    eventually("the last are stored", SOON, async || count(&service).await == Some(15)).await;
    let now = page(&service, "").await;
    assert_eq!(offsets(&now), (1..=10).rev().collect::<Vec<_>>());
    assert_eq!(now["position"], seen["position"]);
    assert_eq!(now["position"]["offset"], json!(10));
    assert_eq!(text(&service, "export").await.lines().count(), 10);

    service.signal(Signal::TERM);
    service.ended(SOON).await;
    let service = start(&settings(&folder, &server)).await;
    let cursor = seen["prev_cursor"].as_str().expect("a cursor");
    eventually("others take over", 3 * SOON, async || count(&service).await == Some(20)).await;
    stage.until_empty("long:a").await;
    let since = page(&service, &format!("?cursor={cursor}")).await;
    assert_eq!(offsets(&since), (11..=20).rev().collect::<Vec<_>>());
    assert_eq!(since["position"]["offset"], json!(20));
}
