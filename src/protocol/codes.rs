//! Every code of the wire, each written down once: client errors, disconnects, unsubscribes and
//! errors of the server API.
//!
//! To add a code: one line in its table, the sentence above it says when it is sent. Then run
//! `WRITE_DOCS=1 cargo test --lib protocol::codes`, which writes `docs/codes.md` anew;
//! without the variable the same test compares the file with the tables.

use std::borrow::Cow;
use std::fmt;

use super::reply;

/// Declares constants and, with the same lines, the table of them.
macro_rules! table {
    ($of:ident { $(#[doc = $when:literal] $name:ident = $value:expr;)* }) => {
        impl $of {
            $(#[doc = $when] pub const $name: Self = $value;)*

            /// All of them in order of code, each with the sentence that says when it is sent.
            pub const TABLE: &'static [(Self, &'static str)] = &[$((Self::$name, $when)),*];
        }
    };
}

/// Why a command failed; the connection stays open. 100 to 399 are the gateway's, 400 to 1999 the
/// application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct ErrorCode {
    pub code: u32,
    pub message: &'static str,
    /// The same command may succeed later.
    pub temporary: bool,
}

table! { ErrorCode {
    /// Something failed on the server's side; its log says what.
    INTERNAL = Self::temporary(100, "internal server error");
    /// The connection needs a user or a valid token for this.
    UNAUTHORIZED = Self::lasting(101, "unauthorized");
    /// The channel belongs to no configured namespace.
    UNKNOWN_CHANNEL = Self::lasting(102, "unknown channel");
    /// The channel's options or the token do not allow this.
    PERMISSION_DENIED = Self::lasting(103, "permission denied");
    /// No handler exists for the called method.
    METHOD_NOT_FOUND = Self::lasting(104, "method not found");
    /// The connection has this subscription already.
    ALREADY_SUBSCRIBED = Self::lasting(105, "already subscribed");
    /// A limit of the configuration is reached, such as channels per connection.
    LIMIT_EXCEEDED = Self::lasting(106, "limit exceeded");
    /// The request is malformed or contradicts itself.
    BAD_REQUEST = Self::lasting(107, "bad request");
    /// The feature is not enabled for this channel or connection.
    NOT_AVAILABLE = Self::lasting(108, "not available");
    /// The token was valid once and must be replaced.
    TOKEN_EXPIRED = Self::lasting(109, "token expired");
    /// The connection or subscription would be past its expiry at once.
    EXPIRED = Self::lasting(110, "expired");
    /// A rate limit is reached.
    TOO_MANY_REQUESTS = Self::temporary(111, "too many requests");
    /// The stream does not hold the asked position any more, or is another stream by now.
    UNRECOVERABLE_POSITION = Self::lasting(112, "unrecoverable position");
    /// Another page of the same state is being read.
    CONCURRENT_PAGINATION = Self::temporary(113, "concurrent pagination");
}}

impl ErrorCode {
    const fn temporary(code: u32, message: &'static str) -> Self {
        Self { code, message, temporary: true }
    }

    const fn lasting(code: u32, message: &'static str) -> Self {
        Self { code, message, temporary: false }
    }
}

impl From<ErrorCode> for reply::Error {
    fn from(error: ErrorCode) -> Self {
        Self { code: error.code, message: error.message.to_owned(), temporary: error.temporary }
    }
}

/// Why a connection is closed: the code and reason of the close frame. The application chooses its
/// own from 4000 to 4999.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}")]
pub struct Disconnect {
    pub code: u32,
    pub reason: Cow<'static, str>,
}

table! { Disconnect {
    /// The client went away; nobody is left to receive this.
    CONNECTION_CLOSED = Self::fixed(3000, "connection closed");
    /// The node stops.
    SHUTDOWN = Self::fixed(3001, "shutdown");
    /// Something failed on the server's side; its log says what.
    INTERNAL = Self::fixed(3004, "internal server error");
    /// The connection was not refreshed in time.
    CONNECTION_EXPIRED = Self::fixed(3005, "connection expired");
    /// A subscription was not refreshed in time.
    SUBSCRIPTION_EXPIRED = Self::fixed(3006, "subscription expired");
    /// The client reads slower than messages come and its queue is full.
    SLOW = Self::fixed(3008, "slow");
    /// Writing to the connection failed or took too long.
    WRITE_ERROR = Self::fixed(3009, "write error");
    /// Messages were lost on the way to the node and the client has to recover them.
    INSUFFICIENT_STATE = Self::fixed(3010, "insufficient state");
    /// The application asked for a reconnect.
    FORCE_RECONNECT = Self::fixed(3011, "force reconnect");
    /// No answer to a ping came in time.
    NO_PONG = Self::fixed(3012, "no pong");
    /// The client sends more commands than it may.
    TOO_MANY_REQUESTS = Self::fixed(3013, "too many requests");
    /// What the client holds is void; it has to begin from nothing.
    STATE_INVALIDATED = Self::fixed(3014, "state invalidated");
    /// The token does not verify.
    INVALID_TOKEN = Self::fixed(3500, "invalid token");
    /// The client broke the protocol.
    BAD_REQUEST = Self::fixed(3501, "bad request");
    /// The client did not send a connect command in time.
    STALE = Self::fixed(3502, "stale");
    /// The application ended the connection.
    FORCE_DISCONNECT = Self::fixed(3503, "force disconnect");
    /// The user or the node has as many connections as allowed.
    CONNECTION_LIMIT = Self::fixed(3504, "connection limit");
    /// The connection has as many channels as allowed.
    CHANNEL_LIMIT = Self::fixed(3505, "channel limit");
    /// A payload cannot be written in the client's format: it is not JSON.
    INAPPROPRIATE_PROTOCOL = Self::fixed(3506, "inappropriate protocol");
    /// The connection is not allowed.
    PERMISSION_DENIED = Self::fixed(3507, "permission denied");
    /// The connection asked for what is not enabled.
    NOT_AVAILABLE = Self::fixed(3508, "not available");
    /// Too many commands of the client failed.
    TOO_MANY_ERRORS = Self::fixed(3509, "too many errors");
}}

