//! A reader: keeps a subscription as an SDK would, and writes down all that it is told.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::dial::{Caller, Dial};
use super::event::{Event, Reader, Start};
use super::journal::Journal;
use super::secret::Hidden;
use super::writer::Payload;
use crate::client::{Endpoint, Error, Incoming};
use crate::protocol::command::SubscribeRequest;
use crate::protocol::publication::Publication;
use crate::protocol::reply::SubscribeResult;
use crate::time::jittered;

/// Before it tries again, up to twice this.
const BACKOFF: Duration = Duration::from_millis(400);
/// The longest for a connection with its handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// A connection on which nothing came for so long, no ping either, is given up.
const DEAF: Duration = Duration::from_secs(60);
/// For how long a reader goes away.
const AWAY: Duration = Duration::from_millis(700);

/// Who reads what, where.
#[derive(Clone, Debug)]
pub struct ReaderTask {
    pub reader: Reader,
    pub channel: String,
    /// Where there are several, the next one is taken when a connection ends.
    pub endpoints: Vec<Endpoint>,
    pub dial: Dial,
    pub token: Hidden,
    /// How often it goes away for a moment, to come back and recover.
    pub leaves_every: Option<Duration>,
}

/// Reads for one drill.
struct Reading {
    task: ReaderTask,
    journal: Arc<Journal>,
    position: Option<(String, u64)>,
    /// The endpoint of the next connection.
    endpoint: usize,
}

/// Why a connection is over.
enum Over {
    Dropped,
    Left,
}

impl ReaderTask {
    /// Reads until it is dropped.
    pub async fn run(self, journal: Arc<Journal>) {
        let endpoint = self.reader as usize % self.endpoints.len().max(1);
        let reading = Reading { task: self, journal, position: None, endpoint };
        reading.run().await;
    }
}

impl Reading {
    async fn run(mut self) {
        loop {
            match self.connect().await {
                Ok(client) => match self.stay(client).await {
                    Over::Left => {
                        sleep(AWAY).await;
                        self.note(Event::Returning { reader: self.task.reader });
                    }
                    Over::Dropped => {
                        self.note(Event::Dropped { reader: self.task.reader });
                        sleep(jittered(BACKOFF)).await;
                    }
                },
                Err(_) => {
                    self.note(Event::Failed { reader: self.task.reader });
                    sleep(jittered(BACKOFF)).await;
                }
            }
            self.endpoint += 1;
        }
    }

    async fn connect(&self) -> Result<Caller, Error> {
        let endpoints = &self.task.endpoints;
        let endpoint = endpoints.get(self.endpoint % endpoints.len().max(1));
        let endpoint =
            endpoint.ok_or(Error::Handshake("there is nowhere to connect".to_owned()))?;
        let connecting = async {
            let mut client = self.task.dial.open(endpoint).await?;
            client.connect(self.task.token.expose()).await?;
            Ok(client)
        };
        timeout(CONNECT, connecting).await.map_err(|_| Error::Timeout(CONNECT))?
    }

    /// Until the connection is over.
    async fn stay(&mut self, mut client: Caller) -> Over {
        let leaving = self.task.leaves_every.map(jittered);
        let leaves = async {
            match leaving {
                Some(after) => sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(leaves);
        if self.subscribe(&mut client).await.is_break() {
            return Over::Dropped;
        }
        loop {
            let incoming = tokio::select! {
                incoming = client.next(DEAF) => incoming,
                () = &mut leaves => {
                    self.note(Event::Left { reader: self.task.reader });
                    let _ = client.close().await;
                    return Over::Left;
                }
            };
            let Ok(incoming) = incoming else { return Over::Dropped };
            let push = match incoming {
                Incoming::Push(push) => push,
                Incoming::Closed(_) => return Over::Dropped,
                Incoming::Reply(_) | Incoming::Ping | Incoming::NativePing => continue,
            };
            if let Some(publication) = &push.publication {
                self.got(publication);
            }
            if push.unsubscribe.is_some() {
                self.note(Event::Voided { reader: self.task.reader });
                if self.subscribe(&mut client).await.is_break() {
                    return Over::Dropped;
                }
            }
        }
    }

    /// Asks for the channel until it gets it; breaks when the connection is over.
    async fn subscribe(&mut self, client: &mut Caller) -> ControlFlow<()> {
        let reader = self.task.reader;
        loop {
            let (epoch, offset) = self.position.clone().unwrap_or_default();
            let request = SubscribeRequest {
                channel: self.task.channel.clone(),
                recover: self.position.is_some(),
                epoch,
                offset,
                ..SubscribeRequest::default()
            };
            self.note(Event::Asked { reader });
            match client.subscribe_with(request).await {
                Ok(result) => {
                    self.joined(&result);
                    return ControlFlow::Continue(());
                }
                Err(Error::Refused(_)) => {
                    self.note(Event::Failed { reader });
                    sleep(jittered(BACKOFF)).await;
                }
                Err(_) => return ControlFlow::Break(()),
            }
        }
    }

    fn joined(&mut self, result: &SubscribeResult) {
        let start = match (&self.position, result.recovered) {
            (None, _) => Start::Fresh,
            (Some(_), true) => Start::Recovered,
            (Some(_), false) => Start::Told,
        };
        self.note(Event::Joined { reader: self.task.reader, start });
        self.position = Some((result.epoch.clone(), result.offset));
        if start == Start::Recovered {
            result.publications.iter().for_each(|publication| self.got(publication));
        }
        if let Some((_, offset)) = &mut self.position {
            *offset = result.offset.max(*offset);
        }
    }

    fn got(&mut self, publication: &Publication) {
        if let Some((_, offset)) = &mut self.position {
            *offset = publication.offset;
        }
        // Others may publish into a channel of a cluster that is only watched.
        if let Ok(Payload { writer, number }) = serde_json::from_slice(&publication.data) {
            self.note(Event::Got { reader: self.task.reader, writer, number });
        }
    }

    fn note(&self, event: Event) {
        self.journal.note(event);
    }
}
