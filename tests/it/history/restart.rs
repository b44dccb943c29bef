//! Archived channels of a gateway outlive it: gracefully stopped, killed, and with a full disk.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bobolink::archive::{EmbeddedSettings, EmbeddedStore, MessageStore};
use bobolink::client::Client;
use bobolink::protocol::reply::SubscribeResult;
use hyper::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{SOON, Server, eventually, recovering};

use super::disk::Disk;
use super::retention::BRIEF;
use super::{Places, call, exchange, post, publish, settings, stored};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_recovers_over_a_restart_of_the_gateway_as_if_there_was_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&settings(&folder, "")).await;
    let mut client = server.connected("ann").await;
    let made = subscribe(&mut client, "long:a", None).await;
    for number in 1..=5 {
        publish(&server, "long:a", number).await;
    }
    for offset in 1..=3 {
        let (_, publication) = client.publication(SOON).await.expect("a publication");
        assert_eq!(publication.offset, offset);
    }
    server.signal(Signal::TERM);
    assert!(server.ended(SOON).await.success());

    let server = Server::start(&settings(&folder, "")).await;
    publish(&server, "long:a", 6).await;
    let mut client = server.connected("ann").await;
    let made = subscribe(&mut client, "long:a", Some((3, &made.epoch))).await;
    assert!(made.recovered);
    let offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
    assert_eq!(offsets, [4, 5, 6]);
    publish(&server, "long:a", 7).await;
    let (_, publication) = client.publication(SOON).await.expect("a publication");
    assert_eq!(publication.offset, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_without_messages_has_the_same_epoch_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Server::start(&settings(&folder, "")).await;
    let mut client = server.connected("ann").await;
    let before = subscribe(&mut client, "long:new", None).await;
    server.signal(Signal::KILL);
    server.ended(SOON).await;
    let server = Server::start(&settings(&folder, "")).await;
    publish(&server, "long:new", 1).await;
    let mut client = server.connected("ann").await;
    let after = subscribe(&mut client, "long:new", Some((0, &before.epoch))).await;
    assert!(after.recovered);
    assert_eq!(after.publications.len(), 1);
}

