//! What every broker and every presence does alike: one suite, run against each of them.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bobolink::broker::{
    Broker, BrokerError, HistoryOptions, KeyOwner, MemoryBroker, PublishOptions, Published, Range,
    Receiver, RedisBroker, Suppressed,
};
use bobolink::channel::Channel;
use bobolink::config;
use bobolink::config::redis::Addresses;
use bobolink::hub::{Connection, Delivery, Hub, Outbox, Position, Signal, Start, Wanted};
use bobolink::presence::{MemoryPresence, Presence, PresenceCounts, RedisPresence};
use bobolink::protocol::frame::Codec;
use bobolink::protocol::publication::{ClientInfo, Publication, StreamPosition};
use bobolink::redis::{Keys, Receive, Redis};
use bobolink::time::Clock;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::masters::TestCluster;
use super::process::RedisServer;
use crate::support::{SOON, eventually};

const META_TTL: Duration = Duration::from_secs(600);

/// A broker and a presence with a hub, and what they need to live.
pub struct Backend {
    pub broker: Broker,
    pub presence: Presence,
    hub: Arc<Hub>,
    _server: Option<RedisServer>,
    _cluster: Option<Arc<TestCluster>>,
    _stop: Option<DropGuard>,
}

impl Backend {
    pub async fn memory() -> Self {
        let hub = Arc::new(Hub::default());
        Self {
            broker: Broker::Memory(MemoryBroker::new(Arc::clone(&hub), Clock::real())),
            presence: Presence::Memory(MemoryPresence::default()),
            hub,
            _server: None,
            _cluster: None,
            _stop: None,
        }
    }

    pub async fn redis() -> Self {
        Self::on(RedisServer::start(), |_| {}).await
    }

    /// The same with users counted by Redis.
    pub async fn redis_counting() -> Self {
        Self::on(RedisServer::start(), |redis| redis.presence_user_mapping = true).await
    }

    /// The same without RESP3.
    pub async fn redis_resp2() -> Self {
        Self::on(RedisServer::start(), |redis| redis.force_resp2 = true).await
    }

