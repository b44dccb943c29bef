//! Making a subscription, whoever asked for it: the steps between permission and live delivery.
//!
//! The order is what rules out loss and doubles: the hub buffers first, then the stream is read, the
//! reply is queued, and under the same lock the buffer is delivered on top of what was read. A
//! publication that is in both is skipped by its offset; one that is in neither cannot exist.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::catching_up::Path;
use super::missed::Missed;
use super::refusal::Refusal;
use super::starting_point::Found;
use super::subscription::{Active, Origin, Subscriptions};
use super::{MAX_TTL_SECONDS, Session};
use crate::auth::OptionOverride;
use crate::channel::{Channel, ChannelRules};
use crate::hub::{Delivery, Message, Reserved, Start};
use crate::node::Pending;
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::filter::Filter;
use crate::protocol::publication::{ClientInfo, StreamPosition};
use crate::protocol::reply::SubscribeResult;
use crate::telemetry::metrics::labels::FrameType;

/// What the server lets a subscription do.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub rules: Arc<ChannelRules>,
    pub origin: Origin,
    /// The client appears in the channel's presence.
    pub presence: bool,
    /// Others are told when it comes and goes.
    pub join_leave: bool,
    /// It is told when others come and go.
    pub push_join_leave: bool,
    pub positioned: bool,
    pub recoverable: bool,
    /// What others see of the connection in this channel.
    pub info: Bytes,
    /// Handed to the client.
    pub data: Bytes,
    /// Unix seconds; `None` for never.
    pub expire_at: Option<i64>,
}

/// What the client asked for beyond the channel.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    /// Continue from here.
    pub recover: Option<StreamPosition>,
    /// Answer 112 rather than `recovered: false`.
    pub reject_unrecovered: bool,
    pub delta: bool,
    pub compact: bool,
    pub filter: Option<Arc<Filter>>,
}

/// A subscription that only needs to go live. Dropped, everything done for it is undone.
pub(super) struct Established {
    /// Without what was missed.
    result: SubscribeResult,
    missed: Missed,
    pending: Pending,
    start: Start,
    /// What is to be read before it can go live.
    ahead: Option<(Path, Delivery)>,
    active: Active,
    presence: Option<Present>,
    info: Option<ClientInfo>,
}

/// A subscription that its session holds, on the point of receiving.
pub(super) struct Ready {
    reserved: Reserved,
    start: Start,
    ahead: Option<(Path, Delivery)>,
    /// To be announced, if joins are.
    info: Option<ClientInfo>,
    /// To be notified when it is announced.
    done: Option<Arc<Notify>>,
}

/// A subscription that receives, and of which the others do not know yet.
#[must_use]
pub(super) struct Joining {
    channel: Channel,
    info: Option<ClientInfo>,
    done: Option<Arc<Notify>>,
}

/// A presence entry that goes away again unless the subscription comes about.
struct Present {
    session: Arc<Session>,
    channel: Channel,
    kept: bool,
}

/// A channel's place among the session's subscriptions; given back unless one comes about.
pub(super) struct Slot {
    session: Arc<Session>,
    channel: Channel,
    kept: bool,
}

impl Grant {
    /// The namespace's options, with what a token or an API call sets differently.
    pub fn of(rules: Arc<ChannelRules>, origin: Origin, overrides: OptionOverride) -> Self {
        let options = &rules.options;
        let join_leave = overrides.join_leave.unwrap_or(options.join_leave);
        let push = overrides.force_push_join_leave.unwrap_or(options.force_push_join_leave);
        Self {
            origin,
            presence: overrides.presence.unwrap_or(options.presence),
            join_leave,
            push_join_leave: join_leave && push,
            positioned: overrides.force_positioning.unwrap_or(options.force_positioning),
            recoverable: rules.history_enabled()
                && overrides.force_recovery.unwrap_or(options.force_recovery),
            info: Bytes::new(),
            data: Bytes::new(),
            expire_at: None,
            rules,
        }
    }
}

impl Session {
    /// The guard of a place that was just begun.
    pub(super) fn slot(self: &Arc<Self>, channel: &Channel) -> Slot {
        Slot { session: Arc::clone(self), channel: channel.clone(), kept: false }
    }

    /// Does everything up to the point at which the subscription can go live.
    pub(super) async fn establish(
        self: &Arc<Self>,
        channel: &Channel,
        grant: Grant,
        wish: Wish,
        conn_info: Bytes,
    ) -> Result<Established, Refusal> {
        let now = self.node.clock.unix_seconds();
        if grant.expire_at.is_some_and(|expire_at| expire_at <= now) {
            return Err(ErrorCode::EXPIRED.into());
        }
        // A filtered subscriber lacks the bases that patches need, so the filter wins.
        let delta = wish.delta && wish.filter.is_none() && grant.rules.allows_fossil_delta();
        let positioned = grant.positioned || grant.recoverable;
        let delivery = Delivery {
            positioned,
            join_leave: grant.push_join_leave,
            delta,
            compact: wish.compact,
            filter: wish.filter.clone(),
            max_lag_ms: u32::try_from(self.node.client.channel_position_max_time_lag.as_millis())
                .unwrap_or(u32::MAX),
            write_delay: self.node.write_delay(&grant.rules),
        };
        let pending = self.node.subscribe(channel, &self.connection, delivery.clone()).await?;
        let key = pending.reserved().key;
        let info = self.client_info(conn_info, grant.info.clone());
        let mut presence = match grant.presence {
            true => Some(self.appear(channel, info.clone()).await?),
            false => None,
        };
        let found = match positioned {
            true => self.position(channel, &grant, &wish, delta).await,
            false => Ok(Found::default()),
        };
        let found = match (found, presence.as_mut()) {
            (Ok(found), _) => found,
            (Err(refusal), None) => return Err(refusal),
            (Err(refusal), Some(presence)) => {
                // Before the channel's place is free, or it would take away that of a next try.
                presence.take_back().await;
                return Err(refusal);
            }
        };
        let Found { mut result, missed, start, ahead } = found;
        result.positioned = positioned;
        result.recoverable = grant.recoverable;
        result.was_recovering |= wish.recover.is_some();
        result.delta = delta;
        result.data = grant.data;
        if wish.compact {
            result.id = pending.reserved().id;
        }
        if let Some(expire_at) = grant.expire_at
            && grant.origin == Origin::Client
        {
            result.expires = true;
            result.ttl = ttl(expire_at, now);
        }
        let active = Active {
            key,
            info: grant.info,
            expire_at: grant.expire_at,
            origin: grant.origin,
            presence: grant.presence,
            join_leave: grant.join_leave,
            positioned,
        };
        let info = grant.join_leave.then_some(info);
        let ahead = ahead.map(|path| (path, delivery));
        Ok(Established { result, missed, pending, start, ahead, active, presence, info })
    }

