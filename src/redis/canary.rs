//! Canaries: short messages that go the way of publications all the time, so that it is known
//! whether what is published arrives.
//!
//! Each is written and published by a script over the connection that publications into streams take,
//! so that with `min_replicas` it waits for replicas as they do, and is to be heard on every PUB/SUB
//! connection, since each of those has a channel of canaries to itself. All nodes hear those of all:
//! while one's own stay away, others show that Redis delivers. In a cluster they are sent over every
//! master, each by a [`Singer`] of its own, and say which: what comes over one of the masters shows
//! nothing of another.
//!
//! A connection that is deaf is closed before that is an alarm, and connections count as made only when
//! a canary has gone all the way. So what Redis has accepted and nobody hears is not answered as
//! published for long.

mod message;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use compact_str::{CompactString, ToCompactString};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::message::Canary;
use super::Reporting;
use super::complaint::Complaint;
use super::dial::ConnectionError;
use super::keys::Keys;
use super::link::{CallError, Link};
use super::script::Script;
use super::shard::Receive;
use super::slots::is_redirection;
use crate::telemetry::health::Way;
use crate::telemetry::metrics::labels::RedisShard;
use crate::time::{Clock, jittered, random_letters};

/// Letters of a singer's name: enough that no two draw the same.
const SINGER_LETTERS: usize = 16;
/// Seconds for which Redis keeps the last canary, for whoever wants to look at it.
const KEPT: &str = "60";

/// Where a shard's readers hear canaries, and who sends them.
pub(super) struct Canaries {
    perches: Vec<Perch>,
    singers: Mutex<Vec<Weak<Singer>>>,
    clock: Clock,
    reporting: Reporting,
    number: usize,
    shard: RedisShard,
}

/// Where one reader hears canaries.
struct Perch {
    channel: CompactString,
    /// How many other messages it has received.
    messages: AtomicU64,
}

/// What a singer writes at the moment, if anything.
type KeyNow = Box<dyn Fn() -> Option<CompactString> + Send + Sync>;

/// Sends canaries over one master. While there is one its way is watched.
pub(super) struct Singer {
    canaries: Arc<Canaries>,
    name: CompactString,
    /// What the cluster calls the master; empty where there is only one.
    master: CompactString,
    key: KeyNow,
    /// The newest own canary that each reader has heard.
    heard: watch::Sender<Vec<u64>>,
    /// Unix seconds when the newest was heard by all.
    heard_by_all: AtomicI64,
    sent: AtomicU64,
    /// Canaries carry the time since then.
    origin: Instant,
    way: Way,
    complaint: Mutex<Complaint>,
}

/// Receives for one reader: takes its canaries out, and hands on the rest.
pub(super) struct Ear {
    pub canaries: Arc<Canaries>,
    pub reader: usize,
    pub receive: Arc<dyn Receive>,
}

impl Canaries {
    pub fn new(
        number: usize,
        readers: usize,
        keys: &Keys,
        clock: &Clock,
        reporting: &Reporting,
    ) -> Self {
        let perch = |reader| {
            let channel = keys.canaries(number, reader);
            Perch { channel, messages: AtomicU64::new(0) }
        };
        Self {
            perches: (0..readers).map(perch).collect(),
            singers: Mutex::default(),
            clock: clock.clone(),
            reporting: reporting.clone(),
            number,
            shard: RedisShard::from(number as u32),
        }
    }

    /// The PUB/SUB channels of canaries, one for each reader.
    pub fn channels(&self) -> impl Iterator<Item = &CompactString> {
        self.perches.iter().map(|perch| &perch.channel)
    }

