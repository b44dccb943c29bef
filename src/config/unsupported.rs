//! Settings of Centrifugo that Bobolink knows and cannot serve yet: the one table of them.
//!
//! They may be present and off. Switched on they are an error, since a server that quietly does
//! less than its configuration says is worse than one that does not start. A feature that gets
//! built takes its row with it; `docs/configuration.md` lists the same rows.

use serde_json::Value as Json;

use super::Config;
use super::report::Report;
use super::setting::{Setting, join};

/// One setting that must stay off.
#[derive(Clone, Copy, Debug)]
pub struct Unsupported {
    /// The key; `<options>` stands for `without_namespace` and `namespaces[]` alike.
    pub key: &'static str,
    /// What it would switch on.
    pub feature: &'static str,
    /// The value that is off, for settings that are not off by being false or empty.
    pub off: &'static str,
}

/// Everything that must stay off.
pub const UNSUPPORTED: &[Unsupported] = &[
    row("http_server.tls_autocert.enabled", "certificates fetched by the server"),
    row("http_server.http3.enabled", "HTTP/3"),
    row("http_server.h2c_external", "HTTP/2 without TLS"),
    row("engine.redis.replica_client.enabled", "reading from replicas of Redis"),
    row("engine.redis.history_use_lists", "history in lists of Redis"),
    row("broker.enabled", "a broker apart from the engine"),
    row("presence_manager.enabled", "a presence manager apart from the engine"),
    kind("map_broker.type", "maps", "memory"),
    row("controller.enabled", "a controller apart from the engine"),
    row("client.proxy.connect.enabled", "the connect proxy"),
    row("client.proxy.refresh.enabled", "the refresh proxy"),
    row("client.connect_code_to_unidirectional_disconnect.enabled", "unidirectional transports"),
    kind("channel.<options>.subscription_type", "maps and shared polls", "stream"),
    row("channel.<options>.map_clients_presence_channel_prefix", "presence in maps"),
    row("channel.<options>.map_users_presence_channel_prefix", "presence in maps"),
    row("channel.<options>.subscribe_proxy_enabled", "the subscribe proxy"),
    row("channel.<options>.publish_proxy_enabled", "the publish proxy"),
    row("channel.<options>.sub_refresh_proxy_enabled", "the subscription refresh proxy"),
    row("channel.<options>.subscribe_stream_proxy_enabled", "the subscribe stream proxy"),
    row("rpc.<options>.proxy_enabled", "the RPC proxy"),
    row("rpc.ping.enabled", "the ping method of RPC"),
    row("grpc_api.enabled", "the server API over gRPC"),
    row("sse.enabled", "the SSE transport"),
    row("http_stream.enabled", "the HTTP stream transport"),
    row("webtransport.enabled", "the WebTransport transport"),
    row("uni_websocket.enabled", "unidirectional transports"),
    row("uni_sse.enabled", "unidirectional transports"),
    row("uni_http_stream.enabled", "unidirectional transports"),
    row("uni_grpc.enabled", "unidirectional transports"),
    row("admin.enabled", "the admin page"),
    row("prometheus.native_histograms", "native histograms"),
    row("debug.enabled", "profiling endpoints"),
    row("init.enabled", "the init endpoint"),
    row("opentelemetry.enabled", "traces"),
    row("graphite.enabled", "metrics for Graphite"),
    row("proxies", "proxies"),
    row("consumers[].enabled", "consumers"),
];

const fn row(key: &'static str, feature: &'static str) -> Unsupported {
    Unsupported { key, feature, off: "" }
}

const fn kind(key: &'static str, feature: &'static str, off: &'static str) -> Unsupported {
    Unsupported { key, feature, off }
}

/// Reports every setting of the table that `config` has on.
pub fn check(config: &Config, report: &mut Report<'_>) {
    visit("", "", &config.show(), &mut |path, plain, value| {
        let Some(row) = UNSUPPORTED.iter().find(|row| row.key == plain) else { return };
        if row.is_on(value) {
            let value = if value.is_array() { "a list".into() } else { value.to_string() };
            let off =
                if row.off.is_empty() { String::new() } else { format!(", only {:?}", row.off) };
            let feature = row.feature;
            let message = format!("{value} is not supported yet by Bobolink ({feature}){off}");
            report.fault(&[path], message);
        }
    });
}

impl Unsupported {
    fn is_on(&self, value: &Json) -> bool {
        match value {
            Json::Bool(on) => *on,
            Json::String(text) => text != self.off,
            Json::Array(items) => !items.is_empty(),
            _ => false,
        }
    }
}

