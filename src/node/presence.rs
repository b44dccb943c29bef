//! Who is in a channel.

use std::collections::BTreeMap;

use super::{Error, Node};
use crate::channel::ChannelRules;
use crate::presence::PresenceCounts;
use crate::protocol::publication::ClientInfo;
use crate::telemetry::metrics::labels::Action;

impl Node {
    /// The clients of a channel by id.
    pub async fn presence(
        &self,
        channel: &str,
        rules: &ChannelRules,
    ) -> Result<BTreeMap<String, ClientInfo>, Error> {
        if !rules.options.presence {
            return Err(Error::NotAvailable("the channel has no presence"));
        }
        self.metrics.node.actions.with(Action::Presence).inc();
        Ok(self.presence.get(channel).await?)
    }

    /// How many clients and users a channel has.
    pub async fn presence_counts(
        &self,
        channel: &str,
        rules: &ChannelRules,
    ) -> Result<PresenceCounts, Error> {
        if !rules.options.presence {
            return Err(Error::NotAvailable("the channel has no presence"));
        }
        self.metrics.node.actions.with(Action::PresenceStats).inc();
        Ok(self.presence.counts(channel).await?)
    }

    /// Adds a client to a channel's presence, or renews what is known of it.
    pub async fn add_presence(&self, channel: &str, info: ClientInfo) -> Result<(), Error> {
        self.metrics.node.actions.with(Action::AddPresence).inc();
        Ok(self.presence.add(channel, info).await?)
    }

    /// Removes a client from a channel's presence.
    pub async fn remove_presence(&self, channel: &str, client: &str) -> Result<(), Error> {
        self.metrics.node.actions.with(Action::RemovePresence).inc();
        Ok(self.presence.remove(channel, client).await?)
    }
}
