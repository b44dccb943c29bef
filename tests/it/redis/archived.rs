//! Archived channels through Redis: the queue for the archive, and streams that go on where it ends.

mod acknowledged;
mod announced;
mod away;
mod cold;
mod erased;
mod gateway;
mod queue;
mod restored;

use std::sync::Arc;
use std::time::Duration;

use bobolink::archive::{EmbeddedSettings, EmbeddedStore, Message, MessageId, Record, SharedStore};
use bobolink::broker::{
    Archive, Archiving, Broker, BrokerError, HistoryOptions, Limits, Overflow, PublishOptions,
    Published, Range, Receiver, RedisBroker, Stored,
};
use bobolink::config;
use bobolink::hub::Hub;
use bobolink::node::Node;
use bobolink::protocol::publication::{Publication, StreamPosition};
use bobolink::redis::{CallError, Command, Keys, Receive, Redis, Route, Value};
use bobolink::telemetry::health::Health;
use bobolink::time::Clock;
use prost::Message as _;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::SOON;

const HOUR: Duration = Duration::from_secs(3_600);

/// A gateway's broker with an archive, and somebody who takes what waits there when told to.
struct Archiver {
    node: Arc<Node>,
    redis: Arc<Redis>,
    store: SharedStore,
    health: Arc<Health>,
    folder: TempDir,
    _stop: DropGuard,
}

impl Archiver {
    /// With at most `backlog` publications in the queue. Nothing is too old or too late, however busy the
    /// machine is.
    async fn reaching(backlog: usize, adapt: impl FnOnce(&mut config::redis::Redis)) -> Self {
        Self::with_ack_timeout(HOUR, backlog, adapt).await
    }

    /// The same, with so much time for the store.
    async fn with_ack_timeout(
        ack_timeout: Duration,
        backlog: usize,
        adapt: impl FnOnce(&mut config::redis::Redis),
    ) -> Self {
        let mut settings = config::redis::Redis::default();
        adapt(&mut settings);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        let file = EmbeddedSettings { path, cache: 1 << 20 };
        let store: SharedStore =
            Arc::new(EmbeddedStore::open(&file, "first".into()).expect("opens"));
        let (hub, clock) = (Arc::new(Hub::default()), Clock::real());
        let keys = Keys::new(&settings.prefix);
        let receiver = Receiver::new(Arc::clone(&hub), clock.clone(), keys, Duration::ZERO);
        let stored = Arc::<Stored>::default();
        let receiver: Arc<dyn Receive> = Arc::new(receiver.with_stored(Arc::clone(&stored)));
        let redis = Redis::new(&settings, &clock, &receiver).expect("settings");
        let limits = Limits {
            backlog,
            recovery_publications: 10_000,
            recovery_bytes: 1 << 20,
            recovery_age: HOUR,
            cache: 1 << 20,
            ack_timeout,
        };
        let archive = Archive::new(Arc::clone(&store), clock.clone(), limits, Arc::default());
        let health = Arc::<Health>::default();
        let broker = RedisBroker::new(Arc::clone(&redis), clock).with_archive(archive, stored);
        let broker = broker.with_health(Arc::clone(&health));
        let (broker, stop) = (Arc::new(broker), CancellationToken::new());
        broker.start(&hub, Duration::ZERO, &stop);
        redis.start(&stop);
        tokio::time::timeout(SOON, redis.reached()).await.expect("connected to Redis");
        let node = gateway::node(hub, Broker::Redis(broker), &stop);
        Self { node, redis, store, health, folder, _stop: stop.drop_guard() }
    }

    async fn publish(&self, channel: &str, options: &PublishOptions) -> Published {
        self.try_publish(channel, options).await.expect("published")
    }

    async fn try_publish(
        &self,
        channel: &str,
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        let publication = Publication { data: "1".into(), ..Publication::default() };
        self.node.broker.publish(channel, publication, options).await
    }

    /// Top offset and epoch of an archived stream.
    async fn top(&self, channel: &str, options: &PublishOptions) -> (u64, String) {
        let range = Range { limit: Some(0), ..Range::default() };
        let history = options.history.expect("history");
        let read =
            self.node.broker.archived_history(channel, &range, &history).await.expect("a top");
        (read.top.offset, read.top.epoch.to_string())
    }

    /// Offsets that a stream at hand has behind a position.
    async fn since(
        &self,
        channel: &str,
        offset: u64,
        epoch: &str,
        options: &PublishOptions,
    ) -> Result<Vec<u64>, BrokerError> {
        let since = Some(StreamPosition { offset, epoch: epoch.into() });
        let range = Range { since, ..Range::default() };
        let history = options.history.expect("history");
        let read = self.node.broker.archived_history(channel, &range, &history).await?;
        Ok(read.publications.iter().map(|publication| publication.offset).collect())
    }

    async fn call(
        &self,
        channel: &str,
        make: impl Fn(&Route) -> Command,
    ) -> Result<Value, CallError> {
        self.redis.shard(channel).call(channel, make).await
    }

    /// What waits in the queue of a channel, with the id of each entry.
    async fn queued(&self, channel: &str) -> Vec<(String, Record)> {
        let read = |route: &Route| {
            Command::new("XRANGE").arg(route.keys().archive_stream(channel)).args(["-", "+"])
        };
        let answer = self.call(channel, read).await.expect("an answer");
        answer.list().expect("entries").iter().map(record).collect()
    }

    /// Stores what waits in the queue of a channel, takes it out and says so. Returns how many it was.
    async fn ingest(&self, channel: &str) -> usize {
        let queued = self.queued(channel).await;
        let (ids, records): (Vec<_>, Vec<_>) = queued.into_iter().unzip();
        self.store.append(records).await.expect("stored");
        if ids.is_empty() {
            return 0;
        }
        let remove = |route: &Route| {
            Command::new("XDEL").arg(route.keys().archive_stream(channel)).args(&ids)
        };
        self.call(channel, remove).await.expect("removed");
        let say = |route: &Route| {
            let keys = route.keys();
            let text = format!("{} {}", keys.archive_stream(channel), ids.join(" "));
            Command::new("PUBLISH").arg(keys.archive_stored()).arg(text)
        };
        self.call(channel, say).await.expect("said");
        ids.len()
    }
}

fn record(entry: &Value) -> (String, Record) {
    let Some([id, fields]) = entry.list() else { panic!("{entry:?} is no entry") };
    let fields = fields.list().expect("fields");
    let value = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        let pair = pairs.find(|pair| pair[0].str() == Some(name)).expect("a field");
        pair[1].text().expect("text").clone()
    };
    let text = |name: &str| String::from_utf8(value(name).to_vec()).expect("text");
    let id_of_message: MessageId = text("i").parse().expect("an id");
    let mut publication = Publication::decode(value("d")).expect("a publication");
    publication.offset = text("o").parse().expect("an offset");
    let (epoch, publication) = (text("e").into(), Arc::new(publication));
    let message = Message { id: id_of_message, epoch, publication };
    (id.str().expect("an id").to_owned(), Record { channel: text("c").into(), message })
}

/// Publishes into archived streams that keep ten at hand.
fn archived(overflow: Overflow) -> PublishOptions {
    let history = HistoryOptions {
        size: 10,
        ttl: Duration::from_secs(600),
        meta_ttl: Duration::from_secs(600),
    };
    let archive = Archiving { overflow, until_stored: false };
    PublishOptions { history: Some(history), archive: Some(archive), ..PublishOptions::default() }
}
