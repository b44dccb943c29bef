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

/// Opens the store.
///
/// # Errors
/// It cannot be used, and why.
pub async fn open(history: &History) -> Result<SharedStore, OpenError> {
    // Names the first epoch, if nothing was stored yet.
    let epoch = random_letters(EPOCH_LETTERS);
    match history.store {
        HistoryStore::Embedded => {
            let settings = EmbeddedSettings {
                path: history.path.as_str().into(),
                cache: history.file_cache_size,
            };
            Ok(Arc::new(EmbeddedStore::open(&settings, epoch)?))
        }
        HistoryStore::Mongo => {
            let settings = MongoSettings {
                uri: history.mongo.uri.clone(),
                database: history.mongo.database.clone(),
                read_timeout: history.mongo.read_timeout,
                write_timeout: history.mongo.write_timeout,
            };
            Ok(Arc::new(MongoStore::open(&settings, epoch).await?))
        }
    }
}
