//! Recovery from further back than the streams of a gateway reach.

use std::time::Duration;

use bobolink::client::{Client, Error};
use bobolink::protocol::reply::SubscribeResult;
use serde_json::json;

use super::{KEY, publish, publish_many, settings};
use crate::support::{SOON, Server, http, recovering};

/// Longer than thousands of publications take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

pub(super) async fn recover(
    client: &mut Client,
    channel: &str,
    offset: u64,
    epoch: &str,
) -> Result<SubscribeResult, Error> {
    client.subscribe_with(recovering(channel, offset, epoch)).await
}

async fn epoch_of(server: &Server, channel: &str) -> String {
    let request = json!({ "channel": channel, "limit": 0 });
    let result = super::call(server.address(), "history", &request).await.expect("history");
    result["epoch"].as_str().expect("an epoch").to_owned()
}

/// Everything up to `last`, in order and without a gap: the reply first, then the pushes.
pub(super) async fn expect_all(client: &mut Client, made: &SubscribeResult, from: u64, last: u64) {
    let mut next = from;
    for publication in &made.publications {
        next += 1;
        assert_eq!(publication.offset, next);
    }
    while next < last {
        let (_, publication) = client.publication(LONG).await.expect("a publication");
        next += 1;
        assert_eq!(publication.offset, next);
        assert_eq!(&publication.data[..], format!("{{\"n\":{next}}}").as_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_far_back_gets_everything_in_order_and_then_the_present() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "")).await;
    publish_many(&server, "long:a", 1..=3_000).await;
    let epoch = epoch_of(&server, "long:a").await;
    // Within the first page, at the edges of blocks, far back, and from the very beginning.
    for from in [2_985, 2_560, 2_559, 2_561, 700, 0] {
        let mut client = server.connected("ann").await;
        let made = recover(&mut client, "long:a", from, &epoch).await.expect("subscribed");
        assert!(made.recovered && made.was_recovering, "from {from}");
        assert_eq!((made.offset, &made.epoch), (from, &epoch));
        assert!(!made.publications.is_empty() && made.publications.len() <= 256);
        expect_all(&mut client, &made, from, 3_000).await;
    }
    let mut client = server.connected("ann").await;
    let made = recover(&mut client, "long:a", 1_000, &epoch).await.expect("subscribed");
    publish_many(&server, "long:a", 3_001..=3_500).await;
    expect_all(&mut client, &made, 1_000, 3_500).await;
    publish(&server, "long:a", 3_501).await;
    expect_all(&mut client, &SubscribeResult::default(), 3_500, 3_501).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_that_prove_nothing_are_not_recovered() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "history.recovery_max_publications = 100")).await;
    publish_many(&server, "long:a", 1..=200).await;
    let epoch = epoch_of(&server, "long:a").await;
    for (offset, epoch, why) in [
        (50, "", "an empty epoch matches nothing in the archive"),
        (50, "other", "an epoch that there never was"),
        (201, epoch.as_str(), "beyond the top"),
        (99, epoch.as_str(), "more than one recovery may bring"),
    ] {
        let mut client = server.connected("ann").await;
        let made = recover(&mut client, "long:a", offset, epoch).await.expect("subscribed");
        assert!(!made.recovered && made.publications.is_empty(), "{why}");
        assert_eq!(made.offset, 200);
    }
    let mut client = server.connected("ann").await;
    let made = recover(&mut client, "long:a", 100, &epoch).await.expect("subscribed");
    assert!(made.recovered);
    expect_all(&mut client, &made, 100, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_read_history_goes_back_further_than_the_longest_absence() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = "history.recovery_max_age = \"1ms\"\n\
        [[channel.namespaces]]\nname = \"read\"\nhistory_archive = true\nhistory_size = 10\n\
        history_ttl = \"60s\"\nforce_recovery = true\nallow_subscribe_for_client = true\n\
        allow_history_for_subscriber = true\n";
    let server = Server::start(&settings(&folder, more)).await;
    for (channel, recovered) in [("long:a", false), ("read:a", true)] {
        publish_many(&server, channel, 1..=50).await;
        let epoch = epoch_of(&server, channel).await;
        let mut client = server.connected("ann").await;
        let made = recover(&mut client, channel, 5, &epoch).await.expect("subscribed");
        assert_eq!(made.recovered, recovered, "{channel}");
    }
    // Nor where all of the first block is deleted: what follows is too old, too.
    publish_many(&server, "long:a", 51..=600).await;
    let path = "/history/v1/channels/long:a/messages?from_offset=1&to_offset=400";
    let headers = [("x-api-key", KEY)];
    let gone = http(server.address(), hyper::Method::DELETE, path, &headers, "").await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    let epoch = epoch_of(&server, "long:a").await;
    let mut client = server.connected("ann").await;
    assert!(!recover(&mut client, "long:a", 5, &epoch).await.expect("subscribed").recovered);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_leave_no_gap_in_a_recovery() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "")).await;
    publish_many(&server, "long:a", 1..=600).await;
    let epoch = epoch_of(&server, "long:a").await;
    let path = "/history/v1/channels/long:a/messages?from_offset=200&to_offset=600";
    let headers = [("x-api-key", KEY)];
    let gone = http(server.address(), hyper::Method::DELETE, path, &headers, "").await;
    assert_eq!(gone.status, 200, "{}", gone.body);
    let mut client = server.connected("ann").await;
    let made = recover(&mut client, "long:a", 150, &epoch).await.expect("subscribed");
    assert!(made.recovered);
    publish(&server, "long:a", 601).await;
    let mut offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
    while offsets.last() != Some(&601) {
        offsets.push(client.publication(LONG).await.expect("a publication").1.offset);
    }
    assert_eq!(offsets, (151..=199).chain([601]).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_come_to_more_bytes_than_a_recovery_may_bring_is_not_begun() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "history.recovery_max_size = 8000")).await;
    publish_many(&server, "long:a", 1..=2_000).await;
    let epoch = epoch_of(&server, "long:a").await;
    // {"n":1000} and what follows has ten bytes.
    for (from, recovered) in [(0, false), (1_199, false), (1_200, true), (1_900, true)] {
        let mut client = server.connected("ann").await;
        let made = recover(&mut client, "long:a", from, &epoch).await.expect("subscribed");
        assert_eq!(made.recovered, recovered, "from {from}");
        if recovered {
            expect_all(&mut client, &made, from, 2_000).await;
        } else {
            assert!(made.publications.is_empty() && made.offset == 2_000);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_catches_up_within_the_bound_of_its_queue() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "client.queue_max_size = 65536")).await;
    publish_many(&server, "long:a", 1..=8_000).await;
    let epoch = epoch_of(&server, "long:a").await;
    // The whole is many times what may wait for a connection.
    let mut client = server.connected("ann").await;
    let made = recover(&mut client, "long:a", 0, &epoch).await.expect("subscribed");
    assert!(made.recovered);
    expect_all(&mut client, &made, 0, 8_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsubscribe_in_the_middle_of_a_recovery_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "client.queue_max_size = 65536")).await;
    publish_many(&server, "long:a", 1..=8_000).await;
    let epoch = epoch_of(&server, "long:a").await;
    let mut client = server.connected("ann").await;
    recover(&mut client, "long:a", 0, &epoch).await.expect("subscribed");
    let unsubscribe = bobolink::protocol::command::Command {
        unsubscribe: Some(bobolink::protocol::command::UnsubscribeRequest {
            channel: "long:a".into(),
        }),
        ..Default::default()
    };
    client.request(unsubscribe).await.expect("unsubscribed");
    let made = recover(&mut client, "long:a", 7_999, &epoch).await.expect("subscribed again");
    let offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
    assert_eq!(offsets, [8_000]);
    publish(&server, "long:a", 8_001).await;
    // What was on its way before the unsubscribe may still be among the pushes that were kept.
    loop {
        let (_, publication) = client.publication(SOON).await.expect("a publication");
        if publication.offset == 8_001 {
            break;
        }
        assert!(publication.offset < 8_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_recovered_across_an_offset_that_was_never_stored() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&settings(&folder, "")).await;
    publish_many(&server, "long:a", 1..=30).await;
    let epoch = epoch_of(&server, "long:a").await;
    server.signal(rustix::process::Signal::TERM);
    assert!(server.ended(SOON).await.success());
    let file = rusqlite::Connection::open(folder.path().join("history.db")).expect("opens");
    file.execute_batch(
        "UPDATE runs SET last = 14;
         INSERT INTO runs SELECT channel, place, 16, 30 FROM runs;
         DELETE FROM messages WHERE offset = 15;
         UPDATE channels SET messages = messages - 1;",
    )
    .expect("as if 15 had never come");
    drop(file);
    let server = Server::start(&settings(&folder, "")).await;
    for (from, recovered) in [(5, false), (14, false), (15, true), (16, true)] {
        let mut client = server.connected("ann").await;
        let made = recover(&mut client, "long:a", from, &epoch).await.expect("subscribed");
        assert_eq!(made.recovered, recovered, "from {from}");
        if recovered {
            expect_all(&mut client, &made, from, 30).await;
        }
    }
}
