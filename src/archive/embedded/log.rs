//! Taking what was deleted out of the write-ahead log, where it stands until the log is written anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::BUSY;
use super::writer::Work;

/// After a deletion; more of them are cleaned up after together.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Between two tries while somebody reads.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Sees to it that the log is emptied some time after deletions.
#[derive(Clone, Default)]
pub struct Cleaning {
    /// A task will do so that has not begun.
    is_due: Arc<AtomicBool>,
}

impl Cleaning {
    /// Something was deleted.
    pub fn begin(&self, work: &mpsc::Sender<Work>) {
        if self.is_due.swap(true, Ordering::AcqRel) {
            return;
        }
        let (is_due, work) = (Arc::clone(&self.is_due), work.downgrade());
        tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                // Who deletes from here on begins anew.
                is_due.store(false, Ordering::Release);
                let Some(work) = work.upgrade() else { return };
                let (answer, answered) = oneshot::channel();
                if work.send(Work::Clean { answer }).await.is_err() {
                    return;
                }
                drop(work);
                let Ok(cleaned) = answered.await else { return };
                let is_done = cleaned.unwrap_or(false);
                if is_done || is_due.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        });
    }
}

/// Writes all of the log into the file and cuts it off; false if somebody reads what is in it.
pub fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    // Nobody waits for readers, least of all those who publish.
    connection.busy_timeout(Duration::ZERO)?;
    let is_busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
    connection.busy_timeout(BUSY)?;
    is_busy.map(|is_busy: bool| !is_busy)
}
