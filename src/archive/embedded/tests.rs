//! What only the file can show; the rest is in the contract that every store meets.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::schema::{self, STEPS};
use super::*;
use crate::archive::{MessageId, Order};
use crate::protocol::publication::Publication;

fn open(folder: &TempDir) -> Result<EmbeddedStore, OpenError> {
    EmbeddedStore::open(&settings(folder), "first".into())
}

fn settings(folder: &TempDir) -> Settings {
    Settings { path: folder.path().join("history.db"), cache: 1 << 20 }
}

fn newest(limit: usize) -> PageQuery {
    PageQuery { after: None, before: None, order: Order::NewestFirst, limit }
}

fn record(channel: &str, offset: u64) -> Record {
    let publication =
        Publication { data: format!("{offset}").into(), offset, ..Publication::default() };
    let id = MessageId::of(offset * 10).expect("an id");
    let message = Message { id, epoch: "first".into(), publication: Arc::new(publication) };
    Record { channel: channel.into(), message }
}

#[tokio::test]
async fn the_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.append(vec![record("a", 1)]).await.expect("stored");
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("its data").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = open(&folder).expect("opens");
    assert!(matches!(open(&folder), Err(OpenError::Locked { .. })));
    first.close().await;
    drop(first);
    open(&folder).expect("opens again");
}

#[tokio::test]
async fn what_was_stored_is_there_after_opening_again_and_the_first_epoch_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.append(vec![record("a", 1), record("a", 2)]).await.expect("stored");
    drop(store);
    let store = EmbeddedStore::open(&settings(&folder), "other".into()).expect("opens");
    assert_eq!(store.first_epoch(), "first");
    let tail = store.tail("a").await.expect("answers").expect("is there");
    assert_eq!((tail.epoch.as_str(), tail.offset), ("first", 2));
}

#[tokio::test]
async fn who_comes_after_the_close_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.close().await;
    let refused = store.append(vec![record("a", 1)]).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}

#[test]
fn a_file_of_an_older_format_is_brought_up_to_date_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let connect = || schema::connect(&path, 1 << 20, OpenFlags::default()).expect("a connection");
    let mut connection = connect();
    schema::prepare(&mut connection, &path, STEPS).expect("the first format");
    schema::first_epoch(&connection, "kept").expect("an epoch");
    drop(connection);

    let newer: Vec<_> =
        STEPS.iter().copied().chain(["ALTER TABLE channels ADD COLUMN note TEXT"]).collect();
    let mut connection = connect();
    schema::prepare(&mut connection, &path, &newer).expect("a newer format");
    connection.execute("UPDATE channels SET note = ''", []).expect("the step was taken");
    assert_eq!(schema::first_epoch(&connection, "other").expect("an epoch"), "kept");
    schema::prepare(&mut connection, &path, &newer).expect("once is enough");

    let older = schema::prepare(&mut connection, &path, STEPS).expect_err("too new");
    assert!(matches!(older, OpenError::Newer { .. }), "{older}");
}

/// Of a gateway that knew the first format: five messages of `old:a`, of which two were deleted, in an
/// epoch sealed at 5, and one of `old:b`.
const FIRST_FORMAT: &[u8] = include_bytes!("../../../tests/fixtures/history-format-1.db");

#[tokio::test]
async fn a_file_that_the_first_version_wrote_is_read_and_written_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    std::fs::write(&path, FIRST_FORMAT).expect("a file");
    for round in 0..2 {
        let store = open(&folder).expect("opens");
        assert_eq!(store.first_epoch(), "VQmaBYZX");
        let page = store.page("old:a", &newest(9)).await.expect("a page");
        let seen = page.messages.iter().map(|m| (m.offset(), m.publication.data.clone()));
        let expected = [(5, "{\"n\":5}"), (4, "{\"n\":4}"), (1, "{\"n\":1}")];
        let expected = expected.map(|(offset, data)| (offset, data.into()));
        assert_eq!(seen.collect::<Vec<_>>(), expected);
        assert_eq!(page.messages[0].publication.tags["lang"], "en");
        let verdict = store.verify("old:a").await.expect("a verdict");
        assert_eq!((verdict.messages, verdict.deleted, verdict.faults), (3, 2, vec![]));
        let span = Span { epoch: "VQmaBYZX".into(), after: 0, through: 5 };
        assert_eq!(store.holes("old:a", &span, 9).await, Ok(vec![]), "deleted ones were stored");
        let chain = store.chain("old:a").await.expect("a chain").0;
        let end = crate::archive::End::SealedAt(5);
        assert_eq!((chain[0].first, chain[0].last, chain[0].end), (1, 5, end));
        let again = Record { channel: "old:a".into(), message: page.messages[0].clone() };
        assert_eq!(store.append(vec![again]).await.map(|a| a.duplicates), Ok(1), "round {round}");
    }
    let store = open(&folder).expect("opens");
    let before = store.tail("old:a").await.expect("answers").expect("a tail").last_id;
    assert_eq!(store.expire("old:a", before, 9).await, Ok(2), "what only newer formats know");
    assert_eq!(store.page("old:a", &newest(9)).await.expect("a page").messages.len(), 1);
}

