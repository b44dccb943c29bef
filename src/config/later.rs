//! Sections of features that are not built yet. They are read so that a configuration that has them
//! off is taken without a murmur; what may not be switched on stands in
//! [`unsupported`](super::unsupported).
//!
//! A section moves to a file of its own with the feature.

use std::time::Duration;

use super::http_api::ErrorMode;
use super::report::Report;
use super::setting::{Key, Setting, choice, join, section};
use super::tree::Tree;
use super::units::{ByteSize, Secret};
use super::values::{Item, Later, show_named};

section! {
    /// A feature that is on or off.
    pub struct Switch {
        pub enabled: bool,
    }
}

section! {
    /// Certificates fetched by the server itself.
    pub struct TlsAutocert {
        pub enabled: bool,
        pub host_whitelist: Vec<String>,
        pub cache_dir: String,
        pub email: String,
        pub server_name: String,
        pub http: bool,
        pub http_addr: String = ":80".into(),
    }
}

section! {
    /// Streams and messages in another place than the engine's.
    pub struct Broker {
        pub enabled: bool,
        pub r#type: StoreType,
        pub redis: Later,
        pub nats: Later,
        pub redisnats: Later,
        pub postgres: Later,
    }
}

section! {
    /// Presence in another place than the engine's.
    pub struct PresenceManager {
        pub enabled: bool,
        pub r#type: StoreType,
        pub redis: Later,
    }
}

section! {
    /// Messages between nodes on another way than the broker's.
    pub struct Controller {
        pub enabled: bool,
        pub r#type: StoreType,
        pub postgres: Later,
    }
}

section! {
    /// Where maps are kept.
    pub struct MapBroker {
        pub r#type: StoreType,
        pub redis: Later,
        pub postgres: Later,
    }
}

choice! {
    /// The kinds of store.
    pub enum StoreType {
        #[default]
        Memory = "memory" | "",
        Redis = "redis",
        Nats = "nats",
        RedisNats = "redisnats",
        Postgres = "postgres",
    }
}

section! {
    /// Data polled once for many clients.
    pub struct SharedPoll {
        pub hmac_secret_key: Secret,
        pub hmac_previous_secret_key: Secret,
        pub hmac_previous_secret_key_valid_until: i64,
        pub concurrency_limit: u32,
    }
}

section! {
    /// The server API over gRPC.
    pub struct GrpcApi {
        pub enabled: bool,
        pub address: String,
        pub port: u16 = 10_000,
        pub key: Secret,
        pub error_mode: ErrorMode,
        pub tls: Later,
        pub reflection: bool,
        pub max_receive_message_size: ByteSize,
    }
}

section! {
    /// A bidirectional transport over plain HTTP.
    pub struct Stream {
        pub enabled: bool,
        pub handler_prefix: String,
        pub max_request_body_size: ByteSize = 65_536,
    }
}

impl Stream {
    /// The transport under this path.
    pub fn at(path: &str) -> Self {
        Self { handler_prefix: path.into(), ..Self::default() }
    }
}

section! {
    /// The WebTransport endpoint.
    pub struct WebTransport {
        pub enabled: bool,
        pub handler_prefix: String = "/connection/webtransport".into(),
        pub message_size_limit: ByteSize = 65_536,
    }
}

section! {
    /// The unidirectional WebSocket endpoint.
    pub struct UniWebSocket {
        pub enabled: bool,
        pub handler_prefix: String = "/connection/uni_websocket".into(),
        pub compression: bool,
        pub compression_min_size: ByteSize,
        pub compression_level: i32 = 1,
        pub read_buffer_size: ByteSize,
        pub write_buffer_size: ByteSize,
        pub use_write_buffer_pool: bool,
        pub write_timeout: Duration = Duration::from_secs(1),
        pub message_size_limit: ByteSize = 65_536,
        pub decompressed_message_size_limit: ByteSize,
        pub disable_closing_handshake: bool,
        pub disable_disconnect_push: bool,
        pub join_push_messages: bool,
    }
}

section! {
    /// A unidirectional transport over plain HTTP.
    pub struct UniStream {
        pub enabled: bool,
        pub handler_prefix: String,
        pub max_request_body_size: ByteSize = 65_536,
        pub connect_code_to_http_response: Transforms,
    }
}

