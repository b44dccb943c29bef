//! What a session counts; the metrics themselves are declared in `telemetry`.

use std::time::Instant;

use super::Session;
use crate::protocol::codes::Disconnect;
use crate::protocol::command::Request;
use crate::protocol::reply::Reply;
use crate::telemetry::metrics::labels::{
    Action, ClientMethod, ClientName, ClientVersion, DisconnectCode, FrameType, ReplyCode,
    Transport, UnsubscribeCode,
};

impl Session {
    pub(super) fn count_received(&self, request: &Request, bytes: usize) {
        let received = (Transport::Websocket, frame_type_of(request));
        let transport = &self.node.metrics.transport;
        transport.messages_received.with(received).inc();
        transport.messages_received_size.with(received).inc_by(bytes as u64);
    }

    pub(super) fn count_sent(&self, frame_type: FrameType, bytes: usize) {
        let sent = (Transport::Websocket, frame_type);
        let transport = &self.node.metrics.transport;
        transport.messages_sent.with(sent).inc();
        transport.messages_sent_size.with(sent).inc_by(bytes as u64);
    }

    pub(super) fn count_entered(&self, (name, version): (ClientName, ClientVersion)) {
        let client = &self.node.metrics.client;
        client.connections_accepted.with((Transport::Websocket, name, version)).inc();
        client.connections_inflight.with((Transport::Websocket, name, version)).inc();
        self.node.metrics.node.actions.with(Action::AddClient).inc();
    }

    pub(super) fn count_left(
        &self,
        (name, version): (ClientName, ClientVersion),
        subscriptions: usize,
    ) {
        let client = &self.node.metrics.client;
        client.connections_inflight.with((Transport::Websocket, name, version)).dec();
        client.subscriptions_inflight.with(name).sub(subscriptions as i64);
        self.node.metrics.node.actions.with(Action::RemoveClient).inc();
    }

    /// Under the lock that makes the subscription the session's, like its end: or the end of the
    /// connection, which counts what the session has, would take off one too many or too few.
    pub(super) fn count_subscription_made(&self, (name, _): (ClientName, ClientVersion)) {
        let client = &self.node.metrics.client;
        client.subscriptions_accepted.with(name).inc();
        client.subscriptions_inflight.with(name).inc();
    }

    pub(super) fn count_subscription_ended(&self, (name, _): (ClientName, ClientVersion)) {
        self.node.metrics.client.subscriptions_inflight.with(name).dec();
    }

    /// A pong, given the moment from which on it would have been late.
    pub(super) fn count_round_trip(&self, late_at: Option<Instant>) {
        let pinged_at = late_at.and_then(|late| late.checked_sub(self.node.client.pong_timeout));
        if let Some(pinged_at) = pinged_at {
            let took = self.node.clock.now().saturating_duration_since(pinged_at);
            let duration = &self.node.metrics.client.ping_pong_duration;
            duration.with(Transport::Websocket).observe(took.as_secs_f64());
        }
    }

    pub(super) fn count_reply_error(&self, method: ClientMethod, code: u32) {
        self.node.metrics.client.reply_errors.with((method, ReplyCode::from(code))).inc();
    }

    /// A client that left by itself was not disconnected.
    pub(super) fn count_disconnect(&self, code: u32) {
        if code == Disconnect::CONNECTION_CLOSED.code {
            return;
        }
        let code = DisconnectCode::from(code);
        self.node.metrics.client.server_disconnects.with(code).inc();
        self.node.metrics.transport.outgoing_close.with((Transport::Websocket, code)).inc();
    }

    pub(super) fn count_unsubscribe(&self, code: u32) {
        self.node.metrics.client.server_unsubscribes.with(UnsubscribeCode::from(code)).inc();
    }

    pub(super) fn count_recovery(&self, recovered: bool, publications: usize) {
        let client = &self.node.metrics.client;
        client.recover.with((recovered.into(), (publications > 0).into())).inc();
        if recovered {
            client.recovered_publications.observe(publications as f64);
        }
    }
}

/// The label of a command.
pub(super) fn method_of(request: &Request) -> ClientMethod {
    match request {
        Request::Connect(_) => ClientMethod::Connect,
        Request::Subscribe(_) => ClientMethod::Subscribe,
        Request::Unsubscribe(_) => ClientMethod::Unsubscribe,
        Request::Publish(_) => ClientMethod::Publish,
        Request::Presence(_) => ClientMethod::Presence,
        Request::PresenceStats(_) => ClientMethod::PresenceStats,
        Request::History(_) => ClientMethod::History,
        Request::Rpc(_) => ClientMethod::Rpc,
        Request::Send(_) => ClientMethod::Send,
        Request::Refresh(_) => ClientMethod::Refresh,
        Request::SubRefresh(_) => ClientMethod::SubRefresh,
        Request::Pong => ClientMethod::Ping,
    }
}

fn frame_type_of(request: &Request) -> FrameType {
    match request {
        Request::Connect(_) => FrameType::Connect,
        Request::Subscribe(_) => FrameType::Subscribe,
        Request::Unsubscribe(_) => FrameType::Unsubscribe,
        Request::Publish(_) => FrameType::Publish,
        Request::Presence(_) => FrameType::Presence,
        Request::PresenceStats(_) => FrameType::PresenceStats,
        Request::History(_) => FrameType::History,
        Request::Rpc(_) => FrameType::Rpc,
        Request::Send(_) => FrameType::Send,
        Request::Refresh(_) => FrameType::Refresh,
        Request::SubRefresh(_) => FrameType::SubRefresh,
        Request::Pong => FrameType::ClientPong,
    }
}

/// The label of a reply or push; an error reply is of no type.
pub(super) fn frame_type_of_reply(reply: &Reply) -> FrameType {
    let present = |present: bool, frame_type| present.then_some(frame_type);
    let of_push = reply.push.as_ref().and_then(|push| {
        present(push.subscribe.is_some(), FrameType::PushSubscribe)
            .or(present(push.unsubscribe.is_some(), FrameType::PushUnsubscribe))
            .or(present(push.refresh.is_some(), FrameType::PushRefresh))
    });
    of_push
        .or(present(reply.connect.is_some(), FrameType::Connect))
        .or(present(reply.subscribe.is_some(), FrameType::Subscribe))
        .or(present(reply.unsubscribe.is_some(), FrameType::Unsubscribe))
        .or(present(reply.publish.is_some(), FrameType::Publish))
        .or(present(reply.presence.is_some(), FrameType::Presence))
        .or(present(reply.presence_stats.is_some(), FrameType::PresenceStats))
        .or(present(reply.history.is_some(), FrameType::History))
        .or(present(reply.refresh.is_some(), FrameType::Refresh))
        .or(present(reply.sub_refresh.is_some(), FrameType::SubRefresh))
        .unwrap_or(FrameType::Unknown)
}
