//! The replica set that tests and local clusters have: what a driver makes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bobolink::time::Clock;
use mongodb::bson::{Document, doc};
use mongodb::error::{ErrorKind, RETRYABLE_WRITE_ERROR};
use mongodb::{Client, Collection};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::replica_set::{Act, ask, ask_on};
use crate::support::{ReplicaSet, SOON, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn writing_goes_on_through_a_step_down_and_a_crash() {
    let mut set = ReplicaSet::start().await;
    let writer = Writer::start(&set).await;
    writer.goes_on().await;
    set.no_primary().await;
    set.primary(2).await;
    writer.goes_on().await;
    set.crash().await;
    set.primary(3).await;
    writer.goes_on().await;
    set.up(2).await;
    set.primary(2).await;
    writer.goes_on().await;
    writer.finds_each_once().await;
    set.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_a_kill_of_the_server() {
    let mut set = ReplicaSet::start().await;
    let writer = Writer::start(&set).await;
    for _ in 0..2 {
        writer.goes_on().await;
        set.kill_and_restart().await;
        set.primary(1).await;
    }
    writer.goes_on().await;
    set.away().await;
    set.back().await;
    writer.goes_on().await;
    writer.finds_each_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_the_primary_refuses_in_the_words_that_drivers_know() {
    let set = ReplicaSet::scripted().await;
    let [_, second, _] = members(&set);
    let options = format!("mongodb://{second}/?directConnection=true&retryWrites=false");
    let collection = messages(&Client::with_uri_str(options).await.expect("a client"));
    let error = collection.insert_one(doc! { "_id": 1 }).await.expect_err("it is no primary");
    assert!(error.contains_label(RETRYABLE_WRITE_ERROR), "{error:?}");
    let ErrorKind::Command(command) = *error.kind else { panic!("{error:?}") };
    assert_eq!((command.code, command.code_name.as_str()), (10107, "NotWritablePrimary"));
    let find = doc! { "find": "messages", "$db": "test" };
    let refused = ask(second, find.clone()).await.expect_err("not asked of a secondary");
    assert!(refused.to_string().contains("13435"), "{refused}");
    let mut anywhere = find;
    anywhere.insert("$readPreference", doc! { "mode": "secondary" });
    ask(second, anywhere).await.expect("a secondary reads");
    assert_eq!(set.state().refused(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_waits_is_answered_when_something_changes_and_at_its_end() {
    let mut set = ReplicaSet::scripted().await;
    let [first, ..] = members(&set);
    let hello = doc! { "hello": 1, "$db": "admin" };
    let said = ask(first, hello.clone()).await.expect("a hello");
    assert!(is_primary(&said));
    let mut waiting = hello;
    waiting.extend(doc! { "topologyVersion": said.get("topologyVersion"), "maxAwaitTimeMS": 50 });
    let same = ask(first, waiting.clone()).await.expect("a hello");
    assert_eq!(same.get("topologyVersion"), said.get("topologyVersion"));
    waiting.insert("maxAwaitTimeMS", 600_000);
    let asked = tokio::spawn(ask(first, waiting));
    set.primary(3).await;
    let changed = tokio::time::timeout(SOON, asked).await.expect("it is answered");
    let changed = changed.expect("no panic").expect("a hello");
    assert!(!is_primary(&changed));
    assert_ne!(changed.get("topologyVersion"), said.get("topologyVersion"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_acknowledgement_is_lost_was_done() {
    let mut set = ReplicaSet::scripted().await;
    let client = Client::with_uri_str(set.uri()).await.expect("a client");
    let collection = messages(&client);
    collection.insert_one(doc! { "_id": 0 }).await.expect("inserted");
    set.lose_acknowledgements(1).await;
    collection.insert_one(doc! { "_id": 1 }).await.expect("the driver asks once more");
    // Both the call and the driver's one retry: the caller cannot know, and the message is there.
    set.lose_acknowledgements(2).await;
    collection.insert_one(doc! { "_id": 2 }).await.expect_err("the driver gives up");
    assert_eq!(set.state().lost(), 3);
    assert_eq!(collection.count_documents(doc! {}).await.expect("a count"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_of_the_past_is_not_written_to() {
    let mut set = ReplicaSet::scripted().await;
    let writer = Writer::start(&set).await;
    writer.goes_on().await;
    set.primary(2).await;
    writer.goes_on().await;
    // It believes so while the other is the primary: drivers have seen a later election.
    set.stale_primary(1).await;
    for _ in 0..3 {
        writer.goes_on().await;
    }
    let [first, ..] = members(&set);
    let said = ask(first, doc! { "hello": 1, "$db": "admin" }).await.expect("a hello");
    assert!(is_primary(&said));
    // What it takes it cannot finish, and its connections are reset when it learns the truth.
    let insert = doc! { "insert": "messages", "documents": [{ "_id": "stale" }], "$db": "test" };
    let stuck = tokio::spawn(ask(first, insert));
    eventually("it has taken it", SOON, async || set.state().stuck() == 1).await;
    set.up(1).await;
    stuck.await.expect("no panic").expect_err("it was not written");
    writer.finds_each_once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_gone_resets_and_one_that_is_half_open_says_nothing() {
    let mut set = ReplicaSet::scripted().await;
    let [first, second, _] = members(&set);
    let ping = || doc! { "ping": 1, "$db": "admin" };
    set.down(1).await;
    assert_eq!(set.state().primary(), None);
    ask(first, ping()).await.expect_err("nobody answers");
    set.up(1).await;
    ask(first, ping()).await.expect("it is there again");
    let mut stream = TcpStream::connect(second).await.expect("it takes connections");
    ask_on(&mut stream, ping()).await.expect("and answers over them");
    set.half_open(2).await;
    // An answer would be there before the reset.
    let asked = tokio::spawn(async move { ask_on(&mut stream, ping()).await });
    TcpStream::connect(second).await.expect("it takes connections still");
    ask(first, ping()).await.expect("the others answer");
    set.up(2).await;
    asked.await.expect("no panic").expect_err("its connections are reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_delayed_and_hellos_are_not() {
    let mut set = ReplicaSet::scripted().await;
    let [first, ..] = members(&set);
    let delay = Duration::from_millis(400);
    set.delay(delay).await;
    let (clock, began) = (Clock::real(), Clock::real().now());
    ask(first, doc! { "ping": 1, "$db": "admin" }).await.expect("a pong");
    assert!(clock.now().saturating_duration_since(began) >= delay);
    set.delay(Duration::from_secs(600)).await;
    let hello = ask(first, doc! { "hello": 1, "$db": "admin" });
    tokio::time::timeout(SOON, hello).await.expect("at once").expect("a hello");
}

#[test]
fn a_script_is_read_and_what_is_none_is_named_with_what_is_allowed() {
    let read = |line: &str| line.parse::<Act>();
    assert_eq!(read("primary 2\n"), Ok(Act::Primary(2)));
    assert_eq!(read("lose 3"), Ok(Act::LoseAcknowledgements(3)));
    assert_eq!(read("delay 250"), Ok(Act::Delay(Duration::from_millis(250))));
    for line in ["primary", "primary 4", "primary 0", "down x", "explode", "", "crash 1"] {
        let refusal = read(line).expect_err(line);
        assert!(refusal.contains("is none of: primary N"), "{refusal}");
    }
}

fn is_primary(hello: &Document) -> bool {
    hello.get_bool("isWritablePrimary").expect("said in every hello")
}

fn messages(client: &Client) -> Collection<Document> {
    client.database("test").collection("messages")
}

/// The addresses of the members.
fn members(set: &ReplicaSet) -> [SocketAddr; 3] {
    let uri = set.uri();
    let hosts = uri.trim_start_matches("mongodb://").split('/').next().unwrap_or_default();
    let hosts: Vec<_> = hosts.split(',').filter_map(|host| host.parse().ok()).collect();
    hosts.try_into().expect("three members")
}

/// Inserts numbers one after the other, each again until it is acknowledged.
struct Writer {
    collection: Collection<Document>,
    acknowledged: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Writer {
    async fn start(set: &ReplicaSet) -> Self {
        let uri = format!("{}&w=majority&journal=true", set.uri());
        let collection = messages(&Client::with_uri_str(uri).await.expect("a client"));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let (counter, inserted) = (Arc::clone(&acknowledged), collection.clone());
        let task = tokio::spawn(async move {
            for number in 0_i64.. {
                while let Err(error) = inserted.insert_one(doc! { "_id": number }).await {
                    // It was done the time before.
                    if error.to_string().contains("E11000") {
                        break;
                    }
                }
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { collection, acknowledged, task }
    }

    /// Waits for some more acknowledgements.
    async fn goes_on(&self) {
        assert!(!self.task.is_finished());
        let enough = self.acknowledged.load(Ordering::Relaxed) + 20;
        eventually("writing goes on", 3 * SOON, async || {
            self.acknowledged.load(Ordering::Relaxed) >= enough
        })
        .await;
    }

    /// Whether all that was acknowledged is there; `_id` sees to it that nothing is twice.
    async fn finds_each_once(self) {
        self.task.abort();
        let _ = self.task.await;
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        let found = self.collection.count_documents(doc! {}).await.expect("a count");
        // One more may have been under way.
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
    }
}
