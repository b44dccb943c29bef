//! The broker over Redis: every node that uses the same one has the same streams and subscribers.
//!
//! Keys, scripts and messages are Centrifugo's, so that nodes of both can share a Redis. Ours is the
//! field `f` of a stream's meta: the identity of the master under which its epoch holds. A script
//! that finds another one there draws a new epoch, since publications may be missing that were
//! answered for; so nobody who was told of them is told later that nothing is missing.

mod archived;
mod awaited;
mod control;
mod doubts;
mod envelope;
mod flights;
mod history;
mod receive;
mod stored;

use std::sync::Arc;

use compact_str::CompactString;
use prost::Message;

pub use self::archived::erase;
pub use self::control::{ControlNames, RedisControl};
pub use self::receive::Receiver;
pub use self::stored::Stored;

use self::archived::Announced;
use self::envelope::Incoming;
use self::flights::Flights;
use self::history::Question;
use super::{
    Archive, BrokerError, History, HistoryOptions, KeyOwner, PublishOptions, Published, Suppressed,
};
use crate::protocol::publication::{ClientInfo, Publication};
use crate::redis::{CallError, Command, Durability, Keys, Redis, Route, Script, Value};
use crate::telemetry::health::Health;
use crate::telemetry::seldom::Seldom;
use crate::time::{Clock, random_letters};

/// Letters of an epoch: Centrifugo's number.
const EPOCH_LETTERS: usize = 8;

/// See the [module](self).
pub struct RedisBroker {
    redis: Arc<Redis>,
    clock: Clock,
    reads: Flights<Question, Result<History, BrokerError>>,
    archive: Option<Archive>,
    stored: Arc<Stored>,
    announced: Announced,
    health: Arc<Health>,
    /// For the log about refused calls.
    refused: Seldom,
    /// For the log about publications that were not archived.
    dropped: Seldom,
}

impl RedisBroker {
    /// A broker over connections that somebody starts and, through a [`Receiver`], listens to.
    pub fn new(redis: Arc<Redis>, clock: Clock) -> Self {
        Self {
            redis,
            clock,
            reads: Flights::default(),
            archive: None,
            stored: Arc::default(),
            announced: Announced::default(),
            health: Arc::default(),
            refused: Seldom::default(),
            dropped: Seldom::default(),
        }
    }

    /// The same broker, telling `health` what becomes of publications.
    pub fn with_health(self, health: Arc<Health>) -> Self {
        Self { health, ..self }
    }

    /// The same with an archive, for channels that have one. `stored` is told by the [`Receiver`].
    pub fn with_archive(self, archive: Archive, stored: Arc<Stored>) -> Self {
        for shard in self.redis.shards() {
            shard.hear_always(&self.redis.keys().archive_stored());
        }
        Self { archive: Some(archive), stored, ..self }
    }

    pub(super) async fn publish(
        &self,
        channel: &str,
        mut publication: Publication,
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        publication.time = self.clock.unix_millis();
        let encoded = publication.encode_to_vec();
        match &options.history {
            Some(history) if let Some(archiving) = options.archive => {
                self.append_archived(channel, &encoded, options, history, archiving).await
            }
            Some(history) => self.append(channel, &encoded, options, history).await,
            None if options.idempotency_key.is_empty() => {
                self.tell(channel, &encoded).await.map(|()| Published::default())
            }
            None => self.tell_once(channel, &encoded, options).await,
        }
    }

    pub(super) async fn publish_join(
        &self,
        channel: &str,
        info: &ClientInfo,
    ) -> Result<(), BrokerError> {
        self.tell(channel, &Incoming::join(info)).await
    }

    pub(super) async fn publish_leave(
        &self,
        channel: &str,
        info: &ClientInfo,
    ) -> Result<(), BrokerError> {
        self.tell(channel, &Incoming::leave(info)).await
    }

    pub(super) async fn remove_history(&self, channel: &str) -> Result<(), BrokerError> {
        let delete = |route: &Route| Command::new("DEL").arg(route.keys().stream(channel));
        let done = self.redis.shard(channel).call(channel, delete).await;
        done.map(drop).map_err(|error| self.failed(&error))
    }

    pub(super) async fn subscribe(&self, channel: &str) -> Result<(), BrokerError> {
        let name = self.redis.keys().messages(channel);
        self.redis.shard(channel).hear(&name).await.map_err(|error| self.failed(&error))
    }

    pub(super) fn unsubscribe(&self, channel: &str) {
        self.redis.shard(channel).leave_soon(&self.redis.keys().messages(channel));
    }