    /// Somebody to send canaries over one master, by the name that all nodes have for it; empty where
    /// there is only one. They are written under the `key` of the moment; without one nothing is
    /// written.
    pub fn singer(
        self: &Arc<Self>,
        master: &str,
        key: impl Fn() -> Option<CompactString> + Send + Sync + 'static,
    ) -> Arc<Singer> {
        let singer = Arc::new(Singer {
            canaries: Arc::clone(self),
            name: random_letters(SINGER_LETTERS),
            master: master.into(),
            key: Box::new(key),
            heard: watch::Sender::new(vec![0; self.perches.len()]),
            heard_by_all: AtomicI64::new(0),
            sent: AtomicU64::new(0),
            origin: self.clock.now(),
            way: self.reporting.health.watch(self.number, self.perches.len()),
            complaint: Mutex::default(),
        });
        let mut singers = self.singers.lock();
        singers.retain(|singer| singer.strong_count() > 0);
        singers.push(Arc::downgrade(&singer));
        singer
    }

    fn hear(&self, reader: usize, payload: &Bytes) {
        let Some(canary) = Canary::parse(payload) else { return };
        let singers: Vec<_> = self.singers.lock().iter().filter_map(Weak::upgrade).collect();
        match singers.iter().find(|singer| *singer.name == *canary.singer) {
            Some(singer) => {
                singer.hear(reader, &canary);
                let oldest = singers.iter().map(|s| s.heard_by_all.load(Ordering::Relaxed)).min();
                let last = self.reporting.metrics.redis.last_canary.with(self.shard);
                last.set(oldest.unwrap_or(0));
            }
            // Of a node that does not say over which master it went, it shows nothing in a cluster.
            None => {
                let same = singers.iter().filter(|singer| *singer.master == *canary.master);
                same.for_each(|singer| singer.way.heard_other());
            }
        }
    }
}

