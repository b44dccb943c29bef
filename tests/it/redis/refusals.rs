//! What is the matter is said: in the log of who cannot use Redis, and to callers meanwhile.

use hyper::Method;
use serde_json::{Value, json};

use super::gateways::{OPEN, gateway};
use super::group::Group;
use super::process::RedisServer;
use crate::support::{SOON, Server, eventually, http};

fn error(line: &Value) -> &str {
    line["error"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_name_is_told_also_by_a_sentinel_that_was_away_at_first() {
    let mut group = Group::start().await;
    let [sentinel, ..] = &mut group.sentinels;
    sentinel.kill();
    let settings = format!(
        "engine.type = \"redis\"\n\
         engine.redis.sentinel_address = \"{}\"\n\
         engine.redis.sentinel_master_name = \"mian\"\n",
        sentinel.address()
    );
    let one = Server::start(&format!("{settings}{OPEN}")).await;
    let is_told = |line: &Value| line["message"] == "cannot use a sentinel, trying on";
    let line = one.log().wait_for(is_told).await;
    assert!(error(&line).contains("refused"), "{line}");
    sentinel.revive();
    let refuses = |line: &Value| is_told(line) && error(line).contains("No such master");
    let line = one.log().wait_for(refuses).await;
    assert_eq!(line["master"], "mian");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_speak_tls_is_told_of_with_that_word() {
    let redis = RedisServer::start();
    let settings = format!(
        "engine.type = \"redis\"\nengine.redis.address = \"rediss://{}\"\n",
        redis.address()
    );
    let one = Server::start(&format!("{settings}{OPEN}")).await;
    let line = one.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    assert!(error(&line).contains("TLS"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_told_the_server_api_says_so() {
    let mut redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    redis.kill();
    one.log().wait_for(|line| line["message"] == "Redis was lost").await;
    let away = "Redis is unavailable or refuses, nothing was done, try again";
    for (method, request, message) in [
        ("publish", json!({"channel": "chat:a", "data": 1}), away),
        ("history", json!({"channel": "chat:a", "limit": 1}), away),
        ("history_remove", json!({"channel": "chat:a"}), away),
        ("disconnect", json!({"user": "ann"}), away),
        ("presence", json!({"channel": "chat:a"}), "presence is unavailable, try again"),
    ] {
        let expected = json!({"code": 100, "message": message});
        let mut answer = Value::Null;
        eventually("it is refused with a reason", SOON, async || {
            let (path, body) = (format!("/api/{method}"), request.to_string());
            let answered = http(one.address(), Method::POST, &path, &[], &body).await;
            answer = serde_json::from_str(&answered.body).expect("JSON");
            answer["error"].is_object()
        })
        .await;
        assert_eq!(answer["error"], expected, "{method}");
    }
    let mut ann = one.connected("ann").await;
    let refused = ann.publish("chat:a", "2").await.expect_err("refused").to_string();
    assert!(refused.contains("internal server error"), "{refused}");
}
