//! Keeps the connections for commands to one master of a cluster, and tells when there are some.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Event;
use crate::redis::dial::ConnectionError;
use crate::redis::keys::Keys;
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
            loop {
                let mut tasks = JoinSet::new();
                match self.open(&mut tasks).await {
                    Err(error) => complaint.about(&self.shard, &self.place, &error),
                    Ok(attachment) => {
                        complaint = Complaint::default();
                        let up = Event::Up(self.place.clone(), self.number, Box::new(attachment));
                        let _ = self.events.send(up).await;
                        let error = reason(tasks.join_next().await);
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

    async fn open(&self, tasks: &mut Tasks) -> Result<Attachment, ConnectionError> {
        let (options, keys) = (self.shard.options(), self.keys.clone());
        let (attachment, drivers) =
            Attachment::open(&self.place, options, keys, None, true).await?;
        for driver in drivers {
            tasks.spawn(driver.run(self.stop.clone()));
        }
        Ok(attachment)
    }
}