    /// Over a socket of the machine.
    pub async fn redis_unix() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("redis.sock").display().to_string();
        let server = RedisServer::start_with(&["--unixsocket", &socket]);
        let backend = Self::on(server, |redis| {
            redis.address = Addresses(vec![format!("unix://{socket}")]);
        });
        backend.await
    }

    /// On a cluster that the scenarios share, each with a prefix of its own.
    pub async fn redis_cluster() -> Self {
        Self::on_shared_cluster(|_| {}).await
    }

    /// The same without RESP3.
    pub async fn redis_cluster_resp2() -> Self {
        Self::on_shared_cluster(|redis| redis.force_resp2 = true).await
    }

    async fn on_shared_cluster(adapt: impl FnOnce(&mut config::redis::Redis)) -> Self {
        let cluster = TestCluster::shared().await;
        let addresses = Addresses(vec![cluster.addresses()]);
        let backend = Self::reaching(|redis| {
            redis.cluster_address = addresses;
            redis.prefix = Uuid::new_v4().to_string();
            adapt(redis);
        });
        Self { _cluster: Some(cluster), ..backend.await }
    }

    /// With a Redis of its own.
    async fn on(server: RedisServer, adapt: impl FnOnce(&mut config::redis::Redis)) -> Self {
        let address = Addresses(vec![format!("redis://{}", server.address())]);
        let backend = Self::reaching(|redis| {
            redis.address = address;
            adapt(redis);
        });
        Self { _server: Some(server), ..backend.await }
    }

    /// With a Redis that somebody else has started.
    pub async fn reaching(adapt: impl FnOnce(&mut config::redis::Redis)) -> Self {
        let mut settings = config::redis::Redis::default();
        adapt(&mut settings);
        let (hub, clock) = (Arc::new(Hub::default()), Clock::real());
        let (keys, spread) = (Keys::new(&settings.prefix), Duration::ZERO);
        let receiver: Arc<dyn Receive> =
            Arc::new(Receiver::new(Arc::clone(&hub), clock.clone(), keys, spread));
        let redis = Redis::new(&settings, &clock, &receiver).expect("settings");
        let stop = CancellationToken::new();
        let renew_every = Duration::from_secs(2);
        let presence =
            RedisPresence::new(Arc::clone(&redis), clock.clone(), &settings, renew_every);
        let broker = Arc::new(RedisBroker::new(Arc::clone(&redis), clock));
        presence.start(&stop);
        broker.start(&hub, spread, &stop);
        redis.start(&stop);
        tokio::time::timeout(SOON, redis.reached()).await.expect("connected to Redis");
        Self {
            broker: Broker::Redis(broker),
            presence: Presence::Redis(presence),
            hub,
            _server: None,
            _cluster: None,
            _stop: Some(stop.drop_guard()),
        }
    }

    pub async fn publish(&self, channel: &str, data: &str, options: &PublishOptions) -> Published {
        self.try_publish(channel, data, options).await.expect("published")
    }

    pub async fn try_publish(
        &self,
        channel: &str,
        data: &str,
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        let data = json!(data).to_string().into();
        let publication = Publication { data, ..Publication::default() };
        self.broker.publish(channel, publication, options).await
    }

    /// Offsets and data of what is read.
    pub async fn history(&self, channel: &str, range: Range) -> Vec<(u64, String)> {
        let history = self.broker.history(channel, &range, META_TTL).await.expect("history");
        let text = |data: &[u8]| serde_json::from_slice::<String>(data).expect("text");
        history.publications.iter().map(|p| (p.offset, text(&p.data))).collect()
    }

    pub async fn top(&self, channel: &str) -> (u64, String) {
        let range = Range { limit: Some(0), ..Range::default() };
        let top = self.broker.history(channel, &range, META_TTL).await.expect("the top").top;
        (top.offset, top.epoch.to_string())
    }

    /// Subscribes in hub and broker, without a position.
    pub async fn subscriber(&self, channel: &str) -> Subscriber {
        self.subscriber_with(channel, Delivery { join_leave: true, ..Delivery::default() }).await
    }

    pub async fn subscriber_with(&self, channel: &str, delivery: Delivery) -> Subscriber {
        self.broker.subscribe(channel).await.expect("subscribed");
        self.unheard_subscriber(channel, delivery).await
    }

    /// Subscribes in the hub alone.
    pub async fn unheard_subscriber(&self, channel: &str, delivery: Delivery) -> Subscriber {
        let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(1 << 20));
        let channel = Channel::from(channel);
        let reserved = self.hub.subscribe(&channel, &connection, delivery);
        let (offset, epoch) = self.top(&channel).await;
        let position = Position { offset, epoch: epoch.as_str().into() };
        // A position that nothing has confirmed yet would be in doubt from the start.
        let now_ms = Clock::real().unix_millis();
        self.hub.go_live(&reserved, Start { position, holds_base: false }, None, now_ms);
        Subscriber { connection }
    }
}

/// Somebody in the hub, with what was queued for it.
pub struct Subscriber {
    connection: Arc<Connection>,
}

impl Subscriber {
    /// The pushes so far, as soon as there are `count`; panics if there are more, or not so many.
    pub async fn pushes(&self, count: usize) -> Vec<Value> {
        let mut seen = Vec::new();
        eventually("the pushes arrive", SOON, async || {
            seen.extend(self.pushes_now());
            seen.len() >= count
        })
        .await;
        assert_eq!(seen.len(), count, "{seen:?}");
        seen
    }

    /// Those that are there.
    pub fn pushes_now(&self) -> Vec<Value> {
        let mut cx = Context::from_waker(Waker::noop());
        let wanted = Wanted { messages: true, signals: false };
        let Poll::Ready(drained) = self.connection.outbox.poll_drain(&mut cx, wanted) else {
            return Vec::new();
        };
        let parsed = drained.messages.iter().map(|message| {
            serde_json::from_slice::<Value>(message.payload()).expect("a push")["push"].take()
        });
        parsed.collect()
    }

    /// Whether it was told that its position is void; asked once.
    pub fn has_lost_its_position(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let wanted = Wanted { messages: false, signals: true };
        match self.connection.outbox.poll_drain(&mut cx, wanted) {
            Poll::Ready(drained) => {
                drained.signals.iter().any(|signal| matches!(signal, Signal::PositionLost { .. }))
            }
            Poll::Pending => false,
        }
    }

    /// The data of the publications among them.
    pub async fn publications(&self, count: usize) -> Vec<String> {
        self.pushes(count).await.iter().map(data_of).collect()
    }
}

