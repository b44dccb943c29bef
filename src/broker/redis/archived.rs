//! Streams of archived channels: what is published goes into a queue for the archive in the same step,
//! and a stream that expired goes on where the archive ends.
//!
//! A script that does not find a stream's last message id says so and does nothing. Then the archive is
//! asked, and the script called again with what it knows, which counts only if the id is still missing.
//! Whether the stream goes on in the epoch that the archive knows is decided by [`take_up`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::HashMap;
use compact_str::CompactString;
use parking_lot::Mutex;

use super::awaited::Entry;
use super::history::{Question, history_of};
use super::{EPOCH_LETTERS, RedisBroker, flag, published, result_key, result_ttl};
use crate::archive::{Deleted, Tail};
use crate::broker::{
    Archive, Archiving, BrokerError, History, HistoryOptions, Overflow, PublishOptions, Published,
    Range,
};
use crate::redis::{
    CallError, Command, Durability, Redis, Route, Script, StreamEntry, Value, first_entry, slot_of,
};
use crate::telemetry::health;
use crate::time::random_letters;

/// Letters that the epochs of a time without losses end with.
const GENERATION_LETTERS: usize = 6;
/// How often the archive is asked for one call. Only another node that is about to answer the same
/// question, or a loss, makes it more than once.
const QUESTIONS: usize = 4;

/// Consumers look at a stream after a pause that is not longer than nothing came there. So who has
/// put nothing there for so long tells them.
const QUIET: Duration = Duration::from_millis(500);

/// What a script that does not know a stream's last id knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Unknown {
    /// What epochs end with that were begun since anything was lost; or empty.
    generation: CompactString,
    /// Of the oldest entry that waits to be archived.
    oldest: Option<Duration>,
    has_epoch: bool,
}

/// How a stream is to go on. Empty if the archive was not asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TakenUp {
    last_id: CompactString,
    offset: u64,
    /// Empty for a new one.
    epoch: CompactString,
    generation: CompactString,
}

/// The archive may not know yet where the stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Late;

/// What consumers were told of the slots of clusters, by the number of the shard and the slot.
pub(super) type Announced = Mutex<HashMap<(usize, u16), Announcement>>;

/// What consumers were told of one slot.
#[derive(Debug, Default)]
pub(super) struct Announcement {
    /// The identity of the master that the slot was at when they were told that there is a queue.
    under: CompactString,
    /// When something was put there last.
    last: Option<Instant>,
}

impl RedisBroker {
    /// The connections.
    pub fn redis(&self) -> &Arc<Redis> {
        &self.redis
    }

    /// The archive, if there is one.
    pub fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    pub(super) async fn append_archived(
        &self,
        channel: &str,
        encoded: &[u8],
        options: &PublishOptions,
        history: &HistoryOptions,
        archiving: Archiving,
    ) -> Result<Published, BrokerError> {
        let archive = self.archive.as_ref().ok_or(BrokerError::ArchiveUnavailable)?;
        let metrics = &archive.metrics.history;
        let wait = match archiving.until_stored {
            false => None,
            true => Some(self.stored.place(archive.limits().backlog).ok_or_else(|| {
                metrics.refused.inc();
                BrokerError::ArchiveUnavailable
            })?),
        };
        self.announce(channel).await;
        let has_key = !options.idempotency_key.is_empty();
        // The queue and the identity of its master.
        let place = Mutex::<(CompactString, CompactString)>::default();
        let fill = |route: &Route, command: Command, first: &dyn Fn(Command) -> Command| {
            let keys = route.keys();
            if wait.is_some() {
                *place.lock() = (keys.archive_stream(channel), route.identity().id.clone());
            }
            let command = match has_key {
                true => command.arg(result_key(keys, channel, options)),
                false => command,
            };
            first(command)
                .arg(encoded)
                .number(history.size as u64)
                .number(history.ttl.as_secs().max(1))
                .arg(keys.messages(channel))
                .number(history.meta_ttl.as_secs())
                .number(result_ttl(options))
                .arg(flag(options.delta))
                .number(options.version)
                .arg(&options.version_epoch)
                .number(archive.limits().backlog as u64)
                .arg(flag(archiving.overflow == Overflow::Drop))
                .arg(channel)
        };
        let script = (Script::PublishArchived, 4 + u64::from(has_key));
        let way = (script, Durability::Replicas);
        let answer = self.settle(channel, history.meta_ttl, way, fill).await?;
        let Some([_, _, is_repeat, is_stale, entry]) = answer.list() else {
            return Err(self.nonsense("publish"));
        };
        let entry = entry.str().unwrap_or_default();
        let published = published(&answer).ok_or_else(|| self.nonsense("publish"))?;
        let is_new = [is_repeat, is_stale].map(Value::number) == [Some(0); 2];
        if is_new && entry.is_empty() {
            self.note_dropped(channel);
        }
        if let Some(wait) = wait
            && !entry.is_empty()
        {
            let (queue, under) = place.into_inner();
            let queue = (queue, self.redis.shard(channel).number());
            let entry = Entry { queue, channel: channel.into(), id: entry.into(), under };
            wait.until_stored(entry, archive.limits().ack_timeout).await?;
        }
        Ok(published)
    }

