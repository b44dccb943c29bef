//! Every metric of the process, declared once: the doc comment of a field is its help text.
//!
//! Names and labels are those of Centrifugo behind a prefix of our own, so that dashboards carry
//! over. Of its deprecated summaries only the `_histogram` twins exist here, and labels that are
//! always empty there (`channel_namespace`, `accept_protocol`) are left out, which Prometheus
//! treats as the same thing.

use std::sync::OnceLock;

use bytes::Bytes;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, Histogram, IntCounter, IntGauge, Registry, TextEncoder};

mod family;
mod interval;
pub mod labels;

pub use family::{BuildInfo, Counters, Family, Gauges, Histograms, HttpRequests};
pub use interval::Intervals;

use family::{Declarations, Spec, metric_group};
use labels::{
    Action, ApiFailure, ApiMethod, ApiProtocol, CallOutcome, ClientMethod, ClientName,
    ClientVersion, DisconnectCode, FrameType, HasPublications, MessageType, PubSubError, Recovered,
    RedisConnection, RedisShard, ReplyCode, SuppressReason, SurveyOp, Transport, UnsubscribeCode,
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds; from a fan-out to a handful of subscribers up to a stall worth an alarm.
const BROADCAST_SECONDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];
/// Seconds; commands that stay in this process take microseconds, proxied ones up to seconds.
const COMMAND_SECONDS: &[f64] =
    &[0.000_1, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Seconds; the span that Centrifugo measures round trips of pings in.
const PING_PONG_SECONDS: &[f64] =
    &[0.000_1, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds; the span that Centrifugo measures surveys in, up to their timeout.
const SURVEY_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Seconds; the default buckets of Prometheus clients.
const API_SECONDS: &[f64] = prometheus::DEFAULT_BUCKETS;
/// Seconds; from a call on the machine's own Redis to `engine.redis.io_timeout` and a second.
const REDIS_SECONDS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
/// Publications; 300 is the default cap of one recovery.
const RECOVERED_PUBLICATIONS: &[f64] =
    &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1000.0];

/// Messages; 1,000 is the default of `history.ingest.batch_size`.
const BATCH_MESSAGES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// All metrics of one process, in groups by the part that counts.
pub struct Metrics {
    pub node: NodeMetrics,
    pub client: ClientMetrics,
    pub transport: TransportMetrics,
    pub broker: BrokerMetrics,
    pub redis: RedisMetrics,
    pub api: ApiMetrics,
    pub history: HistoryMetrics,
    registry: Registry,
    prefix: String,
    names: Vec<String>,
    counts: OnceLock<Box<dyn Fn() -> NodeCounts + Send + Sync>>,
}

/// What a node holds at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCounts {
    /// Client connections of this node.
    pub clients: usize,
    /// Different users among them.
    pub users: usize,
    /// Subscriptions of this node.
    pub subscriptions: usize,
    /// Channels with a subscriber on this node.
    pub channels: usize,
    /// Nodes known to be running, this one included.
    pub nodes: usize,
}

/// A prefix that cannot begin a metric name.
#[derive(Debug, thiserror::Error)]
#[error(
    "prometheus prefix {prefix:?} cannot begin a metric name: allowed are ASCII letters, digits \
     and `_`, the first of them no digit ({source})"
)]
pub struct MetricsError {
    prefix: String,
    source: prometheus::Error,
}

metric_group! {
    /// The node: who is here and what it does for them.
    NodeMetrics in "node" {
        /// Client connections of this node.
        num_clients: IntGauge = "num_clients";
        /// Different users connected to this node.
        num_users: IntGauge = "num_users";
        /// Subscriptions of this node.
        num_subscriptions: IntGauge = "num_subscriptions";
        /// Channels with at least one subscriber on this node.
        num_channels: IntGauge = "num_channels";
        /// Running nodes known to this node, itself included.
        num_nodes: IntGauge = "num_nodes";
        /// Always 1; the label carries the version of the build.
        build: BuildInfo = "build";
        /// Actions of the node by kind.
        actions: Counters<Action> = "action_count" ["action"];
        /// Messages sent to the broker by type.
        messages_sent: Counters<MessageType> = "messages_sent_count" ["type"];
        /// Messages received from the broker by type.
        messages_received: Counters<MessageType> = "messages_received_count" ["type"];
        /// Seconds spent on handing one message to all subscribers of this node.
        broadcast_duration: Histograms<MessageType> = "broadcast_duration_seconds" ["type"]
            within BROADCAST_SECONDS;
        /// Publications that a subscriber's tags filter held back.
        tags_filter_dropped: IntCounter = "tags_filter_dropped_publications";
        /// Connections refused because of the connection limit or the connection rate limit.
        connection_limit: IntCounter = "client_connection_limit";
        /// Seconds until all nodes had answered a question.
        survey_duration: Histograms<SurveyOp> = "survey_duration_seconds_histogram" ["op"]
            within SURVEY_SECONDS;
        /// Control messages of other nodes that were dropped because too many waited.
        control_dropped: IntCounter = "control_dropped_count";
        /// HTTP requests answered, by the pattern of the route, method and status.
        http_requests: HttpRequests = "incoming_http_requests_total" ["path", "method", "status"];
    }
}