/// The data of a push of a publication.
pub fn data_of(push: &Value) -> String {
    push["pub"]["data"].as_str().expect("a publication").to_owned()
}

/// Appending to a stream of `size`.
pub fn keeping(size: usize) -> PublishOptions {
    let ttl = Duration::from_secs(300);
    let history = Some(HistoryOptions { size, ttl, meta_ttl: META_TTL });
    PublishOptions { history, ..PublishOptions::default() }
}

fn since(offset: u64, epoch: &str) -> Option<StreamPosition> {
    Some(StreamPosition { offset, epoch: epoch.into() })
}

fn offsets(read: &[(u64, String)]) -> Vec<u64> {
    read.iter().map(|(offset, _)| *offset).collect()
}

fn info(client: &str, user: &str) -> ClientInfo {
    let conn_info = "{\"name\":1}".into();
    ClientInfo { client: client.into(), user: user.into(), conn_info, ..ClientInfo::default() }
}

async fn a_publication_reaches_subscribers_in_order_and_only_its_channel(backend: Backend) {
    let (here, elsewhere) = (backend.subscriber("a").await, backend.subscriber("b").await);
    for number in 0..50 {
        let options = if number % 2 == 0 { keeping(3) } else { PublishOptions::default() };
        backend.publish("a", &number.to_string(), &options).await;
    }
    backend.publish("b", "other", &keeping(3)).await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(here.publications(50).await, expected);
    assert_eq!(elsewhere.publications(1).await, ["other"]);
}

async fn a_stream_counts_from_one_and_keeps_the_last(backend: Backend) {
    let (before, epoch) = backend.top("a").await;
    assert_eq!(before, 0);
    for number in 1..=5 {
        let published = backend.publish("a", &number.to_string(), &keeping(3)).await;
        assert_eq!((published.offset, &*published.epoch), (number, epoch.as_str()));
    }
    let all = backend.history("a", Range::default()).await;
    assert_eq!(all, [(3, "3".to_owned()), (4, "4".to_owned()), (5, "5".to_owned())]);
    assert_eq!(backend.top("a").await, (5, epoch));
}

async fn a_range_is_read_in_both_directions(backend: Backend) {
    for number in 1..=5 {
        backend.publish("a", &number.to_string(), &keeping(4)).await;
    }
    let (_, epoch) = backend.top("a").await;
    for (range, expected) in [
        (Range { limit: Some(2), ..Range::default() }, vec![2, 3]),
        (Range { since: since(3, &epoch), ..Range::default() }, vec![4, 5]),
        (Range { since: since(0, ""), limit: Some(1), ..Range::default() }, vec![2]),
        (Range { since: since(5, &epoch), ..Range::default() }, vec![]),
        (Range { since: since(9, &epoch), ..Range::default() }, vec![]),
        (Range { reverse: true, ..Range::default() }, vec![5, 4, 3, 2]),
        (Range { reverse: true, limit: Some(1), ..Range::default() }, vec![5]),
        (Range { reverse: true, since: since(4, &epoch), ..Range::default() }, vec![3, 2]),
        (Range { reverse: true, since: since(1, &epoch), ..Range::default() }, vec![]),
        (Range { limit: Some(0), ..Range::default() }, vec![]),
    ] {
        assert_eq!(offsets(&backend.history("a", range.clone()).await), expected, "{range:?}");
    }
    let before_zero = Range { reverse: true, since: since(0, &epoch), ..Range::default() };
    let refused = backend.broker.history("a", &before_zero, META_TTL).await.unwrap_err();
    assert!(matches!(refused, BrokerError::BadRequest(_)), "{refused}");
}

async fn another_epoch_is_refused(backend: Backend) {
    backend.publish("a", "x", &keeping(3)).await;
    let range = Range { since: since(1, "other"), ..Range::default() };
    let refused = backend.broker.history("a", &range, META_TTL).await.unwrap_err();
    assert_eq!(refused, BrokerError::UnrecoverablePosition);
}

async fn removed_history_leaves_epoch_and_offset(backend: Backend) {
    let first = backend.publish("a", "1", &keeping(3)).await;
    backend.broker.remove_history("a").await.expect("removed");
    assert!(backend.history("a", Range::default()).await.is_empty());
    let second = backend.publish("a", "2", &keeping(3)).await;
    assert_eq!((second.offset, second.epoch), (2, first.epoch));
    assert_eq!(backend.history("a", Range::default()).await, [(2, "2".to_owned())]);
}