    /// Starts delivery, behind the messages that come `first`.
    pub(super) fn go_live(
        self: &Arc<Self>,
        ready: Ready,
        first: impl IntoIterator<Item = Message>,
    ) -> Joining {
        let Ready { reserved, start, ahead, info, done } = ready;
        let channel = reserved.channel.clone();
        match ahead {
            None => self.node.hub.go_live(&reserved, start, first, self.node.clock.unix_millis()),
            Some((path, delivery)) => {
                self.node.hub.catch_up(&reserved, first);
                self.bring_up(reserved, delivery, path);
            }
        }
        Joining { channel, info, done }
    }

    /// Announces the client to the others, if joins are announced.
    pub(super) async fn announce(&self, joining: Joining) {
        let Joining { channel, info, done } = joining;
        let Some(info) = info else { return };
        if let Err(error) = self.node.publish_join(&channel, &info).await {
            tracing::warn!(%channel, %error, "join was not published");
        }
        self.connected(|connected| connected.subscriptions.joined(&channel));
        if let Some(done) = done {
            done.notify_waiters();
        }
    }

    async fn appear(
        self: &Arc<Self>,
        channel: &Channel,
        info: ClientInfo,
    ) -> Result<Present, Refusal> {
        let channel = channel.clone();
        let present = Present { session: Arc::clone(self), channel, kept: false };
        self.node.add_presence(&present.channel, info).await?;
        Ok(present)
    }
}

impl Established {
    /// The result, with what was missed.
    pub fn take_result(&mut self) -> SubscribeResult {
        let (result, missed) = (mem::take(&mut self.result), mem::take(&mut self.missed));
        let publications = missed.into_publications(&self.pending.reserved().channel);
        SubscribeResult { publications, ..result }
    }

    /// The reply to the subscribe command `id`.
    pub fn take_reply(&mut self, session: &Session, id: u32) -> Result<Message, Disconnect> {
        let (result, missed) = (mem::take(&mut self.result), mem::take(&mut self.missed));
        let channel = &self.pending.reserved().channel;
        let reply = missed.encode_reply(session.codec(), id, channel, result);
        let reply = reply.map_err(|_| Disconnect::INAPPROPRIATE_PROTOCOL)?;
        session.count_sent(FrameType::Subscribe, reply.len());
        Ok(Message::new(session.codec(), &reply))
    }

    /// Makes the subscription one of the session's, which from now on ends it.
    pub fn commit(mut self, subscriptions: &mut Subscriptions) -> (SubscribeResult, Ready) {
        let result = self.take_result();
        let reserved = self.pending.keep();
        let done = subscriptions.activate(reserved.channel.clone(), self.active);
        if let Some(mut presence) = self.presence {
            presence.kept = true;
        }
        let (start, ahead) = (self.start, self.ahead);
        (result, Ready { reserved, start, ahead, info: self.info, done })
    }
}

impl Slot {
    /// Makes the subscription active behind the messages that come `first`, unless the connection
    /// has closed in the meantime: then it is undone. One step under the state's lock, so that nobody
    /// finds a subscription to end whose beginning the client does not know.
    pub async fn go_live(
        mut self,
        established: Established,
        first: impl IntoIterator<Item = Message>,
    ) {
        self.kept = true;
        let session = Arc::clone(&self.session);
        let joining = session.connected(|connected| {
            session.count_subscription_made(connected.labels);
            let (_, ready) = established.commit(&mut connected.subscriptions);
            session.go_live(ready, first)
        });
        if let Some(joining) = joining {
            session.announce(joining).await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.kept {
            self.session.connected(|connected| connected.subscriptions.remove(&self.channel));
        }
    }
}

impl Present {
    async fn take_back(&mut self) {
        self.kept = true;
        let client = self.session.connection.id().to_string();
        if let Err(error) = self.session.node.remove_presence(&self.channel, &client).await {
            tracing::warn!(channel = %self.channel, client, %error, "presence was not taken back");
        }
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (session, channel) = (Arc::clone(&self.session), self.channel.clone());
        let mut dropped = Self { session, channel, kept: true };
        tokio::spawn(async move { dropped.take_back().await });
    }
}

/// Seconds from `now` to `expire_at`, at least one and at most [`MAX_TTL_SECONDS`].
pub(super) fn ttl(expire_at: i64, now: i64) -> u32 {
    let left = u64::try_from(expire_at.saturating_sub(now)).unwrap_or(0);
    u32::try_from(left.clamp(1, MAX_TTL_SECONDS)).unwrap_or(u32::MAX)
}
