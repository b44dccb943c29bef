//! Which store everything is brought to, where stores are of one process each: with two of them each
//! would get a part.
//!
//! A key in Redis has the name of the store as long as its process renews it. Who finds another name
//! there consumes nothing.

use std::sync::Arc;
use std::time::Duration;

use compact_str::{CompactString, format_compact};
use tokio::sync::watch as latest;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::RETRY;
use crate::redis::{CallError, Command, Keys, Route, Shard, Value};

/// A process that is gone without a word counts for so long.
const LIVES: Duration = Duration::from_secs(60);
/// How often a process says that it is there.
const RENEW: Duration = Duration::from_secs(20);
/// Between two tries that Redis refuses.
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// How long a process that ends tries to say so.
const FAREWELL: Duration = Duration::from_secs(1);

/// The name of a store on a Redis.
pub(super) struct Claim {
    shard: Arc<Shard>,
    key: CompactString,
    store: CompactString,
    holder: CompactString,
}

/// What is to be archived goes into another store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the store of {own} cannot be used, since what is published here goes into that of {other}: with \
     history.store = \"embedded\" only one process may consume (one that was killed counts for a minute); \
     give it an engine.redis.prefix of its own, or use history.store = \"mongo\""
)]
pub struct Taken {
    own: CompactString,
    other: CompactString,
}

/// Whether a process may consume: none until that is known.
pub(super) type Fit = Option<Result<(), Taken>>;

/// Finds out whether this process may consume, and holds the claim until `end`.
pub(super) fn settle(claim: Option<Arc<Claim>>, end: &CancellationToken) -> latest::Receiver<Fit> {
    let Some(claim) = claim else { return latest::channel(Some(Ok(()))).1 };
    let (tell, fit) = latest::channel(None);
    tokio::spawn(end.clone().run_until_cancelled_owned(async move {
        let settled = claim.settle().await;
        let is_ours = settled.is_ok();
        tell.send_replace(Some(settled));
        if is_ours {
            claim.keep().await;
        }
    }));
    fit
}

/// Whether to consume, as soon as that is known; not if it is time to stop.
pub(super) async fn may_begin(mut fit: latest::Receiver<Fit>, stop: CancellationToken) -> bool {
    let known = async {
        let known = fit.wait_for(Option::is_some).await;
        known.is_ok_and(|known| matches!(*known, Some(Ok(()))))
    };
    stop.run_until_cancelled(known).await.unwrap_or(false)
}

impl Claim {
    /// For the store that is called `store`, of the process that is called `holder`.
    pub fn new(shard: &Arc<Shard>, keys: &Keys, store: &str, holder: &str) -> Self {
        let (shard, key) = (Arc::clone(shard), keys.archive_store());
        Self { shard, key, store: store.into(), holder: holder.into() }
    }

    /// Asks until Redis answers.
    ///
    /// # Errors
    /// There is another store.
    pub async fn settle(&self) -> Result<(), Taken> {
        loop {
            match self.take().await {
                Ok(taken) => return taken,
                Err(CallError::Refused(why)) => {
                    tracing::warn!(%why, "Redis does not say whether another store is there, trying on");
                    tokio::time::sleep(AFTER_REFUSAL).await;
                }
                // Shards say themselves that they are away.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }

    /// Renews it for ever.
    pub async fn keep(&self) {
        loop {
            tokio::time::sleep(RENEW).await;
            if let Ok(Err(error)) = self.take().await {
                tracing::error!(%error, "two stores consume, and each gets a part");
            }
        }
    }

    /// Gives it back, if that can be done soon.
    pub async fn release(&self) {
        let releasing = async {
            if self.read().await.is_ok_and(|there| there.is_some_and(|there| self.is_own(&there))) {
                let delete = |_: &Route| Command::new("DEL").arg(&self.key);
                let _ = self.shard.call(&self.key, delete).await;
            }
        };
        let _ = timeout(FAREWELL, releasing).await;
    }

    async fn take(&self) -> Result<Result<(), Taken>, CallError> {
        if self.set("NX").await? != Value::Nil {
            return Ok(Ok(()));
        }
        match self.read().await? {
            Some(there) if !self.is_own(&there) => {
                Ok(Err(Taken { own: self.text(), other: there }))
            }
            Some(_) => self.set("XX").await.map(|_| Ok(())),
            // It ended a moment ago.
            None => Err(CallError::Unavailable),
        }
    }

    async fn set(&self, when: &'static str) -> Result<Value, CallError> {
        let set = |_: &Route| {
            let command = Command::new("SET").arg(&self.key).arg(self.text()).arg(when);
            command.arg("EX").number(LIVES.as_secs())
        };
        self.shard.call(&self.key, set).await
    }

    async fn read(&self) -> Result<Option<CompactString>, CallError> {
        let get = |_: &Route| Command::new("GET").arg(&self.key);
        Ok(self.shard.call(&self.key, get).await?.str().map(Into::into))
    }

    fn text(&self) -> CompactString {
        format_compact!("{} ({})", self.holder, self.store)
    }

    /// The same store in another process: the one before, since a file has one at a time.
    fn is_own(&self, there: &str) -> bool {
        there.rsplit_once(" (").is_some_and(|(_, store)| store.trim_end_matches(')') == self.store)
    }
}