impl Singer {
    /// What is known of the way that its canaries go.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Sends one and waits until every reader has heard it.
    ///
    /// # Errors
    /// [`ConnectionError::Unheard`] unless that is so within `limit`.
    pub async fn prove(&self, link: &Link, limit: Duration) -> Result<(), ConnectionError> {
        let number = match self.send(link).await {
            Ok(number) => number,
            Err(CallError::Refused(text)) => return Err(ConnectionError::Refused(text.into())),
            Err(_) => return Err(ConnectionError::Closed),
        };
        let mut heard = self.heard.subscribe();
        let by_all = heard.wait_for(|heard| heard.iter().all(|heard| *heard >= number));
        match timeout(limit, by_all).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ConnectionError::Unheard),
        }
    }

    /// Sends them until one is taken and not heard.
    pub async fn until_unheard(&self, link: &Link) -> ConnectionError {
        let Canaries { perches, clock, reporting, .. } = &*self.canaries;
        let limits = reporting.health.limits();
        let start = clock.now();
        let mut silences: Vec<_> = perches.iter().map(|_| Silence::from(start)).collect();
        // One that Redis has taken; the next is waited for when all have heard it.
        let mut taken = None;
        loop {
            sleep(jittered(limits.interval)).await;
            let sent = clock.now();
            match self.send(link).await {
                Ok(number) => taken = taken.or(Some((number, sent))),
                // The connection ends, and says why itself.
                Err(CallError::Unavailable | CallError::OutcomeUnknown) => {
                    return std::future::pending().await;
                }
                Err(objection) => self.answered(Some(&objection)),
            }
            let Some((number, sent)) = taken else { continue };
            let heard = self.heard.borrow().clone();
            if heard.iter().all(|heard| *heard >= number) {
                taken = None;
            }
            let now = clock.now();
            let is_long = |since| now.saturating_duration_since(since) > limits.patience();
            for ((perch, silence), heard) in perches.iter().zip(&mut silences).zip(heard) {
                // One that is late with everything is not deaf: closing it would make it later.
                let is_silent = is_long(silence.look(&perch.messages, now));
                if heard < number && is_long(sent) && is_silent {
                    return ConnectionError::Unheard;
                }
            }
        }
    }

    /// Sends one; its number, once Redis has answered.
    async fn send(&self, link: &Link) -> Result<u64, CallError> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let sent = self.canaries.clock.now().saturating_duration_since(self.origin);
        let sent_us = u64::try_from(sent.as_micros()).unwrap_or(u64::MAX);
        let (singer, master) = (&self.name, &self.master);
        let canary = Canary { singer, number, sent_us, master }.to_compact_string();
        let key = (self.key)();
        let objection = match self.call(link, key.as_deref(), &canary).await {
            Err(CallError::Refused(text)) if key.is_some() => {
                // Whether it can be published is known all the same.
                self.call(link, None, &canary).await?;
                // A slot on its way says nothing of its master.
                (!is_redirection(&text)).then_some(CallError::Refused(text))
            }
            answer => answer?,
        };
        self.answered(objection.as_ref());
        Ok(number)
    }

    /// Publishes it; why it is not kept as it should be, if so.
    async fn call(
        &self,
        link: &Link,
        key: Option<&str>,
        canary: &str,
    ) -> Result<Option<CallError>, CallError> {
        let mut args: Vec<&str> = key.into_iter().collect();
        args.extend([canary, KEPT]);
        args.extend(self.canaries.channels().map(CompactString::as_str));
        match link.run(Script::Canary, u64::from(key.is_some()), &args).await {
            Ok(answer) => {
                let refusal = answer.str().filter(|refusal| !refusal.is_empty());
                Ok(refusal.map(|refusal| CallError::Refused(refusal.into())))
            }
            Err(few @ CallError::TooFewReplicas { .. }) => Ok(Some(few)),
            Err(error) => Err(error),
        }
    }

    /// Tells health of it, and the log seldom.
    fn answered(&self, objection: Option<&CallError>) {
        let error = objection.map(|objection| match objection {
            CallError::Refused(text) => format!("Redis refuses to write: {text}"),
            other => other.to_string(),
        });
        self.way.answered(error.as_deref());
        let Canaries { clock, number: shard, .. } = &*self.canaries;
        match &error {
            Some(error) if self.complaint.lock().is_news(clock.now(), error) => {
                tracing::warn!(shard, %error, "what is published is not kept as it should be");
            }
            None if self.complaint.lock().is_over() => {
                tracing::info!(shard, "what is published is kept again");
            }
            _ => {}
        }
    }

    fn hear(&self, reader: usize, canary: &Canary<'_>) {
        let Canaries { clock, reporting, shard, .. } = &*self.canaries;
        let now = clock.now();
        let sent = self.origin.checked_add(Duration::from_micros(canary.sent_us));
        let Some(sent) = sent.filter(|sent| *sent <= now) else { return };
        self.way.heard_own(reader, sent);
        let took = now.saturating_duration_since(sent).as_secs_f64();
        reporting.metrics.redis.canary_round_trip.with(*shard).observe(took);
        self.heard.send_modify(|heard| {
            if let Some(newest) = heard.get_mut(reader) {
                *newest = canary.number.max(*newest);
            }
            if heard.iter().all(|heard| *heard >= canary.number) {
                self.heard_by_all.store(clock.unix_seconds(), Ordering::Relaxed);
            }
        });
    }
}

/// Since when a reader has received nothing but canaries.
struct Silence {
    messages: u64,
    since: Instant,
}

impl Silence {
    fn from(since: Instant) -> Self {
        Self { messages: 0, since }
    }

    fn look(&mut self, messages: &AtomicU64, now: Instant) -> Instant {
        let messages = messages.load(Ordering::Relaxed);
        if messages != self.messages {
            *self = Self { messages, since: now };
        }
        self.since
    }
}

impl Receive for Ear {
    fn message(&self, name: &str, payload: &Bytes) {
        match self.canaries.perches.get(self.reader) {
            Some(perch) if *perch.channel == *name => self.canaries.hear(self.reader, payload),
            perch => {
                if let Some(perch) = perch {
                    perch.messages.fetch_add(1, Ordering::Relaxed);
                }
                self.receive.message(name, payload);
            }
        }
    }

    fn is_wanted(&self, name: &str) -> bool {
        self.receive.is_wanted(name)
    }

    fn wanted(&self, is_ours: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        self.receive.wanted(is_ours)
    }

    fn interrupted(&self, shard: usize, same_history: bool, is_ours: &dyn Fn(&str) -> bool) {
        self.receive.interrupted(shard, same_history, is_ours);
    }

    fn resumed(&self, shard: usize) {
        self.receive.resumed(shard);
    }
}
