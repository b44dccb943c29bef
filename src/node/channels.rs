//! What this node knows of itself and of the channels that have subscribers.

use std::collections::BTreeMap;

use super::{Error, Node};

/// A node as the `info` call shows it.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub uid: String,
    pub name: String,
    pub version: &'static str,
    pub num_clients: u32,
    pub num_users: u32,
    pub num_subs: u32,
    pub num_channels: u32,
    /// Seconds.
    pub uptime: u32,
}

impl Node {
    /// All nodes; without a cluster just this one.
    pub fn info(&self) -> Vec<NodeInfo> {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        vec![NodeInfo {
            uid: self.id.to_string(),
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION"),
            num_clients: count(self.hub.connections.len()),
            num_users: count(self.hub.connections.users()),
            num_subs: count(self.hub.subscriptions()),
            num_channels: count(self.hub.channel_count()),
            uptime: u32::try_from(self.uptime().as_secs()).unwrap_or(u32::MAX),
        }]
    }

    /// Channels with subscribers whose names match the glob `pattern` (empty: all), with how many.
    pub fn active_channels(&self, pattern: &str) -> Result<BTreeMap<String, u32>, Error> {
        let glob = match pattern {
            "" => None,
            pattern => Some(
                globset::Glob::new(pattern)
                    .map_err(|_| Error::BadRequest("pattern is not a valid glob"))?
                    .compile_matcher(),
            ),
        };
        let mut channels = BTreeMap::new();
        self.hub.each_channel(|channel, subscribers| {
            if glob.as_ref().is_none_or(|glob| glob.is_match(&**channel)) {
                let subscribers = u32::try_from(subscribers).unwrap_or(u32::MAX);
                channels.insert(channel.to_string(), subscribers);
            }
        });
        Ok(channels)
    }
}