async fn idempotency_keys_of_users_and_of_the_api_never_meet(backend: Backend) {
    let subscriber = backend.subscriber("a").await;
    let ttl = Duration::from_secs(60);
    let user = |id: &str| KeyOwner::User { id: id.into(), ttl };
    for options in [keeping(30), PublishOptions::default()] {
        let idempotency_key = format!("key-{}", options.history.is_some());
        for idempotency_owner in [KeyOwner::Api, user("ada"), user("bob"), user("ada.a")] {
            let data = format!("{idempotency_owner:?}");
            let idempotency_key = idempotency_key.clone();
            let options = PublishOptions { idempotency_key, idempotency_owner, ..options.clone() };
            let first = backend.publish("a", &data, &options).await;
            let again = backend.publish("a", "never", &options).await;
            assert_eq!(first.suppressed, None, "{data}");
            assert_eq!(again.suppressed, Some(Suppressed::Idempotency), "{data}");
            assert_eq!((again.offset, &again.epoch), (first.offset, &first.epoch));
        }
    }
    assert!(!subscriber.publications(8).await.contains(&"never".to_owned()));
}

async fn a_users_key_is_forgotten_after_its_time(backend: Backend) {
    let owner = |seconds| KeyOwner::User { id: "ada".into(), ttl: Duration::from_secs(seconds) };
    let with = |seconds| PublishOptions {
        idempotency_key: format!("for {seconds} s"),
        idempotency_owner: owner(seconds),
        ..keeping(1_000)
    };
    backend.publish("b", "long", &with(600)).await;
    backend.publish("a", "short", &with(1)).await;
    eventually("the short one is forgotten", SOON, async || {
        backend.publish("a", "again", &with(1)).await.suppressed.is_none()
    })
    .await;
    let long = backend.publish("b", "again", &with(600)).await;
    assert_eq!(long.suppressed, Some(Suppressed::Idempotency));
}

async fn a_repeated_idempotency_key_publishes_nothing(backend: Backend) {
    let subscriber = backend.subscriber("a").await;
    for options in [keeping(3), PublishOptions::default()] {
        let key = format!("key-{}", options.history.is_some());
        let options = PublishOptions { idempotency_key: key, ..options };
        let first = backend.publish("a", "once", &options).await;
        let again = backend.publish("a", "twice", &options).await;
        assert_eq!(first.suppressed, None);
        assert_eq!(again.suppressed, Some(Suppressed::Idempotency));
        assert_eq!((again.offset, &again.epoch), (first.offset, &first.epoch));
        let elsewhere = backend.publish("b", "other channel", &options).await;
        assert_eq!(elsewhere.suppressed, None);
    }
    backend.publish("a", "end", &PublishOptions::default()).await;
    assert_eq!(subscriber.publications(3).await, ["once", "once", "end"]);
}

async fn a_stale_version_is_dropped_within_its_epoch(backend: Backend) {
    let versioned = |version, epoch: &str| PublishOptions {
        version,
        version_epoch: epoch.into(),
        ..keeping(9)
    };
    for (version, epoch, offset, suppressed) in [
        (2, "a", 1, false),
        (2, "a", 1, true),
        (1, "", 1, true),
        (10, "a", 2, false),
        (9, "a", 2, true),
        (1, "b", 3, false),
    ] {
        let published = backend.publish("a", "x", &versioned(version, epoch)).await;
        let expected = suppressed.then_some(Suppressed::Version);
        let seen = (published.offset, published.suppressed);
        assert_eq!(seen, (offset, expected), "{version} {epoch}");
    }
}

async fn patches_go_to_those_who_hold_the_base(backend: Backend) {
    let delivery = Delivery { positioned: true, delta: true, ..Delivery::default() };
    let subscriber = backend.subscriber_with("a", delivery).await;
    let options = PublishOptions { delta: true, ..keeping(3) };
    let long = "a line of text that comes again and again, ".repeat(8);
    for number in 1..=3 {
        backend.publish("a", &format!("{long}{number}"), &options).await;
    }
    let pushes = subscriber.pushes(3).await;
    let is_patch = |push: &Value| push["pub"]["delta"].as_bool().unwrap_or(false);
    assert_eq!(pushes.iter().map(is_patch).collect::<Vec<_>>(), [false, true, true]);
}

