//! From the configuration to what a shard needs to know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{Address, AddressError, Kind, REDIS_PORT, SENTINEL_PORT, place};
use super::tls::{ClientTls, ClientTlsError};
use crate::config::redis::Redis;
use crate::config::{Secret, Tls};

/// One shard: where its master is to be found, and how to talk to it.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    pub source: Source,
    pub access: Access,
    /// Who else must have what is written before it counts as written.
    pub replicas: Option<Replicas>,
    /// Fields of hashes are to expire by themselves.
    pub hash_field_ttl: bool,
    /// Servers that drop keys when their memory is full are of no use: something in them is in no other
    /// place yet.
    pub keeps_everything: bool,
}

/// Replicas that are waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// How many.
    pub count: u32,
    /// The longest that they may take.
    pub timeout: Duration,
}

/// Who says where the master is.
#[derive(Clone, Debug)]
pub enum Source {
    /// It is always here.
    Fixed(Place),
    /// Sentinels know.
    Sentinels {
        places: Vec<Place>,
        master_name: String,
        /// How to talk to the sentinels.
        access: Access,
    },
    /// These, and whom they name, are a cluster.
    Cluster(Vec<Place>),
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// How to talk to a server.
#[derive(Clone, Debug)]
pub struct Access {
    pub user: String,
    pub password: Secret,
    pub client_name: String,
    pub db: u32,
    /// Ask for RESP3.
    pub resp3: bool,
    pub tls: Option<ClientTls>,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
}

/// A part of `engine.redis` that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("{key}: {error}")]
    Address { key: String, error: AddressError },
    #[error("{0}: the address names no sentinel_master_name, and engine.redis has none either")]
    NoMasterName(String),
    #[error("{0}: only an address with +sentinel or +cluster may list several places")]
    SeveralPlaces(String),
    #[error(transparent)]
    Tls(#[from] ClientTlsError),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The shards of a configuration, in its order.
///
/// # Errors
/// Names the key, and what is wrong with its value.
pub fn shards(redis: &Redis) -> Result<Vec<ShardOptions>, OptionsError> {
    let (sentinels, clusters) = (&redis.sentinel_address.0, &redis.cluster_address.0);
    let (key, texts, kind) = if !sentinels.is_empty() {
        ("engine.redis.sentinel_address", sentinels, Some((Kind::Sentinel, SENTINEL_PORT)))
    } else if !clusters.is_empty() {
        ("engine.redis.cluster_address", clusters, Some((Kind::Cluster, REDIS_PORT)))
    } else {
        ("engine.redis.address", &redis.address.0, None)
    };
    texts
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let key = format!("{key}[{index}]");
            let read = match kind {
                Some((kind, port)) => listed(text, kind, port),
                None => Address::parse(text),
            };
            match read {
                Ok(address) => shard(redis, address, key),
                Err(error) => Err(OptionsError::Address { key, error }),
            }
        })
        .collect()
}

/// Reads addresses with commas between them.
fn listed(text: &str, kind: Kind, port: u16) -> Result<Address, AddressError> {
    let places = text.split(',').map(|text| place(text.trim(), port));
    Ok(Address { places: places.collect::<Result<_, _>>()?, kind, ..Address::default() })
}

fn shard(redis: &Redis, address: Address, key: String) -> Result<ShardOptions, OptionsError> {
    let tls = |on: Option<bool>, tls: &Tls, section: &'static str| {
        on.unwrap_or(tls.enabled).then(|| ClientTls::new(tls, section)).transpose()
    };
    let access = Access {
        user: address.user.unwrap_or_else(|| redis.user.clone()),
        password: address.password.unwrap_or_else(|| redis.password.clone()),
        client_name: redis.client_name.clone(),
        db: address.db.unwrap_or(redis.db),
        resp3: !address.force_resp2.unwrap_or(redis.force_resp2),
        tls: tls(address.tls, &redis.tls, "engine.redis.tls")?,
        connect_timeout: address.connect_timeout.unwrap_or(redis.connect_timeout),
        io_timeout: address.io_timeout.unwrap_or(redis.io_timeout),
    };
    let min_replicas = redis.min_replicas;
    let options = |source, access| ShardOptions {
        source,
        access,
        replicas: (min_replicas > 0)
            .then_some(Replicas { count: min_replicas, timeout: redis.min_replicas_timeout }),
        hash_field_ttl: redis.presence_hash_field_ttl,
        keeps_everything: false,
    };
    match address.kind {
        Kind::Sentinel => {}
        Kind::Cluster => return Ok(options(Source::Cluster(address.places), access)),
        Kind::Single => {
            let mut places = address.places.into_iter();
            return match (places.next(), places.next()) {
                (Some(place), None) => Ok(options(Source::Fixed(place), access)),
                _ => Err(OptionsError::SeveralPlaces(key)),
            };
        }
    }
    let master_name =
        address.sentinel_master_name.unwrap_or_else(|| redis.sentinel_master_name.clone());
    if master_name.is_empty() {
        return Err(OptionsError::NoMasterName(key));
    }
    let sentinel_access = Access {
        user: address.sentinel_user.unwrap_or_else(|| redis.sentinel_user.clone()),
        password: address.sentinel_password.unwrap_or_else(|| redis.sentinel_password.clone()),
        client_name: redis.sentinel_client_name.clone(),
        db: 0,
        resp3: false,
        tls: tls(address.sentinel_tls, &redis.sentinel_tls, "engine.redis.sentinel_tls")?,
        ..access
    };
    let source = Source::Sentinels { places: address.places, master_name, access: sentinel_access };
    Ok(options(source, access))
}
