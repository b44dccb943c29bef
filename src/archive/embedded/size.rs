//! Tests at size: what is read of a channel of 200,000 messages is bounded by what is asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use prost::Message as _;
use rusqlite::trace::{TraceEvent, TraceEventCodes};
use rusqlite::{Connection, OpenFlags, StatementStatus, params};
use tempfile::TempDir;

use super::delete::Part;
use super::{delete, expire, read, schema};
use crate::archive::{Anchor, Deletion, MessageId, Order, PageQuery, Span};
use crate::protocol::publication::Publication;

const LARGE: u64 = 200_000;
const SMALL: u64 = 100;

/// What SQLite did since the last look.
#[derive(Default)]
struct Seen {
    /// Statements as they were written.
    statements: BTreeSet<String>,
    /// Steps of its machine: unlike time, these are the same on every run.
    steps: i64,
    /// Rows that it went over without a key.
    scanned: i64,
    sorted: i64,
}

/// A file with a large and a small channel, and what is done to it.
fn filled() -> (TempDir, Connection, Arc<Mutex<Seen>>) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut connection =
        schema::connect(&path, 8 << 20, OpenFlags::default()).expect("a connection");
    schema::prepare(&mut connection, &path, schema::STEPS).expect("the tables");
    for (number, name, count) in [(1, "large", LARGE), (2, "small", SMALL)] {
        fill(&connection, number, name, count).expect("filled");
    }
    let seen = Arc::new(Mutex::new(Seen::default()));
    let noted = Arc::clone(&seen);
    let note = move |event: TraceEvent<'_>| {
        if let TraceEvent::Profile(statement, _) = event {
            let mut seen = noted.lock();
            seen.statements.insert(statement.sql().into_owned());
            seen.steps += i64::from(statement.get_status(StatementStatus::VmStep));
            seen.scanned += i64::from(statement.get_status(StatementStatus::FullscanStep));
            seen.sorted += i64::from(statement.get_status(StatementStatus::Sort));
        }
    };
    connection.trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(note)).expect("a trace");
    (folder, connection, seen)
}

/// Two epochs, the first of them sealed in the middle; ids are offsets times ten.
fn fill(connection: &Connection, number: i64, name: &str, count: u64) -> rusqlite::Result<()> {
    let body = Publication { data: "{\"n\":1}".into(), ..Publication::default() }.encode_to_vec();
    let (count, half) = (count as i64, count as i64 / 2);
    let channel = "INSERT INTO channels VALUES (?1, ?2, ?3, 0, ?3 * 10)";
    connection.execute(channel, params![number, name, count])?;
    for (place, epoch, first, last) in [(0, "e1", 1, half), (1, "e2", half + 1, count)] {
        let sealed = (place == 0).then_some(half);
        let text = "INSERT INTO epochs (channel, place, name, sealed) VALUES (?1, ?2, ?3, ?4)";
        connection.execute(text, params![number, place, epoch, sealed])?;
        let text = "INSERT INTO runs VALUES (?1, ?2, ?3, ?4)";
        connection.execute(text, params![number, place, first, last])?;
        let text = "WITH RECURSIVE counted(n) AS
                       (SELECT ?3 UNION ALL SELECT n + 1 FROM counted WHERE n < ?4)
                    INSERT INTO messages SELECT ?1, ?2, n, n * 10, ?5 FROM counted";
        connection.execute(text, params![number, place, first, last, body])?;
    }
    Ok(())
}

fn id(offset: u64) -> MessageId {
    MessageId::of(offset * 10).expect("an id")
}

