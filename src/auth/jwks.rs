//! Key sets published over HTTP (JWKS): fetched when needed, kept for an hour.
//!
//! Anybody can send a token with any `kid`, so what strangers ask for must neither fill memory nor
//! reach the publisher at their pace: only published keys are kept, and a set is asked for again at
//! most every few seconds however many unknown `kid`s arrive.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::header::{ACCEPT, USER_AGENT};
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use super::endpoint::without_query;
use super::keys::{Jwk, SetKey};

/// Seconds a fetched set is believed, and so how long a revoked key can still be used.
const CACHE_LIFETIME: u64 = 3_600;
/// Seconds after a fetch in which an unknown `kid` does not cause another one, and so how long a
/// new key may take to be known.
const PAUSE_AFTER_SUCCESS: u64 = 5;
/// Seconds after a failed fetch until the next one.
const PAUSE_AFTER_FAILURE: u64 = 3;
/// Time for one try, from connecting to the last byte.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Tries of one fetch.
const TRIES: usize = 2;
/// Largest set read, in bytes: hundreds of keys with their certificates.
const MAX_BODY: usize = 512 * 1024;
/// Most keys kept of one set.
const MAX_KEYS: usize = 256;
/// Most sets kept. Addresses are as many as there are literals in a pattern, unless the safety
/// check is off and tokens make up addresses.
const MAX_SETS: usize = 64;
/// Most fetches under way at once.
const MAX_FETCHES: usize = 16;

/// The key sets of all addresses an endpoint can have.
pub(super) struct KeySets {
    fetcher: Arc<Fetcher>,
    sets: Mutex<HashMap<String, Arc<KeySet>>>,
}

/// The keys of one address.
#[derive(Default)]
struct KeySet {
    known: Mutex<Known>,
    /// Held during a fetch, so that those who need the same set wait for that one fetch.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is known of an address; times are unix seconds.
#[derive(Default)]
struct Known {
    keys: HashMap<String, Arc<SetKey>>,
    fetched_at: Option<i64>,
    asked_at: Option<i64>,
    failed: bool,
}

enum LookUp {
    Found(Arc<SetKey>),
    Refused(&'static str),
    Fetch,
}

impl KeySets {
    /// `https` says whether certificates will have to be checked.
    ///
    /// # Errors
    /// If they will and the machine has no root certificates.
    pub fn new(https: bool) -> Result<Self, String> {
        Self::with_timeout(https, TIMEOUT)
    }

    /// The key `kid` of the set at `url`, fetched if it is not known at `now` (unix seconds).
    ///
    /// # Errors
    /// Says why there is no such key.
    pub async fn key(&self, url: &str, kid: &str, now: i64) -> Result<Arc<SetKey>, &'static str> {
        let set = self.set(url);
        match set.look_up(kid, now) {
            LookUp::Found(key) => return Ok(key),
            LookUp::Refused(reason) => return Err(reason),
            LookUp::Fetch => {}
        }
        let turn = Arc::clone(&set.turn).lock_owned().await;
        if matches!(set.look_up(kid, now), LookUp::Fetch) {
            set.known.lock().asked_at = Some(now);
            let (fetcher, target, url) =
                (Arc::clone(&self.fetcher), Arc::clone(&set), url.to_owned());
            // In a task of its own: a client that hangs up must not take the fetch with it, for
            // which others wait and which counts as asked.
            let fetch = tokio::spawn(async move {
                target.settle(fetcher.fetch(&url).await, now);
                drop(turn);
            });
            fetch.await.map_err(|_| "the key set cannot be fetched")?;
        }
        match set.look_up(kid, now) {
            LookUp::Found(key) => Ok(key),
            LookUp::Refused(reason) => Err(reason),
            LookUp::Fetch => Err("the key set cannot be fetched"),
        }
    }

    fn with_timeout(https: bool, timeout: Duration) -> Result<Self, String> {
        let connector = HttpsConnectorBuilder::new();
        let provider = aws_lc_rs::default_provider();
        let connector = if https {
            connector
                .with_provider_and_native_roots(provider)
                .map_err(|error| format!("no root certificates on this machine: {error}"))?
        } else {
            let tls = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            connector.with_tls_config(tls)
        };
        let connector = connector.https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new())
            // No connection is worth keeping for an hour.
            .pool_max_idle_per_host(0)
            .build(connector);
        let permits = Semaphore::new(MAX_FETCHES);
        Ok(Self { fetcher: Arc::new(Fetcher { client, timeout, permits }), sets: Mutex::default() })
    }

