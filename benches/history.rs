//! A store of messages at size: how many are taken in for a CPU second, and how long a page takes in a
//! channel of ten million messages beside one of a hundred.
//!
//! `HISTORY_MESSAGES` is the size of the large channel. MongoDB is measured where `HISTORY_MONGO_URI` names a
//! replica set, or `HISTORY_REPLICA_SET` a program that starts one (the example `replica_set`). An argument
//! chooses stores by a part of their names: `cargo bench --bench history -- mongodb`. Another store is
//! measured by one more line in `main`: everything below it knows only `MessageStore`.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bobolink::archive::{
    Anchor, EmbeddedSettings, EmbeddedStore, Message, MessageId, MongoSettings, MongoStore, Order,
    PageQuery, Record, SharedStore,
};
use bobolink::config::units::Secret;
use bobolink::protocol::publication::Publication;
use bobolink::time::Clock;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Messages of the large channel.
const LARGE: u64 = 10_000_000;
const SMALL: u64 = 100;
/// Bytes of a payload.
const PAYLOAD: usize = 100;
/// Messages of one append: what a gateway hands over at most, and what gathers in few milliseconds.
const BATCH: u64 = 1_000;
/// Appends whose messages go to a thousand channels.
const SPREAD: u64 = 300;
/// The longest for these, and for filling the large channel, which is smaller then.
const SPREADING: Duration = Duration::from_secs(60);
const FILLING: Duration = Duration::from_secs(300);
/// Pages read of each channel at most, and the longest that this may take; messages of a page.
const PAGES: u64 = 20_000;
const READING: Duration = Duration::from_secs(30);
const PAGE: usize = 50;
/// The longest for a call to a database: none is to fail.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let large = std::env::var("HISTORY_MESSAGES").ok().and_then(|text| text.parse().ok());
    let large = large.unwrap_or(LARGE);
    let wanted: Vec<_> = std::env::args().skip(1).filter(|one| !one.starts_with('-')).collect();
    let is_wanted =
        |name: &str| wanted.is_empty() || wanted.iter().any(|one| name.contains(one.as_str()));
    let runtime = Runtime::new().expect("a runtime");
    if is_wanted("embedded") {
        embedded(&runtime, large);
    }
    if is_wanted("mongodb") {
        mongodb(&runtime, large);
    }
}

fn embedded(runtime: &Runtime, large: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 8 << 20 };
    let embedded = EmbeddedStore::open(&settings, "epoch".into()).expect("opens");
    runtime.block_on(measure("embedded", Arc::new(embedded), large));
    let bytes = std::fs::metadata(&settings.path).expect("a file").len();
    println!("  file {} MiB", bytes >> 20);
}

fn mongodb(runtime: &Runtime, large: u64) {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let started = variable("HISTORY_REPLICA_SET").and_then(|program| ReplicaSet::start(&program));
    let given = variable("HISTORY_MONGO_URI");
    let Some(uri) = given.or_else(|| started.as_ref().map(|set| set.uri.clone())) else {
        println!(
            "mongodb: not run, neither HISTORY_MONGO_URI nor HISTORY_REPLICA_SET leads to one"
        );
        return;
    };
    let settings = MongoSettings {
        uri: Secret::new(&uri),
        database: format!("bench-{}", std::process::id()),
        read_timeout: PATIENCE,
        write_timeout: PATIENCE,
    };
    let opening = MongoStore::open(&settings, "epoch".into());
    let store = runtime.block_on(opening).expect("opens");
    runtime.block_on(measure("mongodb", Arc::new(store), large));
}

/// A replica set that was started for this; it ends with this.
struct ReplicaSet {
    uri: String,
    child: Child,
    /// After the processes that write into it.
    _folder: TempDir,
}

impl ReplicaSet {
    /// None where the program is not there, or finds nothing to start.
    fn start(program: &str) -> Option<Self> {
        let port = || Some(TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.to_string());
        let members = [port()?, port()?, port()?].join(",");
        let folder = tempfile::tempdir().ok()?;
        let mut command = Command::new(program);
        command.args(["--members", &members, "--control", &port()?, "--folder"]);
        command.arg(folder.path()).stdout(Stdio::piped());
        let mut child = command.spawn().ok()?;
        let mut uri = String::new();
        BufReader::new(child.stdout.take()?).read_line(&mut uri).ok()?;
        let uri = uri.trim().to_owned();
        (!uri.is_empty()).then_some(Self { uri, child, _folder: folder })
    }
}

