//! Consumers of the archive streams, with real servers: what was appended is in the archive, once.

mod cluster;
mod faults;
mod forgotten;
mod rate;
mod service;
mod sharing;
mod shown;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bobolink::archive::{EmbeddedSettings, EmbeddedStore, MessageId, SharedStore, Span};
use bobolink::config;
use bobolink::ingest::{Arrivals, Bounds, Ingest, Settings};
use bobolink::protocol::publication::Publication;
use bobolink::redis::{CallError, Command, Keys, Receive, Redis, Route, Value};
use bobolink::telemetry::metrics::Metrics;
use bobolink::time::Clock;
use bytes::Bytes;
use compact_str::CompactString;
use prost::Message;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{SOON, eventually};

/// The epoch of what is appended.
const EPOCH: &str = "epoch1";

/// Short, so that tests of it do not take long; longer than a busy machine makes a consumer pause.
const CLAIM_AFTER: Duration = Duration::from_secs(2);

/// Connections to Redis, and an archive.
struct Stage {
    redis: Arc<Redis>,
    arrivals: Arc<Arrivals>,
    store: SharedStore,
    clock: Clock,
    _folder: TempDir,
    _stop: DropGuard,
}

/// Hears what consumers are told.
struct Hearing {
    keys: Keys,
    arrivals: Arc<Arrivals>,
}

impl Receive for Hearing {
    fn message(&self, name: &str, message: &Bytes) {
        self.arrivals.take(&self.keys, name, message);
    }

    fn is_wanted(&self, _: &str) -> bool {
        true
    }

    fn wanted(&self, _: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
    }

    fn interrupted(&self, _: usize, _: bool, _: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _: usize) {}
}

impl Stage {
    /// With the Redis that `adapt` names.
    async fn reaching(adapt: impl FnOnce(&mut config::redis::Redis)) -> Self {
        let mut settings = config::redis::Redis::default();
        adapt(&mut settings);
        let (clock, arrivals) = (Clock::real(), Arc::<Arrivals>::default());
        let keys = Keys::new(&settings.prefix);
        let hearing: Arc<dyn Receive> = Arc::new(Hearing { keys, arrivals: Arc::clone(&arrivals) });
        let redis = Redis::new(&settings, &clock, &hearing).expect("settings");
        let stop = CancellationToken::new();
        redis.start(&stop);
        tokio::time::timeout(SOON, redis.reached()).await.expect("connected to Redis");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let store = EmbeddedStore::open(&EmbeddedSettings { path, cache: 1 << 20 }, "first".into());
        let store = Arc::new(store.expect("opens"));
        Self { redis, arrivals, store, clock, _folder: folder, _stop: stop.drop_guard() }
    }

    /// A consumer of the group.
    fn consumer(&self, name: &str) -> (Ingest, Arc<Metrics>) {
        self.consumer_after(CLAIM_AFTER, name)
    }

    /// One that takes over what others had in their hands for so long.
    fn consumer_after(&self, claim_after: Duration, name: &str) -> (Ingest, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let settings = Settings {
            name: name.into(),
            bounds: Bounds { count: 100, bytes: 1 << 20, waiting: 10_000 },
            claim_after,
            forget_after: CLAIM_AFTER,
            dead_letters: 10,
            sole: None,
        };
        let from = (&*self.redis, &self.arrivals);
        let ingest = Ingest::start(from, &self.store, settings, &self.clock, &metrics);
        (ingest, metrics)
    }

    /// Asks until there is a connection for it.
    async fn call(&self, channel: &str, make: impl Fn(&Route) -> Command) -> Value {
        let mut answer = Err(CallError::Unavailable);
        eventually("there is a connection", SOON, async || {
            answer = self.redis.shard(channel).call(channel, &make).await;
            answer != Err(CallError::Unavailable)
        })
        .await;
        answer.expect("an answer")
    }

    /// Appends as gateways do: in the order of offsets.
    async fn append(&self, channel: &str, offsets: RangeInclusive<u64>) {
        let route = self.redis.shard(channel).route(channel).expect("a way");
        let begin = |offset| {
            let command = entry(&route, channel, EPOCH, offset);
            route.attachment.link.begin(command).expect("sent")
        };
        for answer in offsets.map(begin).collect::<Vec<_>>() {
            answer.wait().await.expect("appended");
        }
    }

    /// How many entries wait in the stream of a channel.
    async fn waiting(&self, channel: &str) -> u64 {
        let length = |route: &Route| Command::new("XLEN").arg(route.keys().archive_stream(channel));
        // While a master is away nothing is known.
        let answer = self.redis.shard(channel).call(channel, length).await;
        answer.ok().and_then(|length| length.number()).unwrap_or(u64::MAX)
    }

    async fn until_empty(&self, channel: &str) {
        let what = format!("all of {channel} has left the archive stream");
        eventually(&what, 3 * SOON, async || self.waiting(channel).await == 0).await;
    }

    /// Ranges of offsets that are missing up to `through`.
    async fn holes(&self, channel: &str, through: u64) -> Vec<(u64, u64)> {
        let span = Span { epoch: EPOCH.into(), after: 0, through };
        self.store.holes(channel, &span, 100).await.expect("an answer")
    }

    /// The archive has these offsets of a channel, and nothing in it contradicts itself.
    async fn has_all(&self, channel: &str, through: u64) {
        assert!(self.holes(channel, through).await.is_empty(), "{channel}");
        let verdict = self.store.verify(channel).await.expect("a verdict");
        assert_eq!((verdict.messages, verdict.faults), (through, vec![]));
        let span = Span { epoch: EPOCH.into(), after: 0, through: through.min(100) };
        for message in self.store.range(channel, &span).await.expect("a range") {
            assert_eq!(message.publication.data, data(channel, message.offset()));
        }
    }
}

fn id_of(offset: u64) -> MessageId {
    MessageId::first_at(1_700_000_000_000 + offset as i64)
}

fn data(channel: &str, offset: u64) -> Bytes {
    format!("{{\"n\":{offset},\"in\":\"{channel}\"}}").into()
}

/// What a stream at hand has at an offset.
fn publication(channel: &str, offset: u64) -> Vec<u8> {
    let time = id_of(offset).time();
    Publication { data: data(channel, offset), time, ..Publication::default() }.encode_to_vec()
}

fn entry(route: &Route, channel: &str, epoch: &str, offset: u64) -> Command {
    let command = Command::new("XADD").arg(route.keys().archive_stream(channel)).arg("*");
    let command = command.arg("c").arg(channel).arg("e").arg(epoch);
    let command = command.arg("o").number(offset).arg("i").number(id_of(offset).number());
    let command = command.arg("d").arg(publication(channel, offset));
    // The others leave open what was appended below.
    if offset == 1 { command.arg("n").number(0) } else { command }
}