    async fn append(
        &self,
        channel: &str,
        encoded: &[u8],
        options: &PublishOptions,
        history: &HistoryOptions,
    ) -> Result<Published, BrokerError> {
        let has_key = !options.idempotency_key.is_empty();
        let epoch = random_letters(EPOCH_LETTERS);
        let fill = |route: &Route, command: Command| {
            let (keys, identity) = (route.keys(), route.identity());
            let mut command = command.arg(keys.stream(channel)).arg(keys.stream_meta(channel));
            if has_key {
                command = command.arg(result_key(keys, channel, options));
            }
            command
                .arg(encoded)
                .number(history.size as u64)
                .number(history.ttl.as_secs().max(1))
                .arg(keys.messages(channel))
                .number(history.meta_ttl.as_secs())
                .arg(&epoch)
                .number(result_ttl(options))
                .arg(flag(options.delta))
                .number(options.version)
                .arg(&options.version_epoch)
                .arg(&identity.id)
                .arg(flag(identity.is_first))
                .arg(route.predecessor())
        };
        let script = (Script::PublishStream, 2 + u64::from(has_key));
        let published = self.run_publish(channel, script, fill).await?;
        self.note_epoch(published.offset > 1 && published.epoch == epoch);
        Ok(published)
    }

    async fn tell_once(
        &self,
        channel: &str,
        encoded: &[u8],
        options: &PublishOptions,
    ) -> Result<Published, BrokerError> {
        let fill = |route: &Route, command: Command| {
            let keys = route.keys();
            command
                .arg(result_key(keys, channel, options))
                .arg(encoded)
                .arg(keys.messages(channel))
                .number(result_ttl(options))
        };
        self.run_publish(channel, (Script::PublishOnce, 1), fill).await
    }

    async fn run_publish(
        &self,
        channel: &str,
        script: (Script, u64),
        fill: impl Fn(&Route, Command) -> Command,
    ) -> Result<Published, BrokerError> {
        let shard = self.redis.shard(channel);
        let answer = shard.run(channel, script, Durability::Replicas, fill).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        published(&answer).ok_or_else(|| self.nonsense("publish"))
    }

    /// Tells whoever hears now. It is written nowhere, so no replica is waited for.
    async fn tell(&self, channel: &str, message: &[u8]) -> Result<(), BrokerError> {
        let tell = |route: &Route| {
            Command::new("PUBLISH").arg(route.keys().messages(channel)).arg(message)
        };
        let told = self.redis.shard(channel).call(channel, tell).await;
        told.map(drop).map_err(|error| self.failed(&error))
    }

    /// A stream that has publications and takes the epoch that was offered for a new one has had
    /// another until now: the fence was met.
    fn note_epoch(&self, is_changed: bool) {
        self.redis.metrics().redis.fence_epoch_changes.inc_by(u64::from(is_changed));
    }

    fn failed(&self, error: &CallError) -> BrokerError {
        match error {
            CallError::Unavailable => BrokerError::Unavailable,
            CallError::OutcomeUnknown | CallError::TooFewReplicas { .. } => {
                BrokerError::OutcomeUnknown
            }
            CallError::Refused(text) => {
                self.complain(text);
                BrokerError::Unavailable
            }
        }
    }

    fn nonsense(&self, what: &'static str) -> BrokerError {
        self.complain(what);
        BrokerError::OutcomeUnknown
    }

    /// Refusals come in floods, such as while a master has too few replicas.
    fn complain(&self, text: &str) {
        if self.refused.may(self.clock.unix_millis()) {
            tracing::warn!(answer = text, "Redis refused or answered what cannot be read");
        }
    }
}

/// From the answer of a script that publishes.
fn published(answer: &Value) -> Option<Published> {
    let [offset, epoch, rest @ ..] = answer.list()? else { return None };
    let is_set = |index: usize| rest.get(index).and_then(Value::number) == Some(1);
    let suppressed = match (is_set(0), is_set(1)) {
        (true, _) => Some(Suppressed::Idempotency),
        (_, true) => Some(Suppressed::Version),
        _ => None,
    };
    Some(Published { offset: offset.number()?, epoch: epoch.str()?.into(), suppressed })
}

/// Where the answer to a publish is kept for a repeat.
fn result_key(keys: &Keys, channel: &str, options: &PublishOptions) -> CompactString {
    let key = &options.idempotency_key;
    match &options.idempotency_owner {
        KeyOwner::Api => keys.result(channel, key),
        KeyOwner::User { id, .. } => keys.user_result(channel, id, key),
    }
}

/// Seconds, at least one: Redis would delete at once what is to live for none.
fn result_ttl(options: &PublishOptions) -> u64 {
    options.idempotency_owner.ttl().as_secs().max(1)
}

fn flag(on: bool) -> &'static [u8] {
    if on { b"1" } else { b"0" }
}