/// Everything that is read of a channel, with the middle of it as an anchor.
fn read_all(connection: &Connection, channel: &str, count: u64) {
    let middle = count * 3 / 4;
    let offset = |offset| Some(Anchor::Offset { epoch: None, offset });
    let anchors = [
        None,
        offset(middle),
        Some(Anchor::Id(id(middle))),
        Some(Anchor::Id(id(count / 4))),
        Some(Anchor::Offset { epoch: Some("e1".into()), offset: count / 4 }),
    ];
    for order in [Order::NewestFirst, Order::OldestFirst] {
        for anchor in &anchors {
            for after in [true, false] {
                let bound = |wanted| anchor.clone().filter(|_| wanted);
                let query =
                    PageQuery { after: bound(after), before: bound(!after), order, limit: 20 };
                let page = read::page(connection, channel, &query).expect("a page");
                assert_eq!(page.messages.len(), 20, "{query:?}");
            }
        }
    }
    let times = PageQuery {
        after: Some(Anchor::Time(-1)),
        before: Some(Anchor::Time(i64::MAX)),
        order: Order::NewestFirst,
        limit: 20,
    };
    assert_eq!(read::page(connection, channel, &times).expect("a page").messages.len(), 20);
    let span = Span { epoch: "e2".into(), after: middle, through: middle + 20 };
    assert_eq!(read::range(connection, channel, &span).expect("a range").len(), 20);
    assert_eq!(read::holes(connection, channel, &span, 256).expect("holes"), []);
    assert_eq!(read::tail(connection, channel).expect("a tail").expect("one").offset, count);
    assert_eq!(read::chain(connection, channel).expect("a chain").0.len(), 2);
    let summary = read::summary(connection, channel).expect("a summary").expect("one");
    assert_eq!(summary.count, count);
    let names = read::channels(connection, "", Some("a"), 1).expect("channels");
    assert_eq!(names, ["large"]);
    assert!(expire::is_due(connection, channel, id(2)).expect("an answer"));
}

#[test]
fn what_is_read_of_a_large_channel_costs_what_it_costs_in_a_small_one() {
    let (_folder, connection, seen) = filled();
    let mut costs = [("small", SMALL), ("large", LARGE)].map(|(channel, count)| {
        read_all(&connection, channel, count);
        std::mem::take(&mut *seen.lock()).steps
    });
    // The first time everything is prepared, for both.
    costs[0] = {
        read_all(&connection, "small", SMALL);
        seen.lock().steps
    };
    let [small, large] = costs;
    assert!(large * 2 <= small * 3, "{large} steps in the large channel, {small} in the small");
}

#[test]
fn no_statement_goes_over_a_table_or_sorts_one() {
    let (_folder, mut connection, seen) = filled();
    read_all(&connection, "large", LARGE);
    let transaction = connection.transaction().expect("a transaction");
    assert_eq!(expire::oldest(&transaction, "large", id(LARGE), 50).expect("dropped"), 50);
    delete::part(&transaction, "large", Part::default()).expect("nothing to delete");
    let one = Deletion::Message(id(LARGE));
    let one = delete::bounds(&transaction, "large", &one).expect("an answer").expect("a message");
    assert_eq!(delete::part(&transaction, "large", one).expect("deleted").count, 1);
    transaction.commit().expect("committed");
    let seen = std::mem::take(&mut *seen.lock());
    assert!(seen.statements.len() > 20, "{} statements", seen.statements.len());
    assert_eq!((seen.scanned, seen.sorted), (0, 0), "rows without a key, sorts");
    for text in &seen.statements {
        if ["BEGIN", "COMMIT", "EXPLAIN"].iter().any(|word| text.starts_with(word)) {
            continue;
        }
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).expect(text);
        let count = statement.parameter_count();
        let values = rusqlite::params_from_iter((0..count).map(|_| 1_i64));
        let steps = statement.query_map(values, |row| row.get::<_, String>(3)).expect("a plan");
        for step in steps {
            let step = step.expect("a step");
            let is_bounded = !step.starts_with("SCAN") || step.contains("CONSTANT ROW");
            assert!(is_bounded && !step.contains("TEMP B-TREE"), "{step}\n{text}");
        }
    }
}
