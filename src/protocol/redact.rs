//! `Debug` of the messages that carry secrets: tokens, signatures, session ids, and what proxies are
//! given to authenticate by (headers and data of a connect).

use std::fmt::{Debug, Formatter, Result};

use super::command::{
    ConnectRequest, RefreshRequest, SubRefreshRequest, SubscribeRequest, TrackBatch,
};
use super::reply::{Connect, ConnectResult};

/// Tells no more of a secret than whether it is there.
struct Redacted(bool);

impl Redacted {
    fn text(secret: &str) -> Self {
        Self(!secret.is_empty())
    }
}

impl Debug for Redacted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(if self.0 { "***" } else { "none" })
    }
}

impl Debug for ConnectRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ConnectRequest")
            .field("token", &Redacted::text(&self.token))
            .field("data", &Redacted(!self.data.is_empty()))
            .field("subs", &self.subs)
            .field("name", &self.name)
            .field("version", &self.version)
            .field("headers", &Redacted(!self.headers.is_empty()))
            .field("flag", &self.flag)
            .finish_non_exhaustive()
    }
}

impl Debug for SubscribeRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SubscribeRequest")
            .field("channel", &self.channel)
            .field("token", &Redacted::text(&self.token))
            .field("data", &Redacted(!self.data.is_empty()))
            .field("recover", &self.recover)
            .field("epoch", &self.epoch)
            .field("offset", &self.offset)
            .field("positioned", &self.positioned)
            .field("recoverable", &self.recoverable)
            .field("join_leave", &self.join_leave)
            .field("delta", &self.delta)
            .field("tf", &self.tf)
            .field("flag", &self.flag)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Debug for RefreshRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RefreshRequest").field("token", &Redacted::text(&self.token)).finish()
    }
}

impl Debug for SubRefreshRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("SubRefreshRequest")
            .field("channel", &self.channel)
            .field("token", &Redacted::text(&self.token))
            .field("kind", &self.kind)
            .field("track", &self.track)
            .field("untrack", &self.untrack)
            .finish()
    }
}

impl Debug for TrackBatch {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("TrackBatch")
            .field("signature", &Redacted::text(&self.signature))
            .field("items", &self.items)
            .finish()
    }
}

impl Debug for ConnectResult {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ConnectResult")
            .field("client", &self.client)
            .field("expires", &self.expires)
            .field("ttl", &self.ttl)
            .field("data", &self.data)
            .field("subs", &self.subs)
            .field("ping", &self.ping)
            .field("pong", &self.pong)
            .field("session", &Redacted::text(&self.session))
            .field("node", &self.node)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

impl Debug for Connect {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("Connect")
            .field("client", &self.client)
            .field("expires", &self.expires)
            .field("ttl", &self.ttl)
            .field("data", &self.data)
            .field("subs", &self.subs)
            .field("ping", &self.ping)
            .field("pong", &self.pong)
            .field("session", &Redacted::text(&self.session))
            .field("node", &self.node)
            .field("time", &self.time)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::protocol::command::Command;
    use crate::protocol::frame::Codec;

    #[test]
    fn secrets_stay_out_of_debug_output() {
        for command in [
            r#"{"connect":{"token":"s3cret","name":"shown","headers":{"a":"s3cret"},"data":"s3cret"}}"#,
            r#"{"connect":{"name":"shown","subs":{"a":{"token":"s3cret","data":"s3cret"}}}}"#,
            r#"{"subscribe":{"channel":"shown","token":"s3cret","data":["s3cret"]}}"#,
            r#"{"refresh":{"token":"s3cret"},"rpc":{"method":"shown"}}"#,
            r#"{"sub_refresh":{"channel":"shown","token":"s3cret","track":[{"signature":"s3cret"}]}}"#,
        ] {
            let frame = Bytes::from_static(command.as_bytes());
            let command: Command = Codec::Json.commands(frame).next().expect("one").expect("reads");
            let text = format!("{command:?}");
            assert!(text.contains("shown") && !text.contains("s3cret"), "{text}");
        }
        let reply = r#"{"connect":{"session":"s3cret","client":"shown"},"push":{"connect":{"session":"s3cret"}}}"#;
        let frame = Bytes::from_static(reply.as_bytes());
        let text = format!("{:?}", Codec::Json.replies(frame).next());
        assert!(text.contains("shown") && !text.contains("s3cret"), "{text}");
    }
}
