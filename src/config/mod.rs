//! Configuration: one struct and one file per section, read from defaults, file, environment and
//! flags.
//!
//! [`load`](load::load) puts the sources together; what comes out is plain data that nobody
//! changes. How to add a key stands in [`setting`].

pub mod setting;
pub mod tree;
pub mod values;
mod file;
mod dotenv;
mod variables;
pub mod report;
pub mod units;
pub mod load;
mod reference;
mod validate;
pub mod unsupported;
pub mod secrets;

pub mod http_server;
pub mod tls;
pub mod log;
pub mod redis;
pub mod engine;
pub mod client;
pub mod token;
pub mod channel;
pub mod rpc;
pub mod http_api;
pub mod websocket;
pub mod admin;
pub mod prometheus;
pub mod health;
pub mod history;
pub mod swagger;
pub mod node;
pub mod shutdown;
pub mod later;

pub use channel::{ChannelConfig, ChannelOptions, Namespace};
pub use client::Client;
pub use file::Format;
pub use load::{Disk, Loaded, Sources, load};
pub use reference::REFERENCE;
pub use report::{ConfigError, ConfigErrors, Files, Notice, NoticeKind};
pub use setting::{Form, Key};
pub use tls::{Pem, Tls};
pub use token::Token;
pub use units::{ByteSize, Secret};

use later::{
    Broker, Consumer, Controller, Debug, Emulation, Graphite, GrpcApi, Init, MapBroker, NamedProxy,
    OpenTelemetry, PresenceManager, SharedPoll, Stream, UniGrpc, UniStream, UniWebSocket,
    UsageStats, WebTransport,
};
use setting::{Setting, section};

section! {
    /// Everything that can be set.
    pub struct Config {
        pub http_server: http_server::HttpServer,
        pub log: log::Log,
        pub engine: engine::Engine,
        pub broker: Broker,
        pub presence_manager: PresenceManager,
        pub map_broker: MapBroker,
        pub controller: Controller,
        pub shared_poll: SharedPoll,
        pub client: Client,
        pub channel: ChannelConfig,
        pub rpc: rpc::Rpc,
        pub history: history::History,
        pub http_api: http_api::HttpApi,
        pub grpc_api: GrpcApi,
        pub websocket: websocket::WebSocket,
        pub sse: Stream = Stream::at("/connection/sse"),
        pub http_stream: Stream = Stream::at("/connection/http_stream"),
        pub webtransport: WebTransport,
        pub uni_websocket: UniWebSocket,
        pub uni_sse: UniStream = UniStream::at("/connection/uni_sse"),
        pub uni_http_stream: UniStream = UniStream::at("/connection/uni_http_stream"),
        pub uni_grpc: UniGrpc,
        pub emulation: Emulation,
        pub admin: admin::Admin,
        pub prometheus: prometheus::Prometheus,
        pub health: health::Health,
        pub swagger: swagger::Swagger,
        pub debug: Debug,
        pub init: Init,
        pub opentelemetry: OpenTelemetry,
        pub graphite: Graphite,
        pub node: node::Node,
        pub shutdown: shutdown::Shutdown,
        pub proxies: Vec<NamedProxy>,
        pub consumers: Vec<Consumer>,
        pub usage_stats: UsageStats,
        /// The process id is written to this file; empty for none.
        pub pid_file: String,
        /// Taken and without effect.
        pub enable_unreleased_features: bool,
    }
}

impl Config {
    /// Every key there is, in the order of the sections.
    pub fn all_keys() -> Vec<Key> {
        let mut keys = Vec::new();
        <Self as Setting>::keys("", &mut keys);
        keys
    }

    /// The whole configuration as it would stand in a file. Holds secrets in the clear.
    pub fn to_json(&self) -> serde_json::Value {
        self.show()
    }
}
