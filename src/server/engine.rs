//! What `engine` says: where streams and presence are kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::archive::SharedStore;
use crate::broker::{
    Archive, ArchivedBroker, Broker, ControlNames, ControlOutlet, Controller, Limits, MemoryBroker,
    Receiver, RedisBroker, RedisControl, Stored, control_queue,
};
use crate::config::Config;
use crate::config::engine::EngineType;
use crate::hub::Hub;
use crate::ingest::Arrivals;
use crate::lifecycle::Lifecycle;
use crate::node::Peers;
use crate::presence::{MemoryPresence, Presence, RedisPresence};
use crate::redis::{Keys, OptionsError, Receive, Redis, Reporting};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// The backends of one node.
pub enum Engine {
    /// With the store that archived streams are kept in, if any are.
    Memory { user_keys: usize, store: Option<SharedStore> },
    Redis {
        redis: Arc<Redis>,
        broker: Arc<RedisBroker>,
        presence: Arc<RedisPresence>,
        hub: Arc<Hub>,
        /// What consumers of this process are told.
        arrivals: Arc<Arrivals>,
        /// The time over which those are told that have missed something.
        spread: Duration,
    },
}

impl Engine {
    /// Reads the configuration; nothing is connected before [`Engine::start`]. With the backends come
    /// the way to other nodes, and what they say.
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(
        config: &Config,
        hub: &Arc<Hub>,
        clock: &Clock,
        reporting: &Reporting,
        store: Option<SharedStore>,
    ) -> Result<(Self, Peers, Option<ControlOutlet>), OptionsError> {
        if config.engine.r#type == EngineType::Memory {
            let user_keys = config.client.publish_idempotency_keys as usize;
            return Ok((Self::Memory { user_keys, store }, Peers::none(), None));
        }
        let id = Uuid::new_v4();
        let uid = id.to_string();
        let (inlet, outlet) = control_queue(clock.clone(), Arc::clone(&reporting.metrics));
        let settings = &config.engine.redis;
        let keys = Keys::new(&settings.prefix);
        let spread = settings.failover_spread;
        let control = ControlNames::new(&keys, &uid, inlet);
        let receiver = Receiver::new(Arc::clone(hub), clock.clone(), keys, spread);
        let receiver = receiver.with_control(control);
        let (stored, arrivals) = (Arc::<Stored>::default(), Arc::<Arrivals>::default());
        let (heard, names) = (Arc::clone(&arrivals), Keys::new(&settings.prefix));
        let receiver: Arc<dyn Receive> = match store.is_some() {
            true => {
                let receiver = receiver.with_stored(Arc::clone(&stored));
                let listener = move |name: &str, message: &Bytes| heard.take(&names, name, message);
                Arc::new(receiver.with_listener(Box::new(listener)))
            }
            false => Arc::new(receiver),
        };
        let redis = match store.is_some() {
            true => Redis::archiving(settings, clock, &receiver, reporting)?,
            false => Redis::reporting(settings, clock, &receiver, reporting)?,
        };
        let broker = RedisBroker::new(Arc::clone(&redis), clock.clone());
        let broker = broker.with_health(Arc::clone(&reporting.health));
        let broker = Arc::new(match store {
            Some(store) => {
                let archive = archive(store, config, clock, &reporting.metrics);
                broker.with_archive(archive, stored)
            }
            None => broker,
        });
        let presence = RedisPresence::new(
            Arc::clone(&redis),
            clock.clone(),
            settings,
            config.client.presence_update_interval,
        );
        let controller = RedisControl::new(Arc::clone(&redis), clock.clone(), &uid);
        let peers = Peers::new(id, Controller::Redis(controller));
        let hub = Arc::clone(hub);
        Ok((Self::Redis { redis, broker, presence, hub, arrivals, spread }, peers, Some(outlet)))
    }

    pub fn broker(
        &self,
        config: &Config,
        hub: &Arc<Hub>,
        clock: &Clock,
        reporting: &Reporting,
    ) -> Broker {
        match self {
            Self::Memory { user_keys, store } => {
                let streams = MemoryBroker::new(Arc::clone(hub), clock.clone());
                let streams = streams.with_user_keys(*user_keys);
                let Some(store) = store else { return Broker::Memory(streams) };
                let Reporting { health, metrics } = reporting;
                let archive = archive(Arc::clone(store), config, clock, metrics);
                let archived = ArchivedBroker::new(streams, archive, clock.clone());
                Broker::Archived(Box::new(archived.with_health(Arc::clone(health))))
            }
            Self::Redis { broker, .. } => Broker::Redis(Arc::clone(broker)),
        }
    }

    pub fn presence(&self) -> Presence {
        match self {
            Self::Memory { .. } => Presence::Memory(MemoryPresence::default()),
            Self::Redis { presence, .. } => Presence::Redis(Arc::clone(presence)),
        }
    }

    /// Connects, and keeps connected until the hard stop.
    pub fn start(&self, lifecycle: &Lifecycle) {
        if let Self::Redis { redis, broker, presence, hub, spread, .. } = self {
            presence.start(&lifecycle.hard);
            broker.start(hub, *spread, &lifecycle.hard);
            redis.start(&lifecycle.hard);
        }
    }

    /// The connections to Redis, if that is the engine, and what consumers hear over them.
    pub fn redis(&self) -> Option<(&Arc<Redis>, &Arc<Arrivals>)> {
        match self {
            Self::Memory { .. } => None,
            Self::Redis { redis, arrivals, .. } => Some((redis, arrivals)),
        }
    }

    /// Whether it needs nothing that could be away.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Memory { .. })
    }

    /// Waits until everything it needs was there.
    ///
    /// # Errors
    /// It is there, and set up so that it cannot be used.
    pub async fn reached(&self) -> Result<(), String> {
        let Self::Redis { redis, .. } = self else { return Ok(()) };
        tokio::select! {
            () = redis.reached() => Ok(()),
            why = redis.unfit() => Err(why),
        }
    }
}

fn archive(store: SharedStore, config: &Config, clock: &Clock, metrics: &Arc<Metrics>) -> Archive {
    let history = &config.history;
    let limits = Limits {
        backlog: history.backlog as usize,
        recovery_publications: history.recovery_max_publications.into(),
        recovery_bytes: history.recovery_max_size,
        recovery_age: history.recovery_max_age,
        cache: history.recovery_cache_size,
        ack_timeout: history.ack_timeout,
    };
    Archive::new(store, clock.clone(), limits, Arc::clone(metrics))
}
