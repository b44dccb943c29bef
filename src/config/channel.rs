//! Channels: names, and what may be done in each namespace.

use std::time::Duration;

use super::later::{MapOptions, SharedPollOptions};
use super::report::Report;
use super::setting::{Key, Setting, choice, join, section};
use super::tree::Tree;
use super::values::{Item, Later, show_named};

section! {
    /// Channels and their namespaces.
    pub struct ChannelConfig {
        pub without_namespace: ChannelOptions,
        pub namespaces: Vec<Namespace>,
        /// The proxies called `default`.
        pub proxy: Later,
        /// A stream's epoch and top are kept for this long after they were last used.
        pub history_meta_ttl: Duration = Duration::from_secs(720 * 3_600),
        /// What publications must look like where the namespace does not say.
        pub publication_data_format: PublicationDataFormat,
        /// The longest channel name, in bytes, that clients may subscribe to.
        pub max_length: u32 = 255,
        /// Channels that start with this need a subscription token; empty for none.
        pub private_prefix: String = "$".into(),
        /// Ends the namespace in a channel's name; empty for no namespaces.
        pub namespace_boundary: String = ":".into(),
        /// Starts the list of users in a channel's name; empty for no such channels.
        pub user_boundary: String = "#".into(),
        /// Separates the users in that list.
        pub user_separator: String = ",".into(),
        /// Lets clients that ask for it receive a number in the place of the channel's name. Not
        /// of Centrifugo.
        pub compaction: bool = true,
    }
}

section! {
    /// What may be done in the channels of a namespace.
    pub struct ChannelOptions {
        /// Keeps who is in the channel.
        pub presence: bool,
        /// Publishes who comes and goes.
        pub join_leave: bool,
        /// Pushes that to all subscribers, not only to those that asked.
        pub force_push_join_leave: bool,
        pub map_clients_presence_channel_prefix: String,
        pub map_users_presence_channel_prefix: String,
        /// Publications kept; with `history_ttl` it turns history on.
        pub history_size: u32,
        /// The stream is kept for this long after the last publication; whole seconds.
        pub history_ttl: Duration,
        /// In the place of `channel.history_meta_ttl`; 0 for that. Not less than `history_ttl`.
        pub history_meta_ttl: Duration,
        /// Keeps publications for years, see `history`; needs history. Not of Centrifugo.
        pub history_archive: bool,
        /// How long the archive keeps them; 0 for ever. Not of Centrifugo.
        pub history_archive_ttl: Duration,
        /// What becomes of publications that the archive cannot take. Not of Centrifugo.
        pub history_archive_overflow: ArchiveOverflow,
        /// When a publish into an archived channel is answered. Not of Centrifugo.
        pub history_archive_ack: ArchiveAck,
        /// Every subscription notices lost publications.
        pub force_positioning: bool,
        /// Subscriptions that ask notice lost publications.
        pub allow_positioning: bool,
        /// Every subscription recovers lost publications; needs history.
        pub force_recovery: bool,
        /// Subscriptions that ask recover lost publications.
        pub allow_recovery: bool,
        pub force_recovery_mode: RecoveryMode,
        /// New subscriptions receive the latest publication unasked; needs `force_recovery` and
        /// the mode `cache`.
        pub auto_cache_recover: bool,
        /// In the place of `client.write_delay`; 0 for that. Not of Centrifugo.
        pub write_delay: Duration,
        /// Delta compression clients may ask for.
        pub allowed_delta_types: Vec<DeltaType>,
        /// Publishes all publications as deltas where a subscription allows it.
        pub delta_publish: bool,
        /// Clients may filter by tags.
        pub allow_tags_filter: bool,
        /// Clients with a user may subscribe.
        pub allow_subscribe_for_client: bool,
        /// And clients without one.
        pub allow_subscribe_for_anonymous: bool,
        /// Clients with a user may publish.
        pub allow_publish_for_client: bool,
        /// Subscribers with a user may publish.
        pub allow_publish_for_subscriber: bool,
        /// And those without one.
        pub allow_publish_for_anonymous: bool,
        /// Clients with a user may ask who is in the channel.
        pub allow_presence_for_client: bool,
        /// Subscribers with a user may ask that.
        pub allow_presence_for_subscriber: bool,
        /// And those without one.
        pub allow_presence_for_anonymous: bool,
        /// Clients with a user may read the history.
        pub allow_history_for_client: bool,
        /// Subscribers with a user may read it.
        pub allow_history_for_subscriber: bool,
        /// And those without one.
        pub allow_history_for_anonymous: bool,
        /// Users listed in a channel's name, and only they, may subscribe.
        pub allow_user_limited_channels: bool,
        /// What the name after the namespace must match.
        pub channel_regex: String,
        pub publication_data_format: PublicationDataFormat,
        pub subscribe_proxy_enabled: bool,
        pub subscribe_proxy_name: String = "default".into(),
        pub publish_proxy_enabled: bool,
        pub publish_proxy_name: String = "default".into(),
        pub sub_refresh_proxy_enabled: bool,
        pub sub_refresh_proxy_name: String = "default".into(),
        pub subscribe_stream_proxy_enabled: bool,
        pub subscribe_stream_proxy_name: String = "default".into(),
        pub subscribe_stream_proxy_bidirectional: bool,
        pub subscription_type: SubscriptionType,
        pub map: MapOptions,
        pub shared_poll: SharedPollOptions,
    }
}

choice! {
    /// What a recovering subscription receives.
    pub enum RecoveryMode {
        /// Everything it missed.
        #[default]
        Stream = "stream" | "",
        /// The latest publication.
        Cache = "cache",
    }
}

choice! {
    /// What becomes of publications that the archive cannot take.
    pub enum ArchiveOverflow {
        /// The publisher gets a temporary error.
        #[default]
        Fail = "fail",
        /// They are delivered and missing in the archive.
        Drop = "drop",
    }
}

choice! {
    /// When a publish into an archived channel is answered.
    pub enum ArchiveAck {
        /// With Redis once it is in the queue for the store; with the memory engine once it is stored.
        #[default]
        Queued = "queued",
        /// Once it is stored.
        Stored = "stored",
    }
}

choice! {
    /// How a delta is computed.
    pub enum DeltaType {
        #[default]
        Fossil = "fossil",
    }
}

choice! {
    /// What a publication's data must look like.
    pub enum PublicationDataFormat {
        /// Not empty; in a namespace: what `channel.publication_data_format` says.
        #[default]
        Unset = "",
        /// A JSON value.
        Json = "json",
        /// A JSON object.
        JsonObject = "json_object",
        /// Anything, also nothing.
        Binary = "binary",
    }
}

choice! {
    /// What a subscription is to.
    pub enum SubscriptionType {
        /// A stream of publications.
        #[default]
        Stream = "stream" | "",
        Map = "map",
        MapClients = "map_clients",
        MapUsers = "map_users",
        SharedPoll = "shared_poll",
    }
}

/// Channels whose name starts with the namespace's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Namespace {
    pub name: String,
    pub options: ChannelOptions,
}

impl Item for Namespace {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Setting for Namespace {
    fn read(&mut self, from: Tree, at: &str, report: &mut Report<'_>) {
        let options = from.take_name(&mut self.name, at, report);
        self.options.read(options, at, report);
    }

    fn show(&self) -> serde_json::Value {
        show_named(&self.name, &self.options)
    }

    fn keys(at: &str, keys: &mut Vec<Key>) {
        String::keys(&join(at, "name"), keys);
        ChannelOptions::keys(at, keys);
    }
}