async fn tags_and_info_travel_along(backend: Backend) {
    let subscriber = backend.subscriber("a").await;
    let publication = Publication {
        data: "1".into(),
        tags: [("k".to_owned(), "v".to_owned())].into(),
        info: Some(info("c", "u")),
        ..Publication::default()
    };
    backend.broker.publish("a", publication.clone(), &keeping(3)).await.expect("published");
    let push = subscriber.pushes(1).await.remove(0);
    assert_eq!(push["pub"]["tags"], json!({ "k": "v" }));
    assert_eq!(push["pub"]["info"]["user"], "u");
    let history = backend.broker.history("a", &Range::default(), META_TTL).await.expect("history");
    let kept = &history.publications[0];
    assert_eq!((&kept.tags, &kept.info), (&publication.tags, &publication.info));
    assert!(kept.time > 0);
}

async fn joins_come_before_leaves(backend: Backend) {
    let subscriber = backend.subscriber("a").await;
    backend.broker.publish_join("a", &info("c", "u")).await.expect("told");
    backend.broker.publish_leave("a", &info("c", "u")).await.expect("told");
    let pushes = subscriber.pushes(2).await;
    assert_eq!(pushes[0]["join"]["info"]["client"], "c");
    assert_eq!(pushes[1]["leave"]["info"]["client"], "c");
}

async fn presence_lists_and_counts_clients(backend: Backend) {
    let presence = &backend.presence;
    assert!(presence.get("a").await.expect("presence").is_empty());
    for (client, user) in [("1", "ann"), ("2", "ann"), ("3", "bob"), ("1", "ann")] {
        presence.add("a", info(client, user)).await.expect("added");
    }
    presence.add("b", info("1", "ann")).await.expect("added");
    let clients = presence.get("a").await.expect("presence");
    assert_eq!(clients.len(), 3);
    assert_eq!(clients["2"], info("2", "ann"));
    let counts = presence.counts("a").await.expect("counts");
    assert_eq!(counts, PresenceCounts { clients: 3, users: 2 });

    let renamed = ClientInfo { chan_info: "2".into(), ..info("2", "ann") };
    presence.add("a", renamed.clone()).await.expect("changed");
    assert_eq!(presence.get("a").await.expect("presence")["2"], renamed);

    for client in ["1", "3", "unknown"] {
        presence.remove("a", client).await.expect("removed");
    }
    let counts = presence.counts("a").await.expect("counts");
    assert_eq!(counts, PresenceCounts { clients: 1, users: 1 });
    presence.remove("a", "2").await.expect("removed");
    let counts = presence.counts("a").await.expect("counts");
    assert_eq!(counts, PresenceCounts::default());
    assert_eq!(presence.counts("b").await.expect("counts").clients, 1);
}

macro_rules! contract {
    ($($scenario:ident),* $(,)?) => {
        contract!(@backend memory $($scenario)*);
        contract!(@backend redis $($scenario)*);
        contract!(@backend redis_counting $($scenario)*);
        contract!(@backend redis_resp2 $($scenario)*);
        contract!(@backend redis_unix $($scenario)*);
        contract!(@backend redis_cluster $($scenario)*);
        contract!(@backend redis_cluster_resp2 $($scenario)*);
    };
    (@backend $backend:ident $($scenario:ident)*) => {
        mod $backend {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $scenario() {
                    super::$scenario(super::Backend::$backend().await).await;
                }
            )*
        }
    };
}

contract!(
    a_publication_reaches_subscribers_in_order_and_only_its_channel,
    a_stream_counts_from_one_and_keeps_the_last,
    a_range_is_read_in_both_directions,
    another_epoch_is_refused,
    removed_history_leaves_epoch_and_offset,
    a_repeated_idempotency_key_publishes_nothing,
    idempotency_keys_of_users_and_of_the_api_never_meet,
    a_users_key_is_forgotten_after_its_time,
    a_stale_version_is_dropped_within_its_epoch,
    patches_go_to_those_who_hold_the_base,
    tags_and_info_travel_along,
    joins_come_before_leaves,
    presence_lists_and_counts_clients,
);
