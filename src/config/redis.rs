//! How to reach Redis, and what is kept there how.

use std::time::Duration;

use super::report::Report;
use super::setting::{Setting, join, section};
use super::tls::Tls;
use super::tree::{Tree, Value};
use super::units::Secret;
use super::validate::PEM_ALLOWED;
use super::values::LaterSwitch;

section! {
    /// One Redis, or several that share the channels among them.
    pub struct Redis {
        /// Where Redis is: `host:port` or a URL. Each address is a shard.
        pub address: Addresses = Addresses(vec!["redis://127.0.0.1:6379".into()]),
        /// What every key and every PUB/SUB channel begins with.
        pub prefix: String = "centrifugo".into(),
        /// The longest that connecting may take.
        pub connect_timeout: Duration = Duration::from_secs(1),
        /// The longest that an answer may take.
        pub io_timeout: Duration = Duration::from_secs(4),
        /// The number of the database.
        pub db: u32,
        pub user: String,
        pub password: Secret,
        /// Shown by `CLIENT LIST`.
        pub client_name: String,
        /// Speaks RESP2 also where Redis knows RESP3.
        pub force_resp2: bool,
        /// Redis Cluster; each item is a list of addresses with commas.
        pub cluster_address: Addresses,
        pub tls: Tls,
        /// Sentinels; each item is a list of addresses with commas and a shard.
        pub sentinel_address: Addresses,
        /// What the sentinels call the master.
        pub sentinel_master_name: String,
        pub sentinel_user: String,
        pub sentinel_password: Secret,
        pub sentinel_client_name: String,
        pub sentinel_tls: Tls,
        /// Reads from replicas.
        pub replica_client: LaterSwitch,
        /// Keeps history in lists rather than streams.
        pub history_use_lists: bool,
        /// After a failover, clients are told to recover spread over this time.
        pub failover_spread: Duration = Duration::from_secs(5),
        /// Replicas that must have a publication before it is answered; 0 for none.
        pub min_replicas: u32,
        /// The longest that they may take.
        pub min_replicas_timeout: Duration = Duration::from_secs(1),
        /// How long a presence entry outlives the node that renews it.
        pub presence_ttl: Duration = Duration::from_secs(60),
        /// Lets presence entries expire by themselves, as Redis 7.4 can.
        pub presence_hash_field_ttl: bool,
        /// Keeps the number of clients for each user of a channel, so that counting is cheap.
        pub presence_user_mapping: bool,
    }
}

/// Addresses: in a file one text or a list of them, in a variable separated by spaces. Their `Debug`
/// leaves them out, since URLs may hold passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<String>);

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} addresses", self.0.len())
    }
}

impl Setting for Addresses {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let words = |text: &str| Some(text.split_whitespace().map(str::to_owned).collect());
        let value = match &from.value {
            Value::Text(text) | Value::Loose(text) => words(text),
            Value::List(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect(),
            _ => None,
        };
        match value {
            Some(value) => report.take(self, Some(Self(value)), &from, at, ""),
            // Not through `take`, which would quote what may hold a password.
            None => report.refuse(at, "expected text in quotes or a list of texts", from.origin),
        }
    }

    fn show(&self) -> serde_json::Value {
        match &self.0[..] {
            [only] => only.as_str().into(),
            all => all.into(),
        }
    }
}

