//! The opening of a WebSocket: the request as bytes, and the check of the answer.

use memchr::memmem;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

use super::target::Target;
use crate::protocol::frame::Codec;
use crate::websocket::handshake::accept_key;

/// Bytes of the longest answer that is waited for.
const MAX_ANSWER: usize = 16 * 1_024;

/// What every connection of a run says and wants to hear.
#[derive(Clone, Debug)]
pub struct Handshake {
    request: Vec<u8>,
    accept: String,
}

/// How far the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The WebSocket is open; its frames start there.
    Open { from: usize },
    /// More has to come.
    Partial,
    /// The server does not switch protocols.
    Refused(String),
}

impl Handshake {
    /// The handshake for a target. The key is drawn once: it guards against caches, of which there
    /// are none.
    pub fn new(target: &Target, codec: Codec) -> Self {
        let key = generate_key();
        let subprotocol = match codec {
            Codec::Json => "",
            Codec::Protobuf => "Sec-WebSocket-Protocol: centrifuge-protobuf\r\n",
        };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{subprotocol}\r\n",
            target.path, target.host
        );
        Self { request: request.into_bytes(), accept: accept_key(key.as_bytes()) }
    }

    /// The request, as it goes over the wire.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Reads what came back so far.
    pub fn answer(&self, bytes: &[u8]) -> Answer {
        let Some(end) = memmem::find(bytes, b"\r\n\r\n") else {
            return match bytes.len() {
                0..MAX_ANSWER => Answer::Partial,
                _ => Answer::Refused("the handshake's answer does not end".to_owned()),
            };
        };
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if status.split(' ').nth(1) != Some("101") {
            let status: String = status.chars().filter(|c| !c.is_control()).take(100).collect();
            return Answer::Refused(format!("the handshake was answered with {status:?}"));
        }
        let accepted = lines.filter_map(|line| line.split_once(':')).any(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == self.accept
        });
        match accepted {
            true => Answer::Open { from: end + 4 },
            false => Answer::Refused("the handshake's answer is for another key".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake() -> Handshake {
        let target = Target::new("ws://127.0.0.1:8000/connection/websocket?a=b").unwrap();
        Handshake::new(&target, Codec::Protobuf)
    }

    #[test]
    fn the_request_asks_for_the_path_the_host_and_the_codec() {
        let text = String::from_utf8(handshake().request().to_vec()).unwrap();
        assert!(text.starts_with("GET /connection/websocket?a=b HTTP/1.1\r\n"), "{text}");
        assert!(text.contains("\r\nHost: 127.0.0.1:8000\r\n"), "{text}");
        assert!(text.contains("\r\nSec-WebSocket-Protocol: centrifuge-protobuf\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
    }

    #[test]
    fn only_a_switch_of_protocols_for_this_key_opens() {
        let handshake = handshake();
        let head = format!("HTTP/1.1 101 X\r\nsec-websocket-accept: {}\r\n", handshake.accept);
        assert_eq!(handshake.answer(head.as_bytes()), Answer::Partial);
        let whole = format!("{head}\r\n\u{1}");
        assert_eq!(handshake.answer(whole.as_bytes()), Answer::Open { from: whole.len() - 1 });
        for refused in [
            "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
            "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: other\r\n\r\n".to_owned(),
            "HTTP/1.1 101 X\r\n\r\n".to_owned(),
            "x".repeat(MAX_ANSWER),
        ] {
            assert!(matches!(handshake.answer(refused.as_bytes()), Answer::Refused(_)));
        }
    }
}
