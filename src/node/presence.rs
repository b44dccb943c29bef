//! Who is in a channel.

use std::collections::BTreeMap;

use super::{Error, Node};
use crate::channel::ChannelRules;
use crate::presence::PresenceCounts;
use crate::protocol::publication::ClientInfo;

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
        Ok(self.presence.counts(channel).await?)
    }
}