/// Reports what does not go together in `engine.redis`, for an engine that uses it.
pub(super) fn check(redis: &Redis, presence_interval: Duration, report: &mut Report<'_>) {
    const AT: &str = "engine.redis";
    let at = |key: &str| format!("{AT}.{key}");
    let is_elsewhere = [&redis.sentinel_address, &redis.cluster_address].map(|a| !a.0.is_empty());
    if is_elsewhere == [false; 2] && redis.address.0.is_empty() {
        report.fault(&[&at("address")], "must hold an address");
    }
    if is_elsewhere == [true; 2] {
        let keys = [&*at("cluster_address"), &at("sentinel_address")];
        report.fault(&keys, "cluster_address and sentinel_address exclude each other");
    }
    if redis.min_replicas > 0
        && (redis.min_replicas_timeout.is_zero() || redis.min_replicas_timeout >= redis.io_timeout)
    {
        let keys = [&*at("min_replicas_timeout"), &at("io_timeout")];
        report.fault(&keys, "must be above 0 and shorter than io_timeout");
    }
    if !redis.sentinel_address.0.is_empty() && redis.sentinel_master_name.is_empty() {
        let keys = [&*at("sentinel_master_name"), &at("sentinel_address")];
        report.fault(&keys, "must be set when sentinel_address is");
    }
    if redis.prefix.is_empty() {
        report.fault(&[&at("prefix")], "must not be empty");
    }
    for (key, span) in
        [("connect_timeout", redis.connect_timeout), ("io_timeout", redis.io_timeout)]
    {
        if span.is_zero() {
            report.fault(&[&at(key)], "0 is not allowed, expected a limit");
        }
    }
    if redis.presence_ttl <= presence_interval || redis.presence_ttl < Duration::from_secs(1) {
        let keys = [&*at("presence_ttl"), "client.presence_update_interval"];
        report.fault(&keys, "must be longer than client.presence_update_interval, and 1s or more");
    }
    for (section, tls) in [("tls", &redis.tls), ("sentinel_tls", &redis.sentinel_tls)] {
        let section = at(section);
        let pems = [
            ("cert_pem", &tls.cert_pem),
            ("key_pem", &tls.key_pem),
            ("server_ca_pem", &tls.server_ca_pem),
        ];
        for (key, _) in pems.iter().filter(|(_, pem)| tls.enabled && pem.is_broken()) {
            report.fault(&[&join(&section, key)], PEM_ALLOWED);
        }
        if tls.enabled && tls.cert_pem.is_empty() != tls.key_pem.is_empty() {
            let keys = [&*join(&section, "cert_pem"), &join(&section, "key_pem")];
            report.fault(&keys, "cert_pem and key_pem are set together or not at all");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::config::load::tests::from_file;

    fn addresses(text: &str) -> Result<Vec<String>, String> {
        let (sources, files) = from_file("c.json", text);
        let loaded = load(&sources, &files).map_err(|errors| errors.0[0].to_string())?;
        Ok(loaded.config.engine.redis.address.0)
    }

    #[test]
    fn addresses_are_one_text_or_a_list() {
        let one = addresses(r#"{"engine": {"redis": {"address": "a:1"}}}"#);
        assert_eq!(one, Ok(vec!["a:1".to_owned()]));
        let two = addresses(r#"{"engine": {"redis": {"address": ["a:1", "b:2"]}}}"#);
        assert_eq!(two, Ok(vec!["a:1".to_owned(), "b:2".to_owned()]));
        let wrong = addresses(r#"{"engine": {"redis": {"address": [{"x": "hunter2"}]}}}"#);
        assert_eq!(
            wrong,
            Err("engine.redis.address: expected text in quotes or a list of texts (c.json)".into())
        );
    }

    #[test]
    fn what_does_not_go_together_is_named() {
        let (sources, files) = from_file(
            "c.json",
            r#"{"engine": {"type": "redis", "redis": {"sentinel_address": "a:1", "io_timeout": 0,
                "presence_ttl": "20s", "min_replicas": 1, "cluster_address": "b:1", "tls": {"enabled": true, "cert_pem": "-----BEGIN x"}}}}"#,
        );
        let errors = load(&sources, &files).expect_err("faults").0;
        let errors: Vec<_> = errors.iter().map(|error| error.key.as_str()).collect();
        let expected = [
            "cluster_address",
            "min_replicas_timeout",
            "sentinel_master_name",
            "io_timeout",
            "presence_ttl",
            "tls.cert_pem",
        ];
        assert_eq!(errors, expected.map(|key| format!("engine.redis.{key}")));
    }
}
