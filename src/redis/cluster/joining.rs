//! Keeps the connections for commands to one master of a cluster, and tells when there are some, and
//! when what is published over them is heard.

use std::sync::Arc;

use compact_str::CompactString;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::redis::canary::Singer;
use crate::redis::complaint::Complaint;
use crate::redis::dial::ConnectionError;
use crate::redis::keys::Keys;
use crate::redis::link::Link;
use crate::redis::routes::Attachment;
use crate::redis::shard::{RETRY, Shard, reason};
use crate::redis::single::Tasks;
use crate::redis::slots::{Master, tag_of};

/// See the [module](self).
pub(super) struct Joining {
    pub shard: Arc<Shard>,
    pub keys: Keys,
    pub master: Master,
    pub number: u64,
    pub events: mpsc::Sender<Event>,
    /// Where the readers hear everything, if anywhere.
    pub hearing: watch::Receiver<Option<u64>>,
    pub stop: CancellationToken,
}

impl Joining {
    pub async fn keep(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(async {
            let mut complaint = Complaint::default();
            let singer = self.shard.canaries().singer(&self.master.id, self.canary_key());
            loop {
                let mut tasks = JoinSet::new();
                match self.open(&mut tasks).await {
                    Err(error) => {
                        singer.way().lost(&error);
                        complaint.about(&self.shard, &self.master.place, &error);
                    }
                    Ok(attachment) => {
                        complaint = Complaint::default();
                        singer.way().connected();
                        let link = attachment.publishing().clone();
                        let up =
                            Event::Up(self.master.place.clone(), self.number, Box::new(attachment));
                        let _ = self.events.send(up).await;
                        let error = tokio::select! {
                            ended = tasks.join_next() => reason(ended),
                            error = self.sing(&singer, &link) => error,
                        };
                        singer.way().lost(&error);
                        let (shard, place) = (self.shard.number(), &self.master.place);
                        tracing::warn!(shard, %place, %error, "Redis was lost");
                    }
                }
                let _ = self.events.send(Event::Down(self.master.place.clone(), self.number)).await;
                tasks.shutdown().await;
                tokio::time::sleep(RETRY).await;
            }
        })
        .await;
    }

    /// What canaries are written under: a key in a slot that is at this master, as far as is known.
    fn canary_key(&self) -> impl Fn() -> Option<CompactString> + use<> {
        let (shard, keys, place) =
            (Arc::clone(&self.shard), self.keys.clone(), self.master.place.clone());
        let last: Mutex<Option<(u16, CompactString)>> = Mutex::default();
        move || {
            let mut last = last.lock();
            let before = last.as_ref().map(|(slot, _)| *slot);
            let slot = shard.routes().slot_at(&place, before)?;
            if before != Some(slot) {
                *last = Some((slot, keys.canary_in(shard.number(), &tag_of(slot))));
            }
            last.as_ref().map(|(_, key)| key.clone())
        }
    }

    /// Sends canaries for as long as the master is connected to and the readers hear.
    async fn sing(&self, singer: &Singer, link: &Link) -> ConnectionError {
        let mut hearing = self.hearing.clone();
        loop {
            let home = *hearing.borrow_and_update();
            let showing = async {
                match home {
                    Some(home) => self.show_heard(singer, link, home).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                error = showing => return error,
                // They are elsewhere now. With the supervisor this ends as well.
                changed = hearing.changed() => if changed.is_err() {
                    return ConnectionError::Closed;
                },
            }
        }
    }

    /// Shows that what is published over the master is heard, and tells when it is and when it is not.
    /// Ends when nobody listens any more.
    async fn show_heard(&self, singer: &Singer, link: &Link, home: u64) -> ConnectionError {
        let mut complaint = Complaint::default();
        let limit = self.shard.options().access.io_timeout;
        loop {
            let error = match singer.prove(link, limit).await {
                Ok(()) => {
                    complaint = Complaint::default();
                    let heard = Event::Heard(self.master.place.clone(), self.number, home);
                    // The supervisor is gone, or takes it; and so below.
                    let _ = self.events.send(heard).await;
                    singer.until_unheard(link).await
                }
                Err(error) => error,
            };
            complaint.about(&self.shard, &self.master.place, &error);
            let unheard = Event::Unheard(self.master.place.clone(), self.number);
            if self.events.send(unheard).await.is_err() {
                return error;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn open(&self, tasks: &mut Tasks) -> Result<Attachment, ConnectionError> {
        let (options, keys) = (self.shard.options(), self.keys.clone());
        let (attachment, drivers) =
            Attachment::open(&self.master.place, options, keys, None, true, self.shard.meter())
                .await?;
        for driver in drivers {
            tasks.spawn(driver.run(self.stop.clone()));
        }
        Ok(attachment)
    }
}
