//! Where to connect, and how to ask for the WebSocket.

use hyper::header::{HeaderName, HeaderValue, InvalidHeaderValue, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use hyper::{Request, Uri};
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::Error;
use crate::protocol::frame::Codec;

/// Where to connect, what to say in the handshake, and how the client then behaves.
#[derive(Clone, Debug)]
pub struct Endpoint {
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) codec: Codec,
    pub(super) max_pushes: usize,
    pub(super) answers_pings: bool,
}

/// An address to which no WebSocket can be opened.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("not an address: {0}")]
    Uri(#[from] hyper::http::uri::InvalidUri),
    #[error("an address like ws://host:port/path is needed, {0} is none")]
    NotWebSocket(Uri),
}

impl Endpoint {
    /// An address such as `ws://127.0.0.1:8000/connection/websocket`, with a query if need be. The
    /// client speaks JSON, answers pings and keeps up to 65,536 pushes that nobody has asked for.
    ///
    /// # Errors
    /// An address that is not one, or not of a WebSocket.
    pub fn new(address: &str) -> Result<Self, EndpointError> {
        let uri: Uri = address.parse()?;
        if !matches!(uri.scheme_str(), Some("ws" | "wss")) || uri.host().is_none() {
            return Err(EndpointError::NotWebSocket(uri));
        }
        Ok(Self {
            uri,
            headers: Vec::new(),
            codec: Codec::Json,
            max_pushes: 65_536,
            answers_pings: true,
        })
    }

    /// Speaks Protobuf, and offers its subprotocol.
    pub fn protobuf(self) -> Self {
        let offer = HeaderValue::from_static("centrifuge-protobuf");
        self.codec(Codec::Protobuf).header(SEC_WEBSOCKET_PROTOCOL, offer)
    }

    /// Speaks `codec` without a word about it in the handshake, for addresses whose query settles
    /// it.
    pub fn codec(self, codec: Codec) -> Self {
        Self { codec, ..self }
    }

    /// Adds a header to the handshake.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Says which page connects, as browsers do.
    ///
    /// # Errors
    /// A text that cannot stand in a header.
    pub fn origin(self, origin: &str) -> Result<Self, InvalidHeaderValue> {
        Ok(self.header(ORIGIN, HeaderValue::from_str(origin)?))
    }

    /// Keeps at most so many pushes while it waits for something else; one more is an error.
    pub fn max_pushes(self, max_pushes: usize) -> Self {
        Self { max_pushes, ..self }
    }

    /// Leaves the server's pings without an answer.
    pub fn ignoring_pings(self) -> Self {
        Self { answers_pings: false, ..self }
    }

    /// Host and port to open a TCP connection to.
    pub fn host_and_port(&self) -> (&str, u16) {
        let default = if self.uri.scheme_str() == Some("wss") { 443 } else { 80 };
        let host = self.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host, self.uri.port_u16().unwrap_or(default))
    }

    /// Whether the connection needs TLS.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("wss")
    }

    pub(super) fn request(&self) -> Result<Request<()>, Error> {
        let mut request = self.uri.clone().into_client_request().map_err(tungstenite_error)?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}

fn tungstenite_error(error: tungstenite::Error) -> Error {
    Error::Handshake(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_those_of_the_address() {
        let of = |address: &str| {
            let endpoint = Endpoint::new(address).unwrap();
            let (host, port) = endpoint.host_and_port();
            (host.to_owned(), port)
        };
        assert_eq!(of("ws://example.org/x"), ("example.org".to_owned(), 80));
        assert_eq!(of("wss://example.org/x?a=b"), ("example.org".to_owned(), 443));
        assert_eq!(of("ws://[::1]:8000/"), ("::1".to_owned(), 8000));
    }

    #[test]
    fn other_addresses_are_refused() {
        for address in ["http://example.org/", "/path", "ws://", "a b"] {
            Endpoint::new(address).expect_err(address);
        }
    }
}
