//! Calls to the application backend.

use std::time::Duration;

use super::report::Report;
use super::setting::{Key, Setting, join, section};
use super::tls::Tls;
use super::tree::Tree;
use super::units::Secret;
use super::values::{Later, Pairs};

section! {
    /// One proxy: where it calls and what it sends along.
    pub struct Proxy {
        /// `http://…`, `https://…`, `grpc://host:port` or `host:port`.
        pub endpoint: String,
        pub timeout: Duration = Duration::from_secs(1),
        /// Headers of the client's request to pass on.
        pub http_headers: Vec<String>,
        /// Metadata of the client's call to pass on.
        pub grpc_metadata: Vec<String>,
        /// Headers of the connect command to pass on.
        pub emulated_headers: Vec<String>,
        /// Sends payloads as base64.
        pub binary_encoding: bool,
        pub include_connection_meta: bool,
        pub http: ProxyHttp,
        pub grpc: ProxyGrpc,
    }
}

section! {
    /// What concerns proxies over HTTP.
    pub struct ProxyHttp {
        pub tls: Tls,
        pub static_headers: Pairs,
        pub status_to_code_transforms: Later,
    }
}

section! {
    /// What concerns proxies over gRPC.
    pub struct ProxyGrpc {
        pub tls: Tls,
        pub credentials_key: String,
        pub credentials_value: Secret,
        pub compression: bool,
        pub static_metadata: Pairs,
    }
}

/// A proxy with a switch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SwitchedProxy {
    pub enabled: bool,
    pub proxy: Proxy,
}

impl Setting for SwitchedProxy {
    fn read(&mut self, mut from: Tree, at: &str, report: &mut Report<'_>) {
        if let Some(enabled) = from.remove("enabled") {
            self.enabled.read(enabled, &join(at, "enabled"), report);
        }
        self.proxy.read(from, at, report);
    }

    fn show(&self) -> serde_json::Value {
        let mut table = serde_json::Map::new();
        table.insert("enabled".into(), self.enabled.into());
        if let serde_json::Value::Object(proxy) = self.proxy.show() {
            table.extend(proxy);
        }
        table.into()
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        bool::keys(&join(at, "enabled"), keys);
        Proxy::keys(at, keys);
    }
}
