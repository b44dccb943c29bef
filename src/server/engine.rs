//! What `engine` says: where streams and presence are kept.

use std::sync::Arc;

use crate::broker::{Broker, MemoryBroker, Receiver, RedisBroker};
use crate::config::Config;
use crate::config::engine::EngineType;
use crate::hub::Hub;
use crate::lifecycle::Lifecycle;
use crate::presence::{MemoryPresence, Presence, RedisPresence};
use crate::redis::{Keys, OptionsError, Receive, Redis};
use crate::time::Clock;

/// The backends of one node.
pub enum Engine {
    Memory,
    Redis { redis: Arc<Redis>, broker: Arc<RedisBroker>, presence: Arc<RedisPresence> },
}

impl Engine {
    /// Reads the configuration; nothing is connected before [`Engine::start`].
    ///
    /// # Errors
    /// Names the key that cannot be used.
    pub fn new(config: &Config, hub: &Arc<Hub>, clock: &Clock) -> Result<Self, OptionsError> {
        if config.engine.r#type == EngineType::Memory {
            return Ok(Self::Memory);
        }
        let settings = &config.engine.redis;
        let keys = Keys::new(&settings.prefix);
        let spread = settings.failover_spread;
        let receiver: Arc<dyn Receive> =
            Arc::new(Receiver::new(Arc::clone(hub), clock.clone(), keys, spread));
        let redis = Redis::new(settings, clock, &receiver)?;
        let broker = Arc::new(RedisBroker::new(Arc::clone(&redis), clock.clone()));
        let presence = RedisPresence::new(
            Arc::clone(&redis),
            clock.clone(),
            settings.presence_ttl,
            config.client.presence_update_interval,
            settings.presence_user_mapping,
        );
        Ok(Self::Redis { redis, broker, presence })
    }

    pub fn broker(&self, hub: &Arc<Hub>, clock: &Clock) -> Broker {
        match self {
            Self::Memory => Broker::Memory(MemoryBroker::new(Arc::clone(hub), clock.clone())),
            Self::Redis { broker, .. } => Broker::Redis(Arc::clone(broker)),
        }
    }

    pub fn presence(&self) -> Presence {
        match self {
            Self::Memory => Presence::Memory(MemoryPresence::default()),
            Self::Redis { presence, .. } => Presence::Redis(Arc::clone(presence)),
        }
    }

    /// Connects, and keeps connected until the hard stop.
    pub fn start(&self, lifecycle: &Lifecycle) {
        if let Self::Redis { redis, presence, .. } = self {
            tracing::warn!(
                "nodes do not command each other yet: disconnect, subscribe, unsubscribe, refresh, \
                 info and channels of the server API concern the node that is asked alone"
            );
            presence.start(&lifecycle.hard);
            redis.start(&lifecycle.hard);
        }
    }

    /// Whether it needs nothing that could be away.
    pub fn is_here(&self) -> bool {
        matches!(self, Self::Memory)
    }

    /// Waits until everything it needs was there.
    pub async fn reached(&self) {
        if let Self::Redis { redis, .. } = self {
            redis.reached().await;
        }
    }
}