impl UniStream {
    /// The transport under this path.
    pub fn at(path: &str) -> Self {
        Self { handler_prefix: path.into(), ..Self::default() }
    }
}

section! {
    /// Other codes for the errors of a connect.
    pub struct Transforms {
        pub enabled: bool,
        pub transforms: Later,
    }
}

section! {
    /// The unidirectional transport over gRPC.
    pub struct UniGrpc {
        pub enabled: bool,
        pub address: String,
        pub port: u16 = 11_000,
        pub max_receive_message_size: ByteSize,
        pub tls: Later,
    }
}

section! {
    /// The way up of the transports over plain HTTP.
    pub struct Emulation {
        pub handler_prefix: String = "/emulation".into(),
        pub max_request_body_size: ByteSize = 65_536,
    }
}

section! {
    /// Profiles of the process.
    pub struct Debug {
        pub enabled: bool,
        pub handler_prefix: String = "/debug/pprof".into(),
    }
}

section! {
    /// An endpoint that warms up connections.
    pub struct Init {
        pub enabled: bool,
        pub handler_prefix: String = "/connection/init".into(),
    }
}

section! {
    /// Traces.
    pub struct OpenTelemetry {
        pub enabled: bool,
        pub api: bool,
        pub consuming: bool,
        pub google_cloud_adc_auth: bool,
    }
}

section! {
    /// Metrics pushed to Graphite.
    pub struct Graphite {
        pub enabled: bool,
        pub host: String = "localhost".into(),
        pub port: u16 = 2_003,
        pub prefix: String = "centrifugo".into(),
        pub interval: Duration = Duration::from_secs(10),
        pub tags: bool,
    }
}

section! {
    /// Usage statistics: there are none, on or off.
    pub struct UsageStats {
        pub disabled: bool,
    }
}

section! {
    /// Options of maps.
    pub struct MapOptions {
        pub mode: String,
        pub key_ttl: Duration,
        pub stream_size: u32,
        pub stream_ttl: Duration,
        pub meta_ttl: Duration,
        pub remove_client_on_unsubscribe: bool,
        pub client_key: String,
        pub allow_publish_for_client: bool,
        pub allow_publish_for_subscriber: bool,
        pub allow_publish_for_anonymous: bool,
        pub allow_remove_for_client: bool,
        pub allow_remove_for_subscriber: bool,
        pub allow_remove_for_anonymous: bool,
        pub publish_proxy_enabled: bool,
        pub publish_proxy_name: String = "default".into(),
        pub remove_proxy_enabled: bool,
        pub remove_proxy_name: String = "default".into(),
        pub default_page_size: u32 = 100,
        pub min_page_size: u32 = 100,
        pub max_page_size: u32 = 1_000,
        pub live_transition_max_publication_limit: u32,
        /// May be negative for no limit.
        pub subscribe_catch_up_timeout: String = "5s".into(),
    }
}

section! {
    /// Options of shared polls.
    pub struct SharedPollOptions {
        pub proxy_name: String = "default".into(),
        pub refresh_interval: Duration = Duration::from_secs(10),
        pub refresh_batch_size: u32 = 1_000,
        pub max_keys_per_connection: u32 = 5_000,
        pub mode: String,
        /// May be negative for none.
        pub channel_shutdown_delay: String = "1s".into(),
        pub track_expired_extra_delay: Duration = Duration::from_secs(25),
        pub publish_enabled: bool,
    }
}

section! {
    /// A source of API commands.
    pub struct Consumer {
        pub name: String,
        pub enabled: bool,
        pub r#type: String,
        pub postgresql: Later,
        pub kafka: Later,
        pub nats_jetstream: Later,
        pub redis_stream: Later,
        pub google_pub_sub: Later,
        pub aws_sqs: Later,
        pub azure_service_bus: Later,
    }
}

impl Item for Consumer {
    fn name(&self) -> &str {
        &self.name
    }
}

/// A proxy that namespaces refer to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedProxy {
    pub name: String,
}

impl Item for NamedProxy {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Setting for NamedProxy {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        from.take_name(&mut self.name, at, report);
    }

    fn show(&self) -> serde_json::Value {
        show_named(&self.name, &Later)
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        String::keys(&join(at, "name"), keys);
        Later::keys(at, keys);
    }
}
