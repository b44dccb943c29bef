//! Keeps the connections for commands to one master of a cluster, and tells when there are some.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::redis::canary::Singer;
use crate::redis::dial::ConnectionError;
use crate::redis::keys::Keys;
use crate::redis::link::Link;
use crate::redis::options::Place;
use crate::redis::routes::Attachment;
use crate::redis::shard::{Complaint, RETRY, Shard, reason};
use crate::redis::single::Tasks;

/// See the [module](self).
pub(super) struct Joining {
    pub shard: Arc<Shard>,
    pub keys: Keys,
    pub place: Place,
    pub number: u64,
    pub events: mpsc::Sender<Event>,
    pub stop: CancellationToken,
}

impl Joining {
    pub async fn keep(self) {
        let stop = self.stop.clone();
        stop.run_until_cancelled(async {
            let mut complaint = Complaint::default();
            // Keys of ours have no slot of this master for certain, so that nothing is written.
            let singer = self.shard.canaries().singer(None);
            loop {
                let mut tasks = JoinSet::new();
                match self.open(&mut tasks).await {
                    Err(error) => {
                        singer.way().lost(&error);
                        complaint.about(&self.shard, &self.place, &error);
                    }
                    Ok(attachment) => {
                        complaint = Complaint::default();
                        singer.way().connected();
                        let link = attachment.link.clone();
                        let up = Event::Up(self.place.clone(), self.number, Box::new(attachment));
                        let _ = self.events.send(up).await;
                        let error = tokio::select! {
                            ended = tasks.join_next() => reason(ended),
                            error = self.sing(&singer, &link) => error,
                        };
                        singer.way().lost(&error);
                        let (shard, place) = (self.shard.number(), &self.place);
                        tracing::warn!(shard, %place, %error, "Redis was lost");
                    }
                }
                let _ = self.events.send(Event::Down(self.place.clone(), self.number)).await;
                tasks.shutdown().await;
                tokio::time::sleep(RETRY).await;
            }
        })
        .await;
    }

    /// Sends canaries for as long as the master is connected to.
    async fn sing(&self, singer: &Singer, link: &Link) -> ConnectionError {
        loop {
            let error = singer.until_unheard(link).await;
            // The supervisor is gone, or takes it.
            if self.events.send(Event::Unheard(self.place.clone())).await.is_err() {
                return error;
            }
        }
    }

    async fn open(&self, tasks: &mut Tasks) -> Result<Attachment, ConnectionError> {
        let (options, keys) = (self.shard.options(), self.keys.clone());
        let (attachment, drivers) =
            Attachment::open(&self.place, options, keys, None, true, self.shard.meter()).await?;
        for driver in drivers {
            tasks.spawn(driver.run(self.stop.clone()));
        }
        Ok(attachment)
    }
}
