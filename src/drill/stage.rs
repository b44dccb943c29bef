//! What a fault plays on: the topology, the crew, the journal, and the waits between the acts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::api::{Api, CallError};
use super::crew::Entrance;
use super::event::{Event, Reader, Record};
use super::journal::Journal;
use super::lookout::Lookout;
use super::report::Checks;
use super::topology::{Topology, TopologyError};
use super::{DrillError, looks};
use crate::client::{Client, Error};
use crate::time::Clock;

/// The longest that a condition is waited for. A vote of the sentinels may end in a draw, which costs
/// another 20 s.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// For how long all goes on as before between two acts.
const CALM: Duration = Duration::from_secs(2);

/// One drill on the local topology.
pub struct Stage {
    pub topology: Topology,
    pub entrance: Entrance,
    pub journal: Arc<Journal>,
    pub checks: Checks,
    pub clock: Clock,
    /// For how long a database is away.
    pub away: Duration,
    /// What looks at the archive, in drills with one.
    pub lookout: Option<Lookout>,
}

impl Stage {
    /// Waits until everybody publishes and receives, and then a moment longer.
    ///
    /// # Errors
    /// If that does not become so.
    pub async fn calm(&self) -> Result<(), DrillError> {
        self.whole().await?;
        sleep(CALM).await;
        Ok(())
    }

    /// Waits until everybody has published and received something that went out after now.
    ///
    /// # Errors
    /// If that does not become so.
    pub async fn whole(&self) -> Result<(), DrillError> {
        let since = self.journal.now();
        let is_whole = async || self.journal.is_whole_since(since);
        self.until("every writer and every reader is well again", is_whole).await
    }

    /// Waits for a condition.
    ///
    /// # Errors
    /// If it does not come in time; `what` says what that was.
    pub async fn until(
        &self,
        what: &'static str,
        is_so: impl AsyncFnMut() -> bool,
    ) -> Result<(), DrillError> {
        self.until_within(PATIENCE, what, is_so).await
    }

    /// Waits for a condition that may take longer, or less long.
    ///
    /// # Errors
    /// As [`Stage::until`].
    pub async fn until_within(
        &self,
        within: Duration,
        what: &'static str,
        mut is_so: impl AsyncFnMut() -> bool,
    ) -> Result<(), DrillError> {
        let mut looks = looks(LOOK_EVERY);
        let looking = async {
            loop {
                looks.tick().await;
                if is_so().await {
                    return;
                }
            }
        };
        let never = |_| DrillError::Topology(TopologyError::Never(what, within));
        timeout(within, looking).await.map_err(never)
    }

    /// The fault begins.
    pub fn fault(&self) {
        self.journal.note(Event::Fault);
    }

    /// Waits until the sentinels name another master and it is one, and notes the promotion.
    ///
    /// # Errors
    /// If there is none in time.
    pub async fn promotion(&self, former: usize) -> Result<usize, DrillError> {
        let former = self.topology.redis[former].announced;
        let mut successor = None;
        let is_named = async || {
            successor = self.successor(former).await;
            successor.is_some()
        };
        self.until("the sentinels name another master", is_named).await?;
        self.journal.note(Event::Promoted);
        successor.ok_or(DrillError::NoMaster)
    }

    async fn successor(&self, former: SocketAddr) -> Option<usize> {
        for sentinel in &self.topology.sentinels {
            let Ok(named) = sentinel.redis.master_address().await else { continue };
            let node = self.topology.redis.iter().position(|node| node.announced == named)?;
            if named != former && self.topology.redis[node].redis.is_master_of(0).await {
                return Some(node);
            }
        }
        None
    }

    /// The Redis that is the master now.
    ///
    /// # Errors
    /// If there is none.
    pub async fn master(&self) -> Result<usize, DrillError> {
        self.topology.master().await.ok_or(DrillError::NoMaster)
    }

