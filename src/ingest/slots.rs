//! The archive streams of a cluster: one for each hash slot in which something was published.
//!
//! No command reads streams of different slots, and so many connections could not wait. So each
//! stream is asked by itself, all that are due at the same time, and seldom where nothing comes; when
//! something comes there again, gateways say so. Which streams there are is a set that gateways add to;
//! a slow look at all the other slots finds those that a failover took out of the set, or of whose
//! arrivals nobody heard. A master that is away takes along only the streams that are its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::time::timeout;

use super::Settings;
use super::arrivals::{Arrivals, Inbox};
use super::calls;
use super::entry::{Delivered, EntryId, Poison, Source, Ticket};
use super::queue::Queue;
use super::reading::{Ask, Pace, Reading};
use crate::protocol::publication::Publication;
use crate::redis::{CallError, Command, Durability, Route, SLOTS, Script, Shard, Value, slot_tag};
use crate::telemetry::seldom::Seldom;
use crate::time::{Clock, jittered};

/// Streams that are asked at the same time.
const AT_ONCE: usize = 64;
/// How often the set of streams is read, and the next of the other slots are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Slots of one such look; all of them take a minute.
const LOOK_AT: usize = 274;

/// See the [module](self).
pub struct Slots {
    shard: Arc<Shard>,
    settings: Arc<Settings>,
    clock: Clock,
    streams: BTreeMap<u16, State>,
    /// All of them by [`Pace::next`], and the slot.
    schedule: BTreeSet<(Instant, u16)>,
    arrivals: Arc<Inbox>,
    /// How many slots are known to be in the set.
    listed: u64,
    next_look: Instant,
    /// The first slot of the next look.
    look_from: u16,
    complaints: Seldom,
}

/// One stream, as this consumer reads it.
struct State {
    reading: Reading,
    pace: Pace,
}

/// The slots that have an archive stream, by the set that gateways add to; none if it has as many as
/// are `known`, which then becomes how many it has.
///
/// # Errors
/// See [`CallError`].
pub async fn listed(shard: &Shard, known: &mut u64) -> Result<BTreeSet<u16>, CallError> {
    let set = shard.attachment()?.keys().archive_slots();
    let call = async |name| {
        shard.call(&set, |route| Command::new(name).arg(route.keys().archive_slots())).await
    };
    let count = call("SCARD").await?.number().ok_or_else(calls::nonsense)?;
    if count == *known {
        return Ok(BTreeSet::new());
    }
    let answer = call("SMEMBERS").await?;
    let members = answer.list().ok_or_else(calls::nonsense)?;
    *known = members.len() as u64;
    let slots = members.iter().filter_map(|slot| u16::try_from(slot.number()?).ok());
    Ok(slots.filter(|slot| usize::from(*slot) < SLOTS).collect())
}

/// Calls a command about the stream of a slot.
///
/// # Errors
/// See [`CallError`].
pub async fn call(
    shard: &Shard,
    slot: u16,
    make: impl Fn(&str) -> Command,
) -> Result<Value, CallError> {
    let tag = slot_tag(slot);
    shard.call(tag, |route| make(&route.keys().archive_stream(tag))).await
}

impl Slots {
    pub fn new(
        shard: Arc<Shard>,
        settings: Arc<Settings>,
        clock: Clock,
        arrivals: &Arrivals,
    ) -> Self {
        let next_look = clock.now();
        Self {
            arrivals: arrivals.inbox(shard.number()),
            shard,
            settings,
            clock,
            streams: BTreeMap::new(),
            schedule: BTreeSet::new(),
            listed: 0,
            next_look,
            look_from: 0,
            complaints: Seldom::default(),
        }
    }

    /// Begins anew with the streams that are known: what is in hand is read again.
    pub fn restart(&mut self) {
        self.streams.values_mut().for_each(|state| state.reading.doubt());
    }

    /// Leaves the consumer groups, unless entries are still in hand there.
    ///
    /// # Errors
    /// See [`CallError`]: of some group.
    pub async fn leave(&self) -> Result<(), CallError> {
        let slots: Vec<_> = self.streams.keys().copied().collect();
        let mut left = Ok(());
        for part in slots.chunks(AT_ONCE) {
            let leaving = part.iter().map(|slot| {
                let args = vec![calls::GROUP.into(), self.settings.name.as_bytes().to_vec().into()];
                self.run(*slot, Script::ArchiveLeave, args)
            });
            left = join_all(leaving).await.into_iter().fold(left, Result::and);
        }
        left
    }

