//! Presence in Redis, under Centrifugo's keys: entries expire unless their node renews them.
//!
//! What this node has added it remembers, so that it can renew a channel's entries together, many in
//! one call, whatever their connections do, and put them back into a Redis that has lost them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::{HashMap, HashSet, RandomState};
use bytes::Bytes;
use compact_str::CompactString;
use futures_util::future::join_all;
use parking_lot::Mutex;
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::{PresenceCounts, PresenceError};
use crate::config;
use crate::protocol::publication::ClientInfo;
use crate::redis::{Answer, CallError, Command, Durability, Redis, Route, Script, Value};
use crate::time::Clock;

/// Channels are spread over so many parts, which are renewed one after the other: so the work is
/// spread over the interval.
const PARTS: usize = 64;
/// Entries in one call: enough that what a call costs beside them hardly counts, few enough that
/// Redis is not held up.
const BATCH: usize = 128;
/// Calls at work while a part is renewed.
const OPEN_CALLS: usize = 32;
/// The scripts that change something, with how many keys they have.
const ADD: (Script, u64) = (Script::PresenceAdd, 4);
const REMOVE: (Script, u64) = (Script::PresenceRemove, 4);

/// See the [module](self).
pub struct RedisPresence {
    redis: Arc<Redis>,
    clock: Clock,
    /// How long an entry lives without being renewed.
    ttl: Duration,
    renew_every: Duration,
    counts_users: bool,
    fields_expire: bool,
    hasher: RandomState,
    parts: Vec<Mutex<Part>>,
}

/// What this node has added, by channel and client.
type Part = HashMap<Box<str>, HashMap<Box<str>, Entry>>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    info: Bytes,
    user: Box<str>,
}