#[test]
fn a_file_of_a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    drop(open(&folder).expect("opens"));
    let path = folder.path().join("history.db");
    let newer = STEPS.len() as i64 + 1;
    let file = Connection::open(&path).expect("a database");
    file.pragma_update(None, "user_version", newer).expect("as if a later version had been here");
    drop(file);
    let refused = open(&folder).err().expect("refused");
    assert!(matches!(refused, OpenError::Newer { found, .. } if found == newer), "{refused}");
    let text = refused.to_string();
    assert!(text.contains("history.path") && text.contains("newer"), "{text}");
    let file = Connection::open(&path).expect("a database");
    let found: i64 = file.pragma_query_value(None, "user_version", |row| row.get(0)).expect("read");
    assert_eq!(found, newer);
}

#[test]
fn a_step_that_fails_leaves_the_file_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut connection =
        schema::connect(&path, 1 << 20, OpenFlags::default()).expect("a connection");
    schema::prepare(&mut connection, &path, STEPS).expect("the first format");
    let broken: Vec<_> = STEPS.iter().copied().chain(["DROP TABLE runs; nonsense"]).collect();
    assert!(schema::prepare(&mut connection, &path, &broken).is_err());
    schema::prepare(&mut connection, &path, STEPS).expect("still the first format");
    connection.execute("DELETE FROM runs", []).expect("the table is there");
}

#[test]
fn files_of_others_are_left_alone() {
    let refused = |prepare: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(&folder.path().join("history.db"));
        open(&folder).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let text =
        refused(&|path| std::fs::write(path, "a diary, and a long one".repeat(100)).unwrap());
    assert!(text.contains("is not a history file"), "{text}");
    let foreign = refused(&|path| {
        let connection = Connection::open(path).expect("a database");
        connection.execute_batch("CREATE TABLE a (b)").expect("a table");
    });
    assert!(foreign.contains("is not a history file"), "{foreign}");
}

#[tokio::test]
async fn what_is_appended_while_the_newest_message_is_deleted_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    let newest_id = |offset: u64| MessageId::of(offset * 10).expect("an id");
    for (round, what) in
        [Deletion::Message(newest_id(1)), Deletion::Channel].into_iter().enumerate()
    {
        let at = round as u64 * 2 + 1;
        store.append(vec![record("a", at)]).await.expect("stored");
        let found = store.find("a", what.clone()).await.expect("an answer").expect("something");
        store.append(vec![record("a", at + 1)]).await.expect("stored");
        let deleted = store.delete_found("a", found).await.expect("deleted");
        let page = store.page("a", &newest(9)).await.expect("a page");
        let left: Vec<_> = page.messages.iter().map(Message::offset).collect();
        assert_eq!(left, [at + 1], "after {what:?}");
        assert_eq!(deleted.offsets.map(|(_, last)| last), Some([1, 3][round]));
    }
}

/// Reads that wait for a word, one for each connection, and the channel to give it.
async fn hold_all_readers(
    store: &Arc<EmbeddedStore>,
) -> (Vec<tokio::task::JoinHandle<Result<(), StoreError>>>, Vec<std::sync::mpsc::Sender<()>>) {
    let (mut reads, mut words) = (Vec::new(), Vec::new());
    for _ in 0..READERS {
        let (begun, begins) = oneshot::channel();
        let (word, said) = std::sync::mpsc::channel();
        let store = Arc::clone(store);
        reads.push(tokio::spawn(async move {
            let read = move |_: &Connection| {
                let _ = begun.send(());
                let _ = said.recv();
                Ok(())
            };
            store.read(read).await
        }));
        begins.await.expect("the read begins");
        words.push(word);
    }
    (reads, words)
}

