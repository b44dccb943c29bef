//! The archive streams of a cluster: one for each hash slot in which something was published.
//!
//! No command reads streams of different slots, and so many connections could not wait. So each
//! stream is asked by itself, all that are due at the same time, and seldom where nothing comes. Which
//! streams there are is a set that gateways add to; a slow look at all the other slots finds those
//! that a failover took out of the set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, try_join_all};

use super::Settings;
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

/// The slots that have an archive stream, by the set that gateways add to.
///
/// # Errors
/// See [`CallError`].
pub async fn listed(shard: &Shard) -> Result<BTreeSet<u16>, CallError> {
    let key = |route: &Route| route.keys().archive_slots();
    let at = shard.attachment()?.keys().archive_slots();
    let answer = shard.call(&at, |route| Command::new("SMEMBERS").arg(key(route))).await?;
    let slots = answer.list().ok_or_else(calls::nonsense)?.iter();
    let slots = slots.filter_map(|slot| u16::try_from(slot.number()?).ok());
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
    pub fn new(shard: Arc<Shard>, settings: Arc<Settings>, clock: Clock) -> Self {
        let next_look = clock.now();
        Self {
            shard,
            settings,
            clock,
            streams: BTreeMap::new(),
            next_look,
            look_from: 0,
            complaints: Seldom::default(),
        }
    }

    /// Leaves the consumer groups, unless entries are still in hand there.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leave(&self) -> Result<(), CallError> {
        let slots: Vec<_> = self.streams.keys().copied().collect();
        for part in slots.chunks(AT_ONCE) {
            let leaving = part.iter().map(|slot| {
                let args = vec![calls::GROUP.into(), self.settings.name.as_bytes().to_vec().into()];
                self.run(*slot, Script::ArchiveLeave, args)
            });
            try_join_all(leaving).await?;
        }
        Ok(())
    }

    /// Finds streams that are not known yet.
    async fn look(&mut self) -> Result<(), CallError> {
        let mut found = listed(&self.shard).await?;
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
        for slot in found {
            let fresh = || State { reading: Reading::new(now), pace: Pace::new(now) };
            self.streams.entry(slot).or_insert_with(fresh);
        }
        Ok(())
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
        let Some(state) = self.streams.get_mut(&slot) else { return Vec::new() };
        let (cursor, entries) = match answer {
            Ok(read) => read,
            Err(error) => {
                // What it answered may have been lost on the way.
                state.reading.doubt();
                state.pace.read(false, now);
                if self.complaints.may(self.clock.unix_millis()) {
                    tracing::warn!(slot, %error, "an archive stream cannot be read, trying on");
                }
                return Vec::new();
            }
        };
        match ask {
            Ask::Own(_) => state.reading.read_own(entries.last().map(|one| one.ticket.id)),
            Ask::Claim(_) => state.reading.claimed(cursor, next_claim),
            Ask::Fresh => {}
        }
        // Behind own and claimed entries the new ones are read at once.
        state.pace.read(ask != Ask::Fresh || !entries.is_empty(), now);
        entries
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
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look().await?;
        }
        let mut due: Vec<_> =
            self.streams.iter().map(|(slot, state)| (state.pace.next, *slot)).collect();
        due.sort_unstable();
        let first = due.first().map(|(next, _)| *next);
        due.retain(|(next, _)| *next <= now);
        due.truncate(AT_ONCE);
        if due.is_empty() {
            let pause = first.map_or(patience, |next| next.saturating_duration_since(now));
            tokio::time::sleep(pause.min(patience)).await;
            return Ok(Vec::new());
        }
        let each = (count / due.len()).max(1);
        let mut asks = Vec::with_capacity(due.len());
        for (_, slot) in due {
            if let Some(state) = self.streams.get_mut(&slot) {
                asks.push((slot, state.reading.next(now)));
            }
        }
        let asking = asks.into_iter().map(|(slot, ask)| self.ask(slot, ask, each));
        let answers = join_all(asking).await;
        let now = self.clock.now();
        Ok(answers.into_iter().flat_map(|answer| self.note(answer, now)).collect())
    }

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
            self.run(slot, Script::ArchiveDone, args)
        });
        try_join_all(leaving).await.map(drop)
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
