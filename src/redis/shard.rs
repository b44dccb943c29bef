//! One shard: finds its master, keeps connections to it, and takes them down together.
//!
//! There are connections for commands if and only if everything of interest is heard: readers come
//! first and go with the rest. So a publication that was taken is on its way to every subscriber of
//! this node, and between two masters nothing is taken at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::{HashMap, RandomState};
use arc_swap::ArcSwapOption;
use bytes::Bytes;
use compact_str::CompactString;
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::dial::ConnectionError;
use super::keys::Keys;
use super::link::{CallError, Identity, Link};
use super::options::{Place, ShardOptions};
use super::reader::{Listening, Reader};
use super::sentinel::Masters;
use super::sharding::shard_of;
use crate::time::Clock;

/// Connections that hear; each channel has one of them. More than one so that two cores can decode
/// and deliver, few because each costs Redis a write of its own.
const READERS: usize = 2;
/// Between two tries to connect: Centrifugo's time.
const RETRY: Duration = Duration::from_millis(250);
/// How long a channel without subscribers is still heard: they may come right back.
const LINGER: Duration = Duration::from_secs(1);
/// How often the log repeats that there is no connection.
const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Receives what comes over PUB/SUB.
pub trait Receive: Send + Sync + 'static {
    /// A message. Those of one PUB/SUB channel come one after the other; nothing more is read until
    /// this returns.
    fn message(&self, name: &str, payload: &Bytes);

    /// Whether a PUB/SUB channel has somebody to hear it. Asked under a lock: calls nothing here.
    fn is_wanted(&self, name: &str) -> bool;

    /// Something may have been said in the shard's channels, which `is_ours` picks, while nobody
    /// listened; what comes from now on is heard again, but nothing can be asked yet. Without `same_history` the master goes on with another
    /// one than before: what was heard until now may not be true any more.
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
    current: ArcSwapOption<Attachment>,
    /// How many attachments there were so far.
    attachments: watch::Sender<u64>,
    /// Channels without subscribers, and since when.
    leaving: Mutex<HashMap<CompactString, Instant>>,
}

/// Connections to one master, from the moment that all of them work until one does not.
#[derive(Debug)]
pub struct Attachment {
    pub link: Link,
    pub place: Place,
}

impl Shard {
    /// Number `number` of `of` shards, not connected yet.
    pub fn new(
        (number, of): (usize, usize),
        keys: Keys,
        options: ShardOptions,
        clock: Clock,
        receive: Arc<dyn Receive>,
    ) -> Arc<Self> {
        let listening: Vec<Arc<Listening>> = (0..READERS).map(|_| Arc::default()).collect();
        for reader in &listening {
            // A connection that hears nothing would not count as one that does.
            drop(reader.want(&keys.shard(number)));
        }
        Arc::new(Self {
            number,
            of,
            keys,
            options,
            clock,
            receive,
            hasher: RandomState::new(),
            listening,
            current: ArcSwapOption::empty(),
            attachments: watch::Sender::new(0),
            leaving: Mutex::default(),
        })
    }

    pub fn number(&self) -> usize {
        self.number
    }

