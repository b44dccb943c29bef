//! The store in MongoDB: the contract, any order of calls against a model, several writers at once, what
//! a look costs, and who may use a database.

mod failures;
mod served;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bobolink::archive::{
    Anchor, Deletion, MessageStore, MongoOpenError, MongoSettings, MongoStore, Order, PageQuery,
    Record, Span,
};
use bobolink::config::units::Secret;
use bobolink::protocol::publication::Publication;
use futures_util::future::join_all;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use proptest::test_runner::{Config, TestRunner};

use super::contract::{every_scenario, follow, record, steps};
use crate::support::{ReplicaSet, Server};

/// Longer than a look or a write takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn settings(uri: &str, database: &str) -> MongoSettings {
    MongoSettings {
        uri: Secret::new(uri),
        database: database.into(),
        read_timeout: LONG,
        write_timeout: LONG,
    }
}

async fn open(uri: &str, database: &str) -> MongoStore {
    MongoStore::open(&settings(uri, database), "e1".into()).await.expect("opens")
}

fn all(limit: usize) -> PageQuery {
    PageQuery { after: None, before: None, order: Order::OldestFirst, limit }
}

/// A message whose body is too long for a bucket.
fn large(channel: &str, offset: u64) -> Record {
    let mut record = record(channel, "e1", offset);
    let data = format!("\"{}\"", "x".repeat(100_000 + offset as usize)).into();
    let small = Publication::clone(&record.message.publication);
    record.message.publication = Arc::new(Publication { data, ..small });
    record
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongo_store_keeps_the_contract() {
    let set = ReplicaSet::start().await;
    every_scenario(&open(&set.uri(), "contract").await).await;
}

#[test]
fn the_mongo_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let set = runtime.block_on(ReplicaSet::start());
    let cases = AtomicU32::new(0);
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&steps(), |steps| {
        let database = format!("case{}", cases.fetch_add(1, Ordering::Relaxed));
        let uri = set.uri();
        runtime.block_on(follow(async || open(&uri, &database).await, &steps));
        Ok(())
    });
    checked.expect("equal");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_of_the_same_messages_each_message_has_one() {
    let set = ReplicaSet::start().await;
    let stores = [open(&set.uri(), "writers").await, open(&set.uri(), "writers").await];
    // Overlapping and out of step, so that buckets and epochs are begun by several at once.
    let writers = (0..6_u64).map(|writer| {
        let store = &stores[writer as usize % 2];
        async move {
            let (mut stored, mut duplicates) = (0, 0);
            for round in 0..8_u64 {
                let first = (round * 7 + writer * 13) % 300 + 1;
                let batch = (first..first + 150).map(|offset| record("busy", "e1", offset));
                let appended = store.append(batch.collect()).await.expect("stored");
                stored += appended.stored;
                duplicates += appended.duplicates;
            }
            (stored, duplicates)
        }
    });
    let done = join_all(writers).await;
    let (stored, duplicates) = done.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert_eq!(stored + duplicates, 6 * 8 * 150, "each is answered for");
    let page = stores[0].page("busy", &all(1_000)).await.expect("a page");
    assert_eq!(page.messages.len(), stored, "each that is there was stored once");
    let verdict = stores[1].verify("busy").await.expect("a verdict");
    assert_eq!((verdict.messages as usize, verdict.faults), (stored, vec![]));
    assert_eq!(stores[1].chain("busy").await.expect("a chain").0.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_come_back_and_go_with_their_bodies() {
    let set = ReplicaSet::start().await;
    let store = open(&set.uri(), "large").await;
    let sent: Vec<_> = (1..=70)
        .map(|at| if at % 7 == 0 { large("l", at) } else { record("l", "e1", at) })
        .collect();
    store.append(sent.clone()).await.expect("stored");
    let replayed = store.append(sent.clone()).await.expect("answers");
    assert_eq!((replayed.stored, replayed.duplicates), (0, 70));
    let sent: Vec<_> = sent.into_iter().map(|record| record.message).collect();
    assert_eq!(store.page("l", &all(100)).await.expect("a page").messages, sent);
    let newest = PageQuery { order: Order::NewestFirst, ..all(3) };
    let newest = store.page("l", &newest).await.expect("a page").messages;
    assert_eq!(newest, [sent[69].clone(), sent[68].clone(), sent[67].clone()]);
    let bodies = database(&set.uri(), "large").await.collection::<Document>("large_messages");
    let count = async || bodies.count_documents(doc! {}).await.expect("a count");
    assert_eq!(count().await, 10);
    let what = Deletion::Offsets { epoch: None, from: 60, to: 66 };
    store.delete("l", what).await.expect("deleted");
    assert_eq!(count().await, 9);
    let replayed = Record { channel: "l".into(), message: sent[62].clone() };
    let replayed = store.append(vec![replayed, large("l", 77)]).await.expect("answers");
    assert_eq!((replayed.stored, replayed.duplicates), (1, 1));
    assert_eq!(count().await, 10, "a replay brings no body back");
    assert_eq!(store.expire("l", sent[29].id, 100).await, Ok(29));
    assert_eq!(count().await, 6, "of 35, 42, 49, 56, 70 and 77");
    let verdict = store.verify("l").await.expect("a verdict");
    let holes = vec![("e1".into(), 71, 76)];
    assert_eq!((verdict.messages, verdict.holes, verdict.faults), (35, holes, vec![]));
    assert_eq!(store.delete("l", Deletion::Channel).await.map(|deleted| deleted.count), Ok(35));
    assert_eq!(count().await, 0);
}

/// The bucket is all that names a body: whoever is interrupted between the two has to find it again.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_are_written_together_and_go_before_their_buckets_change() {
    let set = ReplicaSet::scripted().await;
    let store = open(&set.uri(), "bodies").await;
    store.append(vec![record("l", "e1", 1)]).await.expect("stored");
    set.written();
    store.append((2..=21).map(|at| large("l", at)).collect()).await.expect("stored");
    let what = Deletion::Offsets { epoch: None, from: 5, to: 9 };
    assert_eq!(store.delete("l", what).await.map(|deleted| deleted.count), Ok(5));
    let (bodies, buckets, channels) =
        ("bodies.large_messages", "bodies.buckets", "bodies.channels");
    let appended = [bodies, buckets];
    let deleted = [channels, bodies, buckets, bodies, channels];
    let calls: Vec<_> = appended.iter().chain(&deleted).map(|space| vec![*space]).collect();
    assert_eq!(set.written(), calls);
}

/// What a look may cost does not depend on what else is stored: it names its keys, or has two bounds and
/// a limit.
#[tokio::test(flavor = "multi_thread")]
async fn no_look_meets_more_documents_than_it_asks_for() {
    let set = ReplicaSet::start().await;
    let store = open(&set.uri(), "looks").await;
    for first in (1..=6_000).step_by(1_000) {
        let batch = (first..first + 1_000).map(|offset| record("long", "e1", offset));
        store.append(batch.collect()).await.expect("stored");
    }
    let others = (0..200).map(|channel| record(&format!("other-{channel}"), "e1", 1));
    store.append(others.collect()).await.expect("stored");
    let database = database(&set.uri(), "looks").await;
    let count = async || store.summary("long").await.expect("answers").expect("a summary").count;
    assert_eq!((count().await, count().await), (6_000, 6_000), "the second goes on from a note");
    let channels = database.collection::<Document>("channels");
    let noted = channels.find_one(doc! { "_id": "long", "epochs.0.counted.through": 92_i64 }).await;
    assert!(noted.expect("a look").is_some(), "all full buckets");
    let what = Deletion::Offsets { epoch: None, from: 1_001, to: 1_010 };
    store.delete("long", what).await.expect("deleted");
    assert_eq!((count().await, count().await), (5_990, 5_990), "a note ends with a deletion");
    database.run_command(doc! { "profile": 2 }).await.expect("profiling begins");
    let id = |offset| Some(Anchor::Id(record("long", "e1", offset).message.id));
    for (after, order) in [
        (None, Order::NewestFirst),
        (None, Order::OldestFirst),
        (id(3_333), Order::OldestFirst),
        (Some(Anchor::Offset { epoch: None, offset: 4_444 }), Order::OldestFirst),
    ] {
        let query = PageQuery { after, order, ..all(50) };
        assert_eq!(store.page("long", &query).await.expect("a page").messages.len(), 50);
    }
    let span = |after, through| Span { epoch: "e1".into(), after, through };
    assert_eq!(store.range("long", &span(256, 512)).await.expect("a range").len(), 256);
    assert_eq!(store.holes("long", &span(0, 6_000), 9).await, Ok(vec![]));
    assert_eq!(store.tail("long").await.expect("answers").expect("a tail").offset, 6_000);
    assert_eq!(store.chain("long").await.expect("a chain").0.len(), 1);
    database.run_command(doc! { "profile": 0 }).await.expect("profiling ends");
    let looks = looks_of(&database).await;
    assert!(looks.len() > 10, "{} looks", looks.len());
    for look in &looks {
        expect_bounded(&database, look).await;
    }
}

/// Retention looks at every channel again and again, and most have nothing to drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_with_nothing_to_drop_costs_three_small_looks() {
    let set = ReplicaSet::start().await;
    let store = open(&set.uri(), "idle").await;
    for first in (1..=3_000).step_by(1_000) {
        let batch = (first..first + 1_000).map(|offset| record("idle", "e1", offset));
        store.append(batch.collect()).await.expect("stored");
    }
    store.append(vec![record("idle", "e2", 3_001)]).await.expect("stored");
    let before = |offset| record("idle", "e1", offset).message.id;
    assert_eq!(store.expire("idle", before(301), 1_000).await, Ok(300));
    let database = database(&set.uri(), "idle").await;
    database.run_command(doc! { "profile": 2 }).await.expect("profiling begins");
    assert_eq!(store.expire("idle", before(301), 1_000).await, Ok(0));
    database.run_command(doc! { "profile": 0 }).await.expect("profiling ends");
    let looks = looks_of(&database).await;
    assert!(looks.len() <= 2, "beside that at the channel: {looks:?}");
    for look in &looks {
        expect_bounded(&database, look).await;
        let whole = look.get_document("projection").is_err();
        assert!(!whole, "nobody needs all messages of a bucket: {look}");
    }
    let one = Deletion::Offsets { epoch: Some("e1".into()), from: 301, to: 301 };
    store.delete("idle", one).await.expect("deleted");
    assert_eq!(store.expire("idle", before(302), 1_000).await, Ok(0), "the oldest was deleted");
    assert_eq!(store.expire("idle", before(303), 1_000).await, Ok(1));
    assert_eq!(store.expire("idle", record("", "e2", 9_999).message.id, 1_000).await, Ok(1_000));
}

