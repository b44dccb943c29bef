//! Label values: closed sets only, so that no peer can grow the number of time series.

/// A closed set of label values, or a tuple of such sets.
pub trait LabelSet: Copy + 'static {
    /// How many different values there are.
    const COUNT: usize;

    /// The position of this value, below [`LabelSet::COUNT`].
    fn position(self) -> usize;

    /// The value at a position; of a position past the end, the last one.
    fn at(position: usize) -> Self;

    /// Appends the texts that stand in the exposition, one per label.
    fn texts(self, into: &mut Vec<&'static str>);
}

/// Declares enums whose variants are the values of one label.
macro_rules! label_enums {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),+ }

        impl $name {
            const ALL: &[(Self, &'static str)] = &[$((Self::$variant, $text)),+];
        }

        impl LabelSet for $name {
            const COUNT: usize = Self::ALL.len();

            fn position(self) -> usize {
                self as usize
            }

            fn at(position: usize) -> Self {
                let mut values = Self::ALL.iter().map(|(value, _)| *value);
                const LAST: $name = $name::ALL[$name::ALL.len() - 1].0;
                values.nth(position).unwrap_or(LAST)
            }

            fn texts(self, into: &mut Vec<&'static str>) {
                into.push(match self { $(Self::$variant => $text),+ });
            }
        }
    )+};
}

