//! The name of every key and of every PUB/SUB channel, as Centrifugo has them; ours are marked.

use std::borrow::Cow;

use compact_str::{CompactString, format_compact};

use super::slots::slot_of;
use super::tags::slot_tag;

/// Makes names behind one prefix.
#[derive(Clone, Debug)]
pub struct Keys {
    prefix: CompactString,
    /// What a channel's messages go by, before its name.
    client: CompactString,
    /// Channels stand in braces: so all keys of one are on the same node of a cluster.
    braces: bool,
}

impl Keys {
    /// Names for servers that are no cluster.
    pub fn new(prefix: &str) -> Self {
        let client = format_compact!("{prefix}.client.");
        Self { prefix: prefix.into(), client, braces: false }
    }

    /// The same for a cluster.
    pub fn of_cluster(&self) -> Self {
        Self { braces: true, ..self.clone() }
    }

    /// Whether they are for a cluster.
    pub fn are_of_cluster(&self) -> bool {
        self.braces
    }

    /// A stream of publications: entries `<offset>-0` with the field `d`.
    pub fn stream(&self, channel: &str) -> CompactString {
        self.of_channel("stream", channel)
    }

    /// What outlives the publications of a stream: a hash of epoch `e`, top offset `s`, version `v`
    /// in `ve`, and, ours, the identity `f` under which the epoch holds, and of an archived channel its
    /// last message id `i` with the offset `n` that has it.
    pub fn stream_meta(&self, channel: &str) -> CompactString {
        self.of_channel("stream.meta", channel)
    }

    /// The answer to a publish with an idempotency key.
    pub fn result(&self, channel: &str, key: &str) -> CompactString {
        let mut name = self.of_channel("result", channel);
        name.push('.');
        name.push_str(key);
        name
    }

    /// Ours: the answer to a publish with an idempotency key of a user. Lengths keep the parts apart,
    /// whatever dots they have in them.
    pub fn user_result(&self, channel: &str, user: &str, key: &str) -> CompactString {
        let lengths = format_compact!("bobolink.result.{}.{}", channel.len(), user.len());
        let name = self.of_channel(&lengths, channel);
        format_compact!("{name}.{user}.{key}")
    }

    /// Ours: the first identity that was seen of the master, for streams that have none yet.
    pub fn first_identity(&self) -> CompactString {
        format_compact!("{}.bobolink.identity", self.prefix)
    }

    /// Ours: the last canary that was sent over a shard.
    pub fn canary(&self, shard: usize) -> CompactString {
        format_compact!("{}.bobolink.canary.{shard}", self.prefix)
    }

    /// The same in a cluster, in the slot of `tag`.
    pub(super) fn canary_in(&self, shard: usize, tag: &str) -> CompactString {
        format_compact!("{}.bobolink.canary.{shard}.{{{tag}}}", self.prefix)
    }

    /// Ours: the PUB/SUB channel of canaries that one of a shard's readers hears.
    pub fn canaries(&self, shard: usize, reader: usize) -> CompactString {
        format_compact!("{}.bobolink.canary.{shard}.{reader}", self.prefix)
    }

    /// Ours: the queue of publications that are to be archived: a stream whose entries have the channel
    /// `c`, epoch `e`, offset `o`, message id `i` in decimal, the publication `d` as streams have it,
    /// and the offset `n` that was appended before. Servers that are no cluster have one; in a cluster each slot has its own, which a
    /// [`slot_tag`] names like a channel of the slot.
    pub fn archive_stream(&self, channel: &str) -> CompactString {
        self.of_slot("archive.stream", channel)
    }

    /// Ours, beside each [`Keys::archive_stream`]: a hash of what epochs that may be restored from the
    /// archive end with, `g`, and of the identity `f` under which that holds.
    pub fn archive_state(&self, channel: &str) -> CompactString {
        self.of_slot("archive.state", channel)
    }

    /// Ours: the slots of a cluster that have an [`Keys::archive_stream`], a set of numbers.
    pub fn archive_slots(&self) -> CompactString {
        format_compact!("{}.archive.slots", self.prefix)
    }

    /// Ours: the PUB/SUB channel on which it is said what left an [`Keys::archive_stream`] after it was
    /// stored: the stream's name and ids of entries, with spaces between.
    pub fn archive_stored(&self) -> CompactString {
        format_compact!("{}.archive.stored", self.prefix)
    }

    /// Ours: the PUB/SUB channel on which gateways say in which slot of a cluster something is to be
    /// archived after a while: the number of the shard and of the slot, with a space between.
    pub fn archive_arrived(&self) -> CompactString {
        format_compact!("{}.archive.arrived", self.prefix)
    }

    /// Ours: which store everything is brought to that is to be archived, if that store is of one process:
    /// who that is, and the store's first epoch.
    pub fn archive_store(&self) -> CompactString {
        format_compact!("{}.archive.store", self.prefix)
    }

    /// When each client's presence in a channel ends: a sorted set by unix seconds.
    pub fn presence_expire(&self, channel: &str) -> CompactString {
        self.of_channel("presence.expire", channel)
    }

    /// Who is in a channel: a hash of client ids.
    pub fn presence_data(&self, channel: &str) -> CompactString {
        self.of_channel("presence.data", channel)
    }

    /// The same as [`Keys::presence_expire`] for users.
    pub fn presence_user_expire(&self, channel: &str) -> CompactString {
        self.of_channel("presence.user.expire", channel)
    }

