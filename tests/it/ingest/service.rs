//! `bobolink history` with Redis: stores what waits, whatever ends it, and leaves when it is asked to.

use bobolink::config::redis::Addresses;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{Stage, data};
use crate::redis::process::RedisServer;
use crate::support::{SOON, Server, eventually, get, http, verified};

pub const STREAM: &str = "centrifugo.archive.stream";
pub const KEY: &str = "an-api-key";

pub fn settings(folder: &TempDir, server: &RedisServer) -> String {
    let path = folder.path().join("service.db");
    format!(
        "{}http_api.key = {KEY:?}\nhealth.enabled = true\nprometheus.enabled = true\n\
         history.path = {path:?}\nhistory.address = \"127.0.0.1\"\nhistory.port = 0\n\
         history.ingest.name = \"service\"\nhistory.ingest.claim_after = \"2s\"\n\
         [[channel.namespaces]]\nname = \"long\"\nhistory_archive = true\nhistory_size = 10\n\
         history_ttl = \"60s\"\n",
        server.settings()
    )
}

pub async fn start(settings: &str) -> Server {
    Server::start_command(settings, &["history"], "history").await
}

/// How many messages the service has of a channel.
async fn count(service: &Server, channel: &str) -> u64 {
    let path = format!("/history/v1/channels/{channel}");
    let headers = [("x-api-key", KEY)];
    let answer = http(service.address(), hyper::Method::GET, &path, &headers, "").await;
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    body["count"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_stored_once_though_the_service_is_killed_again_and_again() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let settings = settings(&folder, &server);
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    let settings = settings.replace("[[channel", "history.ingest.batch_size = 50\n[[channel");
    let mut service = start(&settings).await;
    let mut top = 0;
    for round in 0..4_u64 {
        let some = top + 100 * (round + 1);
        let (killed, mut is_killed) = watch::channel(false);
        let appending = async {
            // There is always something to do, and never more than for a moment.
            while !*is_killed.borrow_and_update() {
                if stage.waiting("long:a").await < 500 {
                    stage.append("long:a", top + 1..=top + 100).await;
                    top += 100;
                }
            }
        };
        let killing = async {
            let is_stored = async || count(&service, "long:a").await >= some;
            eventually("some are stored", 3 * SOON, is_stored).await;
            eventually("it is caught at work", 3 * SOON, async || dies_at_work(&service, &server))
                .await;
            killed.send_replace(true);
        };
        tokio::join!(appending, killing);
        service.ended(SOON).await;
        assert!(stage.waiting("long:a").await > 0);
        service = start(&settings).await;
    }
    stage.until_empty("long:a").await;
    assert_eq!(count(&service, "long:a").await, top);
    eventually("the queue is measured", SOON, async || {
        let metrics = get(service.address(), "/metrics").await.body;
        metrics.contains("bobolink_history_queue_entries{shard=\"0\"} 0")
    })
    .await;

    service.signal(Signal::TERM);
    assert!(service.ended(SOON).await.success());
    let consumers = server.cli(&["XINFO", "CONSUMERS", STREAM, "history"]).join(" ");
    assert!(!consumers.contains("service"), "it has left: {consumers}");
    let told = verified(folder.path(), &settings);
    assert!(told.contains(&format!("long:a: {top} messages, 0 deleted, dense")), "{told}");
}

/// Kills the service if it has entries in its hands, which it stops to find out.
fn dies_at_work(service: &Server, redis: &RedisServer) -> bool {
    service.signal(Signal::STOP);
    let is_at_work = redis.ask(&["XPENDING", STREAM, "history"]) != "0";
    service.signal(if is_at_work { Signal::KILL } else { Signal::CONT });
    is_at_work
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_reads_what_came_over_redis() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    stage.append("long:b", 1..=3).await;
    let service = start(&settings(&folder, &server)).await;
    stage.until_empty("long:b").await;
    let path = "/history/v1/channels/long:b/messages?limit=1";
    let headers = [("x-api-key", KEY)];
    let answer = http(service.address(), hyper::Method::GET, path, &headers, "").await;
    let page: Value = serde_json::from_str(&answer.body).expect("JSON");
    let newest = &page["messages"][0];
    assert_eq!(newest["offset"], 3);
    assert_eq!(newest["data"].to_string().into_bytes(), data("long:b", 3));
    let health = get(service.address(), "/health/delivery").await;
    assert_eq!(health.status, 200, "{}", health.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_its_own_file_stores_what_it_publishes_and_deletes_it_everywhere() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let path = folder.path().join("gateway.db");
    let settings = format!(
        "{}http_api.key = {KEY:?}\nhealth.enabled = true\nhistory.path = {path:?}\n\
         [[channel.namespaces]]\nname = \"long\"\nhistory_archive = true\nhistory_size = 10\n\
         history_ttl = \"60s\"\n",
        server.settings()
    );
    let mut gateway = Server::start(&settings).await;
    let headers = [("x-api-key", KEY)];
    let post = async |gateway: &Server, method: &str, body: &str| {
        let path = format!("/api/{method}");
        http(gateway.address(), hyper::Method::POST, &path, &headers, body).await.body
    };
    eventually("the gateway is ready", SOON, async || {
        get(gateway.address(), "/health/ready").await.status == 200
    })
    .await;
    for number in 1..=30 {
        let body = format!("{{\"channel\":\"long:a\",\"data\":{number}}}");
        let answer = post(&gateway, "publish", &body).await;
        assert!(answer.contains("\"offset\""), "{answer}");
    }
    // The deletion itself waits for what is on its way.
    let path = "/history/v1/channels/long:a/messages?from_offset=29&to_offset=30";
    let answer = http(gateway.address(), hyper::Method::DELETE, path, &headers, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"deleted\":2}"));
    assert_eq!(count(&gateway, "long:a").await, 28);
    let at_hand = post(&gateway, "history", r#"{"channel":"long:a","limit":20}"#).await;
    assert!(at_hand.contains("\"offset\":28") && !at_hand.contains("\"data\":29"), "{at_hand}");

    gateway.signal(Signal::TERM);
    assert!(gateway.ended(SOON).await.success());
    let consumers = server.cli(&["XINFO", "CONSUMERS", STREAM, "history"]).join(" ");
    assert!(!consumers.contains("pending") && !consumers.contains("ERR"), "{consumers}");
    let told = verified(folder.path(), &settings);
    assert!(told.contains("long:a: 28 messages, 2 deleted, dense"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_cannot_wait_for_all_that_was_published_deletes_nothing() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    // In the hands of somebody who is alive, as far as anybody knows.
    server.ask(&["XGROUP", "CREATE", STREAM, "history", "$", "MKSTREAM"]);
    server.ask(&["XADD", STREAM, "*", "held", "x"]);
    server.cli(&["XREADGROUP", "GROUP", "history", "holder", "STREAMS", STREAM, ">"]);
    let settings = settings(&folder, &server).replace("\"2s\"", "\"1h\"");
    let service = start(&settings).await;
    stage.append("long:a", 1..=5).await;
    eventually("they are stored", SOON, async || count(&service, "long:a").await == 5).await;
    let path = "/history/v1/channels/long:a";
    let headers = [("x-api-key", KEY)];
    let answer = http(service.address(), hyper::Method::DELETE, path, &headers, "").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("nothing was deleted"), "{}", answer.body);
    assert_eq!(count(&service, "long:a").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_asks_for_it_is_answered_once_it_is_stored() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    let gateway = Server::start(&settings(&folder, &server)).await;
    eventually("the gateway is ready", SOON, async || {
        get(gateway.address(), "/health/ready").await.status == 200
    })
    .await;
    let publish = async |ack: &str, number: u64| {
        let body = format!(
            "{{\"channel\":\"long:a\",\"data\":{number},\"archive_ack\":{ack:?},\
             \"idempotency_key\":\"{number}\"}}"
        );
        let headers = [("x-api-key", KEY)];
        http(gateway.address(), hyper::Method::POST, "/api/publish", &headers, &body).await.body
    };
    // Each is counted at once: with "queued" some would come later.
    for number in 1..=50 {
        let answer = publish("stored", number).await;
        assert!(answer.contains(&format!("\"offset\":{number},")), "{answer}");
        assert_eq!(count(&gateway, "long:a").await, number);
    }
    let answer = publish("soon", 51).await;
    assert!(answer.contains("\"code\":107"), "{answer}");
    assert_eq!(count(&gateway, "long:a").await, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_removed_with_what_waits_to_be_stored_or_not_at_all() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().expect("a folder"));
    server.ask(&["XGROUP", "CREATE", STREAM, "history", "$", "MKSTREAM"]);
    let settings = settings(&folder, &server).replace("\"2s\"", "\"1h\"");
    let gateway = Server::start(&settings).await;
    eventually("the gateway is ready", SOON, async || {
        get(gateway.address(), "/health/ready").await.status == 200
    })
    .await;
    let headers = [("x-api-key", KEY)];
    let post = async |method: &str, body: &str| {
        let path = format!("/api/{method}");
        http(gateway.address(), hyper::Method::POST, &path, &headers, body).await.body
    };
    // In the hands of somebody who is alive, as far as anybody knows.
    let held = server.ask(&[
        "EVAL",
        "local id = redis.call('xadd', KEYS[1], '*', 'held', 'x') \
         redis.call('xreadgroup', 'GROUP', 'history', 'holder', 'STREAMS', KEYS[1], '>') return id",
        "1",
        STREAM,
    ]);
    for number in 1..=5 {
        let body = format!("{{\"channel\":\"long:a\",\"data\":{number}}}");
        let answer = post("publish", &body).await;
        assert!(answer.contains("\"offset\""), "{answer}");
    }
    eventually("they are stored", SOON, async || count(&gateway, "long:a").await == 5).await;
    let remove = r#"{"channel":"long:a"}"#;
    let answer = post("history_remove", remove).await;
    assert!(answer.contains("\"code\":100"), "{answer}");
    assert_eq!(count(&gateway, "long:a").await, 5);
    let at_hand = post("history", r#"{"channel":"long:a","limit":20}"#).await;
    assert!(at_hand.contains("\"offset\":5"), "{at_hand}");

    assert_eq!(server.ask(&["XACK", STREAM, "history", &held]), "1");
    assert_eq!(server.ask(&["XDEL", STREAM, &held]), "1");
    let answer = post("history_remove", remove).await;
    assert!(!answer.contains("error"), "{answer}");
    assert_eq!(count(&gateway, "long:a").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_of_one_process_on_the_same_redis_is_refused_and_both_are_named() {
    let server = RedisServer::start();
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let mut first = start(&settings(&folders[0], &server)).await;
    eventually("it says that it is there", SOON, async || {
        server.ask(&["GET", "centrifugo.archive.store"]).starts_with("service (")
    })
    .await;
    let second = settings(&folders[1], &server).replace("\"service\"", "\"second\"");
    let (status, text) = Server::fails_to_start(&second, &[]).await;
    assert!(!status.success(), "{text}");
    assert!(text.contains("second (") && text.contains("service ("), "{text}");

    // Its own store in another process is no other one.
    first.signal(Signal::KILL);
    first.ended(SOON).await;
    let mut again =
        start(&settings(&folders[0], &server).replace("\"service\"", "\"again\"")).await;
    eventually("it goes on", SOON, async || {
        server.ask(&["GET", "centrifugo.archive.store"]).starts_with("again (")
    })
    .await;
    again.signal(Signal::TERM);
    assert!(again.ended(SOON).await.success());
    let gateway = Server::start(&second).await;
    eventually("now it may", SOON, async || {
        get(gateway.address(), "/health/ready").await.status == 200
    })
    .await;
}