/// Kills the gateway in the middle of writing, again and again: whatever was acknowledged is there,
/// once, and the file is sound.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_when_the_gateway_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = settings(&folder, "history.expire_interval = \"20ms\"") + BRIEF;
    let mut acknowledged = Places::new();
    let mut next = 0;
    for round in 0..6_u64 {
        let mut server = Server::start(&settings).await;
        tokio::spawn(expire_and_delete(server.address()));
        let answered = Arc::new(AtomicU64::new(0));
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (address, first) = (server.address(), next + writer as u64 * 100_000);
                let answered = Arc::clone(&answered);
                tokio::spawn(async move {
                    let mut acknowledged = Vec::new();
                    for number in first.. {
                        let channel = format!("long:{writer}");
                        let request = json!({ "channel": channel, "data": { "n": number } });
                        let Some(result) = call(address, "publish", &request).await else { break };
                        let epoch = result["epoch"].as_str().expect("an epoch").to_owned();
                        let offset = result["offset"].as_u64().expect("an offset");
                        acknowledged.push(((writer, epoch, offset), number));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    acknowledged
                })
            })
            .collect();
        // At another moment in each round, and always in the middle of writing.
        let enough = 12 + round * 5;
        eventually("publications are acknowledged", SOON, async || {
            answered.load(Ordering::Relaxed) >= enough
        })
        .await;
        server.signal(Signal::KILL);
        server.ended(SOON).await;
        for writer in writers {
            for (place, number) in writer.await.expect("no panic") {
                let doubled = acknowledged.insert(place, number);
                assert_eq!(doubled, None, "one place was given twice");
            }
        }
        next += 1_000_000;
    }
    assert!(acknowledged.len() > 50, "{} publications", acknowledged.len());
    let stored = read_all(&folder).await;
    for (place, number) in &acknowledged {
        assert_eq!(stored.get(place), Some(number), "{place:?}");
    }
    // What was never acknowledged may be there: at most what was under way at each kill.
    assert!(stored.len() <= acknowledged.len() + 4 * 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_gateway_on_the_same_file_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let _server = Server::start(&settings(&folder, "")).await;
    let (status, told) = Server::fails_to_start(&settings(&folder, ""), &[]).await;
    assert!(!status.success());
    assert!(told.contains("history.path") && told.contains("another process"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_publishes_and_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path(), "1m");
    let server = Server::start(&settings(&folder, "")).await;
    let mut client = server.subscribed("ann", "long:a").await;
    let (acknowledged, refused) = fill(&server, "long:a").await;
    assert_eq!(refused["error"]["code"], json!(100), "{refused}");
    for offset in 1..=acknowledged {
        let (_, publication) = client.publication(SOON).await.expect("a publication");
        assert_eq!(publication.offset, offset, "what was refused was not delivered");
    }
    disk.resize("8m");
    let request = json!({ "channel": "long:a", "data": {} });
    let result = call(server.address(), "publish", &request).await.expect("there is room");
    assert_eq!(result["offset"], json!(acknowledged + 1), "nothing was skipped");
    let (_, publication) = client.publication(SOON).await.expect("a publication");
    assert_eq!(publication.offset, acknowledged + 1);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_versions_hold_among_publications_of_one_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&settings(&folder, "")).await;
    let same = json!({ "publish": { "channel": "long:a", "data": {}, "idempotency_key": "k" } });
    let versions = [1, 3, 2, 3, 4].map(|version| {
        json!({ "publish": { "channel": "long:b", "data": { "n": version }, "version": version } })
    });
    for (commands, expected) in
        [(vec![same.clone(); 5], vec![1, 1, 1, 1, 1]), (versions.to_vec(), vec![1, 2, 2, 2, 3])]
    {
        let request = json!({ "commands": commands, "parallel": true });
        let answer = post(server.address(), "batch", &request).await.expect("an answer");
        let replies = answer["replies"].as_array().expect("replies");
        let offset = |reply: &Value| reply["publish"]["offset"].as_u64().expect("an offset");
        assert_eq!(replies.iter().map(offset).collect::<Vec<_>>(), expected);
    }
    // Once more, when the commit is over.
    let request = json!({ "commands": [same] });
    let answer = post(server.address(), "batch", &request).await.expect("an answer");
    assert_eq!(answer["replies"][0]["publish"]["offset"], json!(1));
}

/// Has the store delete and expire all the while, until nobody answers any more.
async fn expire_and_delete(address: SocketAddr) {
    loop {
        for channel in ["brief:a", "long:deleted"] {
            let request = json!({ "channel": channel, "data": {} });
            if call(address, "publish", &request).await.is_none() {
                return;
            }
        }
        let path = "/history/v1/channels/long:deleted";
        if exchange(address, Method::DELETE, path, String::new()).await.is_none() {
            return;
        }
    }
}

/// Publishes until it is refused; how many were taken, and the refusal.
async fn fill(server: &Server, channel: &str) -> (u64, Value) {
    let big = "x".repeat(20_000);
    let request = json!({ "channel": channel, "data": { "text": big } });
    for taken in 0..1_000 {
        let answer = post(server.address(), "publish", &request).await.expect("an answer");
        if answer.get("error").is_some() {
            return (taken, answer);
        }
    }
    panic!("the disk never fills");
}

/// Everything in the file: writer, epoch and offset, with the number that was published there.
async fn read_all(folder: &TempDir) -> Places {
    let path = folder.path().join("history.db");
    let store = EmbeddedStore::open(&EmbeddedSettings { path, cache: 1 << 20 }, "x".into());
    let store = store.expect("opens");
    for channel in ["brief:a", "long:deleted"] {
        let verdict = store.verify(channel).await.expect("a verdict");
        assert_eq!((verdict.holes, verdict.faults), (vec![], vec![]), "{channel}");
    }
    stored(&store, 4).await
}

async fn subscribe(
    client: &mut Client,
    channel: &str,
    from: Option<(u64, &str)>,
) -> SubscribeResult {
    let made = match from {
        Some((offset, epoch)) => client.subscribe_with(recovering(channel, offset, epoch)).await,
        None => client.subscribe(channel).await,
    };
    made.expect("a result")
}
