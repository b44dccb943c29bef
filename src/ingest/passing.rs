//! Since when something waits to be stored, and waiting until what was published so far is.

use std::time::Duration;

use tokio::time::timeout;

use super::calls;
use super::entry::EntryId;
use crate::redis::{CallError, Command, Redis};

/// Between two looks at a stream.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// It was not all stored in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Late {
    #[error("publications still wait to be stored")]
    Waiting,
    #[error(transparent)]
    Redis(#[from] CallError),
}

/// Waits until everything that was published in a channel before this call has left its archive
/// stream, so that the store has it; no longer than `limit`.
///
/// # Errors
/// See [`Late`].
pub async fn passed(redis: &Redis, channel: &str, limit: Duration) -> Result<(), Late> {
    let passing = async {
        let Some(last) = end(redis, channel, calls::tail).await? else { return Ok(()) };
        loop {
            match end(redis, channel, calls::head).await? {
                Some(head) if head <= last => tokio::time::sleep(LOOK_EVERY).await,
                _ => return Ok(()),
            }
        }
    };
    timeout(limit, passing).await.unwrap_or(Err(Late::Waiting))
}

/// Since when the oldest entry of a channel's archive stream waits, in unix milliseconds of Redis; none
/// if nothing waits there. Once that is later than a message, all that was published before the message
/// is stored.
///
/// # Errors
/// See [`CallError`].
pub async fn waits_since(redis: &Redis, channel: &str) -> Result<Option<i64>, CallError> {
    let head = end(redis, channel, calls::head).await?;
    Ok(head.map(|head| i64::try_from(head.ms).unwrap_or(i64::MAX)))
}

async fn end(
    redis: &Redis,
    channel: &str,
    command: impl Fn(&str) -> Command,
) -> Result<Option<EntryId>, CallError> {
    let shard = redis.shard(channel);
    let call = shard.call(channel, |route| command(&route.keys().archive_stream(channel)));
    calls::end_answer(&call.await?)
}