impl Disconnect {
    /// A disconnect with a code of the application, whose range decides about the reconnect.
    pub fn custom(code: u32, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Whether clients connect again by themselves after this code.
    pub fn reconnect(&self) -> bool {
        // 1009: a message too big would be too big again.
        !matches!(self.code, 1009 | 3500..=3999 | 4500..=4999)
    }

    const fn fixed(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

impl From<&Disconnect> for reply::Disconnect {
    fn from(disconnect: &Disconnect) -> Self {
        Self {
            code: disconnect.code,
            reason: disconnect.reason.as_ref().to_owned(),
            // Clients of this protocol version go by the code.
            reconnect: false,
        }
    }
}

/// Why a subscription ended without the client asking for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {reason}")]
pub struct UnsubscribeCode {
    pub code: u32,
    pub reason: Cow<'static, str>,
}

table! { UnsubscribeCode {
    /// The client asked for it; stays inside the server.
    CLIENT = Self::fixed(0, "client unsubscribed");
    /// The connection is gone; stays inside the server.
    DISCONNECT = Self::fixed(1, "client disconnected");
    /// The application ended the subscription.
    SERVER = Self::fixed(2000, "server unsubscribe");
    /// Messages of the channel were lost on the way to the node and the client has to recover them.
    INSUFFICIENT_STATE = Self::fixed(2500, "insufficient state");
    /// The subscription was not refreshed in time.
    EXPIRED = Self::fixed(2501, "subscription expired");
    /// What the client holds of the channel is void; it has to begin from nothing.
    STATE_INVALIDATED = Self::fixed(2502, "state invalidated");
}}

impl UnsubscribeCode {
    /// Whether clients subscribe again by themselves after this code.
    pub fn resubscribe(&self) -> bool {
        self.code >= 2500
    }

    const fn fixed(code: u32, reason: &'static str) -> Self {
        Self { code, reason: Cow::Borrowed(reason) }
    }
}

impl From<&UnsubscribeCode> for reply::Unsubscribe {
    fn from(unsubscribe: &UnsubscribeCode) -> Self {
        Self { code: unsubscribe.code, reason: unsubscribe.reason.as_ref().to_owned() }
    }
}

/// Why a call of the server API failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct ApiErrorCode {
    pub code: u32,
    pub message: &'static str,
    /// The HTTP status in transport error mode; otherwise errors come with status 200.
    pub http_status: u16,
}

table! { ApiErrorCode {
    /// Something failed on the server's side; its log says what.
    INTERNAL = Self::with_status(100, "internal server error", 500);
    /// The channel belongs to no configured namespace.
    UNKNOWN_CHANNEL = Self::with_status(102, "unknown channel", 404);
    /// The method, user or object does not exist.
    NOT_FOUND = Self::with_status(104, "not found", 404);
    /// The request is malformed or lacks a required field.
    BAD_REQUEST = Self::with_status(107, "bad request", 400);
    /// The feature is not enabled for this channel.
    NOT_AVAILABLE = Self::with_status(108, "not available", 400);
    /// The stream does not hold the asked position any more, or is another stream by now.
    UNRECOVERABLE_POSITION = Self::with_status(112, "unrecoverable position", 416);
    /// The object is not in the state that the call expects.
    CONFLICT = Self::with_status(113, "conflict", 409);
}}

impl ApiErrorCode {
    const fn with_status(code: u32, message: &'static str, http_status: u16) -> Self {
        Self { code, message, http_status }
    }
}

/// Renders `docs/codes.md`: the tables, with what a client does about each code.
pub fn markdown() -> String {
    let mut page = Page::default();
    page.text(INTRODUCTION);
    page.text(ABOUT_ERRORS);
    page.row(["Code", "Message", "When", "On connect", "On subscribe"]);
    page.row(["---"; 5]);
    for (error, when) in ErrorCode::TABLE {
        let [on_connect, on_subscribe] = client_reaction(error);
        page.row([&error.code.to_string(), error.message, when, on_connect, on_subscribe]);
    }
    page.text(ABOUT_DISCONNECTS);
    page.row(["Code", "Reason", "When", "The client"]);
    page.row(["---"; 4]);
    for (disconnect, when) in Disconnect::TABLE {
        let client = match disconnect {
            it if *it == Disconnect::CONNECTION_CLOSED => "never sees it",
            it if *it == Disconnect::STATE_INVALIDATED => {
                "drops its token and all positions, then reconnects"
            }
            it if it.reconnect() => "reconnects",
            _ => "stays disconnected",
        };
        page.row([&disconnect.code.to_string(), &disconnect.reason, when, client]);
    }
    page.text(ABOUT_UNSUBSCRIBES);
    page.row(["Code", "Reason", "When", "The client"]);
    page.row(["---"; 4]);
    for (unsubscribe, when) in UnsubscribeCode::TABLE {
        let client = match unsubscribe.code {
            0 | 1 => "never sees it",
            2502 => "drops the subscription's token and position, then subscribes anew",
            _ if unsubscribe.resubscribe() => "subscribes again and recovers",
            _ => "stays unsubscribed",
        };
        page.row([&unsubscribe.code.to_string(), &unsubscribe.reason, when, client]);
    }
    page.text(ABOUT_API_ERRORS);
    page.row(["Code", "Message", "When", "HTTP status in transport mode"]);
    page.row(["---"; 4]);
    for (error, when) in ApiErrorCode::TABLE {
        page.row([&error.code.to_string(), error.message, when, &error.http_status.to_string()]);
    }
    page.0
}

/// What SDKs do about an error in the answer to a connect and to a subscribe command.
fn client_reaction(error: &ErrorCode) -> [&'static str; 2] {
    match error {
        it if it.code == ErrorCode::TOKEN_EXPIRED.code => {
            ["gets a new token, retries", "gets a new token, retries"]
        }
        it if it.temporary => ["retries with backoff", "retries with backoff"],
        _ => ["stays disconnected", "stays unsubscribed"],
    }
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn text(&mut self, text: &str) {
        let gap = if self.0.ends_with("|\n") { "\n" } else { "" };
        self.write(format_args!("{gap}{}\n\n", text.trim()));
    }

    fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.write(format_args!("| {} |\n", cells.map(str::trim).join(" | ")));
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.0.push_str(&text.to_string());
    }
}

const INTRODUCTION: &str = "\
# Codes

<!-- Rendered from src/protocol/codes.rs, whose first lines say how to do it again. -->
";

const ABOUT_ERRORS: &str = "\
## Errors

The answer to a command that failed; the connection stays open. Codes below 100 are set by clients
themselves, 100 to 399 by the gateway, 400 to 1999 by the application through its proxies.
";

const ABOUT_DISCONNECTS: &str = "\
## Disconnects

The code and reason of the close frame, or of the last message on transports without one. The range
decides what a client does: after 3500 to 3999 and 4500 to 4999 it stays disconnected, after any
other code it reconnects, with one exception: after 1009, a message above the size limit, it stays
disconnected. The application may use 4000 to 4999.
";

const ABOUT_UNSUBSCRIBES: &str = "\
## Unsubscribes

Sent when the server ends a subscription. From 2500 on the client subscribes again.
";

const ABOUT_API_ERRORS: &str = "\
## Errors of the server API

They come in the body, with HTTP status 200, unless the transport error mode is on.
";

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn the_committed_page_shows_these_tables() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes.md");
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).expect("docs/codes.md is writable");
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == markdown(), "docs/codes.md is stale; codes.rs says how to renew it");
    }

    #[test]
    fn codes_rise_through_each_table_so_none_is_there_twice() {
        fn rising(codes: impl Iterator<Item = u32>) -> bool {
            codes.collect::<Vec<_>>().is_sorted_by(|a, b| a < b)
        }
        assert!(rising(ErrorCode::TABLE.iter().map(|(it, _)| it.code)));
        assert!(rising(Disconnect::TABLE.iter().map(|(it, _)| it.code)));
        assert!(rising(UnsubscribeCode::TABLE.iter().map(|(it, _)| it.code)));
        assert!(rising(ApiErrorCode::TABLE.iter().map(|(it, _)| it.code)));
    }

    #[test]
    fn the_range_of_a_disconnect_decides_about_the_reconnect() {
        for code in [1000, 1006, 3000, 3012, 3499, 4000, 4499, 5000, 9999] {
            assert!(Disconnect::custom(code, "").reconnect(), "{code}");
        }
        for code in [1009, 3500, 3999, 4500, 4999] {
            assert!(!Disconnect::custom(code, "").reconnect(), "{code}");
        }
    }

    #[test]
    fn only_three_errors_ask_for_a_retry() {
        let temporary: Vec<_> =
            ErrorCode::TABLE.iter().filter(|(it, _)| it.temporary).map(|(it, _)| it.code).collect();
        assert_eq!(temporary, [100, 111, 113]);
    }

    #[test]
    fn reasons_fit_a_close_frame_and_do_not_look_like_json() {
        for (disconnect, _) in Disconnect::TABLE {
            assert!(disconnect.reason.len() <= 123 && !disconnect.reason.starts_with('{'));
        }
    }
}