    /// Waits until a Redis follows a master.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn follows(&self, node: usize) -> Result<(), DrillError> {
        let redis = self.topology.redis[node].redis.clone();
        self.until("the former master follows the new one", async || redis.is_following().await)
            .await
    }

    /// A connection of its own, as a client.
    ///
    /// # Errors
    /// What the client says.
    pub async fn client(&self, user: &str) -> Result<Client, Error> {
        let endpoint = self.entrance.endpoints.first();
        let endpoint =
            endpoint.ok_or(Error::Handshake("there is nowhere to connect".to_owned()))?;
        let mut client = Client::open(endpoint).await?;
        client.connect(self.entrance.token(user, &self.clock).expose()).await?;
        Ok(client)
    }

    /// Calls a method of the server API.
    ///
    /// # Errors
    /// What the call says.
    pub async fn call(
        &self,
        method: &str,
        params: &serde_json::Value,
    ) -> Result<serde_json::Value, CallError> {
        let place = self.entrance.places.first().cloned();
        let place = place.ok_or(CallError::NotSent("there is nowhere to call".to_owned()))?;
        Api::new(place, self.entrance.api_key.clone()).call(method, params).await
    }

    /// What a page of each gateway's health answers: 0 where nobody does, and nothing of those that do
    /// not have the page, as other builds may not.
    pub async fn health(&self, path: &str) -> Vec<u16> {
        let mut found = Vec::new();
        for gateway in &self.topology.gateways {
            let status = match gateway.internal() {
                Ok(mut api) => api.status(path).await.unwrap_or_default(),
                Err(_) => 0,
            };
            if status != 404 {
                found.push(status);
            }
        }
        found
    }

    /// What a page of each history service's health answers: 0 where nobody does.
    pub async fn health_of_history(&self, path: &str) -> Vec<u16> {
        let mut found = Vec::new();
        for node in &self.topology.history {
            let status = match node.api() {
                Ok(mut api) => api.status(path).await.unwrap_or_default(),
                Err(_) => 0,
            };
            found.push(status);
        }
        found
    }

    /// What looks at the archive.
    ///
    /// # Errors
    /// If nothing does, since there is no archive.
    pub fn lookout(&self) -> Result<&Lookout, DrillError> {
        self.lookout.as_ref().ok_or(DrillError::NoReplicaSet)
    }

    /// The same, to note something.
    ///
    /// # Errors
    /// As [`Stage::lookout`].
    pub fn lookout_mut(&mut self) -> Result<&mut Lookout, DrillError> {
        self.lookout.as_mut().ok_or(DrillError::NoReplicaSet)
    }

    /// Looks whether every gateway is well in the end.
    pub async fn health_is_back(&mut self) {
        for path in ["/health/ready", "/health/delivery"] {
            let is_green = async || self.health(path).await.iter().all(|found| *found == 200);
            let outcome = self.until("every gateway is well", is_green).await;
            let found = format!("{:?}", self.health(path).await);
            let what = format!("{path} of every gateway is green in the end");
            self.checks.that(&what, outcome.is_ok(), found);
        }
    }

    /// The offset that a stream has on one Redis.
    ///
    /// # Errors
    /// If that Redis does not answer.
    pub async fn top_on(&self, node: usize, channel: &str) -> Result<u64, DrillError> {
        let key = format!("centrifugo.stream.meta.{channel}");
        let redis = &self.topology.redis[node].redis;
        let text = redis.text(&["HGET", &key, "s"]).await.map_err(TopologyError::Ask)?;
        Ok(text.parse().unwrap_or_default())
    }

    /// Readers that something happened to after a time.
    pub fn readers_with(&self, since: Duration, is_it: impl Fn(&Event) -> bool) -> usize {
        let mut readers: BTreeSet<Reader> = BTreeSet::new();
        self.journal.look(|Record { at, event }| {
            if *at >= since && is_it(event) {
                readers.extend(event.reader());
            }
        });
        readers.len()
    }
}
