//! The name of every key and of every PUB/SUB channel, as Centrifugo has them; ours are marked.

use compact_str::{CompactString, format_compact};

/// Makes names behind one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: CompactString,
    /// What a channel's messages go by, before its name.
    client: CompactString,
}

impl Keys {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), client: format_compact!("{prefix}.client.") }
    }

    /// A stream of publications: entries `<offset>-0` with the field `d`.
    pub fn stream(&self, channel: &str) -> CompactString {
        format_compact!("{}.stream.{channel}", self.prefix)
    }

    /// What outlives the publications of a stream: a hash of epoch `e`, top offset `s`, version `v`
    /// in `ve`, and, ours, the identity `f` under which the epoch holds.
    pub fn stream_meta(&self, channel: &str) -> CompactString {
        format_compact!("{}.stream.meta.{channel}", self.prefix)
    }

    /// The answer to a publish with an idempotency key.
    pub fn result(&self, channel: &str, key: &str) -> CompactString {
        format_compact!("{}.result.{channel}.{key}", self.prefix)
    }

    /// Ours: the first identity that was seen of the master, for streams that have none yet.
    pub fn first_identity(&self) -> CompactString {
        format_compact!("{}.bobolink.identity", self.prefix)
    }

    /// When each client's presence in a channel ends: a sorted set by unix seconds.
    pub fn presence_expire(&self, channel: &str) -> CompactString {
        format_compact!("{}.presence.expire.{channel}", self.prefix)
    }

    /// Who is in a channel: a hash of client ids.
    pub fn presence_data(&self, channel: &str) -> CompactString {
        format_compact!("{}.presence.data.{channel}", self.prefix)
    }

    /// The same as [`Keys::presence_expire`] for users.
    pub fn presence_user_expire(&self, channel: &str) -> CompactString {
        format_compact!("{}.presence.user.expire.{channel}", self.prefix)
    }

    /// How many clients each user has in a channel: a hash.
    pub fn presence_user_clients(&self, channel: &str) -> CompactString {
        format_compact!("{}.presence.user.clients.{channel}", self.prefix)
    }

    /// The PUB/SUB channel that carries a channel's messages.
    pub fn messages(&self, channel: &str) -> CompactString {
        format_compact!("{}{channel}", self.client)
    }

    /// The channel whose messages a PUB/SUB channel carries.
    pub fn channel_of<'a>(&self, messages: &'a str) -> Option<&'a str> {
        messages.strip_prefix(self.client.as_str())
    }

    /// The PUB/SUB channel on which nothing is said, and which every reader hears.
    pub fn shard(&self, number: usize) -> CompactString {
        format_compact!("{}.shard.{number}", self.prefix)
    }

    /// The PUB/SUB channel for control messages to all nodes.
    pub fn control(&self) -> CompactString {
        format_compact!("{}.control", self.prefix)
    }

    /// The PUB/SUB channel for control messages to one node.
    pub fn node(&self, uid: &str) -> CompactString {
        format_compact!("{}.node.{uid}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_centrifugo() {
        let keys = Keys::new("p");
        assert_eq!(keys.stream("a:b"), "p.stream.a:b");
        assert_eq!(keys.stream_meta("a:b"), "p.stream.meta.a:b");
        assert_eq!(keys.result("a", "k"), "p.result.a.k");
        assert_eq!(keys.presence_data("a"), "p.presence.data.a");
        assert_eq!(keys.presence_expire("a"), "p.presence.expire.a");
        assert_eq!(keys.presence_user_expire("a"), "p.presence.user.expire.a");
        assert_eq!(keys.presence_user_clients("a"), "p.presence.user.clients.a");
        assert_eq!(keys.control(), "p.control");
        assert_eq!(keys.node("u"), "p.node.u");
        assert_eq!(keys.shard(0), "p.shard.0");
    }

    #[test]
    fn a_message_says_its_channel() {
        let keys = Keys::new("p");
        assert_eq!(keys.messages("a.b"), "p.client.a.b");
        assert_eq!(keys.channel_of("p.client.a.b"), Some("a.b"));
        assert_eq!(keys.channel_of("p.control"), None);
    }
}
