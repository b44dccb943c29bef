//! What lies between a position and the present: in the archive, and what is not there yet in the stream.

use std::sync::Arc;
use std::time::Duration;

use super::publish::history_options;
use super::{Error, Node};
use crate::archive::{Block, Span, StoreError};
use crate::broker::{Archive, BrokerError, HistoryOptions, Range};
use crate::channel::ChannelRules;
use crate::protocol::publication::{Publication, StreamPosition};

/// Ranges of missing offsets that are looked for in the stream. What has more of them was not archived
/// for other reasons than being late.
const LATE_RANGES: usize = 8;
/// So far may clocks be apart: those of gateways, and that of Redis.
const CLOCKS_APART: Duration = Duration::from_secs(10);

/// Whether something of the past is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Density {
    /// Every offset is there or was deleted.
    Dense,
    /// One was never stored, and will not be.
    Gap,
    /// One is not stored, and may still be.
    Late,
}

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PastError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Stream(#[from] BrokerError),
    /// Neither the archive nor the stream has it.
    #[error("a publication is missing")]
    Missing,
}

impl Node {
    /// Whether all of `span` can be read; `is_current` if that is of the stream's epoch.
    ///
    /// # Errors
    /// Archive or stream do not answer.
    pub async fn density(
        &self,
        archive: &Archive,
        rules: &ChannelRules,
        channel: &str,
        span: &Span,
        is_current: bool,
    ) -> Result<Density, PastError> {
        let holes = archive.store().holes(channel, span, LATE_RANGES + 1).await?;
        if holes.is_empty() {
            return Ok(Density::Dense);
        }
        // Before the stream is read: what leaves the queue after this is stored by then.
        let lag = self.broker.archive_lag(channel).await?;
        let options = history_options(rules);
        let mut above = None;
        let mut is_whole = is_current && holes.len() <= LATE_RANGES;
        for (first, last) in holes.iter().take(LATE_RANGES) {
            let hole = Span { after: first.saturating_sub(1), through: *last, ..span.clone() };
            if is_whole {
                let found = self.at_hand(channel, &hole, &options).await?;
                is_whole = !found.is_empty() && found.len() as u64 == hole.len();
            }
        }
        if is_whole {
            return Ok(Density::Dense);
        }
        if is_current && let Some((first, _)) = holes.first() {
            let behind = Span { after: first.saturating_sub(1), ..span.clone() };
            above = self.oldest_at_hand(channel, &behind, &options).await?;
        }
        let published_for = match above {
            Some(millis) => self.clock.unix_millis().saturating_sub(millis),
            // The stream has expired since.
            None => options.ttl.as_millis() as i64,
        };
        let published_for = Duration::from_millis(u64::try_from(published_for).unwrap_or(0));
        let may_wait = lag.is_some_and(|lag| lag + CLOCKS_APART >= published_for);
        if !may_wait && archive.store().holes(channel, span, 1).await?.is_empty() {
            return Ok(Density::Dense);
        }
        Ok(if may_wait { Density::Late } else { Density::Gap })
    }

    /// Publications right above `span.after`, from one block of the archive or, if that lacks the first,
    /// from the stream; and the offset up to which that is everything.
    ///
    /// # Errors
    /// See [`PastError`].
    pub async fn past(
        &self,
        archive: &Archive,
        channel: &Arc<str>,
        span: &Span,
    ) -> Result<(Vec<Arc<Publication>>, u64), PastError> {
        let end = Block::end_of(span.after).min(span.through);
        let block = archive.blocks().following(channel, &span.epoch, span.after, end).await?;
        let dense = block.dense_from(span.after, end);
        if dense > span.after {
            let found = block.slice(span.after, dense).ok_or(PastError::Missing)?;
            return Ok((found.iter().map(|found| Arc::clone(&found.publication)).collect(), dense));
        }
        let rules = self.channel(channel).map_err(|_| PastError::Missing)?;
        let span = Span { through: end, ..span.clone() };
        let found = self.at_hand(channel, &span, &history_options(&rules)).await?;
        let reached = found.last().map(|last| last.offset).ok_or(PastError::Missing)?;
        Ok((found, reached))
    }

    /// The publications of a span that the stream has, up to the first that it lacks.
    async fn at_hand(
        &self,
        channel: &str,
        span: &Span,
        options: &HistoryOptions,
    ) -> Result<Vec<Arc<Publication>>, PastError> {
        let mut found = self.behind(channel, span, options, span.len()).await?;
        let dense = (span.after + 1..).zip(&found).take_while(|(at, p)| *at == p.offset).count();
        found.truncate(dense);
        Ok(found)
    }

    /// When the oldest publication of a span that the stream has was published, in unix milliseconds.
    async fn oldest_at_hand(
        &self,
        channel: &str,
        span: &Span,
        options: &HistoryOptions,
    ) -> Result<Option<i64>, PastError> {
        let found = self.behind(channel, span, options, 1).await?;
        Ok(found.first().map(|oldest| oldest.time))
    }

    async fn behind(
        &self,
        channel: &str,
        span: &Span,
        options: &HistoryOptions,
        limit: u64,
    ) -> Result<Vec<Arc<Publication>>, PastError> {
        let since = StreamPosition { offset: span.after, epoch: span.epoch.to_string() };
        let limit = Some(usize::try_from(limit).unwrap_or(usize::MAX));
        let range = Range { limit, since: Some(since), reverse: false };
        match self.broker.archived_history(channel, &range, options).await {
            Ok(history) => Ok(history.publications),
            // It has another epoch by now.
            Err(BrokerError::UnrecoverablePosition) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

impl From<PastError> for Error {
    fn from(error: PastError) -> Self {
        match error {
            PastError::Store(_) => Self::Internal("the archive cannot be read now, try again"),
            PastError::Stream(error) => error.into(),
            PastError::Missing => Self::Internal("a publication is missing"),
        }
    }
}
