//! What `history` says: where archived publications are stored.

use std::sync::Arc;

use crate::archive::{
    EPOCH_LETTERS, EmbeddedSettings, EmbeddedStore, MongoOpenError, MongoSettings, MongoStore,
    SharedStore,
};
use crate::config::history::{History, HistoryStore};
use crate::time::random_letters;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Embedded(#[from] crate::archive::OpenError),
    #[error(transparent)]
    Mongo(#[from] MongoOpenError),
}

/// Opens the store, made if there is none.
///
/// # Errors
/// It cannot be used, and why.
pub async fn open(history: &History) -> Result<SharedStore, OpenError> {
    // Names the first epoch, if nothing was stored yet.
    let epoch = random_letters(EPOCH_LETTERS);
    Ok(match history.store {
        HistoryStore::Embedded => Arc::new(EmbeddedStore::open(&embedded(history), epoch)?),
        HistoryStore::Mongo => Arc::new(MongoStore::open(&mongo(history), epoch).await?),
    })
}

/// Opens a store that is there.
///
/// # Errors
/// It is not there or cannot be used, and why.
pub async fn open_existing(history: &History) -> Result<SharedStore, OpenError> {
    Ok(match history.store {
        HistoryStore::Embedded => Arc::new(EmbeddedStore::open_existing(&embedded(history))?),
        HistoryStore::Mongo => Arc::new(MongoStore::open_existing(&mongo(history)).await?),
    })
}

fn embedded(history: &History) -> EmbeddedSettings {
    EmbeddedSettings { path: history.path.as_str().into(), cache: history.file_cache_size }
}

fn mongo(history: &History) -> MongoSettings {
    MongoSettings {
        uri: history.mongo.uri.clone(),
        database: history.mongo.database.clone(),
        read_timeout: history.mongo.read_timeout,
        write_timeout: history.mongo.write_timeout,
    }
}
