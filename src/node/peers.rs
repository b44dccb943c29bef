//! The other nodes: who they are, what they say, and what they are told.
//!
//! Three tasks. One describes this node to the others every few seconds and forgets the silent; one acts
//! on what comes, and never waits; one answers questions, which may take a moment.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::{Notify, mpsc};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use super::order::Order;
use super::registry::{ANNOUNCE_EVERY, Heard, LOOK_EVERY, Registry};
use super::survey::Surveys;
use super::{Error, Node};
use crate::broker::{ControlOutlet, Controller};
use crate::lifecycle::Lifecycle;
use crate::protocol::control::{Command, Content, NodeInfo, NodeMetrics, SurveyRequest};
use crate::telemetry::metrics::Intervals;
use crate::telemetry::metrics::labels::MessageType;
use crate::telemetry::seldom::Seldom;
use crate::time::jittered;

/// New nodes that may wait for a word to them alone. Past it they hear of this node with the next
/// word to all.
const NEWCOMERS: usize = 64;
/// Questions of others that may wait for an answer. Past it whoever asks learns by its timeout.
const QUESTIONS: usize = 64;
/// The longest that a stop waits for the others to be told.
const GOODBYE: Duration = Duration::from_secs(1);

/// This node among the others.
pub struct Peers {
    id: Uuid,
    /// The same as text.
    uid: String,
    pub(super) controller: Controller,
    pub(super) registry: Mutex<Registry>,
    pub(super) surveys: Surveys,
    /// Of this node, for the last whole interval.
    metrics: Mutex<Option<NodeMetrics>>,
    complaint: Seldom,
}

impl Peers {
    /// Those that `controller` reaches; they know this node as `id`.
    pub fn new(id: Uuid, controller: Controller) -> Self {
        Self {
            id,
            uid: id.to_string(),
            controller,
            registry: Mutex::default(),
            surveys: Surveys::default(),
            metrics: Mutex::default(),
            complaint: Seldom::default(),
        }
    }

    /// There are none, and never will be.
    pub fn none() -> Self {
        Self::new(Uuid::new_v4(), Controller::Alone)
    }

    pub fn id(&self) -> Uuid {
        self.id
    }
}

impl Node {
    /// All nodes that are known to run, this one first.
    pub fn info(&self) -> Vec<NodeInfo> {
        let mut others: Vec<_> = self.peers.registry.lock().nodes().cloned().collect();
        others.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        std::iter::once(self.own_info()).chain(others).collect()
    }

    /// How many nodes are known to run, this one included.
    pub fn count_nodes(&self) -> usize {
        self.peers.registry.lock().len() + 1
    }

    /// Takes part in the cluster until the soft stop, after which others no longer count on this node;
    /// it acts on what they say until the hard stop. Metrics of this node are gathered every
    /// `metrics_interval`, or never if that is 0.
    pub fn join_cluster(
        self: &Arc<Self>,
        outlet: Option<ControlOutlet>,
        metrics_interval: Duration,
        lifecycle: &Lifecycle,
    ) {
        let (newcomers, new) = mpsc::channel(NEWCOMERS);
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let attached = outlet.as_ref().map(|outlet| Arc::clone(&outlet.attached));
        let gathering = Gathering::new(metrics_interval, self.clock.now());
        let announcer = Announcer {
            node: Arc::clone(self),
            attached: attached.unwrap_or_default(),
            newcomers: new,
            gathering,
            due: self.clock.now(),
        };
        let soft = lifecycle.soft.clone();
        lifecycle.tracker.spawn(announcer.run(soft));
        if let Some(outlet) = outlet {
            let mut messages = outlet.messages;
            let listener = Listener { node: Arc::clone(self), newcomers, questions };
            tokio::spawn(lifecycle.hard.clone().run_until_cancelled_owned(async move {
                while let Some(message) = messages.next().await {
                    listener.act_on(message);
                }
            }));
            let answering = Arc::clone(self).answer_each(asked);
            tokio::spawn(lifecycle.hard.clone().run_until_cancelled_owned(answering));
        }
    }

    /// Tells something to node `to`, or to all others.
    pub(super) async fn tell(&self, to: Option<&str>, content: Content) -> Result<(), Error> {
        let controller = &self.peers.controller;
        if !controller.is_alone() {
            let message = Command::new(&self.peers.uid, content).to_bytes();
            controller.send(to, message).await?;
            self.metrics.node.messages_sent.with(MessageType::Control).inc();
        }
        Ok(())
    }

