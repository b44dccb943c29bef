//! What the server does to the connections of a user, as a value: carried out here, and sent to the
//! other nodes as a control message.

use bytes::Bytes;

use crate::auth::OptionOverride;
use crate::channel::{Channel, ChannelRules};
use crate::protocol::codes::{self, UnsubscribeCode};
use crate::protocol::control::{self, Content};
use crate::protocol::publication::StreamPosition;

/// Codes that clients take for a disconnect by the server, and that a close frame may carry.
pub const CLOSE_CODES: std::ops::RangeInclusive<u32> = 3_000..=4_999;
/// Bytes: what a WebSocket control frame (RFC 6455, section 5.5) has room for beside the code.
pub const MAX_CLOSE_REASON: usize = 123;

/// See the [module](self).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Order {
    pub selection: Selection,
    pub deed: Deed,
}

/// What is done to each of the selected connections.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Deed {
    Subscribe(Channel, UserSubscribe),
    /// Without a channel, from all.
    Unsubscribe(Option<Channel>, UnsubscribeCode),
    Disconnect(codes::Disconnect),
    Refresh(UserRefresh),
}

/// Connections of one user, all of them or those that the other fields name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The empty string means the anonymous user, not everyone.
    pub user: String,
    /// Those of every user, whatever `user` says. Other nodes may ask for it.
    pub all_users: bool,
    /// Only the connection with this client id, unless empty.
    pub client: String,
    /// Only the connection with this session id, unless empty. WebSocket connections have none.
    pub session: String,
    /// Not the connections with these client ids. Counts for a disconnect only.
    pub except: Vec<String>,
}

/// A subscription for the connections of a user.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UserSubscribe {
    /// Unix seconds; `None` for never.
    pub expire_at: Option<i64>,
    pub info: Bytes,
    pub data: Bytes,
    pub recover_since: Option<StreamPosition>,
    pub overrides: OptionOverride,
}

/// When the connections of a user expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRefresh {
    /// They have expired: they are closed.
    Expired,
    /// At `expire_at` (unix seconds; `None` for never). Others see `info` of them from now on, if
    /// it is there.
    Until { expire_at: Option<i64>, info: Option<Bytes> },
}

impl UserSubscribe {
    /// With the namespace's options where nothing else was asked for, so that it means the same on
    /// every node.
    pub(super) fn granted_by(mut self, rules: &ChannelRules) -> Self {
        let (options, asked) = (&rules.options, self.overrides);
        let join_leave = asked.join_leave.unwrap_or(options.join_leave);
        let push = asked.force_push_join_leave.unwrap_or(options.force_push_join_leave);
        let recovery = asked.force_recovery.unwrap_or(options.force_recovery);
        self.overrides = OptionOverride {
            presence: Some(asked.presence.unwrap_or(options.presence)),
            join_leave: Some(join_leave),
            force_push_join_leave: Some(join_leave && push),
            force_recovery: Some(rules.history_enabled() && recovery),
            force_positioning: Some(asked.force_positioning.unwrap_or(options.force_positioning)),
        };
        self
    }
}

/// As other nodes are told.
impl From<&Order> for Content {
    fn from(order: &Order) -> Self {
        let Selection { user, all_users, client, session, except } = order.selection.clone();
        let label_filter = None;
        match order.deed.clone() {
            Deed::Subscribe(channel, subscribe) => {
                let granted = |option: Option<bool>| option.unwrap_or_default();
                let options = subscribe.overrides;
                Self::Subscribe(control::Subscribe {
                    user,
                    channel: channel.to_string(),
                    emit_presence: granted(options.presence),
                    emit_join_leave: granted(options.join_leave),
                    expire_at: subscribe.expire_at.unwrap_or_default(),
                    position: granted(options.force_positioning),
                    recover: granted(options.force_recovery),
                    channel_info: subscribe.info,
                    client,
                    data: subscribe.data,
                    recover_since: subscribe.recover_since,
                    session,
                    push_join_leave: granted(options.force_push_join_leave),
                    source: control::FROM_SERVER_API,
                    label_filter,
                    all_users,
                })
            }
            Deed::Unsubscribe(channel, UnsubscribeCode { code, reason }) => {
                let channel = channel.map(|channel| channel.to_string()).unwrap_or_default();
                let reason = reason.into_owned();
                Self::Unsubscribe(control::Unsubscribe {
                    channel,
                    user,
                    client,
                    session,
                    code,
                    reason,
                    label_filter,
                    all_users,
                })
            }
            Deed::Disconnect(codes::Disconnect { code, reason }) => {
                Self::Disconnect(control::Disconnect {
                    user,
                    whitelist: except,
                    code,
                    reason: reason.into_owned(),
                    // Clients of this protocol version go by the code.
                    reconnect: false,
                    client,
                    session,
                    label_filter,
                    all_users,
                })
            }
            Deed::Refresh(refresh) => {
                let (expired, expire_at, info) = match refresh {
                    UserRefresh::Expired => (true, None, None),
                    UserRefresh::Until { expire_at, info } => (false, expire_at, info),
                };
                Self::Refresh(control::Refresh {
                    user,
                    client,
                    expired,
                    expire_at: expire_at.unwrap_or_default(),
                    info: info.unwrap_or_default(),
                    session,
                    label_filter,
                    all_users,
                })
            }
        }
    }
}

