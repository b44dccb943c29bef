//! Several consumers in one group, and what they find in the streams besides good entries.

use std::time::Duration;

use bobolink::config::redis::Addresses;
use bobolink::redis::{Command, Route};

use super::{EPOCH, Stage, publication};
use crate::redis::masters::TestCluster;
use crate::redis::process::RedisServer;
use crate::support::{SOON, eventually};

async fn alone() -> (Stage, RedisServer) {
    let server = RedisServer::start();
    let address = Addresses(vec![server.address().to_string()]);
    (Stage::reaching(|redis| redis.address = address).await, server)
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_one_group_share_the_work() {
    let (stage, _server) = alone().await;
    let (_first, one) = stage.consumer("first");
    let (_second, two) = stage.consumer("second");
    let mut top = 0;
    eventually("each of them has stored some", 3 * SOON, async || {
        stage.append("a", top + 1..=top + 50).await;
        top += 50;
        one.history.stored.get() > 0 && two.history.stored.get() > 0
    })
    .await;
    stage.until_empty("a").await;
    stage.has_all("a", top).await;
    assert_eq!(one.history.stored.get() + two.history.stored.get(), top, "each entry once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_where_another_ended() {
    let (stage, server) = alone().await;
    let stream = "centrifugo.archive.stream";
    let (first, _) = stage.consumer("first");
    stage.append("a", 1..=500).await;
    stage.until_empty("a").await;
    // As a crash would end it.
    drop(first);
    stage.append("a", 501..=520).await;
    let (second, _) = stage.consumer("second");
    stage.append("a", 521..=1_000).await;
    stage.until_empty("a").await;
    stage.has_all("a", 1_000).await;
    second.stop(SOON).await;
    let consumers = server.cli(&["XINFO", "CONSUMERS", stream, "history"]).join(" ");
    assert!(!consumers.contains("second"), "it has left the group: {consumers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_a_consumer_that_is_gone_are_claimed_after_a_while() {
    let (stage, server) = alone().await;
    let stream = "centrifugo.archive.stream";
    server.ask(&["XGROUP", "CREATE", stream, "history", "0", "MKSTREAM"]);
    stage.append("a", 1..=10).await;
    server.cli(&["XREADGROUP", "GROUP", "history", "gone", "COUNT", "10", "STREAMS", stream, ">"]);
    // Whoever would wait for what the other has in its hands would wait for an hour.
    let (_patient, none) = stage.consumer_after(Duration::from_secs(3_600), "patient");
    stage.append("b", 1..=10).await;
    let is_stored = async || stage.holes("b", 10).await.is_empty();
    eventually("what is new does not wait", SOON, is_stored).await;
    let in_hand = server.cli(&["XPENDING", stream, "history", "-", "+", "100", "gone"]);
    assert_eq!(in_hand.iter().filter(|line| *line == "gone").count(), 10, "nor is that taken away");
    let (_hasty, metrics) = stage.consumer("hasty");
    stage.until_empty("a").await;
    assert_eq!((none.history.claimed.get(), metrics.history.claimed.get()), (0, 10));
    stage.has_all("a", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn own_entries_are_taken_up_at_once_after_a_restart() {
    let (stage, server) = alone().await;
    let stream = "centrifugo.archive.stream";
    server.ask(&["XGROUP", "CREATE", stream, "history", "0", "MKSTREAM"]);
    stage.append("a", 1..=10).await;
    server.cli(&["XREADGROUP", "GROUP", "history", "me", "COUNT", "10", "STREAMS", stream, ">"]);
    let (_ingest, metrics) = stage.consumer("me");
    stage.until_empty("a").await;
    stage.has_all("a", 10).await;
    assert_eq!(metrics.history.claimed.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_are_filled_from_the_stream_at_hand_unless_it_is_of_another_history() {
    let (stage, server) = alone().await;
    let info = server.cli(&["INFO", "replication"]);
    let id = info.iter().find_map(|line| line.strip_prefix("master_replid:")).expect("an id");
    let fill = async |channel: &str, epoch: &str, identity: &str| {
        for offset in 1..=8_u64 {
            let add = |route: &Route| {
                let command = Command::new("XADD").arg(route.keys().stream(channel));
                let command = command.arg(format!("{offset}-0")).arg("d");
                command.arg(publication(channel, offset))
            };
            stage.call(channel, add).await;
        }
        let meta = |route: &Route| {
            let command = Command::new("HSET").arg(route.keys().stream_meta(channel));
            command.args(["e", epoch, "s", "8", "f", identity])
        };
        stage.call(channel, meta).await;
        stage.append(channel, 1..=2).await;
        stage.append(channel, 6..=6).await;
        stage.append(channel, 8..=8).await;
    };
    fill("good", EPOCH, id.trim()).await;
    fill("later", "another", id.trim()).await;
    fill("lost", EPOCH, "somebody else").await;
    server.ask(&["XDEL", "centrifugo.stream.good", "7-0"]);
    let (_ingest, metrics) = stage.consumer("one");
    for channel in ["good", "later", "lost"] {
        stage.until_empty(channel).await;
    }
    assert_eq!(stage.holes("good", 8).await, [(7, 7)]);
    assert_eq!(stage.holes("later", 8).await, [(3, 5), (7, 7)]);
    assert_eq!(stage.holes("lost", 8).await, [(3, 5), (7, 7)]);
    assert_eq!(metrics.history.filled.get(), 3);
    assert_eq!(metrics.history.holes.get(), 1 + 4 + 4);
    let verdict = stage.store.verify("good").await.expect("a verdict");
    assert_eq!(verdict.faults, Vec::<String>::new(), "ids rise");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_of_a_long_gap_is_the_only_hole_in_it() {
    let (stage, server) = alone().await;
    let info = server.cli(&["INFO", "replication"]);
    let id = info.iter().find_map(|line| line.strip_prefix("master_replid:")).expect("an id");
    // More than is read of a stream at once.
    let last = 2_100;
    let route = stage.redis.shard("a").route("a").expect("a way");
    let begin = |offset: u64| {
        let data = if offset == 5 { vec![0xff] } else { publication("a", offset) };
        let command = Command::new("XADD").arg(route.keys().stream("a"));
        let command = command.arg(format!("{offset}-0")).arg("d").arg(data);
        route.attachment.link.begin(command).expect("sent")
    };
    for answer in (1..=last).map(begin).collect::<Vec<_>>() {
        answer.wait().await.expect("added");
    }
    let meta = |route: &Route| {
        let command = Command::new("HSET").arg(route.keys().stream_meta("a"));
        command.args(["e", EPOCH, "s", "2100", "f", id.trim()])
    };
    stage.call("a", meta).await;
    stage.append("a", 1..=1).await;
    stage.append("a", last..=last).await;
    let (_ingest, metrics) = stage.consumer("one");
    stage.until_empty("a").await;
    assert_eq!(stage.holes("a", last).await, [(5, 5)]);
    assert_eq!(metrics.history.filled.get(), last - 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_can_never_be_stored_are_put_aside_with_the_reason() {
    let (stage, server) = alone().await;
    let stream = "centrifugo.archive.stream";
    stage.append("a", 1..=3).await;
    server.ask(&["XADD", stream, "*", "c", "a", "e", EPOCH, "o", "zero", "i", "1", "d", "x"]);
    for _ in 0..20 {
        server.ask(&["XADD", stream, "*", "nonsense", "x"]);
    }
    stage.append("a", 4..=6).await;
    let (_ingest, metrics) = stage.consumer("one");
    stage.until_empty("a").await;
    stage.has_all("a", 6).await;
    assert_eq!(metrics.history.dead_letters.get(), 21);
    let dead = server.cli(&["XRANGE", "centrifugo.archive.stream.dead", "-", "+"]).join(" ");
    assert!(dead.contains("field e is missing"), "{dead}");
    assert_eq!(server.ask(&["XLEN", "centrifugo.archive.stream.dead"]), "10", "the newest");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_cluster_every_slot_is_found_named_or_not() {
    let cluster = TestCluster::shared().await;
    let addresses = Addresses(vec![cluster.addresses()]);
    let prefix = uuid::Uuid::new_v4().to_string();
    let stage = Stage::reaching(|redis| {
        redis.cluster_address = addresses;
        redis.prefix = prefix.clone();
    });
    let stage = stage.await;
    let channels: Vec<_> = (0..12).map(|number| format!("channel-{number}")).collect();
    let set = format!("{prefix}.archive.slots");
    for channel in &channels {
        let slot = bobolink::redis::slot_of(channel);
        let add = |_: &Route| Command::new("SADD").arg(&set).number(slot.into());
        stage.redis.shard("").call(&set, add).await.expect("added");
        stage.append(channel, 1..=50).await;
    }
    // One that the set has lost: of the slots that are looked at first.
    let unnamed = bobolink::redis::slot_tag(7);
    stage.append(unnamed, 1..=5).await;
    let (first, one) = stage.consumer("first");
    let (second, two) = stage.consumer("second");
    for channel in &channels {
        stage.until_empty(channel).await;
        stage.has_all(channel, 50).await;
    }
    stage.until_empty(unnamed).await;
    stage.has_all(unnamed, 5).await;
    let stored = one.history.stored.get() + two.history.stored.get();
    assert_eq!(stored, 12 * 50 + 5);
    for ingest in [first, second] {
        ingest.stop(SOON).await;
    }
    let consumers = |route: &Route| {
        let stream = route.keys().archive_stream(&channels[0]);
        Command::new("XINFO").arg("CONSUMERS").arg(stream).arg("history")
    };
    let left = stage.call(&channels[0], consumers).await;
    assert_eq!(left.list().map(<[_]>::len), Some(0), "both have left the group");
}