metric_group! {
    /// The protocol life of connections.
    ClientMetrics in "client" {
        /// Connections whose connect command was accepted.
        connections_accepted: Counters<(Transport, ClientName, ClientVersion)> =
            "connections_accepted" ["transport", "client_name", "client_version"];
        /// Connections past their connect command and still open.
        connections_inflight: Gauges<(Transport, ClientName, ClientVersion)> =
            "connections_inflight" ["transport", "client_name", "client_version"];
        /// Subscriptions accepted.
        subscriptions_accepted: Counters<ClientName> = "subscriptions_accepted" ["client_name"];
        /// Subscriptions now held.
        subscriptions_inflight: Gauges<ClientName> = "subscriptions_inflight" ["client_name"];
        /// Seconds from a client's command to its reply.
        command_duration: Histograms<ClientMethod> = "command_duration_seconds_histogram"
            ["method"] within COMMAND_SECONDS;
        /// Error replies by command and code.
        reply_errors: Counters<(ClientMethod, ReplyCode)> = "num_reply_errors" ["method", "code"];
        /// Subscriptions that the server ended, by code.
        server_unsubscribes: Counters<UnsubscribeCode> = "num_server_unsubscribes" ["code"];
        /// Connections that the server ended, by code.
        server_disconnects: Counters<DisconnectCode> = "num_server_disconnects" ["code"];
        /// Recoveries by their outcome, and whether they brought publications.
        recover: Counters<(Recovered, HasPublications)> = "recover"
            ["recovered", "has_recovered_publications"];
        /// Publications brought by one recovery.
        recovered_publications: Histogram = "recovered_publications"
            within RECOVERED_PUBLICATIONS;
        /// Seconds between a ping of the server and the client's pong.
        ping_pong_duration: Histograms<Transport> = "ping_pong_duration_seconds" ["transport"]
            within PING_PONG_SECONDS;
    }
}

metric_group! {
    /// Protocol messages on the wire.
    TransportMetrics in "transport" {
        /// Protocol messages sent to clients.
        messages_sent: Counters<(Transport, FrameType)> = "messages_sent"
            ["transport", "frame_type"];
        /// Bytes of protocol messages sent to clients, before any compression.
        messages_sent_size: Counters<(Transport, FrameType)> = "messages_sent_size"
            ["transport", "frame_type"];
        /// Protocol messages received from clients.
        messages_received: Counters<(Transport, FrameType)> = "messages_received"
            ["transport", "frame_type"];
        /// Bytes of protocol messages received from clients.
        messages_received_size: Counters<(Transport, FrameType)> = "messages_received_size"
            ["transport", "frame_type"];
        /// Connections closed with a code of this server.
        outgoing_close: Counters<(Transport, DisconnectCode)> = "outgoing_close_count"
            ["transport", "code"];
    }
}

metric_group! {
    /// The broker's decisions about publications.
    BrokerMetrics in "broker" {
        /// Publications answered from what was published before, by the reason.
        publish_suppressed: Counters<SuppressReason> = "publish_suppressed_count" ["reason"];
        /// PUB/SUB connections to Redis that ended, by the reason.
        pub_sub_errors: Counters<PubSubError> = "redis_pub_sub_errors" ["error"];
    }
}

metric_group! {
    /// Redis, and what the node makes of its failures.
    RedisMetrics in "redis" {
        /// Connections that are up.
        connections: Gauges<(RedisShard, RedisConnection)> = "connections" ["shard", "kind"];
        /// Times that all connections to a shard were made anew.
        reconnects: Counters<RedisShard> = "reconnects" ["shard"];
        /// Times that a shard was found at another place than before.
        master_changes: Counters<RedisShard> = "master_changes" ["shard"];
        /// Calls by what became of them.
        calls: Counters<CallOutcome> = "calls" ["outcome"];
        /// Seconds from a call to its answer.
        call_duration: Histogram = "call_duration_seconds" within REDIS_SECONDS;
        /// Seconds from sending a canary to hearing it on one PUB/SUB connection.
        canary_round_trip: Histograms<RedisShard> = "canary_round_trip_seconds" ["shard"]
            within REDIS_SECONDS;
        /// Unix time of the last canary that all PUB/SUB connections have heard.
        last_canary: Gauges<RedisShard> = "last_canary_timestamp_seconds" ["shard"];
        /// Channels that were subscribed to again because Redis or the node had lost track of them.
        resubscribed: Counters<RedisShard> = "resubscribed_channels" ["shard"];
        /// Streams seen to change their epoch because their master is not the one of before.
        fence_epoch_changes: IntCounter = "fence_epoch_changes";
        /// Positions of subscribers that were void after a failover.
        voided_positions: IntCounter = "voided_positions";
    }
}

