//! Reading streams.

use std::sync::Arc;
use std::time::Duration;

use super::publish::history_options;
use super::{Error, Node};
use crate::archive::retention::drop_all;
use crate::broker::{Archive, History, Range, StreamTop};
use crate::channel::ChannelRules;
use crate::ingest;
use crate::protocol::publication::StreamPosition;
use crate::telemetry::metrics::labels::Action;

/// How long a removal waits until what was published before it is in the archive, and can be removed.
const SETTLES_IN: Duration = Duration::from_secs(5);

/// A request for history, as clients and the API write it.
#[derive(Clone, Debug, Default)]
pub struct HistoryQuery {
    /// 0 for only the top, below zero for all.
    pub limit: i32,
    pub since: Option<StreamPosition>,
    pub reverse: bool,
}

impl Node {
    /// Reads a channel's history; with `most`, never more than that.
    pub async fn history(
        &self,
        channel: &str,
        rules: &ChannelRules,
        query: HistoryQuery,
        most: Option<u32>,
    ) -> Result<History, Error> {
        if !rules.history_enabled() {
            return Err(Error::NotAvailable("the channel has no history"));
        }
        let asked = usize::try_from(query.limit).ok();
        let most = most.map(|most| most as usize);
        let limit = match (asked, most) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        };
        let range = Range { limit, since: query.since, reverse: query.reverse };
        self.metrics.node.actions.with(Action::History).inc();
        self.read(channel, &range, rules.history_meta_ttl).await
    }

    /// Reads what a recovering subscriber missed: in reverse for its newest publication only.
    pub async fn missed(
        &self,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, Error> {
        let action =
            if range.reverse { Action::HistoryRecoverCache } else { Action::HistoryRecover };
        self.metrics.node.actions.with(action).inc();
        let is_unnamed = |since: &StreamPosition| since.epoch.is_empty() && since.offset > 0;
        if range.since.as_ref().is_some_and(is_unnamed) && !self.broker.trusts_unnamed_epochs() {
            return Err(Error::UnrecoverablePosition);
        }
        self.read(channel, range, meta_ttl).await
    }

    /// Drops the publications of a channel: those of its stream, and those of the archive for good,
    /// with what is still on its way there. Who lacks some of them is not told `recovered`, with the archive as without.
    pub async fn remove_history(&self, channel: &str) -> Result<(), Error> {
        if !self.channel(channel)?.history_enabled() {
            return Err(Error::NotAvailable("the channel has no history"));
        }
        self.metrics.node.actions.with(Action::HistoryRemove).inc();
        if let Some((archive, _)) = self.archive_of(channel) {
            if let Some(redis) = self.broker.redis() {
                ingest::passed(redis, channel, SETTLES_IN).await.map_err(|error| {
                    tracing::warn!(%error, channel, "the history of a channel was not removed");
                    Error::Internal(
                        "publications wait to be archived, nothing was removed, try again",
                    )
                })?;
            }
            let removed = drop_all(&**archive.store(), channel).await;
            archive.blocks().forget(channel);
            removed.map_err(|error| {
                tracing::error!(%error, "the history of a channel was not removed");
                Error::Internal("the archive is unavailable, try again")
            })?;
        }
        Ok(self.broker.remove_history(channel).await?)
    }

    /// Where a channel's stream ends.
    pub async fn stream_top(&self, channel: &str, meta_ttl: Duration) -> Result<StreamTop, Error> {
        self.metrics.node.actions.with(Action::HistoryStreamTop).inc();
        let only_top = Range { limit: Some(0), ..Range::default() };
        Ok(self.read(channel, &only_top, meta_ttl).await?.top)
    }

    /// The archive, if this channel's publications are in one.
    pub fn archive_of(&self, channel: &str) -> Option<(&Archive, Arc<ChannelRules>)> {
        let archive = self.broker.archive()?;
        let rules = self.channel(channel).ok()?;
        rules.options.history_archive.then_some((archive, rules))
    }

    async fn read(
        &self,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, Error> {
        Ok(match self.archive_of(channel) {
            Some((_, rules)) => {
                let options = history_options(&rules);
                self.broker.archived_history(channel, range, &options).await?
            }
            None => self.broker.history(channel, range, meta_ttl).await?,
        })
    }
}
