//! Publishing into a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Error, Node};
use crate::broker::{
    Archiving, BrokerError, HistoryOptions, KeyOwner, Overflow, PublishOptions, Published,
    Suppressed,
};
use crate::channel::ChannelRules;
use crate::config::ChannelOptions;
use crate::config::channel::{ArchiveAck, ArchiveOverflow};
use crate::protocol::publication::{ClientInfo, Publication};
use crate::telemetry::metrics::labels::{MessageType, SuppressReason};

/// Data that has the format its channel asks for.
#[derive(Clone, Debug)]
pub struct Payload {
    rules: Arc<ChannelRules>,
    data: Bytes,
}

/// What comes with the data.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// Who publishes, if a client does.
    pub info: Option<ClientInfo>,
    pub tags: BTreeMap<String, String>,
    /// Deliver only, without a place in the stream.
    pub skip_history: bool,
    /// See [`PublishOptions::idempotency_key`].
    pub idempotency_key: String,
    pub idempotency_owner: KeyOwner,
    /// See [`PublishOptions::version`].
    pub version: u64,
    pub version_epoch: String,
    /// Allow patches, even if the namespace does not by default.
    pub delta: bool,
    /// Answer once it is stored, even if the namespace does not by default. An error where nothing is
    /// archived.
    pub until_stored: bool,
}

impl Payload {
    /// Checks `data` against the channel's `publication_data_format`.
    pub fn check(rules: Arc<ChannelRules>, data: Bytes) -> Result<Self, Error> {
        rules.check_data(&data).map_err(Error::BadRequest)?;
        Ok(Self { rules, data })
    }
}

impl Node {
    /// The rules of a channel.
    pub fn channel(&self, channel: &str) -> Result<Arc<ChannelRules>, Error> {
        self.rules().channels.resolve(channel).ok_or(Error::UnknownChannel)
    }

    /// Publishes to every subscriber and, if the channel has history, into its stream.
    pub async fn publish(
        &self,
        channel: &str,
        payload: Payload,
        publish: Publish,
    ) -> Result<Published, Error> {
        let Payload { rules, data } = payload;
        let keeps = rules.history_enabled() && !publish.skip_history;
        let archive = archiving(&rules.options, publish.until_stored).filter(|_| keeps);
        if publish.until_stored && archive.is_none() {
            return Err(Error::BadRequest("archive_ack: the publication would not be archived"));
        }
        let options = PublishOptions {
            history: keeps.then(|| history_options(&rules)),
            idempotency_key: publish.idempotency_key,
            idempotency_owner: publish.idempotency_owner,
            version: publish.version,
            version_epoch: publish.version_epoch,
            delta: publish.delta || rules.options.delta_publish,
            archive,
        };
        let publication = Publication {
            data,
            info: publish.info,
            tags: publish.tags,
            version: publish.version,
            ..Publication::default()
        };
        let published = self.broker.publish(channel, publication, &options).await;
        let published = published.map_err(|error| match error {
            BrokerError::OutcomeUnknown => Error::OutcomeUnknown,
            error => error.into(),
        })?;
        match published.suppressed {
            None => self.metrics.node.messages_sent.with(MessageType::Publication).inc(),
            Some(reason) => self.count_suppressed(reason),
        }
        Ok(published)
    }

    /// Tells the channel's subscribers that a client came; no leave can overtake it.
    pub async fn publish_join(&self, channel: &str, info: &ClientInfo) -> Result<(), Error> {
        self.metrics.node.messages_sent.with(MessageType::Join).inc();
        Ok(self.broker.publish_join(channel, info).await?)
    }

    /// Tells the channel's subscribers that a client left.
    pub async fn publish_leave(&self, channel: &str, info: &ClientInfo) -> Result<(), Error> {
        self.metrics.node.messages_sent.with(MessageType::Leave).inc();
        Ok(self.broker.publish_leave(channel, info).await?)
    }

    fn count_suppressed(&self, reason: Suppressed) {
        let reason = match reason {
            Suppressed::Idempotency => SuppressReason::Idempotency,
            Suppressed::Version => SuppressReason::Version,
        };
        self.metrics.broker.publish_suppressed.with(reason).inc();
    }
}

/// How much of the channel's stream is kept at hand.
pub(super) fn history_options(rules: &ChannelRules) -> HistoryOptions {
    HistoryOptions {
        size: rules.options.history_size as usize,
        ttl: rules.options.history_ttl,
        meta_ttl: rules.history_meta_ttl,
    }
}

/// Whether publications are archived, and how.
fn archiving(options: &ChannelOptions, until_stored: bool) -> Option<Archiving> {
    let overflow = match options.history_archive_overflow {
        ArchiveOverflow::Fail => Overflow::Fail,
        ArchiveOverflow::Drop => Overflow::Drop,
    };
    let until_stored = until_stored || options.history_archive_ack == ArchiveAck::Stored;
    options.history_archive.then_some(Archiving { overflow, until_stored })
}