    pub(in crate::broker) async fn archived_history(
        self: &Arc<Self>,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.shared_history(channel, range, meta_ttl, true).await
    }

    pub(super) async fn read_archived(&self, question: &Question) -> Result<History, BrokerError> {
        let fill = |_: &Route, command: Command, first: &dyn Fn(Command) -> Command| {
            question.add_range(first(command)).number(question.meta_ttl.as_secs())
        };
        let way = ((Script::HistoryArchived, 4), Durability::Master);
        let answer = self.settle(&question.channel, question.meta_ttl, way, fill).await?;
        history_of(&answer).ok_or_else(|| self.nonsense("history"))
    }

    pub(in crate::broker) async fn archive_lag(
        &self,
        channel: &str,
    ) -> Result<Option<Duration>, BrokerError> {
        let oldest = |route: &Route| first_entry(&route.keys().archive_stream(channel));
        let answer = self.redis.shard(channel).call(channel, oldest).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        let oldest = answer.list().and_then(<[Value]>::first).and_then(StreamEntry::of);
        let Some(oldest) = oldest else { return Ok(None) };
        let since_ms = oldest.number().unwrap_or(0);
        let now_ms = u64::try_from(self.clock.unix_millis()).unwrap_or(0);
        Ok(Some(Duration::from_millis(now_ms.saturating_sub(since_ms))))
    }

    pub(in crate::broker) async fn forget(
        &self,
        channel: &str,
        deleted: &Deleted,
    ) -> Result<(), BrokerError> {
        erase(&self.redis, channel, deleted).await.map_err(|error| self.failed(&error))
    }

    /// Calls a script with the keys and arguments of `lua/archive.lua`, and what `fill` adds: keys
    /// before what the function in its hands adds, arguments behind. Asks the archive for what the
    /// script does not know.
    async fn settle(
        &self,
        channel: &str,
        meta_ttl: Duration,
        (script, durability): ((Script, u64), Durability),
        fill: impl Fn(&Route, Command, &dyn Fn(Command) -> Command) -> Command,
    ) -> Result<Value, BrokerError> {
        let archive = self.archive.as_ref().ok_or(BrokerError::ArchiveUnavailable)?;
        let (epoch, fresh) = (random_letters(EPOCH_LETTERS), random_letters(GENERATION_LETTERS));
        let mut taken_up = TakenUp::default();
        for _ in 0..QUESTIONS {
            let call = |route: &Route, command: Command| {
                let (keys, identity) = (route.keys(), route.identity());
                let command = command
                    .arg(keys.stream(channel))
                    .arg(keys.stream_meta(channel))
                    .arg(keys.archive_stream(channel))
                    .arg(keys.archive_state(channel));
                fill(route, command, &|command| {
                    command
                        .arg(&identity.id)
                        .arg(flag(identity.is_first))
                        .arg(route.predecessor())
                        .arg(&epoch)
                        .arg(&fresh)
                        .arg(&taken_up.last_id)
                        .number(taken_up.offset)
                        .arg(&taken_up.epoch)
                        .arg(&taken_up.generation)
                })
            };
            let answer = self.redis.shard(channel).run(channel, script, durability, call).await;
            let answer = answer.map_err(|error| self.failed(&error))?;
            let Some([first, rest @ ..]) = answer.list() else {
                return Err(self.nonsense("archive"));
            };
            match first.str() {
                Some("full") => {
                    archive.metrics.history.refused.inc();
                    self.health.archiving(health::Archiving::Full);
                    return Err(BrokerError::ArchiveUnavailable);
                }
                Some("unknown") => {
                    let unknown = Unknown::of(rest).ok_or_else(|| self.nonsense("archive"))?;
                    let known = self.ask_archive(archive, channel, (unknown, meta_ttl)).await;
                    taken_up = known.inspect_err(|_| {
                        if script.0 == Script::PublishArchived {
                            archive.metrics.history.refused.inc();
                        }
                    })?;
                }
                _ => {
                    let under = rest.first().and_then(Value::str).unwrap_or_default();
                    let is_old = first.number().is_some_and(|offset| offset > 1);
                    self.note_epoch(is_old && under.starts_with(epoch.as_str()));
                    return Ok(answer);
                }
            }
        }
        Err(BrokerError::Unavailable)
    }

