//! What a broker with archived channels reads them from, whichever engine has their streams.

use std::sync::Arc;
use std::time::Duration;

use crate::archive::{Blocks, SharedStore};
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// What the archive may take and give at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Publications that may wait for the store; in Redis, those of one queue.
    pub backlog: usize,
    /// Publications of one recovery.
    pub recovery_publications: u64,
    /// Bytes of payloads of one recovery.
    pub recovery_bytes: usize,
    /// How old the oldest publication of a recovery may be, unless the client may read history.
    pub recovery_age: Duration,
    /// Bytes of blocks that are remembered.
    pub cache: usize,
    /// The longest that a publish waits to be stored, where that is asked for.
    pub ack_timeout: Duration,
}

/// A store, and reads that clients share.
pub struct Archive {
    store: SharedStore,
    blocks: Blocks,
    limits: Limits,
    pub(super) metrics: Arc<Metrics>,
}

impl Archive {
    pub fn new(store: SharedStore, clock: Clock, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let blocks = Blocks::new(Arc::clone(&store), clock, Arc::clone(&metrics), limits.cache);
        Self { store, blocks, limits, metrics }
    }

    pub fn store(&self) -> &SharedStore {
        &self.store
    }

    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}