    fn set(&self, url: &str) -> Arc<KeySet> {
        let mut sets = self.sets.lock();
        if let Some(set) = sets.get(url) {
            return Arc::clone(set);
        }
        if sets.len() >= MAX_SETS {
            let oldest = sets.iter().min_by_key(|(_, set)| set.known.lock().asked_at);
            if let Some(oldest) = oldest.map(|(url, _)| url.clone()) {
                sets.remove(&oldest);
            }
        }
        Arc::clone(sets.entry(url.to_owned()).or_default())
    }
}

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySets").field("sets", &self.sets.lock().len()).finish_non_exhaustive()
    }
}

impl KeySet {
    fn look_up(&self, kid: &str, now: i64) -> LookUp {
        // Both ways, as clocks are set back too.
        let within = |at: Option<i64>, span| at.is_some_and(|at| at.abs_diff(now) < span);
        let known = self.known.lock();
        if within(known.fetched_at, CACHE_LIFETIME)
            && let Some(key) = known.keys.get(kid)
        {
            return LookUp::Found(Arc::clone(key));
        }
        match known.failed {
            true if within(known.asked_at, PAUSE_AFTER_FAILURE) => {
                LookUp::Refused("the key set cannot be fetched")
            }
            false if within(known.fetched_at, PAUSE_AFTER_SUCCESS) => {
                LookUp::Refused("the key set has no such kid")
            }
            _ => LookUp::Fetch,
        }
    }

    /// A fetched set replaces the old one, so that revoked keys go; a failed fetch changes nothing.
    fn settle(&self, outcome: Option<HashMap<String, Arc<SetKey>>>, now: i64) {
        let mut known = self.known.lock();
        known.failed = outcome.is_none();
        if let Some(keys) = outcome {
            known.keys = keys;
            known.fetched_at = Some(now);
        }
    }
}

struct Fetcher {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    timeout: Duration,
    permits: Semaphore,
}

impl Fetcher {
    async fn fetch(&self, url: &str) -> Option<HashMap<String, Arc<SetKey>>> {
        let _permit = self.permits.acquire().await.ok()?;
        let mut last = String::new();
        for _ in 0..TRIES {
            last = match tokio::time::timeout(self.timeout, self.try_once(url)).await {
                Ok(Ok(keys)) => return Some(keys),
                Ok(Err(reason)) => reason,
                Err(_) => format!("no answer within {:?}", self.timeout),
            };
        }
        tracing::warn!(endpoint = without_query(url), error = last, "cannot fetch the key set");
        None
    }

    /// Redirects are not followed: where they lead was not configured.
    async fn try_once(&self, url: &str) -> Result<HashMap<String, Arc<SetKey>>, String> {
        let request = Request::get(url)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("bobolink/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .map_err(|error| error.to_string())?;
        let response = self.client.request(request).await.map_err(|error| reasons(&error))?;
        if response.status() != StatusCode::OK {
            return Err(format!("answered with status {}", response.status().as_u16()));
        }
        let body = Limited::new(response.into_body(), MAX_BODY).collect().await;
        let body = body.map_err(|error| format!("body: {error}"))?;
        read_set(&body.to_bytes())
    }
}

/// Reads a set, RFC 7517 section 5. An entry that is no signature key of a known kind is left out,
/// as the RFC asks, and takes nothing else with it.
fn read_set(body: &[u8]) -> Result<HashMap<String, Arc<SetKey>>, String> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let set: Set<'_> =
        serde_json::from_slice(body).map_err(|error| format!("not a key set: {error}"))?;
    let mut keys = HashMap::new();
    for entry in set.keys.into_iter().take(MAX_KEYS) {
        let Ok(jwk) = serde_json::from_str::<Jwk>(entry.get()) else { continue };
        if jwk.usage.as_deref() != Some("sig") {
            continue;
        }
        if let (Some(key), Some(kid)) = (jwk.key(), jwk.kid) {
            keys.entry(kid).or_insert_with(|| Arc::new(key));
        }
    }
    Ok(keys)
}

/// An error with its causes, as the first alone says little.
fn reasons(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
