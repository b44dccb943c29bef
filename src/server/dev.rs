//! `--dev`: a gateway for a first try on one's own machine, open where a server would be shut.
//!
//! Everything here exists under `--dev` only: the pages at `/` and `/chat/`, tokens for whoever asks,
//! secrets made at the first start and kept in an ignored folder, a namespace in which clients may do
//! all, and those of the chat, whose history is kept in that folder, too.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, LOCATION, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::ServerError;
use crate::auth::issue;
use crate::config::engine::EngineType;
use crate::config::history::History;
use crate::config::secrets::random_text;
use crate::config::{ChannelOptions, Config, Namespace, Secret};
use crate::node::Node;
use crate::transport::playground::assets as playground;
use crate::transport::routes::{
    BODY_READ_TIMEOUT, Body, Routes, handler, json, read_body, text, with_type,
};

/// Where the secrets of a first start are kept, relative to the working directory.
const FOLDER: &str = ".bobolink";
const SECRETS: &str = "dev-secrets.json";
/// The history of the chat, beside the secrets.
const HISTORY: &str = "history.db";
/// Letters of a secret.
const SECRET_LENGTH: usize = 64;
/// The namespace that clients may do all in.
const NAMESPACE: &str = "dev";
/// What is said in the rooms of the chat, and who is typing there.
const CHAT_NAMESPACE: &str = "dev-chat";
const TYPING_NAMESPACE: &str = "dev-typing";
/// The user of the token that is printed.
const SAMPLE_USER: &str = "ada";
/// Seconds that a token of the token endpoint is valid: long enough to see a refresh in one sitting.
/// A request may ask for less.
const TOKEN_TTL: u32 = 3_600;
/// A request for a token holds a name.
const MAX_TOKEN_REQUEST: usize = 1_024;

/// What `--dev` adds.
pub struct Dev {
    secrets: Secrets,
    /// Unix seconds, for the token that is printed.
    now: i64,
}

/// `--dev` could not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    #[error("--dev binds to loopback only, but {key} is {address:?}")]
    NotLoopback { key: &'static str, address: String },
    #[error("cannot keep secrets in {}: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{} does not hold the secrets of an earlier start; remove it to make new ones: {source}", path.display())]
    Broken { path: PathBuf, source: serde_json::Error },
    #[error("no randomness for secrets")]
    NoRandomness,
}

#[derive(Clone, Deserialize, Serialize)]
struct Secrets {
    token_hmac_secret_key: String,
    api_key: String,
}

#[derive(Deserialize)]
struct TokenRequest {
    user: String,
    /// Seconds.
    ttl: Option<u32>,
}