impl Drop for ReplicaSet {
    /// Killed, it would leave its servers behind.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

async fn measure(name: &str, store: SharedStore, large: u64) {
    println!("{name}");
    let spread = |batch: u64| {
        let first = batch * BATCH / 1_000 + 1;
        (0..BATCH).map(|n| record(&format!("spread:{n}"), first)).collect()
    };
    ingest(&store, "into 1,000 channels", (SPREAD, SPREADING), spread).await;
    let one = |batch: u64| (1..=BATCH).map(|n| record("large", batch * BATCH + n)).collect();
    let large = ingest(&store, "into one channel", (large / BATCH, FILLING), one).await;
    store.append((1..=SMALL).map(|n| record("small", n)).collect()).await.expect("stored");
    for (what, anchor) in [("an offset", at_offset as fn(u64) -> Anchor), ("a time", at_time)] {
        let (small, large) = pages(&store, large, anchor).await;
        let ratio = large.1.as_secs_f64() / small.1.as_secs_f64();
        println!(
            "  page of {PAGE} before {what}: p50 {:?} and {:?}, p99 {:?} and {:?} ({ratio:.2} x, of {} \
             pages each)",
            small.0, large.0, small.1, large.1, small.2
        );
    }
}

/// Stores batches until all are or the time is over; how many messages that were.
async fn ingest(
    store: &SharedStore,
    what: &str,
    (batches, limit): (u64, Duration),
    batch: impl Fn(u64) -> Vec<Record>,
) -> u64 {
    let clock = Clock::real();
    let (mut took, mut used) = (Duration::ZERO, Duration::ZERO);
    let mut stored = 0;
    for number in 0..batches {
        if took > limit {
            break;
        }
        let records = batch(number);
        let (began, cpu) = (clock.now(), cpu_time());
        store.append(records).await.expect("stored");
        took += clock.now().saturating_duration_since(began);
        used += cpu_time().saturating_sub(cpu);
        stored += BATCH;
    }
    println!(
        "  {what}: {stored} messages, {:.0} a second, {:.0} a CPU second of this process",
        stored as f64 / took.as_secs_f64(),
        stored as f64 / used.as_secs_f64()
    );
    stored
}

/// The median and the 99th percentile, and of how many, of pages anywhere in the small and in the large channel, read in
/// turn, so that a busy moment of the machine is one of both.
async fn pages(
    store: &SharedStore,
    large: u64,
    anchor: fn(u64) -> Anchor,
) -> ((Duration, Duration, usize), (Duration, Duration, usize)) {
    let clock = Clock::real();
    let mut took = [Vec::new(), Vec::new()];
    let began = clock.now();
    for number in 0..PAGES {
        if clock.now().saturating_duration_since(began) > READING {
            break;
        }
        for ((channel, count), took) in
            [("small", SMALL), ("large", large)].into_iter().zip(&mut took)
        {
            // Steps of a large prime lead everywhere, and not twice to a page that is at hand.
            let at = PAGE as u64 + 1 + number * 7_368_787 % (count - PAGE as u64);
            let before = Some(anchor(at));
            let query = PageQuery { after: None, before, order: Order::NewestFirst, limit: PAGE };
            let began = clock.now();
            let page = store.page(channel, &query).await.expect("a page");
            took.push(clock.now().saturating_duration_since(began));
            assert_eq!(page.messages.len(), PAGE);
        }
    }
    let [small, large] = took.map(|mut took| {
        took.sort_unstable();
        (took[took.len() / 2], took[took.len() * 99 / 100], took.len())
    });
    (small, large)
}

fn at_offset(offset: u64) -> Anchor {
    Anchor::Offset { epoch: None, offset }
}

fn at_time(offset: u64) -> Anchor {
    Anchor::Time(offset as i64)
}

fn record(channel: &str, offset: u64) -> Record {
    let data = vec![b'1'; PAYLOAD].into();
    let publication = Arc::new(Publication { offset, data, ..Publication::default() });
    let message =
        Message { id: MessageId::first_at(offset as i64), epoch: "epoch".into(), publication };
    Record { channel: channel.into(), message }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