metric_group! {
    /// The server API.
    ApiMetrics in "api" {
        /// Seconds from a server API request to its answer.
        command_duration: Histograms<(ApiProtocol, ApiMethod)> =
            "command_duration_seconds_histogram" ["protocol", "method"] within API_SECONDS;
        /// Server API requests that failed, by error code or by the step that failed.
        command_errors: Counters<(ApiProtocol, ApiMethod, ApiFailure)> = "command_errors_total"
            ["protocol", "method", "error"];
    }
}

metric_group! {
    /// The archive.
    HistoryMetrics in "history" {
        /// Messages stored.
        stored: IntCounter = "stored_messages";
        /// Messages that were stored before.
        duplicates: IntCounter = "duplicate_messages";
        /// Messages dropped because they were older than their namespace keeps them.
        expired: IntCounter = "expired_messages";
        /// Times that a channel's expired messages could not be dropped, because something of it is damaged.
        expiry_failures: IntCounter = "expiry_failures";
        /// Publishes refused because the archive could not take them.
        refused: IntCounter = "refused_publications";
        /// Publications delivered that the archive lacks, by the wish of their namespace.
        dropped: IntCounter = "dropped_publications";
        /// Messages stored after they were delivered, since the archive could not take them at first.
        late: IntCounter = "late_messages";
        /// Publications that wait to be stored.
        backlog: IntGauge = "backlog_publications";
        /// Seconds from handing a batch to the store until it was stored.
        commit_duration: Histogram = "commit_duration_seconds" within COMMAND_SECONDS;
        /// Entries of archive streams that wait to be stored.
        queue: Gauges<RedisShard> = "queue_entries" ["shard"];
        /// Seconds for which the oldest of them has waited.
        lag: Gauges<RedisShard> = "queue_lag_seconds" ["shard"];
        /// Messages stored at once by a consumer of archive streams.
        batch_messages: Histogram = "batch_messages" within BATCH_MESSAGES;
        /// Messages that were missing in an archive stream and were taken from the stream at hand.
        filled: IntCounter = "filled_messages";
        /// Offsets of archived channels that nobody has any more.
        holes: IntCounter = "missing_offsets";
        /// Entries taken over from consumers that were silent for too long.
        claimed: IntCounter = "claimed_entries";
        /// Entries of archive streams that can never be stored.
        dead_letters: IntCounter = "dead_letters";
        /// Times that the store did not do what a consumer asked.
        store_failures: IntCounter = "store_failures";
        /// Blocks of messages read from the store for recoveries.
        block_reads: IntCounter = "block_reads";
        /// Recoveries that the archive served.
        recoveries: IntCounter = "recoveries";
        /// Recoveries from the archive that ended before they reached the present.
        broken_recoveries: IntCounter = "broken_recoveries";
        /// Clients that recover from the archive now.
        recovering: IntGauge = "recovering_subscriptions";
    }
}

impl Metrics {
    /// All metrics at zero, their names beginning with `prefix` and `_`.
    ///
    /// # Errors
    /// A prefix with characters that metric names do not allow.
    pub fn new(prefix: &str) -> Result<Self, MetricsError> {
        Self::declare(prefix).map_err(|source| MetricsError { prefix: prefix.to_owned(), source })
    }

    /// Sets where the `node_num_*` gauges come from; asked at each [`Metrics::render`]. The first
    /// call counts. A source that holds its node must hold it weakly if the node holds the metrics.
    pub fn count_node_by(&self, source: impl Fn() -> NodeCounts + Send + Sync + 'static) {
        let _ = self.counts.set(Box::new(source));
    }

    /// The exposition in the Prometheus text format.
    pub fn render(&self) -> Bytes {
        let mut text = Vec::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode(&self.gather(), &mut text) {
            tracing::error!(%error, "cannot render metrics");
        }
        Bytes::from(text)
    }

