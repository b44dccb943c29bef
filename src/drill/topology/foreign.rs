//! Centrifugo's nodes beside ours, on the same Redis: users change over one node at a time.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::plan::{GatewayAddresses, Plan};
use super::process::Recipe;

/// How one of its nodes is started; its file is [`settings`].
pub fn recipe(program: &Path, folder: PathBuf, name: String) -> Recipe {
    let config = folder.join(file_of(&name)).display().to_string();
    let folder = folder.join(&name);
    let args = vec!["-c".to_owned(), config];
    Recipe { name, program: program.to_owned(), args, environment: Vec::new(), folder }
}

/// The name of a node's file.
pub fn file_of(name: &str) -> String {
    format!("{name}.json")
}

/// What a node's file says: what sentinel/gateway.toml and the environment say to ours.
pub fn settings(plan: &Plan, name: &str, addresses: &GatewayAddresses) -> Value {
    let sentinels: Vec<_> = plan.addresses.sentinels.iter().map(ToString::to_string).collect();
    json!({
        "node": {"name": name},
        "http_server": {
            "address": addresses.clients.ip().to_string(),
            "port": addresses.clients.port(),
            "internal_port": addresses.internal.port().to_string(),
        },
        "engine": {"type": "redis", "redis": {
            "sentinel_address": sentinels.join(","),
            "sentinel_master_name": "main",
            "sentinel_password": plan.secrets.sentinel.expose(),
            "password": plan.secrets.redis.expose(),
            "io_timeout": "2s",
        }},
        "client": {
            "token": {"hmac_secret_key": plan.secrets.token.expose()},
            "recovery_max_publication_limit": 1000,
        },
        "http_api": {"key": plan.secrets.api.expose()},
        "health": {"enabled": true},
        "channel": {"namespaces": [{
            "name": "chat",
            "presence": true,
            "history_size": 1000,
            "history_ttl": "10m",
            "force_recovery": true,
            "allow_subscribe_for_client": true,
            "allow_publish_for_client": true,
            "allow_history_for_client": true,
            "allow_presence_for_client": true,
        }]},
    })
}