    fn own_info(&self) -> NodeInfo {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        NodeInfo {
            uid: self.peers.uid.clone(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            num_clients: count(self.hub.connections.len()),
            num_users: count(self.hub.connections.users()),
            num_subs: count(self.hub.subscriptions()),
            num_channels: count(self.hub.channel_count()),
            uptime: u32::try_from(self.uptime().as_secs()).unwrap_or(u32::MAX),
            metrics: self.peers.metrics.lock().clone(),
        }
    }

    async fn answer_each(self: Arc<Self>, mut asked: mpsc::Receiver<(String, SurveyRequest)>) {
        while let Some((from, request)) = asked.recv().await {
            let response = Content::SurveyResponse(self.answer(&request));
            if let Err(error) = self.tell(Some(&from), response).await {
                tracing::debug!(node = from, %error, "a question was not answered");
            }
        }
    }
}

/// Describes this node to the others, and forgets the silent.
struct Announcer {
    node: Arc<Node>,
    attached: Arc<Notify>,
    newcomers: mpsc::Receiver<String>,
    gathering: Option<Gathering>,
    /// When all are told next.
    due: Instant,
}

/// Metrics of this node for one interval after the other.
struct Gathering {
    intervals: Intervals,
    every: Duration,
    since: Instant,
}

impl Announcer {
    async fn run(mut self, soft: tokio_util::sync::CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let attached = Arc::clone(&self.attached);
        loop {
            tokio::select! {
                () = soft.cancelled() => break,
                () = attached.notified() => self.begin_anew(),
                Some(uid) = self.newcomers.recv() => self.describe_to(Some(&uid), true).await,
                _ = looks.tick() => self.look(),
            }
            let now = self.node.clock.now();
            if now >= self.due {
                self.due = now + jittered(ANNOUNCE_EVERY);
                let with_metrics = self
                    .gathering
                    .as_mut()
                    .is_some_and(|gathering| gathering.gather(&self.node, now));
                self.describe_to(None, with_metrics).await;
            }
        }
        let goodbye = self.node.tell(None, Content::Shutdown);
        if !matches!(tokio::time::timeout(GOODBYE, goodbye).await, Ok(Ok(()))) {
            tracing::warn!("other nodes were not told of the stop, they will notice");
        }
    }

    /// Over a new connection nodes come to know each other at once; what was said before it is lost.
    fn begin_anew(&mut self) {
        self.due = self.node.clock.now();
        self.node.peers.registry.lock().was_deaf(self.due);
    }

    async fn describe_to(&self, to: Option<&str>, with_metrics: bool) {
        let mut info = self.node.own_info();
        if !with_metrics {
            info.metrics = None;
        }
        if let Err(error) = self.node.tell(to, Content::Node(info)).await {
            tracing::debug!(%error, "other nodes were not told of this one");
        }
    }

    fn look(&self) {
        let peers = &self.node.peers;
        let silent = peers.registry.lock().look(peers.controller.can_hear(), self.node.clock.now());
        for NodeInfo { uid, name, .. } in silent {
            tracing::warn!(node = uid, name, "a node is silent, it counts as dead");
            peers.surveys.died(&uid);
        }
    }
}

impl Gathering {
    fn new(every: Duration, now: Instant) -> Option<Self> {
        (!every.is_zero()).then(|| Self { intervals: Intervals::default(), every, since: now })
    }

    /// Whether an interval has passed, so that there are new metrics.
    fn gather(&mut self, node: &Node, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed < self.every {
            return false;
        }
        self.since = now;
        let items = self.intervals.next(&node.metrics);
        *node.peers.metrics.lock() = Some(NodeMetrics { interval: passed.as_secs_f64(), items });
        true
    }
}

/// Acts on what other nodes say.
struct Listener {
    node: Arc<Node>,
    newcomers: mpsc::Sender<String>,
    /// With the node that asks.
    questions: mpsc::Sender<(String, SurveyRequest)>,
}

impl Listener {
    fn act_on(&self, message: Bytes) {
        let (node, peers) = (&self.node, &self.node.peers);
        node.metrics.node.messages_received.with(MessageType::Control).inc();
        let length = message.len();
        let command = Command::decode(message).ok().filter(|command| !command.uid.is_empty());
        let Some(command) = command else {
            return self.complain(|| tracing::warn!(length, "a control message that is none"));
        };
        if command.uid == peers.uid {
            return;
        }
        let from = command.uid.clone();
        match command.into_content() {
            // What nodes of other editions say among themselves.
            None => {}
            Some(Content::Node(info)) => self.hear_of(info),
            Some(Content::Shutdown) => self.part_from(&from),
            Some(Content::SurveyRequest(request)) => self.queue(from, request),
            Some(Content::SurveyResponse(response)) => peers.surveys.answered(&from, response),
            Some(order) => match Order::of_content(order) {
                Some(order) => drop(node.carry_out(order)),
                None => self.complain(|| {
                    tracing::warn!(node = from, "a node asks for what cannot be done here");
                }),
            },
        }
    }

    fn hear_of(&self, info: NodeInfo) {
        let peers = &self.node.peers;
        if info.uid.is_empty() || info.uid == peers.uid {
            return;
        }
        let (uid, name) = (info.uid.clone(), info.name.clone());
        let heard = peers.registry.lock().heard(info, self.node.clock.now());
        if heard == Heard::New {
            tracing::info!(node = uid, name, "a node has come");
            // If too many come at once, they hear with the others.
            let _ = self.newcomers.try_send(uid);
        }
    }

    fn part_from(&self, uid: &str) {
        let was_known = self.node.peers.registry.lock().stopped(uid, self.node.clock.now());
        self.node.peers.surveys.stopped(uid);
        if was_known {
            tracing::info!(node = uid, "a node has stopped");
        }
    }

    fn queue(&self, from: String, request: SurveyRequest) {
        if self.questions.try_send((from, request)).is_err() {
            self.complain(|| tracing::warn!("too many questions of other nodes: one is left open"));
        }
    }

    /// Whoever can speak to nodes can make as many such lines as it likes.
    fn complain(&self, line: impl FnOnce()) {
        if self.node.peers.complaint.may(self.node.clock.unix_millis()) {
            line();
        }
    }
}

#[cfg(test)]
mod tests;