    /// How many clients each user has in a channel: a hash.
    pub fn presence_user_clients(&self, channel: &str) -> CompactString {
        self.of_channel("presence.user.clients", channel)
    }

    /// The PUB/SUB channel that carries a channel's messages.
    pub fn messages(&self, channel: &str) -> CompactString {
        self.of_channel("client", channel)
    }

    /// The channel whose messages a PUB/SUB channel carries, by its name without braces.
    pub fn channel_of<'a>(&self, messages: &'a str) -> Option<&'a str> {
        messages.strip_prefix(self.client.as_str())
    }

    /// The PUB/SUB channel for control messages to all nodes.
    pub fn control(&self) -> CompactString {
        format_compact!("{}.control", self.prefix)
    }

    /// The PUB/SUB channel for control messages to one node.
    pub fn node(&self, uid: &str) -> CompactString {
        format_compact!("{}.node.{uid}", self.prefix)
    }

    /// How the server knows a PUB/SUB channel that has no braces here.
    pub(super) fn on_wire(&self, name: &CompactString) -> CompactString {
        match self.channel_of(name).filter(|_| self.braces) {
            Some(channel) => self.messages(channel),
            None => name.clone(),
        }
    }

    /// How a PUB/SUB channel of the server is called here: without braces.
    pub(super) fn plain<'a>(&self, name: &'a str) -> Cow<'a, str> {
        let in_braces = self.channel_of(name).filter(|_| self.braces);
        match in_braces.and_then(|channel| channel.strip_prefix('{')?.strip_suffix('}')) {
            Some(channel) => Cow::Owned(format!("{}{channel}", self.client)),
            None => Cow::Borrowed(name),
        }
    }

    fn of_slot(&self, kind: &str, channel: &str) -> CompactString {
        match self.braces {
            false => format_compact!("{}.{kind}", self.prefix),
            true => format_compact!("{}.{kind}.{{{}}}", self.prefix, slot_tag(slot_of(channel))),
        }
    }

    fn of_channel(&self, kind: &str, channel: &str) -> CompactString {
        let (before, behind) = if self.braces { ("{", "}") } else { ("", "") };
        let parts = [&self.prefix, ".", kind, ".", before, channel, behind];
        let mut name =
            CompactString::with_capacity(parts.iter().map(|part| part.len()).sum::<usize>());
        parts.iter().for_each(|part| name.push_str(part));
        name
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
        assert_eq!(keys.user_result("a.b", "u", "k"), "p.bobolink.result.3.1.a.b.u.k");
        assert_ne!(keys.user_result("a.b", "c", "k"), keys.user_result("a", "b.c", "k"));
        assert_ne!(keys.user_result("a", "b.c", "k"), keys.user_result("a", "b", "c.k"));
        assert_eq!(keys.presence_data("a"), "p.presence.data.a");
        assert_eq!(keys.presence_expire("a"), "p.presence.expire.a");
        assert_eq!(keys.presence_user_expire("a"), "p.presence.user.expire.a");
        assert_eq!(keys.presence_user_clients("a"), "p.presence.user.clients.a");
        assert_eq!(keys.control(), "p.control");
        assert_eq!(keys.node("u"), "p.node.u");
    }

    #[test]
    fn what_is_to_be_archived_waits_in_the_slot_of_its_channel() {
        let plain = Keys::new("p");
        assert_eq!(plain.archive_stream("a:b"), "p.archive.stream");
        assert_eq!(plain.archive_state("a:b"), "p.archive.state");
        let keys = plain.of_cluster();
        for channel in ["a:b", "a}b", "chat:42"] {
            let tag = slot_tag(slot_of(channel));
            assert_eq!(slot_of(tag), slot_of(channel));
            assert_eq!(keys.archive_stream(channel), format!("p.archive.stream.{{{tag}}}"));
            assert_eq!(keys.archive_stream(tag), keys.archive_stream(channel));
            assert_eq!(keys.archive_state(channel), format!("p.archive.state.{{{tag}}}"));
        }
        for name in [keys.archive_stored(), keys.archive_arrived()] {
            assert_eq!(keys.channel_of(&name), None, "no channel of clients");
        }
    }

    #[test]
    fn a_message_says_its_channel() {
        let keys = Keys::new("p");
        assert_eq!(keys.messages("a.b"), "p.client.a.b");
        assert_eq!(keys.channel_of("p.client.a.b"), Some("a.b"));
        assert_eq!(keys.channel_of("p.control"), None);
        assert_eq!(keys.channel_of(&keys.canaries(0, 1)), None, "no channel of clients");
    }

    #[test]
    fn in_a_cluster_channels_stand_in_braces_on_the_wire_and_nowhere_else() {
        let plain = Keys::new("p");
        let keys = plain.of_cluster();
        assert_eq!(keys.stream("a:b"), "p.stream.{a:b}");
        assert_eq!(keys.result("a", "k"), "p.result.{a}.k");
        assert_eq!(keys.presence_user_clients("a"), "p.presence.user.clients.{a}");
        for name in ["p.client.a", "p.client.{a}", "p.control", "p.client."] {
            let wire = keys.on_wire(&name.into());
            assert_eq!(keys.plain(&wire), name);
            assert_eq!(plain.on_wire(&name.into()), name);
            assert_eq!(plain.plain(name), name);
        }
        assert_eq!(keys.on_wire(&"p.client.a".into()), "p.client.{a}");
        assert_eq!(keys.on_wire(&"p.node.u".into()), "p.node.u");
    }
}