    /// Finds streams that are not known yet. Those of a master that is away are found later.
    async fn look(&mut self) {
        let listed = listed(&self.shard, &mut self.listed).await;
        let mut found = listed.unwrap_or_else(|error| {
            self.complain(&error, "the set of archive streams cannot be read, trying on");
            BTreeSet::new()
        });
        let slots = (0..SLOTS).cycle().skip(usize::from(self.look_from)).take(LOOK_AT);
        let slots: Vec<_> = slots.filter_map(|slot| u16::try_from(slot).ok()).collect();
        let unknown = slots.iter().filter(|slot| !self.streams.contains_key(slot));
        let lengths = unknown.map(async |slot| {
            let length = call(&self.shard, *slot, |stream| Command::new("XLEN").arg(stream)).await;
            (*slot, length.ok().and_then(|length| length.number()).unwrap_or(0))
        });
        let filled = join_all(lengths).await.into_iter().filter(|(_, length)| *length > 0);
        found.extend(filled.map(|(slot, _)| slot));
        self.look_from = ((usize::from(self.look_from) + LOOK_AT) % SLOTS) as u16;
        let now = self.clock.now();
        found.into_iter().for_each(|slot| self.find(slot, now));
    }

    /// Takes note of a stream, if it is not known yet.
    fn find(&mut self, slot: u16, now: Instant) {
        self.streams.entry(slot).or_insert_with(|| {
            self.schedule.insert((now, slot));
            State { reading: Reading::new(now), pace: Pace::new(now) }
        });
    }

    /// Changes the state of a stream, and with it when it is looked at.
    fn change(&mut self, slot: u16, change: impl FnOnce(&mut State)) {
        let Some(state) = self.streams.get_mut(&slot) else { return };
        self.schedule.remove(&(state.pace.next, slot));
        change(state);
        self.schedule.insert((state.pace.next, slot));
    }

    /// Looks at once where somebody says that something comes.
    fn wake(&mut self, now: Instant) {
        for slot in self.arrivals.take() {
            self.find(slot, now);
            self.change(slot, |state| state.pace.wake(now));
        }
    }

    /// Shards say themselves that they are away.
    fn complain(&self, error: &CallError, what: &'static str) {
        if *error != CallError::Unavailable && self.complaints.may(self.clock.unix_millis()) {
            let shard = self.shard.number();
            tracing::warn!(shard, %error, "{what}");
        }
    }

    /// Asks one stream what its reading says.
    async fn ask(&self, slot: u16, ask: Ask, count: usize) -> Answer {
        let settings = &self.settings;
        let command = |stream: &str| match ask {
            Ask::Own(behind) => calls::read(stream, settings, Some(behind), count, None),
            Ask::Claim(from) => calls::claim(stream, settings, from, count),
            Ask::Fresh => calls::read(stream, settings, None, count, None),
        };
        let mut answer = call(&self.shard, slot, command).await;
        if answer.as_ref().is_err_and(calls::is_without_group) {
            match call(&self.shard, slot, calls::found_group).await {
                Err(error) if !calls::has_group(&error) => return (slot, ask, Err(error)),
                _ => answer = call(&self.shard, slot, command).await,
            }
        }
        let read = |answer: &Value, source| {
            Ok((EntryId::default(), calls::read_answer(answer, slot, source)?))
        };
        let read = answer.and_then(|answer| match ask {
            Ask::Claim(_) => calls::claim_answer(&answer, slot),
            Ask::Own(_) => read(&answer, Source::Again),
            Ask::Fresh => read(&answer, Source::New),
        });
        (slot, ask, read)
    }

    /// Takes note of an answer, and returns its entries.
    fn note(&mut self, (slot, ask, answer): Answer, now: Instant) -> Vec<Delivered> {
        let next_claim = now + jittered(self.settings.claim_after);
        let (cursor, entries) = match answer {
            Ok(read) => read,
            Err(error) => {
                self.complain(&error, "an archive stream cannot be read, trying on");
                self.change(slot, |state| {
                    // What it answered may have been lost on the way.
                    state.reading.doubt();
                    state.pace.read(false, now);
                });
                return Vec::new();
            }
        };
        self.change(slot, |state| {
            match ask {
                Ask::Own(_) => state.reading.read_own(entries.last().map(|one| one.ticket.id)),
                Ask::Claim(_) => state.reading.claimed(cursor, next_claim),
                Ask::Fresh => {}
            }
            // Behind own and claimed entries the new ones are read at once.
            state.pace.read(ask != Ask::Fresh || !entries.is_empty(), now);
        });
        entries
    }

    /// Takes consumers that are gone out of the groups of those streams that it is time for.
    async fn tidy(&mut self, slots: Vec<u16>, now: Instant) {
        let every = self.settings.tidy_every();
        let mut is_due = |slot: &u16| {
            self.streams.get_mut(slot).is_some_and(|state| state.reading.tidies(now, every))
        };
        let due: Vec<_> = slots.into_iter().filter(&mut is_due).collect();
        let tidying = due.into_iter().map(async |slot| {
            let consumers = call(&self.shard, slot, calls::consumers).await?;
            for name in calls::gone(&consumers, self.settings.forget_after)? {
                let args = vec![calls::GROUP.into(), name.as_bytes().to_vec().into()];
                self.run(slot, Script::ArchiveLeave, args).await?;
            }
            Ok(())
        });
        for error in join_all(tidying).await.into_iter().filter_map(Result::err) {
            self.complain(&error, "consumers that are gone stay in a group");
        }
    }