    /// The full name of every metric, whether or not it has been used.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn gather(&self) -> Vec<MetricFamily> {
        if let Some(source) = self.counts.get() {
            self.node.set_counts(source());
        }
        self.registry.gather()
    }

    fn declare(prefix: &str) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let mut to = Declarations { prefix, registry: &registry, names: Vec::new() };
        let node = NodeMetrics::declare(&mut to)?;
        let client = ClientMetrics::declare(&mut to)?;
        let transport = TransportMetrics::declare(&mut to)?;
        let broker = BrokerMetrics::declare(&mut to)?;
        let redis = RedisMetrics::declare(&mut to)?;
        let api = ApiMetrics::declare(&mut to)?;
        let history = HistoryMetrics::declare(&mut to)?;
        // The names of process metrics are the same for every program, so they carry no prefix.
        to.register(Box::new(ProcessCollector::for_self()))?;
        let (names, prefix, counts) = (to.names, prefix.to_owned(), OnceLock::new());
        Ok(Self {
            node,
            client,
            transport,
            broker,
            redis,
            api,
            history,
            registry,
            prefix,
            names,
            counts,
        })
    }
}

impl Default for Metrics {
    /// Metrics under the prefix `bobolink`.
    fn default() -> Self {
        // Cannot fail: every declared name is valid, as the tests of this file see.
        Self::new("bobolink").expect("declared names are valid")
    }
}

impl NodeMetrics {
    fn set_counts(&self, counts: NodeCounts) {
        let NodeCounts { clients, users, subscriptions, channels, nodes } = counts;
        for (gauge, count) in [
            (&self.num_clients, clients),
            (&self.num_users, users),
            (&self.num_subscriptions, subscriptions),
            (&self.num_channels, channels),
            (&self.num_nodes, nodes),
        ] {
            gauge.set(count as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::{Method, StatusCode};

    use super::*;

    fn text(metrics: &Metrics) -> String {
        String::from_utf8(metrics.render().to_vec()).expect("text")
    }

    #[test]
    fn node_gauges_are_read_at_each_scrape() {
        let metrics = Metrics::default();
        let asked = std::sync::atomic::AtomicUsize::new(0);
        metrics.count_node_by(move || {
            let clients = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 7;
            NodeCounts { clients, nodes: 1, ..NodeCounts::default() }
        });
        assert!(text(&metrics).contains("bobolink_node_num_clients 7\n"));
        assert!(text(&metrics).contains("bobolink_node_num_clients 8\n"));
        assert!(text(&metrics).contains("bobolink_node_num_nodes 1\n"));
    }

    #[test]
    fn small_families_start_at_zero_and_products_when_used() {
        let metrics = Metrics::default();
        let before = text(&metrics);
        assert!(before.contains("bobolink_node_action_count{action=\"history\"} 0\n"), "{before}");
        assert!(!before.contains("num_reply_errors"), "{before}");

        metrics.client.reply_errors.with((ClientMethod::Publish, 103.into())).inc();
        metrics.client.reply_errors.with((ClientMethod::Publish, 1_234.into())).inc_by(2);
        let after = text(&metrics);
        let line = |code: &str, count| {
            format!(
                "bobolink_client_num_reply_errors{{code=\"{code}\",method=\"publish\"}} {count}"
            )
        };
        assert!(after.contains(&line("103", 1)), "{after}");
        assert!(after.contains(&line("other", 2)), "{after}");
    }

    #[test]
    fn invented_http_methods_share_one_label_value() {
        let metrics = Metrics::default();
        for name in ["BREW", "WHEN", "POST"] {
            let method = Method::from_bytes(name.as_bytes()).expect("method");
            metrics.node.http_requests.count("/api/*", &method, StatusCode::NOT_FOUND);
        }
        let text = text(&metrics);
        assert!(text.contains("{method=\"other\",path=\"/api/*\",status=\"404\"} 2"), "{text}");
        assert!(text.contains("{method=\"POST\",path=\"/api/*\",status=\"404\"} 1"), "{text}");
    }

    #[test]
    fn process_metrics_carry_no_prefix_and_the_build_its_version() {
        let text = text(&Metrics::new("gate").expect("prefix"));
        assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
        let build = format!("gate_node_build{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&build), "{text}");
    }

    #[test]
    fn a_bad_prefix_is_named() {
        let error = Metrics::new("my gateway").err().expect("error").to_string();
        assert!(error.contains("\"my gateway\"") && error.contains("letters"), "{error}");
    }

    #[test]
    fn every_metric_stands_in_the_documentation() {
        let table = include_str!("../../../docs/observability.md");
        let metrics = Metrics::default();
        let missing: Vec<_> = metrics
            .names()
            .iter()
            .map(|name| name.strip_prefix("bobolink_").unwrap_or(name))
            .filter(|name| !table.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "docs/observability.md lacks {missing:?}");
    }
}