impl Order {
    /// What another node asks for. `None` if it cannot be done: connections have no labels here, so
    /// that a condition on them selects none, and what is no order is none.
    pub fn of_content(content: Content) -> Option<Self> {
        match content {
            Content::Subscribe(subscribe) => Self::of_subscribe(subscribe),
            Content::Unsubscribe(unsubscribe) => Self::of_unsubscribe(unsubscribe),
            Content::Disconnect(disconnect) => Self::of_disconnect(disconnect),
            Content::Refresh(refresh) => Self::of_refresh(refresh),
            Content::Node(_)
            | Content::Shutdown
            | Content::SurveyRequest(_)
            | Content::SurveyResponse(_) => None,
        }
    }

    fn of_subscribe(subscribe: control::Subscribe) -> Option<Self> {
        let control::Subscribe { user, client, session, all_users, .. } = subscribe;
        let overrides = OptionOverride {
            presence: Some(subscribe.emit_presence),
            join_leave: Some(subscribe.emit_join_leave),
            force_push_join_leave: Some(subscribe.push_join_leave),
            force_recovery: Some(subscribe.recover),
            force_positioning: Some(subscribe.position),
        };
        let is_meant = subscribe.label_filter.is_none() && !subscribe.channel.is_empty();
        is_meant.then(|| Self {
            selection: Selection { user, all_users, client, session, except: Vec::new() },
            deed: Deed::Subscribe(
                Channel::from(subscribe.channel),
                UserSubscribe {
                    expire_at: moment(subscribe.expire_at),
                    info: subscribe.channel_info,
                    data: subscribe.data,
                    recover_since: subscribe.recover_since,
                    overrides,
                },
            ),
        })
    }

    fn of_unsubscribe(unsubscribe: control::Unsubscribe) -> Option<Self> {
        let control::Unsubscribe { channel, user, client, session, code, all_users, .. } =
            unsubscribe;
        let code = match code {
            // 0 and 1 mean an end on the client's side.
            0 | 1 => UnsubscribeCode::SERVER,
            code => UnsubscribeCode { code, reason: unsubscribe.reason.into() },
        };
        let channel = (!channel.is_empty()).then(|| Channel::from(channel));
        unsubscribe.label_filter.is_none().then(|| Self {
            selection: Selection { user, all_users, client, session, except: Vec::new() },
            deed: Deed::Unsubscribe(channel, code),
        })
    }

    fn of_disconnect(disconnect: control::Disconnect) -> Option<Self> {
        let control::Disconnect { user, client, session, all_users, .. } = disconnect;
        let code = match (disconnect.code, disconnect.reconnect) {
            (code, _) if CLOSE_CODES.contains(&code) => {
                let mut reason = disconnect.reason;
                reason.truncate(reason.floor_char_boundary(MAX_CLOSE_REASON));
                codes::Disconnect::custom(code, reason)
            }
            (_, true) => codes::Disconnect::FORCE_RECONNECT,
            (_, false) => codes::Disconnect::FORCE_DISCONNECT,
        };
        disconnect.label_filter.is_none().then(|| Self {
            selection: Selection { user, all_users, client, session, except: disconnect.whitelist },
            deed: Deed::Disconnect(code),
        })
    }

    fn of_refresh(refresh: control::Refresh) -> Option<Self> {
        let control::Refresh { user, client, session, all_users, .. } = refresh;
        let info = (!refresh.info.is_empty()).then_some(refresh.info);
        let deed = match refresh.expired {
            true => UserRefresh::Expired,
            false => UserRefresh::Until { expire_at: moment(refresh.expire_at), info },
        };
        refresh.label_filter.is_none().then(|| Self {
            selection: Selection { user, all_users, client, session, except: Vec::new() },
            deed: Deed::Refresh(deed),
        })
    }
}

/// Unix seconds, of which 0 is never.
fn moment(unix_seconds: i64) -> Option<i64> {
    (unix_seconds != 0).then_some(unix_seconds)
}

#[cfg(test)]
mod tests;
