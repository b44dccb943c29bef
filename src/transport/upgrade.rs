//! The WebSocket endpoint: what a request must pass before its connection becomes a session.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Incoming;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use tokio_util::task::TaskTracker;

use super::limits::{ConnectionLimits, Permit};
use super::origin::AllowedOrigins;
use super::routes::{Body, Peer, empty, text};
use super::socket::into_socket;
use super::websocket::{WebSocket, WebSocketSettings};
use crate::node::Node;
use crate::protocol::frame::Codec;
use crate::session::{Session, Traits};
use crate::websocket::deflate::{self, Agreed};
use crate::websocket::handshake::accept_key;

const JSON_SUBPROTOCOL: &str = "centrifuge-json";
const PROTOBUF_SUBPROTOCOL: &str = "centrifuge-protobuf";

/// The WebSocket endpoint of a node.
pub struct WebSocketEndpoint {
    pub node: Arc<Node>,
    pub origins: AllowedOrigins,
    pub limits: ConnectionLimits,
    pub settings: WebSocketSettings,
    /// Counts the connections, from the upgrade to their end.
    pub tracker: TaskTracker,
    /// The header in which a trusted proxy tells the user, if there is one.
    pub user_header: Option<HeaderName>,
}

impl WebSocketEndpoint {
    /// Answers a request to upgrade; the session begins when the answer is sent.
    pub fn answer(&self, mut request: Request<Incoming>, peer: Peer) -> Response<Body> {
        // A route for GET answers HEAD as well.
        if request.method() != Method::GET {
            return text(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        let permit = match self.admit(request.headers()) {
            Ok(permit) => permit,
            Err(response) => {
                let (remote_addr, status) = (peer.addr, response.status().as_u16());
                tracing::debug!(%remote_addr, status, "WebSocket refused");
                return *response;
            }
        };
        let accept = match handshake(request.headers()) {
            Ok(accept) => accept,
            Err(response) => return *response,
        };
        let (codec, subprotocol) = codec_of(request.headers(), request.uri().query());
        let traits = Traits {
            native_ping: has_pair(request.uri().query(), "cf_ws_frame_ping_pong", "true"),
            header_user: self.header_user(request.headers()),
        };
        let deflate = self.settings.compression.and_then(|_| deflate_of(request.headers()));
        let session = Session::open(&self.node, codec, traits);
        let client = session.id();
        tracing::debug!(%client, remote_addr = %peer.addr, transport = "websocket", "connected");
        let settings = self.settings;
        let upgrade = hyper::upgrade::on(&mut request);
        self.tracker.spawn(async move {
            let Ok(upgraded) = upgrade.await else { return };
            if let Ok((socket, early)) = into_socket(upgraded) {
                WebSocket::new(socket, early, deflate, session, settings).await;
            }
            drop::<Permit>(permit);
        });
        switching(accept, subprotocol, deflate)
    }

    fn admit(&self, headers: &HeaderMap) -> Result<Permit, Box<Response<Body>>> {
        if !self.origins.allow(headers) {
            let what = "the origin is not in client.allowed_origins\n";
            return Err(Box::new(text(StatusCode::FORBIDDEN, what)));
        }
        if self.node.is_draining() {
            return Err(Box::new(text(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping\n")));
        }
        self.limits.admit(self.node.clock.now()).map_err(|refused| {
            self.node.metrics.node.connection_limit.inc();
            Box::new(text(StatusCode::SERVICE_UNAVAILABLE, format!("{refused}\n")))
        })
    }

    fn header_user(&self, headers: &HeaderMap) -> Option<Box<str>> {
        let user = headers.get(self.user_header.as_ref()?)?.to_str().ok()?;
        (!user.is_empty()).then(|| Box::from(user))
    }
}

/// Checks the WebSocket headers; gives the answer to the client's key.
fn handshake(headers: &HeaderMap) -> Result<String, Box<Response<Body>>> {
    let bad = |what: &'static str| Box::new(text(StatusCode::BAD_REQUEST, what));
    if !lists(headers, CONNECTION, "upgrade") || !lists(headers, UPGRADE, "websocket") {
        let mut response = text(StatusCode::UPGRADE_REQUIRED, "this endpoint speaks WebSocket\n");
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Err(Box::new(response));
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = text(StatusCode::BAD_REQUEST, "Sec-WebSocket-Version must be 13\n");
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return Err(Box::new(response));
    }
    let key =
        headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| bad("Sec-WebSocket-Key is missing\n"))?;
    if STANDARD.decode(key.as_bytes()).map_or(0, |key| key.len()) != 16 {
        return Err(bad("Sec-WebSocket-Key must be 16 bytes in base64\n"));
    }
    Ok(accept_key(key.as_bytes()))
}

/// Protobuf if the query or the offered subprotocols ask for it; the subprotocol to answer with.
fn codec_of(headers: &HeaderMap, query: Option<&str>) -> (Codec, Option<&'static str>) {
    let offers = |name| lists(headers, SEC_WEBSOCKET_PROTOCOL, name);
    let asked = has_pair(query, "format", "protobuf") || has_pair(query, "cf_protocol", "protobuf");
    if offers(PROTOBUF_SUBPROTOCOL) {
        (Codec::Protobuf, Some(PROTOBUF_SUBPROTOCOL))
    } else if asked {
        (Codec::Protobuf, None)
    } else {
        (Codec::Json, offers(JSON_SUBPROTOCOL).then_some(JSON_SUBPROTOCOL))
    }
}

/// How the client and this server compress, if the client offers a way that suits.
fn deflate_of(headers: &HeaderMap) -> Option<Agreed> {
    let offers = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter();
    deflate::negotiate(offers.filter_map(|value| value.to_str().ok()))
}

fn switching(
    accept: String,
    subprotocol: Option<&'static str>,
    deflate: Option<Agreed>,
) -> Response<Body> {
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&accept) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(subprotocol) = subprotocol {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
    }
    if let Some(answer) = deflate.and_then(|agreed| HeaderValue::from_str(&agreed.answer()).ok()) {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, answer);
    }
    response
}

/// Whether a header with a comma-separated list holds `item`, in any case of letters.
fn lists(headers: &HeaderMap, name: HeaderName, item: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(item))
}

fn has_pair(query: Option<&str>, key: &str, value: &str) -> bool {
    let pairs = query.unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().any(|pair| pair == (key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        pairs.iter().map(pair).collect()
    }

    const UPGRADING: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    #[test]
    fn the_sample_handshake_of_the_rfc_is_answered_as_the_rfc_says() {
        let accept = handshake(&headers(&UPGRADING)).unwrap();
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn every_missing_or_wrong_header_is_named() {
        for (index, wrong, status) in [
            (0, ("connection", "close"), StatusCode::UPGRADE_REQUIRED),
            (1, ("upgrade", "h2c"), StatusCode::UPGRADE_REQUIRED),
            (2, ("sec-websocket-version", "8"), StatusCode::BAD_REQUEST),
            (3, ("sec-websocket-key", "c2hvcnQ="), StatusCode::BAD_REQUEST),
        ] {
            let mut pairs = UPGRADING;
            pairs[index] = wrong;
            assert_eq!(handshake(&headers(&pairs)).unwrap_err().status(), status, "{wrong:?}");
        }
    }

    #[test]
    fn protobuf_is_chosen_by_query_or_subprotocol() {
        let none = HeaderMap::new();
        assert_eq!(codec_of(&none, None), (Codec::Json, None));
        assert_eq!(codec_of(&none, Some("format=protobuf")).0, Codec::Protobuf);
        assert_eq!(codec_of(&none, Some("a=b&cf_protocol=protobuf")).0, Codec::Protobuf);
        assert_eq!(codec_of(&none, Some("format=json")).0, Codec::Json);
        let both = headers(&[("sec-websocket-protocol", "centrifuge-json, centrifuge-protobuf")]);
        assert_eq!(codec_of(&both, None), (Codec::Protobuf, Some(PROTOBUF_SUBPROTOCOL)));
        let json = headers(&[("sec-websocket-protocol", "centrifuge-json")]);
        assert_eq!(codec_of(&json, None), (Codec::Json, Some(JSON_SUBPROTOCOL)));
    }
}