/// Declares sets of numeric codes. A code outside the set counts as `other`: the application may
/// choose codes freely, and peers may send any.
macro_rules! label_codes {
    ($($(#[$doc:meta])* $name:ident [ $($code:literal)+ ])+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name(u8);

        impl $name {
            const CODES: &[u32] = &[$($code),+];
            const TEXTS: &[&'static str] = &[$(stringify!($code)),+];
        }

        impl From<u32> for $name {
            fn from(code: u32) -> Self {
                let known = Self::CODES.iter().position(|known| *known == code);
                Self(known.unwrap_or(Self::CODES.len()) as u8)
            }
        }

        impl LabelSet for $name {
            const COUNT: usize = Self::CODES.len() + 1;

            fn position(self) -> usize {
                usize::from(self.0)
            }

            fn at(position: usize) -> Self {
                Self(position.min(Self::CODES.len()) as u8)
            }

            fn texts(self, into: &mut Vec<&'static str>) {
                into.push(Self::TEXTS.get(self.position()).copied().unwrap_or("other"));
            }
        }
    )+};
}

label_enums! {
    /// What the node did, label `action`.
    Action {
        AddClient = "add_client",
        RemoveClient = "remove_client",
        AddSubscription = "add_subscription",
        RemoveSubscription = "remove_subscription",
        BrokerSubscribe = "broker_subscribe",
        BrokerUnsubscribe = "broker_unsubscribe",
        AddPresence = "add_presence",
        RemovePresence = "remove_presence",
        Presence = "presence",
        PresenceStats = "presence_stats",
        History = "history",
        HistoryRecover = "history_recover",
        HistoryRecoverCache = "history_recover_cache",
        HistoryStreamTop = "history_stream_top",
        HistoryRemove = "history_remove",
        Survey = "survey",
    }
    /// What nodes ask each other, label `op`.
    SurveyOp { Channels = "channels" }
    /// What travels between nodes and to subscribers, label `type`.
    MessageType {
        Publication = "publication",
        Join = "join",
        Leave = "leave",
        Control = "control",
    }
    /// How a client is connected, label `transport`.
    Transport { Websocket = "websocket" }
    /// What one protocol message is, label `frame_type`.
    FrameType {
        ServerPing = "server_ping",
        ClientPong = "client_pong",
        PushConnect = "push_connect",
        PushSubscribe = "push_subscribe",
        PushPublication = "push_publication",
        PushJoin = "push_join",
        PushLeave = "push_leave",
        PushUnsubscribe = "push_unsubscribe",
        PushMessage = "push_message",
        PushRefresh = "push_refresh",
        PushDisconnect = "push_disconnect",
        Connect = "connect",
        Subscribe = "subscribe",
        Unsubscribe = "unsubscribe",
        Publish = "publish",
        Presence = "presence",
        PresenceStats = "presence_stats",
        History = "history",
        Rpc = "rpc",
        Send = "send",
        Refresh = "refresh",
        SubRefresh = "sub_refresh",
        Unknown = "unknown",
    }
    /// The command of a client, label `method`.
    ClientMethod {
        Connect = "connect",
        Subscribe = "subscribe",
        Unsubscribe = "unsubscribe",
        Publish = "publish",
        Presence = "presence",
        PresenceStats = "presence_stats",
        History = "history",
        Ping = "ping",
        Send = "send",
        Rpc = "rpc",
        Refresh = "refresh",
        SubRefresh = "sub_refresh",
        Unknown = "unknown",
    }
    /// Whether a client gave a name. The name itself is the client's to choose, so it is no label.
    ClientName { Unnamed = "unnamed", Unregistered = "unregistered" }
    /// Whether a client gave a version.
    ClientVersion { Unversioned = "unversioned", Unregistered = "unregistered" }
    /// Whether a stream was recovered in full, label `recovered`.
    Recovered { Yes = "yes", No = "no" }
    /// Whether a recovery brought publications, label `has_recovered_publications`.
    HasPublications { Yes = "yes", No = "no" }
    /// Why a publication was answered but not published, label `reason`.
    SuppressReason { Idempotency = "idempotency", Version = "version" }
    /// The door a server API request came in by, label `protocol`.
    ApiProtocol { Http = "http" }
    /// The method of a server API request, label `method`.
    ApiMethod {
        Batch = "batch",
        Publish = "publish",
        Broadcast = "broadcast",
        // One channel of a broadcast; used for errors only.
        BroadcastPublish = "broadcast_publish",
        Subscribe = "subscribe",
        Unsubscribe = "unsubscribe",
        Disconnect = "disconnect",
        Refresh = "refresh",
        Presence = "presence",
        PresenceStats = "presence_stats",
        History = "history",
        HistoryRemove = "history_remove",
        Info = "info",
        Rpc = "rpc",
        Channels = "channels",
        Unknown = "unknown",
    }
    /// What a connection to Redis is for, label `kind`.
    RedisConnection { Commands = "commands", PubSub = "pub_sub" }
    /// What became of a call to Redis, label `outcome`.
    CallOutcome {
        Done = "done",
        // Redis answered with an error.
        Refused = "refused",
        // Nothing was sent: there was no connection.
        Unavailable = "unavailable",
        // The connection ended before the answer came.
        Unknown = "unknown",
    }
    /// Why a PUB/SUB connection to Redis ended, label `error`.
    PubSubError {
        Connection = "connection",
        Timeout = "timeout",
        Refused = "refused",
        Protocol = "protocol",
        // Its server is not the master that it was.
        Master = "master",
        // It does not deliver what is published.
        Unheard = "unheard",
        // It hears other channels than were asked for.
        Forgotten = "forgotten",
    }
    /// Why a server API request failed, label `error`: an error code, or the step that failed.
    ApiFailure {
        Internal = "100",
        UnknownChannel = "102",
        NotFound = "104",
        BadRequest = "107",
        NotAvailable = "108",
        UnrecoverablePosition = "112",
        Conflict = "113",
        ReadBody = "read_body",
        Unmarshal = "unmarshal",
        Marshal = "marshal",
        Other = "other",
    }
}

label_codes! {
    /// Codes of error replies to clients.
    ReplyCode [100 101 102 103 104 105 106 107 108 109 110 111 112 113]
    /// Codes this server closes connections with; 1009 is a message over the size limit.
    DisconnectCode [
        1000 1002 1003 1007 1009
        3000 3001 3004 3005 3006 3008 3009 3010 3011 3012 3013 3014
        3500 3501 3502 3503 3504 3505 3506 3507 3508 3509
    ]
    /// Shards of Redis by their place in the configuration. More than stand here share `other`.
    RedisShard [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31]
    /// Codes the server ends subscriptions with.
    UnsubscribeCode [2000 2500 2501 2502]
}

impl ApiFailure {
    /// The failure that stands for an error code of the server API.
    pub fn of_code(code: u32) -> Self {
        match code {
            100 => Self::Internal,
            102 => Self::UnknownChannel,
            104 => Self::NotFound,
            107 => Self::BadRequest,
            108 => Self::NotAvailable,
            112 => Self::UnrecoverablePosition,
            113 => Self::Conflict,
            _ => Self::Other,
        }
    }
}

impl ClientName {
    /// By the name of a connect request.
    pub fn of(name: &str) -> Self {
        if name.is_empty() { Self::Unnamed } else { Self::Unregistered }
    }
}

impl ClientVersion {
    /// By the version of a connect request.
    pub fn of(version: &str) -> Self {
        if version.is_empty() { Self::Unversioned } else { Self::Unregistered }
    }
}

impl From<bool> for Recovered {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl From<bool> for HasPublications {
    fn from(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }
}

impl<A: LabelSet, B: LabelSet> LabelSet for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn position(self) -> usize {
        self.0.position() * B::COUNT + self.1.position()
    }

    fn at(position: usize) -> Self {
        (A::at(position / B::COUNT), B::at(position % B::COUNT))
    }

    fn texts(self, into: &mut Vec<&'static str>) {
        self.0.texts(into);
        self.1.texts(into);
    }
}

impl<A: LabelSet, B: LabelSet, C: LabelSet> LabelSet for (A, B, C) {
    const COUNT: usize = A::COUNT * B::COUNT * C::COUNT;

    fn position(self) -> usize {
        ((self.0, self.1), self.2).position()
    }

    fn at(position: usize) -> Self {
        let ((a, b), c) = <((A, B), C)>::at(position);
        (a, b, c)
    }

    fn texts(self, into: &mut Vec<&'static str>) {
        ((self.0, self.1), self.2).texts(into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(label: impl LabelSet) -> Vec<&'static str> {
        let mut texts = Vec::new();
        label.texts(&mut texts);
        texts
    }

    fn every_position_is_its_own<L: LabelSet>() {
        for position in 0..L::COUNT {
            assert_eq!(L::at(position).position(), position);
        }
    }

    #[test]
    fn positions_and_values_map_one_to_one() {
        every_position_is_its_own::<Action>();
        every_position_is_its_own::<DisconnectCode>();
        every_position_is_its_own::<(ClientMethod, ReplyCode)>();
        every_position_is_its_own::<(Transport, ClientName, ClientVersion)>();
    }

    #[test]
    fn a_code_nobody_declared_counts_as_other() {
        assert_eq!(texts(DisconnectCode::from(3501)), ["3501"]);
        assert_eq!(texts(DisconnectCode::from(4242)), ["other"]);
        assert_eq!(texts(ReplyCode::from(u32::MAX)), ["other"]);
        assert_eq!(texts(ApiFailure::of_code(999)), ["other"]);
    }

    #[test]
    fn texts_of_a_tuple_come_in_its_order() {
        assert_eq!(texts((ClientMethod::Publish, ReplyCode::from(103))), ["publish", "103"]);
        assert_eq!(
            texts((Transport::Websocket, ClientName::of("js"), ClientVersion::of(""))),
            ["websocket", "unregistered", "unversioned"]
        );
    }
}
