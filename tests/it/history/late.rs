//! A namespace that drops what the archive cannot take, on a disk that is full for a while.

use bobolink::client::Client;
use bobolink::protocol::reply::SubscribeResult;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::disk::Disk;
use super::{call, settings};
use crate::support::{SOON, Server, eventually, get, recovering};

/// More than the streams of [`settings`] hold.
const MORE_THAN_HOT: usize = 12;

/// What was published while the disk was full and after it.
struct Story {
    server: Server,
    settings: String,
    /// Before the disk was full, and since.
    epochs: (String, String),
    /// The last publication, which is stored again.
    top: u64,
}

/// Fills the disk, publishes `dropped` times, and once more with room again.
async fn with_dropped<'d>(folder: &'d TempDir, dropped: usize) -> (Story, Disk<'d>) {
    let disk = Disk::mount(folder.path(), "1m");
    let settings = settings(folder, "") + "history_archive_overflow = \"drop\"\n";
    let server = Server::start(&settings).await;
    let big = json!({ "channel": "long:a", "data": { "text": "x".repeat(20_000) } });
    let publish = async || call(server.address(), "publish", &big).await.expect("always published");
    let mut epochs: Vec<String> = Vec::new();
    let mut missing = 0;
    while missing < dropped {
        let epoch = publish().await["epoch"].as_str().expect("an epoch").to_owned();
        epochs.push(epoch);
        epochs.dedup();
        missing += usize::from(epochs.len() > 1);
    }
    assert_eq!(epochs.len(), 2, "one epoch for all that is missing");
    let health = get(server.address(), "/health/delivery").await;
    assert_eq!(health.status, 503);
    assert!(health.body.contains("delivered and missing"), "{}", health.body);
    assert!(health.body.contains("the history store is full"), "{}", health.body);
    assert_eq!(get(server.address(), "/health/ready").await.status, 200);
    disk.resize("32m");
    let top = publish().await;
    assert_eq!(top["epoch"].as_str(), Some(&*epochs[1]));
    let top = top["offset"].as_u64().expect("an offset");
    let epochs = (epochs.remove(0), epochs.remove(0));
    (Story { server, settings, epochs, top }, disk)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_at_hand_is_stored_late_and_positions_lead_over_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut story, _disk) = with_dropped(&folder, 4).await;
    let top = story.top;
    eventually("the archive has what it lacked", SOON, async || {
        let path = "/history/v1/channels/long:a";
        let headers = [("x-api-key", super::KEY)];
        let answer =
            crate::support::http(story.server.address(), hyper::Method::GET, path, &headers, "")
                .await;
        let channel: Value = serde_json::from_str(&answer.body).expect("JSON");
        channel["count"] == json!(top)
    })
    .await;
    eventually("the epoch before is sealed", SOON, async || {
        let mut client = story.server.connected("ann").await;
        recover(&mut client, (1, &story.epochs.0)).await.recovered
    })
    .await;
    // Now and after the gateway was killed.
    for round in 0..2 {
        let mut client = story.server.connected("ann").await;
        let made = recover(&mut client, (1, &story.epochs.0)).await;
        assert!(made.recovered, "round {round}");
        assert_eq!((made.offset, &made.epoch), (1, &story.epochs.1));
        let mut offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
        while offsets.last() != Some(&top) {
            offsets.push(client.publication(SOON).await.expect("a publication").1.offset);
        }
        assert_eq!(offsets, (2..=top).collect::<Vec<_>>());
        let beyond = recover_anew(&story.server, (top, &story.epochs.0)).await;
        assert!(!beyond.recovered, "beyond the end of the epoch");
        story.server.signal(Signal::KILL);
        story.server.ended(SOON).await;
        story.server = Server::start(&story.settings).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_told_recovered_over_what_is_missing_for_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut story, _disk) = with_dropped(&folder, MORE_THAN_HOT).await;
    for round in 0..2 {
        let before = recover_anew(&story.server, (1, &story.epochs.0)).await;
        assert!(!before.recovered, "round {round}");
        assert_eq!((before.offset, &before.epoch), (story.top, &story.epochs.1));
        let now = recover_anew(&story.server, (story.top, &story.epochs.1)).await;
        assert!(now.recovered, "what is stored counts, round {round}");
        story.server.signal(Signal::KILL);
        story.server.ended(SOON).await;
        story.server = Server::start(&story.settings).await;
    }
}

async fn recover_anew(server: &Server, from: (u64, &str)) -> SubscribeResult {
    recover(&mut server.connected("ann").await, from).await
}

async fn recover(client: &mut Client, (offset, epoch): (u64, &str)) -> SubscribeResult {
    client.subscribe_with(recovering("long:a", offset, epoch)).await.expect("a result")
}
