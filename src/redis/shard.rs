//! One shard: keeps connections to where its channels are, and takes them down together.
//!
//! There are connections for commands if and only if everything of interest is heard: readers come
//! first and go with the rest, and a canary has shown that they hear. So a publication
//! that was taken is on its way to every subscriber of this node, and between two masters nothing is
//! taken at all.
//!
//! A shard is one master at a time ([`single`](super::single)), or a whole cluster
//! ([`cluster`](super::cluster)).

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{HashMap, HashSet, RandomState};
use arc_swap::ArcSwap;
use bytes::Bytes;
use compact_str::CompactString;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use super::Reporting;
use super::canary::Canaries;
use super::dial::ConnectionError;
use super::driver::Meter;
use super::keys::Keys;
use super::link::CallError;
use super::options::{ShardOptions, Source};
use super::reader::Listening;
use super::routes::{Attachment, Route, Routes};
use super::sharding::shard_of;
use super::suspects::Suspects;
use super::{cluster, driver, single};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::{CallOutcome, RedisConnection, RedisShard};
use crate::time::Clock;

/// Connections that hear; each channel has one of them. More than one so that two cores can decode
/// and deliver, few because each costs Redis a write of its own.
const READERS: usize = 2;
/// Between two tries to connect: Centrifugo's time.
pub(super) const RETRY: Duration = Duration::from_millis(250);
/// How long a channel without subscribers is still heard: they may come right back.
const LINGER: Duration = Duration::from_secs(1);

/// Receives what comes over PUB/SUB.
pub trait Receive: Send + Sync + 'static {
    /// A message. Those of one PUB/SUB channel come one after the other; nothing more is read until
    /// this returns.
    fn message(&self, name: &str, payload: &Bytes);

    /// Whether a PUB/SUB channel has somebody to hear it. Asked under a lock: calls nothing here.
    fn is_wanted(&self, name: &str) -> bool;

    /// The PUB/SUB channels that have somebody to hear them, for the channels that `is_ours` picks.
    fn wanted(&self, is_ours: &dyn Fn(&str) -> bool) -> Vec<CompactString>;

    /// Something may have been said in the shard's channels, which `is_ours` picks, while nobody
    /// listened; what comes from now on is heard again, but nothing can be asked yet. Without
    /// `same_history` the master goes on with another one than before: what was heard until now may
    /// not be true any more.
    fn interrupted(&self, shard: usize, same_history: bool, is_ours: &dyn Fn(&str) -> bool);

    /// The shard can be asked again.
    fn resumed(&self, shard: usize);
}

/// See the [module](self).
pub struct Shard {
    number: usize,
    /// How many there are.
    of: usize,
    keys: Keys,
    options: ShardOptions,
    clock: Clock,
    receive: Arc<dyn Receive>,
    hasher: RandomState,
    listening: Vec<Arc<Listening>>,
    routes: ArcSwap<Routes>,
    /// Tells that the routes are others.
    changes: watch::Sender<()>,
    /// How many attachments there were so far.
    attachments: watch::Sender<u64>,
    /// Why the servers cannot be used as they are set up, until there was a connection.
    unfit: watch::Sender<Option<String>>,
    /// Rings when a cluster has moved something.
    map_wanted: Notify,
    /// Channels without subscribers, and since when.
    leaving: Mutex<HashMap<CompactString, Instant>>,
    canaries: Arc<Canaries>,
    metrics: Arc<Metrics>,
}

impl Shard {
    /// Number `number` of `of` shards, not connected yet.
    pub fn new(
        (number, of): (usize, usize),
        keys: Keys,
        options: ShardOptions,
        clock: Clock,
        receive: Arc<dyn Receive>,
        reporting: &Reporting,
    ) -> Arc<Self> {
        let canaries = Arc::new(Canaries::new(number, READERS, &keys, &clock, reporting));
        let listening = canaries.channels().map(|channel| Arc::new(Listening::to(channel)));
        let listening: Vec<_> = listening.collect();
        Arc::new(Self {
            number,
            of,
            keys,
            options,
            clock,
            receive,
            hasher: RandomState::new(),
            listening,
            routes: ArcSwap::default(),
            changes: watch::Sender::new(()),
            attachments: watch::Sender::new(0),
            unfit: watch::Sender::new(None),
            map_wanted: Notify::new(),
            leaving: Mutex::default(),
            canaries,
            metrics: Arc::clone(&reporting.metrics),
        })
    }