    /// Asks the archive where a stream ends, for as long as the store takes to answer or to give up.
    /// Without its answer nothing is begun, not even a new epoch: its ids might not lie above those
    /// that the archive has.
    async fn ask_archive(
        &self,
        archive: &Archive,
        channel: &str,
        (unknown, meta_ttl): (Unknown, Duration),
    ) -> Result<TakenUp, BrokerError> {
        let tail = archive.store().tail(channel).await.map_err(|error| {
            self.health.archiving(health::Archiving::Failed(error.to_string()));
            archive.unavailable(&error)
        })?;
        take_up(unknown, tail, meta_ttl).map_err(|Late| {
            self.complain("an expired stream waits for the archive to catch up");
            BrokerError::ArchiveUnavailable
        })
    }

    /// Tells consumers of the slot that a channel is in before anything of it waits for them: that
    /// there is a queue, and that something comes there after a while. If that fails they find it by
    /// themselves, later.
    async fn announce(&self, channel: &str) {
        let shard = self.redis.shard(channel);
        let Ok(route) = shard.route(channel) else { return };
        if !route.keys().are_of_cluster() {
            // There is one queue.
            return;
        }
        let (number, slot, now) = (shard.number(), slot_of(channel), self.clock.now());
        let under = &route.identity().id;
        let (is_listed, is_awake) = {
            let mut announced = self.announced.lock();
            let told = announced.entry((number, slot)).or_default();
            let last = told.last.replace(now);
            let is_awake = last.is_some_and(|last| now.saturating_duration_since(last) < QUIET);
            (told.under == *under, is_awake)
        };
        if !is_listed {
            let slots = route.keys().archive_slots();
            let add = |_: &Route| Command::new("SADD").arg(&slots).number(u64::from(slot));
            if shard.call(&slots, add).await.is_ok() {
                self.announced.lock().entry((number, slot)).or_default().under.clone_from(under);
            }
        }
        if !is_awake {
            let say = Command::new("PUBLISH").arg(route.keys().archive_arrived());
            // Nobody waits for the answer: who hears it too early looks again soon.
            drop(route.attachment.link.begin(say.arg(format!("{number} {slot}"))));
        }
    }

    fn note_dropped(&self, channel: &str) {
        if let Some(archive) = &self.archive {
            archive.metrics.history.dropped.inc();
        }
        self.health.archiving(health::Archiving::Dropped);
        if self.dropped.may(self.clock.unix_millis()) {
            tracing::error!(channel, "the queue is full: publications are not archived");
        }
    }
}

/// Takes out of a stream in Redis what was deleted in the archive.
///
/// # Errors
/// See [`CallError`]: the stream may have it still.
pub async fn erase(redis: &Redis, channel: &str, deleted: &Deleted) -> Result<(), CallError> {
    let shard = redis.shard(channel);
    let done = match (&deleted.epoch, deleted.offsets) {
        (Some(epoch), Some((first, last))) => {
            let fill = |route: &Route, command: Command| {
                let command = command
                    .arg(route.keys().stream(channel))
                    .arg(route.keys().stream_meta(channel));
                command.arg(epoch).number(first).number(last)
            };
            shard.run(channel, (Script::Erase, 2), Durability::Replicas, fill).await
        }
        // It went over several epochs, so over all that the stream has.
        _ => {
            let delete = |route: &Route| Command::new("DEL").arg(route.keys().stream(channel));
            shard.call(channel, delete).await
        }
    };
    done.map(drop)
}

