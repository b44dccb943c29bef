//! Connections of clients: who may connect, and what one connection may cost.

use std::time::Duration;

use super::later::Transforms;
use super::setting::section;
use super::token::{SubscriptionToken, Token};
use super::units::ByteSize;
use super::values::LaterSwitch;

section! {
    /// Connections.
    pub struct Client {
        /// Globs of origins browsers may connect from. Empty: only requests without an origin;
        /// `*`: all.
        pub allowed_origins: Vec<String>,
        /// How connection tokens are checked, and subscription tokens too.
        pub token: Token,
        /// How subscription tokens are checked, if not like connection tokens.
        pub subscription_token: SubscriptionToken,
        pub proxy: ClientProxy,
        /// Takes a connection without a token as one of the user "".
        pub allow_anonymous_connect_without_token: bool,
        /// Refuses tokens without a user.
        pub disallow_anonymous_connection_tokens: bool,
        /// The server pings this often; 0 for never.
        pub ping_interval: Duration = Duration::from_secs(25),
        /// A pong must come within this time, shorter than `ping_interval`; 0 to expect none.
        pub pong_timeout: Duration = Duration::from_secs(8),
        /// A connection may outlive its token by this.
        pub expired_close_delay: Duration = Duration::from_secs(25),
        /// A subscription may outlive its token by this.
        pub expired_sub_close_delay: Duration = Duration::from_secs(25),
        /// A connection must authenticate within this time.
        pub stale_close_delay: Duration = Duration::from_secs(10),
        /// Channels of one connection.
        pub channel_limit: u32 = 128,
        /// Bytes that may wait for one connection to take them; beyond, it is closed as slow.
        pub queue_max_size: ByteSize = 1_048_576,
        /// Publications wait this long at most for others to share a write with; 0 for not at all.
        /// Not of Centrifugo.
        pub write_delay: Duration,
        /// Presence entries are refreshed and subscriptions checked this often.
        pub presence_update_interval: Duration = Duration::from_secs(27),
        /// Commands of one connection that may be at work at the same time; up to 1: in order.
        pub concurrency: u32,
        /// A position that was not confirmed for this long is checked against the stream.
        pub channel_position_check_delay: Duration = Duration::from_secs(40),
        /// Publications may arrive this late; 0 for no limit.
        pub channel_position_max_time_lag: Duration,
        /// A client's publish with an idempotency key is answered once for this long; 0 to ignore keys.
        /// Not of Centrifugo.
        pub publish_idempotency_ttl: Duration = Duration::from_secs(24 * 60 * 60),
        /// Keys of clients that the memory engine remembers; beyond, the oldest go. Not of Centrifugo.
        pub publish_idempotency_keys: u32 = 1_000_000,
        /// Connections of this node; 0 for no limit.
        pub connection_limit: u32,
        /// Connections of one user on this node; 0 for no limit.
        pub user_connection_limit: u32,
        /// New connections per second on this node; 0 for no limit.
        pub connection_rate_limit: u32,
        /// Tells clients the server's time.
        pub connect_include_server_time: bool,
        /// Publications of one answer to a client's history request.
        pub history_max_publication_limit: u32 = 300,
        /// Publications one recovery may bring.
        pub recovery_max_publication_limit: u32 = 300,
        /// Believes tokens without checking their signature. For development.
        pub insecure_skip_token_signature_verify: bool,
        /// Request header that names the user, set by a trusted front server.
        pub user_id_http_header: String,
        /// Believes everybody and allows everything. For development.
        pub insecure: bool,
        pub subscribe_to_user_personal_channel: PersonalChannel,
        pub connect_code_to_unidirectional_disconnect: Transforms,
    }
}

section! {
    /// Proxies of the life of a connection.
    pub struct ClientProxy {
        pub connect: LaterSwitch,
        pub refresh: LaterSwitch,
    }
}

section! {
    /// A channel of its own for each user.
    pub struct PersonalChannel {
        /// Subscribes every connection of a user to it.
        pub enabled: bool,
        /// Namespace of these channels; empty for none.
        pub personal_channel_namespace: String,
        /// A new connection of a user closes the others; needs `presence` in the namespace.
        pub single_connection: bool,
    }
}