    /// Its place among all shards.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Keeps connected until `stop`.
    pub async fn supervise(self: Arc<Self>, stop: CancellationToken) {
        let shard = Arc::clone(&self);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut turns = driver::looks(LINGER / 2);
            let mut suspects = Suspects::default();
            loop {
                turns.tick().await;
                shard.leave_lingering();
                shard.reconcile(&mut suspects).await;
            }
        }));
        let following = async {
            let seeds = match &self.options.source {
                Source::Cluster(places) => places.clone(),
                // It ends when the server turns out to be a node of a cluster.
                Source::Fixed(_) | Source::Sentinels { .. } => {
                    vec![single::follow(Arc::clone(&self), stop.clone()).await]
                }
            };
            cluster::follow(Arc::clone(&self), seeds, stop.clone()).await;
        };
        stop.run_until_cancelled(following).await;
    }

    /// Waits until there was a connection.
    pub async fn reached(&self) {
        // It ends with the sender, which `self` holds.
        let _ = self.attachments().wait_for(|count| *count > 0).await;
    }

    /// Waits until a server turns out to be set up so that it cannot be used, before there was any
    /// connection; then says why.
    pub async fn unfit(&self) -> String {
        let mut unfit = self.unfit.subscribe();
        // It ends with the sender, which `self` holds.
        let why = unfit.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        why.unwrap_or_default()
    }

    /// Counts the attachments. What was said between two of them was not heard.
    pub fn attachments(&self) -> watch::Receiver<u64> {
        self.attachments.subscribe()
    }

    /// The connections to the master, or to one of a cluster's, if there are any.
    ///
    /// # Errors
    /// [`CallError::Unavailable`]
    pub fn attachment(&self) -> Result<Arc<Attachment>, CallError> {
        self.routes.load().any().ok_or(CallError::Unavailable)
    }

    /// The connections to every master that is there: one, or those of a cluster.
    pub fn masters(&self) -> Vec<Arc<Attachment>> {
        self.routes.load().all()
    }

    /// The connections to where a channel is.
    ///
    /// # Errors
    /// [`CallError::Unavailable`]
    pub fn route(&self, channel: &str) -> Result<Route, CallError> {
        self.routes.load().of(channel).ok_or_else(|| {
            self.metrics.redis.calls.with(CallOutcome::Unavailable).inc();
            CallError::Unavailable
        })
    }

    /// Hears a PUB/SUB channel from now on; once this returns, nothing said on it is missed. In a
    /// cluster too it goes by its name without braces.
    ///
    /// # Errors
    /// [`CallError::Unavailable`] if Redis does not confirm it in time.
    pub async fn hear(&self, name: &str) -> Result<(), CallError> {
        let Some(heard) = self.reader_of(name).want(name) else { return Ok(()) };
        match tokio::time::timeout(self.options.access.io_timeout, heard).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CallError::Unavailable),
        }
    }

    /// Hears a PUB/SUB channel for good, on every connection that is made from now on.
    pub fn hear_always(&self, name: &str) {
        drop(self.reader_of(name).want(name));
    }

    /// A PUB/SUB channel has lost its last subscriber; it is left if none comes soon.
    pub fn leave_soon(&self, name: &str) {
        self.leaving.lock().insert(name.into(), self.clock.now());
    }

    /// How many PUB/SUB channels are to be heard.
    pub fn hears(&self) -> usize {
        self.listening.iter().map(|reader| reader.interest.lock().len()).sum()
    }

    /// Whether the shard keeps a channel.
    pub fn keeps(&self, channel: &str) -> bool {
        shard_of(channel, self.of) == self.number
    }

    /// A server cannot be used as it is set up; that counts until there was a connection.
    pub(super) fn is_unfit(&self, why: String) {
        if *self.attachments.borrow() == 0 {
            self.unfit.send_replace(Some(why));
        }
    }

    pub(super) fn options(&self) -> &ShardOptions {
        &self.options
    }

    pub(super) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn receive(&self) -> &Arc<dyn Receive> {
        &self.receive
    }

    pub(super) fn canaries(&self) -> &Arc<Canaries> {
        &self.canaries
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(super) fn meter(&self) -> Meter {
        Meter { clock: self.clock.clone(), metrics: Arc::clone(&self.metrics) }
    }

    pub(super) fn listening(&self) -> &[Arc<Listening>] {
        &self.listening
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn now(&self) -> tokio::time::Instant {
        self.clock.now().into()
    }

    pub(super) fn routes(&self) -> arc_swap::Guard<Arc<Routes>> {
        self.routes.load()
    }

    /// From now on calls go this way. Who waits for something that was away is told if it `is_new`.
    pub(super) fn go(&self, routes: Routes, is_new: bool) {
        self.count_connections(routes.all().len());
        self.routes.store(Arc::new(routes));
        self.changes.send_replace(());
        if is_new {
            let (mut count, shard) = (0, self.label());
            self.attachments.send_modify(|attachments| {
                *attachments += 1;
                count = *attachments;
            });
            // Also when there is nothing to count, so that the series begin.
            self.metrics.redis.reconnects.with(shard).inc_by(u64::from(count > 1));
            self.metrics.redis.master_changes.with(shard).inc_by(0);
            self.metrics.redis.resubscribed.with(shard).inc_by(0);
        }
    }

    /// What metrics call it.
    pub(super) fn label(&self) -> RedisShard {
        RedisShard::from(self.number as u32)
    }

    /// Tells when the routes have changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Has the cluster asked at once who has which slot.
    pub(super) fn ask_for_map(&self) {
        self.map_wanted.notify_one();
    }

    /// Waits until somebody wants to know who has which slot.
    pub(super) async fn map_wanted(&self) {
        self.map_wanted.notified().await;
    }

    /// There are readers while there is any way for calls.
    fn count_connections(&self, masters: usize) {
        let readers = if masters == 0 { 0 } else { self.listening.len() };
        for (kind, count) in
            [(RedisConnection::Commands, masters), (RedisConnection::PubSub, readers)]
        {
            self.metrics.redis.connections.with((self.label(), kind)).set(count as i64);
        }
    }

    /// Compares what the subscribers want to hear with what is heard for them: after each new
    /// attachment, and from time to time. What Redis itself holds the readers compare.
    async fn reconcile(&self, suspects: &mut Suspects) {
        let count = *self.attachments.borrow();
        if self.routes.load().any().is_none() || !suspects.are_due(count) {
            return;
        }
        let wanted = self.receive.wanted(&|channel| self.keeps(channel));
        let is_forgotten = |name: &CompactString| !self.reader_of(name).interest.lock().has(name);
        let missing: HashSet<_> = wanted.into_iter().filter(is_forgotten).collect();
        let forgotten = suspects.confirm(missing);
        if forgotten.is_empty() {
            return;
        }
        tracing::error!(shard = self.number, count = forgotten.len(), "channels were not heard");
        let hearing = forgotten.iter().map(|name| self.hear(name));
        if let Err(error) = try_join_all(hearing).await {
            // The next attachment hears them: they are wanted now.
            tracing::warn!(shard = self.number, %error, "channels are not heard yet");
        }
        self.metrics.redis.resubscribed.with(self.label()).inc_by(forgotten.len() as u64);
        let is_concerned = |channel: &str| forgotten.contains(&self.keys.messages(channel));
        self.receive.interrupted(self.number, true, &is_concerned);
        // Whoever looks for doubts after an interruption looks for these.
        self.attachments.send_modify(|count| *count += 1);
    }

    fn reader_of(&self, name: &str) -> &Listening {
        let index = self.hasher.hash_one(name) as usize % self.listening.len();
        &self.listening[index]
    }

    fn leave_lingering(&self) {
        let now = self.clock.now();
        let mut due = Vec::new();
        self.leaving.lock().retain(|name, since| {
            let lingers = now.saturating_duration_since(*since) < LINGER;
            if !lingers {
                due.push(name.clone());
            }
            lingers
        });
        for name in due {
            self.reader_of(&name).leave(&name, || self.receive.is_wanted(&name));
        }
    }
}

/// Why the first of the connections ended.
pub(super) fn reason(
    ended: Option<Result<Result<(), ConnectionError>, JoinError>>,
) -> ConnectionError {
    match ended {
        Some(Ok(Err(error))) => error,
        _ => ConnectionError::Closed,
    }
}