/// Decides how a stream goes on whose last id is not known, by where the archive ends.
///
/// Its epoch goes on if it was begun since anything was lost, so that its meta can only have expired,
/// and if the archive has all of it: nothing waits that is as old as what has expired.
fn take_up(unknown: Unknown, tail: Option<Tail>, meta_ttl: Duration) -> Result<TakenUp, Late> {
    let Unknown { generation, oldest, has_epoch } = unknown;
    let Some(tail) = tail else {
        return Ok(TakenUp { last_id: "0".into(), generation, ..TakenUp::default() });
    };
    let is_whole = tail.epoch.len() == EPOCH_LETTERS + GENERATION_LETTERS;
    let goes_on = !generation.is_empty() && is_whole && tail.epoch.ends_with(generation.as_str());
    let may_be_late = !meta_ttl.is_zero() && oldest.is_some_and(|oldest| oldest >= meta_ttl);
    if goes_on && !has_epoch && may_be_late {
        return Err(Late);
    }
    let epoch = if goes_on { tail.epoch } else { CompactString::default() };
    let last_id = tail.last_id.number().to_string().into();
    Ok(TakenUp { last_id, offset: tail.offset, epoch, generation })
}

impl Unknown {
    fn of(answer: &[Value]) -> Option<Self> {
        let [generation, oldest, has_epoch] = answer else { return None };
        Some(Self {
            generation: generation.str()?.into(),
            oldest: oldest.number().map(Duration::from_millis),
            has_epoch: has_epoch.number()? == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::MessageId;

    const TTL: Duration = Duration::from_secs(60);

    fn tail(epoch: &str) -> Option<Tail> {
        let last_id = MessageId::of(9_007_199_254_740_993).expect("an id");
        Some(Tail { epoch: epoch.into(), offset: 7, last_id })
    }

    fn unknown(generation: &str, oldest: Option<u64>) -> Unknown {
        let oldest = oldest.map(Duration::from_secs);
        Unknown { generation: generation.into(), oldest, has_epoch: false }
    }

    fn epoch(unknown: Unknown, tail: Option<Tail>) -> Result<CompactString, Late> {
        take_up(unknown, tail, TTL).map(|taken_up| taken_up.epoch)
    }

    #[test]
    fn only_an_epoch_since_the_last_loss_goes_on() {
        let known = "abcdefghGENERA";
        assert_eq!(epoch(unknown("GENERA", None), tail(known)), Ok(known.into()));
        assert_eq!(epoch(unknown("OTHERS", None), tail(known)), Ok("".into()));
        assert_eq!(epoch(unknown("", None), tail(known)), Ok("".into()));
        assert_eq!(epoch(unknown("GENERA", None), tail("xxGENERA")), Ok("".into()), "not ours");
        assert_eq!(epoch(unknown("GENERA", None), None), Ok("".into()));
    }

    #[test]
    fn the_counter_and_the_ids_go_on_also_in_a_new_epoch() {
        let taken_up = take_up(unknown("OTHERS", None), tail("abcdefghGENERA"), TTL);
        let expected = TakenUp {
            last_id: "9007199254740993".into(),
            offset: 7,
            epoch: "".into(),
            generation: "OTHERS".into(),
        };
        assert_eq!(taken_up, Ok(expected));
    }

    #[test]
    fn an_archive_that_may_lack_the_end_of_the_epoch_decides_nothing() {
        let known = "abcdefghGENERA";
        assert_eq!(epoch(unknown("GENERA", Some(59)), tail(known)), Ok(known.into()));
        assert_eq!(epoch(unknown("GENERA", Some(60)), tail(known)), Err(Late));
        // A new epoch promises nothing of the old one.
        assert_eq!(epoch(unknown("OTHERS", Some(60)), tail(known)), Ok("".into()));
        assert_eq!(epoch(unknown("GENERA", Some(60)), None), Ok("".into()));
    }
}
