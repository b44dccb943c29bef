//! What `history` says: where archived publications are stored.

use std::sync::Arc;

use crate::archive::{EPOCH_LETTERS, EmbeddedSettings, EmbeddedStore, OpenError, SharedStore};
use crate::config::history::{History, HistoryStore};
use crate::time::random_letters;

/// Opens the store.
///
/// # Errors
/// It cannot be used, and why.
pub fn open(history: &History) -> Result<SharedStore, OpenError> {
    match history.store {
        HistoryStore::Embedded => {
            let settings = EmbeddedSettings {
                path: history.path.as_str().into(),
                cache: history.file_cache_size,
            };
            Ok(Arc::new(EmbeddedStore::open(&settings, random_letters(EPOCH_LETTERS))?))
        }
    }
}