#[tokio::test]
async fn reads_that_nobody_waits_for_keep_their_places_until_they_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(&folder).expect("opens"));
    store.append(vec![record("a", 1)]).await.expect("stored");
    let (reads, words) = hold_all_readers(&store).await;
    for read in reads {
        read.abort();
        assert!(read.await.is_err_and(|error| error.is_cancelled()));
    }
    assert_eq!(store.readers.places.available_permits(), 0, "the connections are still out");
    let mut waiting = store.tail("a");
    assert!(futures_util::poll!(&mut waiting).is_pending(), "for a connection");
    drop(words);
    assert_eq!(waiting.await.map(|tail| tail.map(|tail| tail.offset)), Ok(Some(1)));
}

#[tokio::test]
async fn a_read_that_panics_gives_its_connection_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    for _ in 0..=READERS {
        let failed = store.read::<()>(|_| panic!("as a defect would")).await;
        assert!(matches!(failed, Err(StoreError::Unavailable(_))), "{failed:?}");
    }
    assert_eq!(store.tail("a").await, Ok(None));
}

#[tokio::test]
async fn all_statements_of_a_read_see_the_file_of_one_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Arc::new(open(&folder).expect("opens"));
    store.append(vec![record("a", 1)]).await.expect("stored");
    let (begun, begins) = oneshot::channel();
    let (word, said) = std::sync::mpsc::channel();
    let reader = Arc::clone(&store);
    let reading = tokio::spawn(async move {
        let read = move |connection: &Connection| {
            let before = super::read::summary(connection, "a")?;
            let _ = begun.send(());
            let _ = said.recv();
            Ok((before, super::read::summary(connection, "a")?))
        };
        reader.read(read).await
    });
    begins.await.expect("the first statement");
    store.append(vec![record("a", 2)]).await.expect("stored");
    word.send(()).expect("the reader waits");
    let (before, after) = reading.await.expect("no panic").expect("read");
    assert_eq!(before, after);
    assert_eq!(before.map(|summary| summary.offset), Some(1));
    let now = store.summary("a").await.expect("an answer").expect("a summary");
    assert_eq!((now.offset, now.prev), (2, MessageId::of(10)));
}

/// What was published and is not to be read any more by anybody.
const SECRET: &str = "a text that was deleted";

fn is_in_a_file(folder: &TempDir) -> bool {
    let files = std::fs::read_dir(folder.path()).expect("a folder");
    let has = |file: &[u8]| file.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    files.flatten().any(|file| has(&std::fs::read(file.path()).expect("a file")))
}

async fn until_it_is_nowhere(folder: &TempDir) {
    let is_gone = async {
        while is_in_a_file(folder) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), is_gone).await.expect("gone in time");
}

fn secret(offset: u64) -> Record {
    let mut record = record("a", offset);
    let publication = Arc::make_mut(&mut record.message.publication);
    publication.data = SECRET.into();
    record
}

#[tokio::test]
async fn what_was_deleted_or_has_expired_is_in_no_file_a_moment_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.append(vec![secret(1), record("a", 2)]).await.expect("stored");
    assert!(is_in_a_file(&folder));
    let first = Deletion::Message(MessageId::of(10).expect("an id"));
    assert_eq!(store.delete("a", first).await.expect("deleted").count, 1);
    until_it_is_nowhere(&folder).await;
    store.append(vec![secret(3), record("a", 4)]).await.expect("stored");
    let before = MessageId::of(31).expect("an id");
    assert_eq!(store.expire("a", before, 10).await, Ok(2));
    until_it_is_nowhere(&folder).await;
}

#[tokio::test]
async fn nobody_waits_for_a_reader_of_what_was_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.append(vec![secret(1)]).await.expect("stored");
    let reader = Connection::open(settings(&folder).path).expect("opens");
    let begin = "BEGIN; SELECT count(*) FROM messages";
    reader.execute_batch(begin).expect("it reads");
    store.delete("a", Deletion::Channel).await.expect("deleted");
    let tried = store.write(|answer| Work::Clean { answer }).await;
    assert_eq!(tried, Ok(false), "it is read still");
    assert!(is_in_a_file(&folder));
    store.append(vec![record("a", 2)]).await.expect("stored");
    reader.execute_batch("COMMIT").expect("it ends");
    until_it_is_nowhere(&folder).await;
}

#[tokio::test]
async fn a_store_that_closes_leaves_nothing_deleted_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder).expect("opens");
    store.append(vec![secret(1)]).await.expect("stored");
    store.delete("a", Deletion::Channel).await.expect("deleted");
    store.close().await;
    assert!(!is_in_a_file(&folder));
}