impl RedisPresence {
    /// Presence over connections that somebody starts. Entries are renewed every `renew_every`, once
    /// [`RedisPresence::start`] was called.
    pub fn new(
        redis: Arc<Redis>,
        clock: Clock,
        settings: &config::redis::Redis,
        renew_every: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            redis,
            clock,
            ttl: settings.presence_ttl,
            renew_every,
            counts_users: settings.presence_user_mapping,
            fields_expire: settings.presence_hash_field_ttl,
            hasher: RandomState::new(),
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
        })
    }

    /// Renews entries until `stop`, and adds them anew to each shard that was away.
    pub fn start(self: &Arc<Self>, stop: &CancellationToken) {
        let presence = Arc::clone(self);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                for part in &presence.parts {
                    tokio::time::sleep(presence.renew_every / PARTS as u32).await;
                    presence.renew(part, None).await;
                }
            }
        }));
        for shard in self.redis.shards() {
            let (presence, shard) = (Arc::clone(self), Arc::clone(shard));
            tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
                let mut attachments = shard.attachments();
                while attachments.changed().await.is_ok() {
                    for part in &presence.parts {
                        presence.renew(part, Some(shard.number())).await;
                    }
                }
            }));
        }
    }

    /// After an error the entry is to be removed: it may have been added.
    pub(super) async fn add(&self, channel: &str, info: ClientInfo) -> Result<(), PresenceError> {
        let entry = Entry { info: info.encode_to_vec().into(), user: info.user.into() };
        let client = info.client.into_boxed_str();
        let begun = {
            let mut part = self.part(channel).lock();
            let clients = part.entry(channel.into()).or_default();
            if clients.get(&client) == Some(&entry) {
                // It is renewed with the others.
                return Ok(());
            }
            clients.insert(client.clone(), entry.clone());
            self.begin(channel, ADD, |route, command| {
                self.addition(route, command, channel, [(&*client, &entry)])
            })
        };
        let fill = |route: &Route, command: Command| {
            self.addition(route, command, channel, [(&*client, &entry)])
        };
        let added = self.end(begun, channel, ADD, fill).await;
        let is_there = |part: &Part| part.get(channel).is_some_and(|c| c.contains_key(&client));
        if added.is_err() || is_there(&self.part(channel).lock()) {
            return added;
        }
        // It was removed in the meantime, and where one of the calls had to be made again, perhaps
        // before it was added.
        let fill = |route: &Route, command: Command| {
            self.removal(route, command, channel, &client, &entry.user)
        };
        let shard = self.redis.shard(channel);
        done(shard.run(channel, REMOVE, Durability::Master, fill).await)
    }

    pub(super) async fn remove(&self, channel: &str, client: &str) -> Result<(), PresenceError> {
        let (begun, user) = {
            let mut part = self.part(channel).lock();
            let Some(clients) = part.get_mut(channel) else { return Ok(()) };
            let Some(entry) = clients.remove(client) else { return Ok(()) };
            if clients.is_empty() {
                part.remove(channel);
            }
            let begun = self.begin(channel, REMOVE, |route, command| {
                self.removal(route, command, channel, client, &entry.user)
            });
            (begun, entry.user)
        };
        let fill =
            |route: &Route, command: Command| self.removal(route, command, channel, client, &user);
        self.end(begun, channel, REMOVE, fill).await
    }

    pub(super) async fn get(
        &self,
        channel: &str,
    ) -> Result<BTreeMap<String, ClientInfo>, PresenceError> {
        let now = self.clock.unix_seconds().unsigned_abs();
        let fill = |route: &Route, command: Command| {
            let keys = route.keys();
            let command = command.arg(keys.presence_expire(channel));
            command.arg(keys.presence_data(channel)).number(now)
        };
        let answer = self.run((Script::PresenceGet, 2), channel, fill).await?;
        let clients = answer.list().ok_or(PresenceError)?.chunks_exact(2);
        let read = |pair: &[Value]| match pair {
            [client, info] => {
                let info = ClientInfo::decode(Bytes::clone(info.text()?)).ok()?;
                Some((client.str()?.to_owned(), info))
            }
            _ => None,
        };
        clients.map(read).collect::<Option<_>>().ok_or(PresenceError)
    }

    pub(super) async fn counts(&self, channel: &str) -> Result<PresenceCounts, PresenceError> {
        if !self.counts_users {
            let clients = self.get(channel).await?;
            let users: HashSet<&str> = clients.values().map(|info| info.user.as_str()).collect();
            let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
            return Ok(PresenceCounts { clients: count(clients.len()), users: count(users.len()) });
        }
        let now = self.clock.unix_seconds().unsigned_abs();
        let fill =
            |route: &Route, command: Command| command.args(names(route, channel)).number(now);
        let answer = self.run((Script::PresenceCount, 4), channel, fill).await?;
        let count = |value: &Value| value.number().and_then(|number| u32::try_from(number).ok());
        match answer.list() {
            Some([clients, users]) => Ok(PresenceCounts {
                clients: count(clients).ok_or(PresenceError)?,
                users: count(users).ok_or(PresenceError)?,
            }),
            _ => Err(PresenceError),
        }
    }

    /// Adds the entries of a part anew, with `shard` only those that it keeps. What is not renewed
    /// now, since Redis is away, comes with the next attachment.
    async fn renew(&self, part: &Mutex<Part>, shard: Option<usize>) {
        let channels: Vec<Box<str>> = part.lock().keys().cloned().collect();
        let is_asked =
            |channel: &str| shard.is_none_or(|shard| self.redis.shard(channel).number() == shard);
        let concerned: Vec<_> = channels.iter().filter(|channel| is_asked(channel)).collect();
        for batch in concerned.chunks(OPEN_CALLS) {
            let begin = |channel: &str| self.begin_renewal(part, channel);
            let answers = batch.iter().flat_map(|channel| begin(channel)).map(Answer::wait);
            let answers = join_all(answers).await;
            // Where it lives now, or the script that was lost, is found out by the next who asks.
            let must_repeat =
                |answer: &Result<Value, CallError>| matches!(answer, Err(CallError::Refused(_)));
            if answers.iter().any(must_repeat) {
                for channel in batch {
                    let load = |_: &Route| {
                        let script = Script::PresenceAdd.source();
                        Command::new("SCRIPT").arg("LOAD").arg(script)
                    };
                    let look = |route: &Route| {
                        Command::new("EXISTS").arg(route.keys().presence_data(channel))
                    };
                    // Should that fail too, the entries live on until the next turn.
                    let shard = self.redis.shard(channel);
                    let _ = shard.call(channel, look).await;
                    let _ = shard.call(channel, load).await;
                    join_all(begin(channel).into_iter().map(Answer::wait)).await;
                }
            }
        }
    }

    /// Under the lock, so that no removal that comes later can be sent before.
    fn begin_renewal(&self, part: &Mutex<Part>, channel: &str) -> Vec<Answer> {
        let part = part.lock();
        let Some(clients) = part.get(channel) else { return Vec::new() };
        let entries: Vec<_> = clients.iter().map(|(client, entry)| (&**client, entry)).collect();
        let batches = entries.chunks(BATCH).map(|batch| {
            self.begin(channel, ADD, |route, command| {
                self.addition(route, command, channel, batch.iter().copied())
            })
        });
        batches.filter_map(Result::ok).collect()
    }

    /// Sends a call of a script before this returns.
    fn begin(
        &self,
        channel: &str,
        (script, keys): (Script, u64),
        fill: impl FnOnce(&Route, Command) -> Command,
    ) -> Result<Answer, CallError> {
        let route = self.redis.shard(channel).route(channel)?;
        let link = &route.attachment.link;
        link.begin(fill(&route, link.script(script, keys)))
    }

    /// Waits for a call. One that was refused was not begun there: the script was lost, or the
    /// channel is elsewhere. Then it is made again, in its own time.
    async fn end(
        &self,
        begun: Result<Answer, CallError>,
        channel: &str,
        script: (Script, u64),
        fill: impl Fn(&Route, Command) -> Command,
    ) -> Result<(), PresenceError> {
        match begun {
            Err(_) => Err(PresenceError),
            Ok(answer) => match answer.wait().await {
                Err(CallError::Refused(_)) => {
                    let shard = self.redis.shard(channel);
                    done(shard.run(channel, script, Durability::Master, fill).await)
                }
                answer => done(answer),
            },
        }
    }

    fn addition<'a>(
        &self,
        route: &Route,
        command: Command,
        channel: &str,
        entries: impl IntoIterator<Item = (&'a str, &'a Entry)>,
    ) -> Command {
        let ends = self.clock.unix_seconds().unsigned_abs() + self.ttl.as_secs();
        let command = command
            .args(names(route, channel))
            .number(self.ttl.as_secs())
            .number(ends)
            .number(u64::from(self.counts_users))
            .number(u64::from(self.fields_expire));
        entries.into_iter().fold(command, |command, (client, entry)| {
            command.arg(client).arg(&entry.info).arg(&*entry.user)
        })
    }

    fn removal(
        &self,
        route: &Route,
        command: Command,
        channel: &str,
        client: &str,
        user: &str,
    ) -> Command {
        let command = command.args(names(route, channel));
        command.arg(client).arg(user).number(u64::from(self.counts_users))
    }

    async fn run(
        &self,
        script: (Script, u64),
        channel: &str,
        fill: impl Fn(&Route, Command) -> Command,
    ) -> Result<Value, PresenceError> {
        let shard = self.redis.shard(channel);
        shard.run(channel, script, Durability::Master, fill).await.map_err(|_| PresenceError)
    }

    fn part(&self, channel: &str) -> &Mutex<Part> {
        &self.parts[self.hasher.hash_one(channel) as usize % PARTS]
    }
}

fn done(answer: Result<Value, CallError>) -> Result<(), PresenceError> {
    answer.map(drop).map_err(|_| PresenceError)
}

fn names(route: &Route, channel: &str) -> [CompactString; 4] {
    let keys = route.keys();
    [
        keys.presence_expire(channel),
        keys.presence_data(channel),
        keys.presence_user_expire(channel),
        keys.presence_user_clients(channel),
    ]
}
