//! Redis as a place that answers: connections, who is the master, and which channels are heard.
//!
//! The client is our own ([`resp`] and [`link`]): the rule against false recoveries needs connections
//! that carry one master's identity for life and calls that are never sent twice, which libraries
//! made for convenience work against (`ARCHITECTURE.md` has the measurements).
//!
//! A [`Shard`] is one master with its replicas, or a cluster. Its supervisor ([`single`]) asks
//! [`sentinel`] who the master is, opens a [`link`] for commands and several [`reader`]s for PUB/SUB,
//! and takes all of them down together when one fails. In a [`cluster`] every master has a link of its
//! own, an [`Attachment`], and [`routes`] say which of them has a channel. [`canary`] shows all the time
//! that what goes in comes out. What Redis keeps, and what it means, is the business of broker and
//! presence.

mod address;
mod beside;
mod canary;
mod cluster;
mod complaint;
mod dial;
mod driver;
mod entries;
mod interest;
mod keys;
mod link;
mod options;
mod reader;
mod resp;
mod routes;
mod script;
mod sentinel;
mod shard;
mod sharding;
mod single;
mod slots;
mod suspects;
mod tags;
mod tls;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use self::address::AddressError;
pub use self::entries::{StreamEntry, first_entry, last_entry};
pub use self::keys::Keys;
pub use self::link::{Answer, CallError, Identity, Link};
pub use self::options::{Access, OptionsError, Place, Replicas, ShardOptions, Source, shards};
pub use self::resp::{Command, Decoder, Value};
pub use self::routes::{Attachment, Durability, Route};
pub use self::script::{Script, eval};
pub use self::shard::{Receive, Shard};
pub use self::sharding::shard_of;
pub use self::slots::{SLOTS, slot_of};
pub use self::tags::slot_tag;
pub use self::tls::{ClientTls, ClientTlsError};

use crate::config;
use crate::telemetry::health::Health;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// The shards that together keep all channels.
pub struct Redis {
    keys: Keys,
    shards: Vec<Arc<Shard>>,
    metrics: Arc<Metrics>,
}

/// Who is told how the connections are.
#[derive(Clone, Default)]
pub struct Reporting {
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

impl Redis {
    /// Reads the configuration; nothing is connected before [`Redis::start`].
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(
        config: &config::redis::Redis,
        clock: &Clock,
        receive: &Arc<dyn Receive>,
    ) -> Result<Arc<Self>, OptionsError> {
        Self::reporting(config, clock, receive, &Reporting::default())
    }

    /// [`Redis::new`], and somebody is told.
    ///
    /// # Errors
    /// As there.
    pub fn reporting(
        config: &config::redis::Redis,
        clock: &Clock,
        receive: &Arc<dyn Receive>,
        reporting: &Reporting,
    ) -> Result<Arc<Self>, OptionsError> {
        Ok(Self::of(config, shards(config)?, clock, receive, reporting))
    }

    /// [`Redis::reporting`] for servers that have something which is in no other place yet: those that
    /// drop keys are not connected to.
    ///
    /// # Errors
    /// As there.
    pub fn archiving(
        config: &config::redis::Redis,
        clock: &Clock,
        receive: &Arc<dyn Receive>,
        reporting: &Reporting,
    ) -> Result<Arc<Self>, OptionsError> {
        let mut options = shards(config)?;
        options.iter_mut().for_each(|shard| shard.keeps_everything = true);
        Ok(Self::of(config, options, clock, receive, reporting))
    }

    fn of(
        config: &config::redis::Redis,
        options: Vec<ShardOptions>,
        clock: &Clock,
        receive: &Arc<dyn Receive>,
        reporting: &Reporting,
    ) -> Arc<Self> {
        let keys = Keys::new(&config.prefix);
        let count = options.len();
        let shards = options.into_iter().enumerate().map(|(number, options)| {
            let (keys, receive) = (keys.clone(), Arc::clone(receive));
            Shard::new((number, count), keys, options, clock.clone(), receive, reporting)
        });
        let metrics = Arc::clone(&reporting.metrics);
        Arc::new(Self { shards: shards.collect(), keys, metrics })
    }

    /// Connects, and keeps connected until `stop`.
    pub fn start(&self, stop: &CancellationToken) {
        for shard in &self.shards {
            tokio::spawn(Arc::clone(shard).supervise(stop.clone()));
        }
    }

    /// Waits until every shard was connected to.
    pub async fn reached(&self) {
        for shard in &self.shards {
            shard.reached().await;
        }
    }

    /// Waits until a server turns out to be set up so that it cannot be used, before its shard was
    /// connected to; then says why.
    pub async fn unfit(&self) -> String {
        let shards = self.shards.iter().map(|shard| Box::pin(shard.unfit()));
        // There is one at least.
        futures_util::future::select_all(shards).await.0
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All shards, in the order of the configuration.
    pub fn shards(&self) -> &[Arc<Shard>] {
        &self.shards
    }

    /// The shard that keeps a channel.
    pub fn shard(&self, channel: &str) -> &Arc<Shard> {
        // The configuration has one at least, and `shard_of` stays below their number.
        &self.shards[shard_of(channel, self.shards.len())]
    }
}