    async fn run(
        &self,
        slot: u16,
        script: Script,
        args: Vec<bytes::Bytes>,
    ) -> Result<(), CallError> {
        let tag = slot_tag(slot);
        let fill = |route: &Route, command: Command| {
            command.arg(route.keys().archive_stream(tag)).args(&args)
        };
        self.shard.run(tag, (script, 1), Durability::Master, fill).await.map(drop)
    }
}

/// What was asked of the stream of a slot, and the answer: where a claim goes on, and entries.
type Answer = (u16, Ask, Result<(EntryId, Vec<Delivered>), CallError>);

impl Queue for Slots {
    async fn next(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Delivered>, CallError> {
        let now = self.clock.now();
        self.wake(now);
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look().await;
        }
        let due = self.schedule.range(..=(now, u16::MAX)).take(AT_ONCE);
        let due: Vec<_> = due.map(|(_, slot)| *slot).collect();
        if due.is_empty() {
            let next = self.schedule.first().map(|(next, _)| next.saturating_duration_since(now));
            let pause = next.unwrap_or(patience).min(patience);
            let _ = timeout(pause, self.arrivals.rung()).await;
            return Ok(Vec::new());
        }
        let each = (count / due.len()).max(1);
        let mut asks = Vec::with_capacity(due.len());
        for slot in due {
            if let Some(state) = self.streams.get_mut(&slot) {
                asks.push((slot, state.reading.next(now)));
            }
        }
        let asking = asks.into_iter().map(|(slot, ask)| self.ask(slot, ask, each));
        let answers = join_all(asking).await;
        let now = self.clock.now();
        let slots: Vec<_> = answers.iter().map(|(slot, ..)| *slot).collect();
        let found = answers.into_iter().flat_map(|answer| self.note(answer, now)).collect();
        self.tidy(slots, now).await;
        Ok(found)
    }

    /// What cannot leave now is read again.
    async fn done(&mut self, tickets: &[Ticket]) -> Result<(), CallError> {
        let mut streams: BTreeMap<u16, Vec<EntryId>> = BTreeMap::new();
        for ticket in tickets {
            streams.entry(ticket.stream).or_default().push(ticket.id);
        }
        let stored = self.shard.attachment()?.keys().archive_stored();
        let parts = streams
            .iter()
            .flat_map(|(slot, ids)| ids.chunks(calls::LEAVING).map(|part| (*slot, part)));
        let leaving = parts.map(|(slot, part)| {
            let args = calls::done_arguments(&stored, part.iter().copied());
            let left = self.run(slot, Script::ArchiveDone, args);
            async move { (slot, left.await) }
        });
        let left = join_all(leaving).await;
        let now = self.clock.now();
        for (slot, error) in left.into_iter().filter_map(|(slot, left)| Some((slot, left.err()?))) {
            self.complain(&error, "what is stored cannot leave an archive stream, trying on");
            self.change(slot, |state| {
                state.reading.doubt();
                state.pace.failed(now);
            });
        }
        Ok(())
    }

    async fn abandoned(&mut self, streams: &[u16]) -> Result<Vec<Delivered>, CallError> {
        let mut found = Vec::new();
        for part in streams.chunks(AT_ONCE) {
            let claims = part.iter().map(async |slot| {
                let claim =
                    |stream: &str| calls::claim(stream, &self.settings, EntryId::default(), 1);
                calls::claim_answer(&call(&self.shard, *slot, claim).await?, *slot)
            });
            // Those of a master that is away have to wait.
            let claimed = join_all(claims).await.into_iter().flatten();
            found.extend(claimed.flat_map(|(_, entries)| entries));
        }
        Ok(found)
    }

    async fn heads(
        &mut self,
        streams: &[u16],
    ) -> Result<BTreeMap<u16, Option<EntryId>>, CallError> {
        let mut heads = BTreeMap::new();
        for part in streams.chunks(AT_ONCE) {
            let looks = part.iter().map(async |slot| {
                let head = calls::end_answer(&call(&self.shard, *slot, calls::head).await?)?;
                Ok::<_, CallError>((*slot, head))
            });
            heads.extend(join_all(looks).await.into_iter().flatten());
        }
        Ok(heads)
    }

    async fn at_hand(
        &mut self,
        channel: &str,
        epoch: &str,
        offsets: (u64, u64),
        limit: usize,
    ) -> Result<Vec<Publication>, CallError> {
        calls::at_hand(&self.shard, channel, epoch, offsets, limit).await
    }

    async fn bury(&mut self, entry: &Delivered, why: Poison) -> Result<(), CallError> {
        let settings = &self.settings;
        let command = |stream: &str| calls::bury(stream, settings, entry, why);
        call(&self.shard, entry.ticket.stream, command).await.map(drop)
    }
}
