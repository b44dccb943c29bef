//! What a session counts; the metrics themselves are declared in `telemetry`.

use super::Session;
use crate::protocol::command::Request;
use crate::telemetry::metrics::labels::{
    ClientMethod, DisconnectCode, ReplyCode, Transport, UnsubscribeCode,
};

impl Session {
    pub(super) fn count_reply_error(&self, method: ClientMethod, code: u32) {
        self.node.metrics.client.reply_errors.with((method, ReplyCode::from(code))).inc();
    }

    pub(super) fn count_disconnect(&self, code: u32) {
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
