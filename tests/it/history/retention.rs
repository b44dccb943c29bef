//! What is not kept any more: by age, and by `history_remove` of the server API.

use bobolink::protocol::reply::SubscribeResult;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{KEY, call, publish, publish_many, settings};
use crate::support::{SOON, Server, eventually, http, recovering};

/// A namespace whose messages are kept for a second.
pub(super) const BRIEF: &str = "
[[channel.namespaces]]
name = \"brief\"
history_archive = true
history_archive_ttl = \"1s\"
history_size = 10
history_ttl = \"1s\"
force_recovery = true
allow_subscribe_for_client = true
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_older_than_its_namespace_keeps_is_gone_and_nobody_recovers_over_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = "history.expire_interval = \"50ms\"";
    let server = Server::start(&(settings(&folder, more) + BRIEF)).await;
    for channel in ["brief:a", "brief:b", "long:a"] {
        publish_many(&server, channel, 1..=30).await;
    }
    let epoch = top(&server, "brief:a").await.0;
    for channel in ["brief:a", "brief:b"] {
        let gone = async || count(&server, channel).await == 0;
        eventually("the messages have expired", SOON, gone).await;
    }
    assert_eq!(count(&server, "long:a").await, 30, "others are kept");
    assert_eq!(top(&server, "brief:a").await, (epoch.clone(), 30), "the channel ends where it did");
    for (from, recovered) in [(5, false), (29, false), (30, true)] {
        let made = recover(&server, "brief:a", from, &epoch).await;
        assert_eq!(made.recovered, recovered, "from {from}");
    }
    let mut top = 30;
    // A second later it has expired as well, and only the next one can be had.
    eventually("what comes later is recovered", SOON, async || {
        publish(&server, "brief:a", top + 1).await;
        let made = recover(&server, "brief:a", top, &epoch).await;
        top += 1;
        let offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
        assert!(offsets.is_empty() || made.recovered && offsets == [top], "{made:?}");
        !offsets.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removed_history_is_gone_from_the_archive_too_and_stays_away_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&settings(&folder, "")).await;
    publish_many(&server, "long:a", 1..=1_500).await;
    publish_many(&server, "long:b", 1..=3).await;
    let epoch = top(&server, "long:a").await.0;
    let request = json!({ "channel": "long:a" });
    call(server.address(), "history_remove", &request).await.expect("removed");
    for round in 0..2 {
        assert_eq!(count(&server, "long:a").await, 0, "round {round}");
        assert_eq!(count(&server, "long:b").await, 3, "round {round}");
        let all = json!({ "channel": "long:a", "limit": -1 });
        let history = call(server.address(), "history", &all).await.expect("history");
        assert!(history["publications"].as_array().is_none_or(Vec::is_empty), "{history}");
        assert_eq!(top(&server, "long:a").await, (epoch.clone(), 1_500));
        for (from, recovered) in [(3, false), (1_495, false), (1_500, true)] {
            let made = recover(&server, "long:a", from, &epoch).await;
            assert_eq!(made.recovered, recovered, "from {from}, round {round}");
        }
        server.signal(Signal::KILL);
        server.ended(SOON).await;
        server = Server::start(&settings(&folder, "")).await;
    }
    publish(&server, "long:a", 1_501).await;
    assert_eq!(recover(&server, "long:a", 1_500, &epoch).await.publications[0].offset, 1_501);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_that_cannot_be_meant_is_refused_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    for (wrong, told) in [
        ("history_archive_ttl = \"30s\"", "must not be shorter than"),
        ("history_archive = false\nhistory_archive_ttl = \"24h\"", "history_archive = true"),
    ] {
        let settings = match wrong.split_once('\n') {
            None => settings(&folder, "") + wrong,
            Some((off, ttl)) => settings(&folder, "").replace("history_archive = true", off) + ttl,
        };
        let (status, log) = Server::fails_to_start(&settings, &[]).await;
        assert!(!status.success());
        assert!(log.contains("history_archive_ttl") && log.contains(told), "{log}");
    }
}

async fn top(server: &Server, channel: &str) -> (String, u64) {
    let request = json!({ "channel": channel, "limit": 0 });
    let top = call(server.address(), "history", &request).await.expect("history");
    let epoch = top["epoch"].as_str().expect("an epoch").to_owned();
    (epoch, top["offset"].as_u64().unwrap_or_default())
}

async fn count(server: &Server, channel: &str) -> u64 {
    let path = format!("/history/v1/channels/{channel}");
    let headers = [("x-api-key", KEY)];
    let answer = http(server.address(), hyper::Method::GET, &path, &headers, "").await;
    let found: Value = serde_json::from_str(&answer.body).expect("JSON");
    found["count"].as_u64().expect("a count")
}

async fn recover(server: &Server, channel: &str, offset: u64, epoch: &str) -> SubscribeResult {
    let request = recovering(channel, offset, epoch);
    server.connected("ann").await.subscribe_with(request).await.expect("subscribed")
}
