//! Trying again: what may pass is tried until a limit, everything else fails at once.
//!
//! The driver repeats a retryable command once, which is not enough for an election. All writes here
//! are idempotent, so they may be repeated as often as time allows.

use std::error::Error as _;
use std::time::Duration;

use futures_util::Future;
use mongodb::error::{Error, ErrorKind, RETRYABLE_WRITE_ERROR, WriteFailure};
use tokio::time::{sleep, timeout};

use crate::archive::StoreError;
use crate::time::jittered;

/// Pauses between attempts grow from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Two documents with one key.
pub const DUPLICATE_KEY: i32 = 11_000;

/// The server's disk is full.
const OUT_OF_DISK_SPACE: i32 = 14_031;

/// Codes of what passes: elections, stops, a busy or an interrupted server, and chunks that move.
const PASSING: [i32; 26] = [
    6, 7, 50, 63, 64, 89, 91, 112, 133, 134, 150, 175, 189, 234, 262, 317, 358, 384, 462, 9_001,
    10_107, 11_600, 11_602, 13_388, 13_435, 13_436,
];

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// It may do better in a moment.
    Passing(String),
    /// The same, and nothing was sent.
    Unsent(String),
    Final(StoreError),
}

/// How long to wait for the next attempt.
pub struct Pauses(Duration);

impl Pauses {
    pub fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub async fn wait(&mut self) {
        sleep(jittered(self.0)).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// Calls `attempt` until it succeeds or fails for good, for `limit` at most.
///
/// # Errors
/// What does not pass; [`StoreError::Unavailable`] with the last failure when the time is over.
pub async fn repeat<T, F: Future<Output = Result<T, Failure>>>(
    limit: Duration,
    attempt: impl Fn() -> F,
) -> Result<T, StoreError> {
    let mut last = no_answer(limit);
    let attempts = async {
        let mut pauses = Pauses::new();
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why) | Failure::Unsent(why)) => last = why,
            }
            pauses.wait().await;
        }
    };
    let done = timeout(limit, attempts).await;
    done.unwrap_or_else(|_| Err(StoreError::Unavailable(last)))
}

/// Whether a code says that it may do better in a moment.
pub fn is_passing(code: i32) -> bool {
    PASSING.contains(&code)
}

/// What a code says of a document that was not written.
pub fn of_code(code: i32, message: &str) -> Failure {
    match code {
        OUT_OF_DISK_SPACE => Failure::Final(StoreError::Full),
        _ if is_passing(code) => Failure::Passing(message.to_owned()),
        _ => Failure::Final(StoreError::Unavailable(format!("{message} (code {code})"))),
    }
}

/// Why there was no answer at all.
pub fn no_answer(limit: Duration) -> String {
    format!("no answer within {} ms", limit.as_millis())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        if error.contains_label(RETRYABLE_WRITE_ERROR) {
            return Self::Passing(text);
        }
        match &*error.kind {
            ErrorKind::Command(failed) => of_code(failed.code, &failed.message),
            ErrorKind::Write(WriteFailure::WriteError(failed)) => {
                of_code(failed.code, &failed.message)
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(failed)) => {
                of_code(failed.code, &failed.message)
            }
            ErrorKind::ServerSelection { .. } => Self::Unsent(text),
            ErrorKind::Io(_)
            | ErrorKind::ConnectionPoolCleared { .. }
            | ErrorKind::DnsResolve { .. } => Self::Passing(text),
            ErrorKind::BulkWrite(_) => match error.source() {
                Some(source) => Self::Passing(source.to_string()),
                None => Self::Passing(text),
            },
            _ => Self::Final(StoreError::Unavailable(text)),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_tried_again_and_nothing_else() {
        let tries = AtomicU32::new(0);
        let attempt = |last: Result<u32, Failure>| {
            let tries = &tries;
            move || {
                let (turn, last) = (tries.fetch_add(1, Ordering::Relaxed), last.clone());
                async move { if turn < 3 { Err(of_code(10_107, "not primary")) } else { last } }
            }
        };
        let limit = Duration::from_secs(5);
        assert_eq!(repeat(limit, attempt(Ok(7))).await, Ok(7));
        assert_eq!(tries.swap(0, Ordering::Relaxed), 4);
        let full = Err(of_code(OUT_OF_DISK_SPACE, "no room"));
        assert_eq!(repeat(limit, attempt(full)).await, Err(StoreError::Full));
        assert_eq!(tries.swap(0, Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn the_limit_ends_it_with_the_last_failure() {
        let never = || async { Err::<(), _>(of_code(10_107, "not primary")) };
        let ended = repeat(Duration::from_secs(2), never).await;
        assert_eq!(ended, Err(StoreError::Unavailable("not primary".into())));
        let silent = || std::future::pending::<Result<(), Failure>>();
        let ended = repeat(Duration::from_secs(2), silent).await;
        assert_eq!(ended, Err(StoreError::Unavailable("no answer within 2000 ms".into())));
    }
}