/// Opens what a first try needs, where the configuration does not say otherwise.
pub fn prepare(config: &mut Config) -> Result<Dev, DevError> {
    bind_to_loopback(config)?;
    let kept = Secrets::keep(Path::new(FOLDER))?;
    let token = &mut config.client.token;
    if token.hmac_secret_key.is_empty() {
        token.hmac_secret_key = Secret::new(&kept.token_hmac_secret_key);
    }
    if config.http_api.key.is_empty() {
        config.http_api.key = Secret::new(&kept.api_key);
    }
    let secrets = Secrets {
        token_hmac_secret_key: token.hmac_secret_key.expose().to_owned(),
        api_key: config.http_api.key.expose().to_owned(),
    };
    config.health.enabled = true;
    config.prometheus.enabled = true;
    config.swagger.enabled = true;
    let archives = config.archives();
    for (name, options) in [
        (NAMESPACE, open_options()),
        (CHAT_NAMESPACE, chat_options(config.engine.r#type == EngineType::Memory)),
        (TYPING_NAMESPACE, typing_options()),
    ] {
        let namespaces = &mut config.channel.namespaces;
        if !namespaces.iter().any(|namespace| namespace.name == name) {
            namespaces.push(Namespace { name: name.into(), options });
        }
    }
    if !archives && config.history.path == History::default().path {
        config.history.path = format!("{FOLDER}/{HISTORY}");
    }
    let now = crate::time::Clock::real().unix_seconds();
    Ok(Dev { secrets, now })
}

/// Lets pages from the gateway's own address connect.
pub fn allow_own_origin(config: &mut Config, address: SocketAddr) {
    let scheme = if config.http_server.tls.enabled { "https" } else { "http" };
    for host in ["localhost".to_owned(), host_of(address.ip())] {
        config.client.allowed_origins.push(format!("{scheme}://{host}:{}", address.port()));
    }
}

impl Dev {
    /// Tells the developer where to go and what to use.
    pub fn greet(&self, address: SocketAddr) {
        let base = format!("http://{}:{}", host_of(address.ip()), address.port());
        let secret = &self.secrets.token_hmac_secret_key;
        let token = issue::connection_token(secret, SAMPLE_USER, None, self.now);
        let text = format!(
            "\n  Bobolink is up, for development on this machine only.\n\n  \
             Playground   {base}/\n  \
             Chat         {base}/chat/\n  \
             WebSocket    {}/connection/websocket\n  \
             API          {base}/api   (its description: {base}/swagger/)\n  \
             API key      {}\n  \
             Token        {token}\n               \
             (user {SAMPLE_USER:?}, does not expire)\n  \
             Secrets are kept in {FOLDER}/{SECRETS}\n\n",
            base.replacen("http", "ws", 1),
            self.secrets.api_key,
        );
        // Nobody may be reading; the log goes elsewhere.
        let _ = io::stdout().write_all(text.as_bytes());
    }

    /// The pages, and tokens for them.
    pub fn add_routes(&self, routes: &mut Routes, node: &Arc<Node>) -> Result<(), ServerError> {
        for asset in playground::FILES {
            let page = handler(move |_, _| {
                let body = Bytes::from_static(asset.body);
                let mut response = with_type(StatusCode::OK, asset.content_type, body);
                for (name, value) in [
                    (CONTENT_SECURITY_POLICY, playground::CONTENT_SECURITY_POLICY),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (REFERRER_POLICY, "no-referrer"),
                    // A page of one build must not run with the script of another.
                    (CACHE_CONTROL, "no-cache"),
                ] {
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                async { response }
            });
            routes.add(&[Method::GET], asset.path, page)?;
        }
        routes.add(&[Method::GET], "/chat", handler(|_, _| async { to_the_chat() }))?;
        let secret: Arc<str> = Arc::from(self.secrets.token_hmac_secret_key.as_str());
        let node = Arc::clone(node);
        let token = handler(move |request, _| {
            let (secret, node) = (Arc::clone(&secret), Arc::clone(&node));
            async move {
                let body = read_body(request.into_body(), MAX_TOKEN_REQUEST, BODY_READ_TIMEOUT);
                match body.await {
                    Ok(body) => token(&body, &secret, node.clock.unix_seconds()),
                    Err(error) => error.response(),
                }
            }
        });
        routes.add(&[Method::POST], "/dev/token", token)?;
        Ok(())
    }
}

fn to_the_chat() -> hyper::Response<Body> {
    let mut response = text(StatusCode::PERMANENT_REDIRECT, "It is at /chat/\n".to_owned());
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/chat/"));
    response
}

fn token(body: &[u8], secret: &str, now: i64) -> hyper::Response<Body> {
    let wrong = |what: &str| {
        let expected = "expected {\"user\": \"name\"} and at most a \"ttl\"";
        text(StatusCode::BAD_REQUEST, format!("{expected} of 1 to {TOKEN_TTL} seconds: {what}\n"))
    };
    match serde_json::from_slice::<TokenRequest>(body) {
        Ok(TokenRequest { user, ttl }) => match ttl.unwrap_or(TOKEN_TTL) {
            ttl @ 1..=TOKEN_TTL => {
                let token = issue::connection_token(secret, &user, Some(ttl), now);
                json(StatusCode::OK, serde_json::json!({ "token": token }).to_string())
            }
            ttl => wrong(&format!("it is {ttl}")),
        },
        Err(error) => wrong(&error.to_string()),
    }
}

fn bind_to_loopback(config: &mut Config) -> Result<(), DevError> {
    let server = &mut config.http_server;
    if server.address.is_empty() {
        "127.0.0.1".clone_into(&mut server.address);
    }
    let is_loopback = |address: &str| {
        address == "localhost"
            || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    // An empty internal address is that of the main port.
    for (key, address) in [
        ("http_server.address", &server.address),
        ("http_server.internal_address", &server.internal_address),
        ("http_server.agent_address", &server.agent_address),
    ] {
        if !address.is_empty() && !is_loopback(address) {
            return Err(DevError::NotLoopback { key, address: address.clone() });
        }
    }
    Ok(())
}

fn host_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// History, presence and everything else that there is to try.
fn open_options() -> ChannelOptions {
    ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        history_size: 100,
        history_ttl: Duration::from_secs(600),
        force_recovery: true,
        allowed_delta_types: vec![crate::config::channel::DeltaType::Fossil],
        allow_tags_filter: true,
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        allow_presence_for_subscriber: true,
        allow_history_for_subscriber: true,
        ..ChannelOptions::default()
    }
}

/// A history to scroll back through, and to come back to after a week.
fn chat_options(archive: bool) -> ChannelOptions {
    ChannelOptions {
        history_archive: archive,
        allow_history_for_client: true,
        // An outbox sends before its rooms are subscribed again.
        allow_publish_for_client: true,
        ..open_options()
    }
}

/// Words for the moment: kept nowhere.
fn typing_options() -> ChannelOptions {
    ChannelOptions {
        allow_subscribe_for_client: true,
        allow_publish_for_subscriber: true,
        ..ChannelOptions::default()
    }
}

impl Secrets {
    /// Reads the secrets of an earlier start, or makes them.
    fn keep(folder: &Path) -> Result<Self, DevError> {
        let path = folder.join(SECRETS);
        match fs::read(&path) {
            Ok(kept) => {
                serde_json::from_slice(&kept).map_err(|source| DevError::Broken { path, source })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let made = Self::make()?;
                made.write(folder, &path).map_err(|source| DevError::Folder { path, source })?;
                Ok(made)
            }
            Err(source) => Err(DevError::Folder { path, source }),
        }
    }

    fn make() -> Result<Self, DevError> {
        let secret = || random_text(SECRET_LENGTH).map_err(|_| DevError::NoRandomness);
        Ok(Self { token_hmac_secret_key: secret()?, api_key: secret()? })
    }

    fn write(&self, folder: &Path, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)
    }
}
