//! What this node knows of the channels that have subscribers here.

use std::collections::BTreeMap;

use super::{Error, Node};

impl Node {
    /// Channels with subscribers on this node whose names match the glob `pattern` (empty: all), with
    /// how many.
    pub(super) fn channels_here(&self, pattern: &str) -> Result<BTreeMap<String, u32>, Error> {
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
