//! Where a subscription starts: at the stream's top, behind what the client missed of the stream, or
//! far back in the archive.

use std::sync::Arc;

use bytes::Bytes;

use super::Session;
use super::catching_up::Path;
use super::establish::{Grant, Wish};
use super::missed::Missed;
use super::recovery::{self, Recovery};
use super::refusal::Refusal;
use crate::broker::{History, Range};
use crate::channel::Channel;
use crate::config::channel::RecoveryMode;
use crate::hub::{Position, Start};
use crate::node;
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::delta;
use crate::protocol::filter::Filter;
use crate::protocol::publication::{Publication, StreamPosition};
use crate::protocol::reply::SubscribeResult;

/// Where a subscription starts, and what the client is told of that.
#[derive(Default)]
pub(super) struct Found {
    pub result: SubscribeResult,
    pub missed: Missed,
    pub start: Start,
    /// What is to be read before it can go live.
    pub ahead: Option<Path>,
}

impl Session {
    /// Reads where the stream stands, and what the client missed of it.
    pub(super) async fn position(
        &self,
        channel: &Channel,
        grant: &Grant,
        wish: &Wish,
        delta: bool,
    ) -> Result<Found, Refusal> {
        let options = &grant.rules.options;
        let from_cache = options.force_recovery_mode == RecoveryMode::Cache;
        let automatic = from_cache && options.auto_cache_recover && wish.recover.is_none();
        let asked = match &wish.recover {
            Some(asked) if grant.recoverable => Some(asked.clone()),
            None if grant.recoverable && automatic => Some(StreamPosition::default()),
            _ => None,
        };
        let meta_ttl = grant.rules.history_meta_ttl;
        let Some(asked) = asked else {
            let top = self.node.stream_top(channel, meta_ttl).await?;
            let position = Position { offset: top.offset, epoch: top.epoch };
            let result = at(&position);
            let start = Start { position, holds_base: false };
            return Ok(Found { result, start, ..Found::default() });
        };
        let (history, is_same) = self.read_missed(channel, &asked, from_cache, grant, wish).await?;
        let top = history.top.clone();
        let position = Position { offset: history.top.offset, epoch: history.top.epoch.clone() };
        let filter = wish.filter.as_deref();
        let Recovery { recovered, publications } = match from_cache {
            true => recovery::from_cache(&asked, history, filter),
            false if is_same => recovery::from_stream(&asked, history, filter),
            false => Recovery::default(),
        };
        if !recovered
            && !from_cache
            && let Some(path) = self.path(channel, grant, &asked, &top).await?
        {
            return self.recover_from_far(channel, &asked, position, path, filter, delta).await;
        }
        self.count_recovery(recovered, publications.len());
        if !recovered && wish.reject_unrecovered {
            return Err(ErrorCode::UNRECOVERABLE_POSITION.into());
        }
        let mut result = at(&position);
        result.was_recovering = true;
        result.recovered = recovered;
        if recovered {
            // The client counts up from where it was, publication by publication.
            result.offset = asked.offset;
        }
        // After an empty recovery the client may hold the base or, with a position from elsewhere,
        // not; a whole publication is right in both cases.
        let last = publications.last().map(|publication| publication.offset);
        let holds_base = delta && last == Some(position.offset);
        let missed = match delta {
            true => Missed::Patches(as_patches(self, channel, &publications)?),
            false => Missed::Whole(publications),
        };
        Ok(Found { result, missed, start: Start { position, holds_base }, ahead: None })
    }

    /// Begins a recovery from the archive: with all of it, if that is little.
    async fn recover_from_far(
        &self,
        channel: &Channel,
        asked: &StreamPosition,
        position: Position,
        mut path: Path,
        filter: Option<&Filter>,
        delta: bool,
    ) -> Result<Found, Refusal> {
        let page = self.first_page(&mut path).await?;
        let publications = page.publications.into_iter();
        let publications: Vec<_> =
            publications.filter(|p| filter.is_none_or(|filter| filter.matches(&p.tags))).collect();
        self.count_recovery(true, publications.len());
        self.node.metrics.history.recoveries.inc();
        let mut result = at(&position);
        (result.was_recovering, result.recovered) = (true, true);
        result.offset = asked.offset;
        let missed = match delta {
            true => Missed::Patches(as_wholes(self, channel, &publications)?),
            false => Missed::Whole(publications),
        };
        let ahead = (path.len() > 0).then_some(path);
        Ok(Found { result, missed, start: Start { position, holds_base: false }, ahead })
    }

    /// What came since `asked`, and whether that is a position of the stream at all.
    async fn read_missed(
        &self,
        channel: &Channel,
        asked: &StreamPosition,
        from_cache: bool,
        grant: &Grant,
        wish: &Wish,
    ) -> Result<(History, bool), Refusal> {
        let most = self.node.client.recovery_max_publication_limit as usize;
        let range = if from_cache {
            let looked_through = if wish.filter.is_some() { most } else { 1 };
            Range { limit: Some(looked_through), since: None, reverse: true }
        } else {
            Range { limit: Some(most), since: Some(asked.clone()), reverse: false }
        };
        let meta_ttl = grant.rules.history_meta_ttl;
        match self.node.missed(channel, &range, meta_ttl).await {
            Err(node::Error::UnrecoverablePosition) => {
                let top = self.node.stream_top(channel, meta_ttl).await?;
                Ok((History { publications: Vec::new(), top }, false))
            }
            read => Ok((read?, true)),
        }
    }
}

fn at(position: &Position) -> SubscribeResult {
    SubscribeResult {
        offset: position.offset,
        epoch: position.epoch.to_string(),
        ..SubscribeResult::default()
    }
}

/// The first whole, each next as a patch against the one before it.
fn as_patches(
    session: &Session,
    channel: &str,
    publications: &[Arc<Publication>],
) -> Result<Vec<Publication>, Disconnect> {
    let mut previous: Option<&Bytes> = None;
    publications
        .iter()
        .map(|publication| {
            let base = previous.replace(&publication.data);
            let base = base.map(|data| &data[..]);
            let form = delta::encode_for(session.codec(), base, &publication.data)
                .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
            Ok(publication.for_client_delta(channel, form.data, form.delta))
        })
        .collect()
}

/// Each whole, in the form that subscribers with patches get.
fn as_wholes(
    session: &Session,
    channel: &str,
    publications: &[Arc<Publication>],
) -> Result<Vec<Publication>, Disconnect> {
    let whole = |publication: &Arc<Publication>| {
        let form = delta::encode_for(session.codec(), None, &publication.data)
            .map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
        Ok(publication.for_client_delta(channel, form.data, form.delta))
    };
    publications.iter().map(whole).collect()
}
