//! The one archive stream of a server that is no cluster, read over a connection of its own on which
//! the server waits for new entries.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;
use tokio_util::sync::CancellationToken;

use super::Settings;
use super::calls;
use super::entry::{Delivered, EntryId, Poison, Source, Ticket};
use super::queue::Queue;
use super::reading::{Ask, Reading};
use crate::protocol::publication::Publication;
use crate::redis::{CallError, Command, Link, Script, Shard, Value};
use crate::time::{Clock, jittered};

/// Its number among streams.
const STREAM: u16 = 0;

/// See the [module](self).
pub struct Alone {
    shard: Arc<Shard>,
    link: Link,
    settings: Arc<Settings>,
    clock: Clock,
    name: CompactString,
    stored: CompactString,
    reading: Reading,
}

impl Alone {
    /// Connects to the shard's master; the connection ends with `stop`.
    ///
    /// # Errors
    /// [`CallError::Unavailable`]
    pub async fn open(
        shard: Arc<Shard>,
        settings: Arc<Settings>,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Self, CallError> {
        let link = shard.beside(stop).await?;
        let attachment = shard.attachment()?;
        let (name, stored) =
            (attachment.keys().archive_stream(""), attachment.keys().archive_stored());
        let reading = Reading::new(clock.now());
        Ok(Self { shard, link, settings, clock, name, stored, reading })
    }

    /// Leaves the consumer group, unless entries are still in hand.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn leave(&self) -> Result<(), CallError> {
        let args = [&*self.name, calls::GROUP, &self.settings.name];
        self.link.run(Script::ArchiveLeave, 1, &args).await.map(drop)
    }

    async fn read(
        &self,
        behind: Option<EntryId>,
        count: usize,
        wait: Option<Duration>,
    ) -> Result<Vec<Delivered>, CallError> {
        let command = || calls::read(&self.name, &self.settings, behind, count, wait);
        let source = if behind.is_some() { Source::Again } else { Source::New };
        calls::read_answer(&self.ask(command).await?, STREAM, source)
    }

    async fn claim(
        &self,
        from: EntryId,
        count: usize,
    ) -> Result<(EntryId, Vec<Delivered>), CallError> {
        let command = || calls::claim(&self.name, &self.settings, from, count);
        calls::claim_answer(&self.ask(command).await?, STREAM)
    }

    /// Takes consumers that are gone out of the group.
    async fn tidy(&self) -> Result<(), CallError> {
        let consumers = self.link.call(calls::consumers(&self.name)).await?;
        for name in calls::gone(&consumers, self.settings.forget_after)? {
            let args = [&*self.name, calls::GROUP, &name];
            self.link.run(Script::ArchiveLeave, 1, &args).await?;
        }
        Ok(())
    }

    /// Asks, and makes the group if there is none.
    async fn ask(&self, command: impl Fn() -> Command) -> Result<Value, CallError> {
        match self.link.call(command()).await {
            Err(error) if calls::is_without_group(&error) => {
                match self.link.call(calls::found_group(&self.name)).await {
                    Err(error) if !calls::has_group(&error) => Err(error),
                    _ => self.link.call(command()).await,
                }
            }
            answer => answer,
        }
    }
}

impl Queue for Alone {
    async fn next(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> Result<Vec<Delivered>, CallError> {
        let now = self.clock.now();
        match self.reading.next(now) {
            Ask::Own(behind) => {
                let own = self.read(Some(behind), count, None).await?;
                self.reading.read_own(own.last().map(|one| one.ticket.id));
                Ok(own)
            }
            Ask::Claim(from) => {
                let (cursor, claimed) = self.claim(from, count).await?;
                self.reading.claimed(cursor, now + jittered(self.settings.claim_after));
                if self.reading.tidies(now, self.settings.tidy_every())
                    && let Err(error) = self.tidy().await
                {
                    tracing::warn!(%error, "consumers that are gone stay in the group");
                }
                Ok(claimed)
            }
            Ask::Fresh => self.read(None, count, Some(patience)).await,
        }
    }

    async fn done(&mut self, tickets: &[Ticket]) -> Result<(), CallError> {
        for part in tickets.chunks(calls::LEAVING) {
            let ids = part.iter().map(|ticket| ticket.id);
            let mut args = calls::done_arguments(&self.stored, ids);
            args.insert(0, bytes::Bytes::copy_from_slice(self.name.as_bytes()));
            self.link.run(Script::ArchiveDone, 1, &args).await?;
        }
        Ok(())
    }

    async fn abandoned(&mut self, _: &[u16]) -> Result<Vec<Delivered>, CallError> {
        Ok(self.claim(EntryId::default(), 1).await?.1)
    }

    async fn heads(&mut self, _: &[u16]) -> Result<BTreeMap<u16, Option<EntryId>>, CallError> {
        let head = calls::end_answer(&self.link.call(calls::head(&self.name)).await?)?;
        Ok(BTreeMap::from([(STREAM, head)]))
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
        self.link.call(calls::bury(&self.name, &self.settings, entry, why)).await.map(drop)
    }
}