/// The looks that were taken at buckets, as the server has noted them.
async fn looks_of(database: &Database) -> Vec<Document> {
    let profile = database.collection::<Document>("system.profile");
    let mut noted = profile.find(doc! {}).await.expect("a profile");
    let mut looks = Vec::new();
    while noted.advance().await.expect("a note") {
        let note = noted.deserialize_current().expect("a document");
        let command = note.get_document("command").cloned().unwrap_or_default();
        if command.get_str("find").is_ok_and(|collection| collection == "buckets") {
            let kept = ["find", "filter", "sort", "limit", "projection"];
            looks.push(command.into_iter().filter(|(key, _)| kept.contains(&&**key)).collect());
        }
    }
    looks
}

async fn expect_bounded(database: &Database, look: &Document) {
    let key = look.get_document("filter").ok().and_then(|filter| filter.get("_id"));
    let key = key.expect("a look goes along the key");
    let limit =
        look.get("limit").and_then(|limit| limit.as_i64().or(limit.as_i32().map(i64::from)));
    let limit = limit.expect("a look has a limit");
    match key.as_document() {
        None => assert_eq!(limit, 1, "of one key: {look}"),
        Some(key) => {
            let keys = key.get_array("$in").map(Vec::len).ok();
            let is_range = key.contains_key("$gte") && key.contains_key("$lte");
            assert!(keys == Some(limit as usize) || is_range, "{look}");
        }
    }
    let explain = doc! { "explain": look.clone(), "verbosity": "executionStats" };
    let explained = database.run_command(explain).await.expect("an explanation");
    let stats = explained.get_document("executionStats").expect("what was executed");
    let examined = stats.get_i32("totalDocsExamined").map(i64::from);
    let examined = examined.or_else(|_| stats.get_i64("totalDocsExamined")).expect("a number");
    assert!(examined <= limit, "{examined} documents for {limit}: {look}");
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_together_agree_and_strangers_are_refused() {
    let set = ReplicaSet::start().await;
    let uri = set.uri();
    let opened = join_all((0..5).map(|process| {
        let settings = settings(&uri, "together");
        async move {
            let epoch = format!("epoch-{process}");
            MongoStore::open(&settings, epoch.as_str().into()).await.expect("opens")
        }
    }));
    let opened = opened.await;
    let first = opened[0].first_epoch();
    assert!(opened.iter().all(|store| store.first_epoch() == first));
    assert_eq!(open(&uri, "together").await.first_epoch(), first, "and it stays");

    let store = database(&uri, "together").await.collection::<Document>("store");
    let change = async |fields: Document| {
        let changed = store.update_one(doc! { "_id": "history" }, doc! { "$set": fields }).await;
        assert_eq!(changed.expect("changed").modified_count, 1);
        MongoStore::open(&settings(&uri, "together"), "x".into()).await.err()
    };
    let typo = MongoStore::open_existing(&settings(&uri, "typo")).await.err();
    assert!(matches!(typo, Some(MongoOpenError::Missing(_))), "{typo:?}");
    let made = database(&uri, "typo").await.list_collection_names().await.expect("names");
    assert_eq!(made, [""; 0], "nothing is made by looking");
    let again = MongoStore::open_existing(&settings(&uri, "together")).await.expect("opens");
    assert_eq!(again.first_epoch(), first);
    let newer = change(doc! { "format": 99_i64 }).await;
    assert!(matches!(newer, Some(MongoOpenError::Newer { found: 99, .. })), "{newer:?}");
    let foreign = change(doc! { "format": 1_i64, "application": "diary" }).await;
    assert!(matches!(foreign, Some(MongoOpenError::Foreign(_))), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_is_said_in_time_and_without_the_password() {
    let wrong = |uri: &str| MongoSettings {
        read_timeout: Duration::from_millis(400),
        write_timeout: Duration::from_secs(1),
        ..settings(uri, "x")
    };
    // Nothing listens on port 1.
    for uri in
        ["mongodb://ann:hunter2@127.0.0.1:1/?replicaSet=x", "mongodb://ann:hunter2@/x?w=hunter2"]
    {
        let settings = wrong(uri);
        let opening = MongoStore::open(&settings, "e1".into());
        let opened = tokio::time::timeout(LONG, opening).await.expect("in time");
        let error = opened.err().expect("an error").to_string();
        assert!(error.starts_with("history.mongo.uri: "), "{error}");
        assert!(!error.contains("hunter2") && !format!("{settings:?}").contains("hunter2"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_not_encoded_is_refused_at_start_and_no_part_of_it_is_logged() {
    let folder = tempfile::tempdir().expect("a folder");
    for password in ["qqzz?wwxx", "qqzz@wwxx", "qqzz/wwxx", "1234?wwxx=1"] {
        let uri = format!("mongodb://ann:{password}@127.0.0.1:1/?replicaSet=x");
        let more = format!("history.store = \"mongo\"\nhistory.mongo.uri = {uri:?}");
        let settings = super::settings(&folder, &more);
        let (status, log) = Server::fails_to_start(&settings, &[]).await;
        assert!(!status.success());
        assert!(log.contains("history.mongo.uri") && log.contains("percent-encoded"), "{log}");
        let parts = ["qqz", "qzz", "wwx", "wxx", "1234"];
        assert!(!parts.iter().any(|part| log.contains(part)), "{log}");
    }
}

async fn database(uri: &str, name: &str) -> Database {
    Client::with_uri_str(uri).await.expect("a client").database(name)
}