    /// Keeps connections until `stop`.
    pub async fn supervise(self: Arc<Self>, stop: CancellationToken) {
        let shard = Arc::clone(&self);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut turns = super::link::looks(LINGER / 2);
            loop {
                turns.tick().await;
                shard.leave_lingering();
            }
        }));
        let masters = Masters::watch(&self.options.source, self.number, &stop);
        stop.clone().run_until_cancelled_owned(self.stay_attached(masters, stop)).await;
    }

    /// Waits until there was a connection.
    pub async fn reached(&self) {
        // It ends with the sender, which `self` holds.
        let _ = self.attachments().wait_for(|count| *count > 0).await;
    }

    /// Counts the attachments. What was said between two of them was not heard.
    pub fn attachments(&self) -> watch::Receiver<u64> {
        self.attachments.subscribe()
    }

    /// The connections to the master, if there are any.
    ///
    /// # Errors
    /// [`CallError::Unavailable`]
    pub fn attachment(&self) -> Result<Arc<Attachment>, CallError> {
        self.current.load_full().ok_or(CallError::Unavailable)
    }

    /// Hears a PUB/SUB channel from now on; once this returns, nothing said on it is missed.
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

    async fn stay_attached(self: Arc<Self>, mut masters: Masters, stop: CancellationToken) {
        let mut before = None;
        let mut complaint = Complaint::default();
        loop {
            let Ok(Some(place)) = tokio::time::timeout(REMIND_EVERY, masters.current()).await
            else {
                tracing::warn!(shard = self.number, "no sentinel names a master, asking on");
                continue;
            };
            let (token, mut tasks) = (stop.child_token(), JoinSet::new());
            let _guard = token.clone().drop_guard();
            match self.attach(&place, &token, &mut tasks, &mut before).await {
                Ok(link) => {
                    complaint = Complaint::default();
                    tracing::info!(shard = self.number, %place, "connected to Redis");
                    let attachment = Attachment { link, place: place.clone() };
                    self.current.store(Some(Arc::new(attachment)));
                    self.attachments.send_modify(|count| *count += 1);
                    self.receive.resumed(self.number);
                    let moved = tokio::select! {
                        ended = tasks.join_next() => {
                            let error = reason(ended);
                            tracing::warn!(shard = self.number, %place, %error, "Redis was lost");
                            false
                        }
                        () = masters.moved_from(&place) => {
                            tracing::warn!(shard = self.number, %place, "Redis has another master");
                            true
                        }
                    };
                    self.current.store(None);
                    token.cancel();
                    while tasks.join_next().await.is_some() {}
                    if moved {
                        continue;
                    }
                }
                Err(error) => complaint.about(&self, &place, &error),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Makes all connections, or none. What was read of an earlier history is void before anything
    /// of another one is heard.
    async fn attach(
        &self,
        place: &Place,
        stop: &CancellationToken,
        tasks: &mut JoinSet<Result<(), ConnectionError>>,
        before: &mut Option<Identity>,
    ) -> Result<Link, ConnectionError> {
        let access = &self.options.access;
        let (link, driver) = Link::open(place, access, &self.keys).await?;
        let now = link.identity();
        if let Some(before) = before.replace(now.clone()) {
            let same_history = before.id == now.id;
            if !same_history {
                tracing::warn!(shard = self.number, %place, "the data of Redis may have gone back");
            }
            let is_ours = |channel: &str| shard_of(channel, self.of) == self.number;
            self.receive.interrupted(self.number, same_history, &is_ours);
        }
        let identity = &now.id;
        tasks.spawn(driver.run(stop.clone()));
        let opening = self.listening.iter().map(|listening| {
            let receive = Arc::clone(&self.receive);
            Reader::open(place, access, identity, Arc::clone(listening), receive)
        });
        let mut settled = Vec::new();
        for (reader, is_settled) in try_join_all(opening).await? {
            tasks.spawn(reader.run(stop.clone()));
            settled.push(is_settled);
        }
        tokio::select! {
            Ok(_) = try_join_all(settled) => Ok(link),
            ended = tasks.join_next() => Err(reason(ended)),
        }
    }
}

/// Why the first of the connections ended.
fn reason(
    ended: Option<Result<Result<(), ConnectionError>, tokio::task::JoinError>>,
) -> ConnectionError {
    match ended {
        Some(Ok(Err(error))) => error,
        _ => ConnectionError::Closed,
    }
}

/// Says what keeps us from connecting: when it is something new, and from time to time.
#[derive(Default)]
struct Complaint {
    last: String,
    since: Option<Instant>,
}

impl Complaint {
    fn about(&mut self, shard: &Shard, place: &Place, error: &ConnectionError) {
        let (now, text) = (shard.clock.now(), error.to_string());
        let is_due =
            self.since.is_none_or(|since| now.saturating_duration_since(since) >= REMIND_EVERY);
        if is_due || text != self.last {
            tracing::warn!(shard = shard.number, %place, %error, "cannot use Redis, trying on");
            (self.last, self.since) = (text, Some(now));
        }
    }
}
