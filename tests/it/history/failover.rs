//! The gateway and its history service while MongoDB fails over, dies and is away.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bobolink::archive::{MongoSettings, MongoStore};
use bobolink::config::units::Secret;
use bobolink::time::Clock;
use futures_util::future::join_all;
use hyper::Method;
use hyper::header::RETRY_AFTER;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::{KEY, Places, call, post, settings, stored};
use crate::support::{ReplicaSet, SOON, Server, eventually, http, verified};

/// Channels, each with one writer.
const WRITERS: usize = 4;
/// Longer than an election on a busy machine: what fails before it is a failure.
const WRITE_TIMEOUT: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_when_primaries_step_down_and_are_killed() {
    let mut set = ReplicaSet::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&on_mongo(&set, &folder, "")).await;
    let load = Load::start(&server);
    load.goes_on().await;
    set.no_primary().await;
    load.is_answered().await;
    set.primary(2).await;
    load.goes_on().await;
    set.crash().await;
    load.is_answered().await;
    set.primary(3).await;
    load.goes_on().await;
    set.kill_and_restart().await;
    set.primary(3).await;
    load.goes_on().await;
    load.ends_whole(&set).await;
    let told = verified(folder.path(), &on_mongo(&set, &folder, ""));
    assert_eq!(told.matches(", dense").count(), WRITERS, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_the_store_lost_double_nothing() {
    let mut set = ReplicaSet::scripted().await;
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(&on_mongo(&set, &folder, "")).await;
    let load = Load::start(&server);
    for round in 1..=3 {
        load.goes_on().await;
        // More than the driver repeats by itself.
        set.lose_acknowledgements(5).await;
        eventually("acknowledgements are lost", 3 * SOON, async || set.state().lost() >= round * 5)
            .await;
    }
    load.goes_on().await;
    set.primary(2).await;
    set.stale_primary(1).await;
    load.goes_on().await;
    load.ends_whole(&set).await;
}

/// What waits is bounded, what does not fit is refused at once, everything else goes on, and after the
/// outage what waited is stored.
#[tokio::test(flavor = "multi_thread")]
async fn while_mongodb_is_away_no_more_than_the_backlog_waits() {
    const BACKLOG: usize = 50;
    let mut set = ReplicaSet::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings = on_mongo(&set, &folder, &format!("history.backlog = {BACKLOG}"));
    let server = Server::start(&settings).await;
    let address = server.address();
    let publish = move |n: u64| async move {
        let request = json!({ "channel": "long:0", "data": { "n": n } });
        (n, post(address, "publish", &request).await.expect("an answer"))
    };
    let (_, first) = publish(0).await;
    assert_eq!(first["result"]["offset"], json!(1), "{first}");
    set.away().await;

    let answers: Vec<_> = (1..=300).map(|n| tokio::spawn(publish(n))).collect();
    let refused = 300 - 2 * BACKLOG;
    eventually("what does not fit is refused", SOON, async || {
        answers.iter().filter(|answer| answer.is_finished()).count() >= refused
    })
    .await;
    let plain = call(server.address(), "publish", &json!({ "channel": "plain", "data": {} })).await;
    assert!(plain.is_some(), "what is not archived goes on");
    let status = page_status(server.address(), "long:0").await;
    assert_eq!(status, 503);

    let clock = Clock::real();
    let began = clock.now();
    set.back().await;
    let answers = join_all(answers).await;
    println!("all that waited was stored after {:?}", clock.now().saturating_duration_since(began));
    let mut acknowledged = Places::from([(place(0, &first["result"]), 0)]);
    for (n, answer) in answers.into_iter().map(|answer| answer.expect("no panic")) {
        match answer.get("result") {
            Some(result) => assert_eq!(acknowledged.insert(place(0, result), n), None),
            None => assert_eq!(answer["error"]["code"], json!(100), "{answer}"),
        }
    }
    let waited = acknowledged.len() - 1;
    assert!((1..=2 * BACKLOG).contains(&waited), "{waited} waited");
    let found = stored(&store(&set).await, 1).await;
    for (place, number) in &acknowledged {
        assert_eq!(found.get(place), Some(number), "{place:?}");
    }
    assert_eq!(page_status(server.address(), "long:0").await, 200);
}

fn on_mongo(set: &ReplicaSet, folder: &TempDir, more: &str) -> String {
    let uri = set.uri();
    let more = format!(
        "history.store = \"mongo\"\n\
         history.mongo.uri = {uri:?}\n\
         history.mongo.read_timeout = \"1s\"\n\
         history.mongo.write_timeout = \"{WRITE_TIMEOUT}s\"\n\
         {more}"
    );
    settings(folder, &more)
}

async fn store(set: &ReplicaSet) -> MongoStore {
    let settings = MongoSettings {
        uri: Secret::new(&set.uri()),
        database: "bobolink".into(),
        read_timeout: SOON,
        write_timeout: SOON,
    };
    MongoStore::open(&settings, "x".into()).await.expect("opens")
}

/// Channel, epoch and offset of an acknowledgement.
fn place(writer: usize, result: &Value) -> (usize, String, u64) {
    let epoch = result["epoch"].as_str().expect("an epoch").to_owned();
    (writer, epoch, result["offset"].as_u64().expect("an offset"))
}

/// Asks for a page, which is given or refused for now; the status.
async fn page_status(address: SocketAddr, channel: &str) -> u16 {
    let path = format!("/history/v1/channels/{channel}/messages");
    let answer = http(address, Method::GET, &path, &[("x-api-key", KEY)], "").await;
    match answer.status {
        // Nothing was published there yet.
        200 | 404 => {}
        503 => assert!(answer.headers.contains_key(RETRY_AFTER), "{answer:?}"),
        _ => panic!("{answer:?}"),
    }
    answer.status
}

/// Writers that publish one after the other as fast as they are answered, and a reader.
struct Load {
    writers: Vec<JoinHandle<Places>>,
    reader: JoinHandle<BTreeMap<u16, u64>>,
    acknowledged: Arc<AtomicU64>,
    pages: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Load {
    fn start(server: &Server) -> Self {
        let (acknowledged, pages) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let over = Arc::new(AtomicBool::new(false));
        let address = server.address();
        let writers = (0..WRITERS).map(|writer| {
            let (counter, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
            tokio::spawn(write(address, writer, counter, over))
        });
        let writers = writers.collect();
        let (counter, ended) = (Arc::clone(&pages), Arc::clone(&over));
        let reader = tokio::spawn(async move {
            let mut statuses = BTreeMap::new();
            while !ended.load(Ordering::Relaxed) {
                *statuses.entry(page_status(address, "long:0").await).or_default() += 1;
                counter.fetch_add(1, Ordering::Relaxed);
            }
            statuses
        });
        Self { writers, reader, acknowledged, pages, over }
    }

    /// Waits until more was acknowledged.
    async fn goes_on(&self) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + 40;
        eventually("publications are acknowledged", 4 * SOON, async || {
            self.acknowledged.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Waits until the reader was answered again, with a page or with when to come back.
    async fn is_answered(&self) {
        let enough = self.pages.load(Ordering::Relaxed) + 2;
        eventually("readers are answered", 2 * SOON, async || {
            self.pages.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Ends it, and compares what is stored with what was acknowledged.
    async fn ends_whole(self, set: &ReplicaSet) {
        self.over.store(true, Ordering::Relaxed);
        let mut acknowledged = Places::new();
        for writer in self.writers {
            acknowledged.extend(writer.await.expect("no panic"));
        }
        let statuses = self.reader.await.expect("no panic");
        println!("{} acknowledged; pages by status: {statuses:?}", acknowledged.len());
        assert!(statuses.get(&200) > Some(&0), "{statuses:?}");
        let found = stored(&store(set).await, WRITERS).await;
        for (place, number) in &acknowledged {
            assert_eq!(found.get(place), Some(number), "{place:?}");
        }
        let mut once = BTreeMap::new();
        for ((writer, ..), number) in &found {
            *once.entry((writer, number)).or_insert(0) += 1;
        }
        let doubled: Vec<_> = once.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "stored twice: {doubled:?}");
    }
}

/// Publishes numbers into one channel until it is over; what was acknowledged. No number is sent twice.
async fn write(
    address: SocketAddr,
    writer: usize,
    counter: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
) -> Places {
    let mut acknowledged = Places::new();
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let request = json!({ "channel": format!("long:{writer}"), "data": { "n": number } });
        if let Some(result) = call(address, "publish", &request).await {
            let doubled = acknowledged.insert(place(writer, &result), number);
            assert_eq!(doubled, None, "one place was given twice");
            counter.fetch_add(1, Ordering::Relaxed);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    acknowledged
}
