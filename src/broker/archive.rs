//! What a broker with archived channels reads them from, whichever engine has their streams.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;

use super::BrokerError;
use crate::archive::{Blocks, SharedStore, StoreError};
use crate::protocol::publication::Publication;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::seldom::Seldom;
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
    clock: Clock,
    complaints: Seldom,
    pub(super) metrics: Arc<Metrics>,
}

impl Archive {
    pub fn new(store: SharedStore, clock: Clock, limits: Limits, metrics: Arc<Metrics>) -> Self {
        let (shared, counted) = (Arc::clone(&store), Arc::clone(&metrics));
        let blocks = Blocks::new(shared, clock.clone(), counted, limits.cache);
        Self { store, blocks, limits, clock, complaints: Seldom::default(), metrics }
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

    /// Refuses what the store would never take, before anybody is told that it will be there.
    pub(super) fn check_size(&self, publication: &Publication) -> Result<(), BrokerError> {
        match publication.encoded_len() <= self.store.largest() {
            true => Ok(()),
            false => Err(BrokerError::BadRequest(
                "the publication is larger than the archive takes: 15 MiB with MongoDB",
            )),
        }
    }

    /// The store cannot be read, which may be so for many at once.
    pub(super) fn unavailable(&self, error: &StoreError) -> BrokerError {
        if self.complaints.may(self.clock.unix_millis()) {
            tracing::error!(%error, "the archive cannot be read");
        }
        BrokerError::ArchiveUnavailable
    }
}
