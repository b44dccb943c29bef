//! RPC of clients.

use super::report::Report;
use super::setting::{Key, Setting, join, section};
use super::tree::Tree;
use super::values::{Item, Later, show_named};

section! {
    /// Who answers the `rpc` command.
    pub struct Rpc {
        /// The proxy called `default`.
        pub proxy: Later,
        pub without_namespace: RpcOptions,
        pub namespaces: Vec<RpcNamespace>,
        pub ping: RpcPing,
        /// Ends the namespace in a method's name; empty for no namespaces.
        pub namespace_boundary: String = ":".into(),
    }
}

section! {
    /// Options of the methods of a namespace.
    pub struct RpcOptions {
        pub proxy_enabled: bool,
        pub proxy_name: String = "default".into(),
    }
}

section! {
    /// A method that answers nothing, to measure round trips with.
    pub struct RpcPing {
        pub enabled: bool,
        pub method: String = "ping".into(),
    }
}

/// A namespace of methods.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RpcNamespace {
    pub name: String,
    pub options: RpcOptions,
}

impl Item for RpcNamespace {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Setting for RpcNamespace {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let options = from.take_name(&mut self.name, at, report);
        self.options.read(options, at, report);
    }

    fn show(&self) -> serde_json::Value {
        show_named(&self.name, &self.options)
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        String::keys(&join(at, "name"), keys);
        RpcOptions::keys(at, keys);
    }
}