/// Calls `seen` with the path of every value, once as in errors and once as in the table.
fn visit(path: &str, plain: &str, value: &Json, seen: &mut impl FnMut(&str, &str, &Json)) {
    seen(path, plain, value);
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                let options = key == "without_namespace";
                let plain_key = if options { "<options>" } else { key };
                visit(&join(path, key), &join(plain, plain_key), value, seen);
            }
        }
        Json::Array(items) => {
            let plain = match plain.strip_suffix("namespaces") {
                Some(section) => format!("{section}<options>"),
                None => format!("{plain}[]"),
            };
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Json::as_str).unwrap_or_default();
                visit(&super::values::item_path(path, index, name), &plain, item, seen);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;
    use crate::config::load::tests::from_file;

    fn errors(text: &str) -> Vec<String> {
        let (sources, files) = from_file("c.json", text);
        load(&sources, &files).map_or_else(
            |errors| errors.0.iter().map(ToString::to_string).collect(),
            |_| Vec::new(),
        )
    }

    /// A file in which the row's setting is on.
    fn switched_on(row: &Unsupported) -> String {
        let value = match row.key {
            "proxies" => r#"[{"name": "x"}]"#.into(),
            key if key.ends_with("type") => {
                let word = if key.starts_with("channel") { "map" } else { "redis" };
                format!("{word:?}")
            }
            key if key.ends_with("prefix") || key.ends_with("address") => "\"x:\"".to_owned(),
            _ => "true".to_owned(),
        };
        row.key.replace("<options>", "without_namespace").rsplit('.').fold(value, |inner, key| {
            match key.strip_suffix("[]") {
                Some(key) => format!("{{{key:?}: [{inner}]}}"),
                None => format!("{{{key:?}: {inner}}}"),
            }
        })
    }

    #[test]
    fn every_row_keeps_its_feature_off() {
        for row in UNSUPPORTED {
            let text = switched_on(row);
            let found = errors(&text);
            let [only] = &found[..] else { panic!("{text}\n{found:#?}") };
            assert!(only.contains("not supported yet by Bobolink"), "{only}");
            assert!(only.contains(row.feature), "{only}");
        }
    }

    #[test]
    fn options_of_a_namespace_are_checked_under_its_name() {
        let text = r#"{"channel": {"namespaces": [{"name": "ok"},
            {"name": "chat", "subscription_type": "map", "publish_proxy_enabled": true}]},
            "rpc": {"namespaces": [{"name": "calls", "proxy_enabled": true}]}}"#;
        assert_eq!(
            errors(text),
            [
                "channel.namespaces[1](chat).publish_proxy_enabled: true is not supported yet by Bobolink (the publish proxy) (c.json)",
                "channel.namespaces[1](chat).subscription_type: \"map\" is not supported yet by Bobolink (maps and shared polls), only \"stream\" (c.json)",
                "rpc.namespaces[0](calls).proxy_enabled: true is not supported yet by Bobolink (the RPC proxy) (c.json)",
            ]
        );
    }

    #[test]
    fn present_and_off_is_fine() {
        let text = r#"{"engine": {"type": "memory", "redis": {"address": "x", "cluster_address": []}},
            "grpc_api": {"enabled": false, "port": 1}, "proxies": [],
            "consumers": [{"name": "c", "enabled": false, "type": "kafka", "kafka": {"brokers": []}}],
            "client": {"proxy": {"connect": {"enabled": false, "endpoint": "http://x"}}},
            "channel": {"without_namespace": {"subscription_type": ""}},
            "usage_stats": {"disabled": true}, "enable_unreleased_features": true}"#;
        let (sources, files) = from_file("c.json", text);
        let loaded = load(&sources, &files).expect("valid");
        let unknown: Vec<_> =
            loaded.notices.iter().filter(|n| n.text.contains("unknown")).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
    }

    #[test]
    fn every_row_is_about_a_key_there_is() {
        let keys: Vec<_> = Config::all_keys().into_iter().map(|key| key.path).collect();
        for row in UNSUPPORTED {
            let key = row.key.replace("<options>", "namespaces[]");
            assert!(keys.contains(&key), "{key}");
        }
    }

    #[test]
    fn the_documentation_has_the_same_rows() {
        let text = include_str!("../../docs/configuration.md");
        let (_, after) =
            text.split_once("| What it would switch on |\n|---|---|\n").expect("table");
        let documented: Vec<_> = after.lines().take_while(|line| line.starts_with('|')).collect();
        let rows: Vec<_> =
            UNSUPPORTED.iter().map(|row| format!("| `{}` | {} |", row.key, row.feature)).collect();
        assert_eq!(documented, rows);
    }
}
