//! The PROXY protocol, versions 1 and 2: a header before the first byte of a connection in which a
//! load balancer tells whose connection it is.
//!
//! A port either expects it or does not; nothing is guessed from what comes. A port that does is
//! for trusted proxies alone: who could write such a header could be anybody.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::proxies::TrustedProxies;
use crate::time::Clock;

/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of such a header before its variable part: the signature, two bytes of kinds, the length.
const FIXED: usize = 16;

/// What a header of version 1 begins with. The shortest is longer than [`SIGNATURE`].
const WORD: &[u8] = b"PROXY ";

/// Bytes of the longest line of version 1 that the specification knows.
const MAX_LINE: usize = 107;

/// Bytes of a header of version 2. Addresses take 36; certificate names and whatever else load
/// balancers add take some hundred. The length field could say 65,551.
const MAX_HEADER: usize = 4 * 1024;

/// The least time between two lines of the log about who was turned away.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How a port takes the protocol.
#[derive(Debug)]
pub struct ProxyProtocol {
    trusted: TrustedProxies,
    clock: Clock,
    last_told: Mutex<Option<Instant>>,
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error(
        "the port takes only connections of http_server.trusted_proxies, and this peer is none \
         (http_server.proxy_protocol is on)"
    )]
    NotTrusted,
    #[error("the trusted proxy sent no header of the PROXY protocol: let it send one (version 2)")]
    NoHeader,
    #[error("the header of the PROXY protocol is malformed")]
    Malformed,
    #[error("the header of the PROXY protocol has {0} bytes; at most {MAX_HEADER} are allowed")]
    TooLong(usize),
    #[error("the header of the PROXY protocol did not come within {0:?}")]
    Late(Duration),
    /// The peer left without a byte, as those do who only look whether the port is open.
    #[error("the peer left")]
    Left,
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ProxyProtocol {
    /// Expects a header from `trusted` proxies and takes no others.
    pub fn new(trusted: TrustedProxies, clock: Clock) -> Self {
        Self { trusted, clock, last_told: Mutex::default() }
    }

    /// Reads the header, and nothing behind it, off a connection of `peer`. The address is that of
    /// the client, or the peer's own where the proxy speaks for itself, as in its health checks.
    ///
    /// # Errors
    /// Whatever is not a whole header of a trusted proxy `within` the time; the connection is to be
    /// closed without an answer.
    pub async fn enter(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
        within: Duration,
    ) -> Result<SocketAddr, Refused> {
        if !self.trusted.contain(peer.ip()) {
            return Err(Refused::NotTrusted);
        }
        let read = tokio::time::timeout(within, read(stream)).await;
        Ok(read.map_err(|_| Refused::Late(within))??.unwrap_or(peer))
    }

    /// Whether it is worth a line of the log that a connection was refused: a wrong setting shows
    /// within a minute, and somebody who tries does not fill the disk.
    pub fn should_tell(&self, refused: &Refused) -> bool {
        if matches!(refused, Refused::Left | Refused::Io(_)) {
            return false;
        }
        let (now, mut last) = (self.clock.now(), self.last_told.lock());
        if last.is_some_and(|last| now.saturating_duration_since(last) < TELL_EVERY) {
            return false;
        }
        *last = Some(now);
        true
    }
}

/// The client's address; `None` if the header has none.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, Refused> {
    let mut header = vec![0; SIGNATURE.len()];
    if stream.read(&mut header[..1]).await? == 0 {
        return Err(Refused::Left);
    }
    stream.read_exact(&mut header[1..]).await?;
    if header == SIGNATURE {
        header.resize(FIXED, 0);
        stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let length = FIXED + usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > MAX_HEADER {
            return Err(Refused::TooLong(length));
        }
        header.resize(length, 0);
        stream.read_exact(&mut header[FIXED..]).await?;
    } else if header.starts_with(WORD) {
        // Byte by byte: what follows the line is not ours to take.
        while !header.ends_with(b"\r\n") {
            if header.len() >= MAX_LINE {
                return Err(Refused::Malformed);
            }
            header.push(stream.read_u8().await?);
        }
    } else {
        return Err(Refused::NoHeader);
    }
    address_in(&header)
}

fn address_in(header: &[u8]) -> Result<Option<SocketAddr>, Refused> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (parsed, length) = ProxyHeader::parse(header, config).map_err(|_| Refused::Malformed)?;
    match parsed.proxied_address() {
        _ if length != header.len() => Err(Refused::Malformed),
        Some(address) if address.protocol != Protocol::Stream => Err(Refused::Malformed),
        Some(address) => {
            let client = address.source;
            Ok(Some(SocketAddr::new(client.ip().to_canonical(), client.port())))
        }
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, Tlv};

    use super::*;

    const PEER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);
    const WITHIN: Duration = Duration::from_secs(5);

    fn gate() -> ProxyProtocol {
        let trusted = TrustedProxies::new(&["127.0.0.0/8".parse().expect("network")]);
        ProxyProtocol::new(trusted, Clock::manual(0))
    }

    async fn entered(mut bytes: &[u8]) -> (Result<SocketAddr, Refused>, Vec<u8>) {
        let outcome = gate().enter(&mut bytes, PEER, WITHIN).await;
        (outcome, bytes.to_vec())
    }

    fn v2(source: &str, tlv: usize) -> Vec<u8> {
        let source = source.parse::<SocketAddr>().expect("address");
        let destination = SocketAddr::new(source.ip(), 443);
        let tlvs = (tlv > 0).then_some(Tlv::Noop(tlv));
        let header =
            ProxyHeader::with_tlvs(Some(ProxiedAddress::stream(source, destination)), tlvs);
        let mut bytes = Vec::new();
        header.encode_v2(&mut bytes).expect("header");
        bytes
    }

    #[tokio::test]
    async fn both_versions_give_the_address_and_leave_what_follows() {
        let long =
            format!("PROXY TCP6 {0} {0} 65535 65535", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0");
        let table: [(Vec<u8>, &str); 7] = [
            (v2("203.0.113.9:5000", 0), "203.0.113.9:5000"),
            (v2("203.0.113.9:5000", 900), "203.0.113.9:5000"),
            (v2("[2001:db8::1]:5000", 0), "[2001:db8::1]:5000"),
            (v2("[::ffff:203.0.113.9]:5000", 0), "203.0.113.9:5000"),
            (b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 443\r\n".into(), "203.0.113.9:5000"),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n".into(), "[2001:db8::1]:5000"),
            (format!("{long}\r\n").into(), "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0]:65535"),
        ];
        for (header, expected) in table {
            let (outcome, rest) = entered(&[&header[..], b"\r\nGET / HTTP/1.1"].concat()).await;
            assert_eq!(outcome.expect(expected).to_string(), expected);
            assert_eq!(rest, b"\r\nGET / HTTP/1.1", "{expected}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_speaks_for_itself_is_the_client() {
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        let unix = [&SIGNATURE[..], &[0x21, 0x31, 0, 216], &[b'/'; 216]].concat();
        let unknown = b"PROXY UNKNOWN\r\n".to_vec();
        let named = b"PROXY UNKNOWN 1.1.1.1 2.2.2.2 1 2\r\n".to_vec();
        for header in [local, unix, unknown, named] {
            let (outcome, rest) = entered(&header).await;
            assert_eq!(outcome.expect("entered"), PEER, "{header:?}");
            assert!(rest.is_empty());
        }
    }

    #[tokio::test]
    async fn what_is_not_a_header_is_refused() {
        let v2 = |rest: &[u8]| [&SIGNATURE[..], rest].concat();
        type IsExpected = fn(&Refused) -> bool;
        let table: [(Vec<u8>, IsExpected); 14] = [
            (b"".into(), |r| matches!(r, Refused::Left)),
            (b"GET / HTTP/1.1\r\n\r\n".into(), |r| matches!(r, Refused::NoHeader)),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00".into(), |r| {
                matches!(r, Refused::NoHeader)
            }),
            (b"PROXY".into(), |r| matches!(r, Refused::Io(_))),
            (b"proxy tcp4 1.1.1.1 2.2.2.2 1 2\r\n".into(), |r| matches!(r, Refused::NoHeader)),
            (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 99999\r\n".into(), |r| matches!(r, Refused::Malformed)),
            (b"PROXY TCP4 ::1 ::1 1 2\r\n".into(), |r| matches!(r, Refused::Malformed)),
            (b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n".into(), |r| matches!(r, Refused::Malformed)),
            ([b"PROXY ".to_vec(), vec![b'x'; 200]].concat(), |r| matches!(r, Refused::Malformed)),
            (v2(&[0x31, 0x11, 0, 12]), |r| matches!(r, Refused::Io(_))),
            (v2(&[[0x31, 0x11, 0, 12].as_slice(), &[0; 12]].concat()), |r| {
                matches!(r, Refused::Malformed)
            }),
            (v2(&[[0x21, 0x11, 0, 11].as_slice(), &[0; 11]].concat()), |r| {
                matches!(r, Refused::Malformed)
            }),
            // UDP, which is not what came.
            (v2(&[[0x21, 0x12, 0, 12].as_slice(), &[0; 12]].concat()), |r| {
                matches!(r, Refused::Malformed)
            }),
            (v2(&[0x21, 0x11, 0xff, 0xff]), |r| matches!(r, Refused::TooLong(65_551))),
        ];
        for (bytes, is_expected) in table {
            let refused = entered(&bytes).await.0.expect_err("refused");
            assert!(is_expected(&refused), "{refused}: {bytes:?}");
        }
    }

    #[tokio::test]
    async fn nobody_else_is_heard_not_even_with_a_sound_header() {
        let header = v2("203.0.113.9:5000", 0);
        let stranger = SocketAddr::new([198, 51, 100, 1].into(), 9);
        let mut bytes = &header[..];
        let refused = gate().enter(&mut bytes, stranger, WITHIN).await.expect_err("stranger");
        assert!(matches!(refused, Refused::NotTrusted));
        assert_eq!(bytes, header);
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_does_not_come_whole_in_time_is_refused() {
        for begun in [&b""[..], b"PRO", b"PROXY TCP4 1.1.1.1", &v2("203.0.113.9:5000", 0)[..20]] {
            let (mut here, mut there) = tokio::io::duplex(64);
            tokio::io::AsyncWriteExt::write_all(&mut there, begun).await.expect("write");
            let refused = gate().enter(&mut here, PEER, WITHIN).await.expect_err("late");
            assert!(matches!(refused, Refused::Late(WITHIN)), "{refused}");
        }
    }

    #[test]
    fn the_log_tells_of_refusals_once_a_minute() {
        let gate = gate();
        assert!(!gate.should_tell(&Refused::Left));
        assert!(gate.should_tell(&Refused::NotTrusted));
        assert!(!gate.should_tell(&Refused::NoHeader));
        gate.clock.advance(TELL_EVERY);
        assert!(gate.should_tell(&Refused::NoHeader));
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("runtime").block_on(future)
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_whole_or_refused(
            start in prop_oneof![
                Just(Vec::new()),
                Just(SIGNATURE.to_vec()),
                Just(b"PROXY ".to_vec()),
                Just(b"PROXY TCP4 ".to_vec()),
                Just([&SIGNATURE[..], &[0x21, 0x11, 0]].concat()),
                Just([&SIGNATURE[..], &[0x21, 0x21, 0]].concat()),
            ],
            rest in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = [start, rest].concat();
            let (outcome, left) = block(entered(&bytes));
            let taken = bytes.len() - left.len();
            prop_assert!(taken <= MAX_HEADER);
            if let Ok(address) = outcome {
                // What it took is a header of its own, and one byte less is none.
                prop_assert_eq!(block(entered(&bytes[..taken])).0.ok(), Some(address));
                prop_assert!(block(entered(&bytes[..taken - 1])).0.is_err());
            }
        }

        #[test]
        fn every_address_comes_through(ip in any::<[u8; 4]>(), port in any::<u16>(), tlv in 0_usize..3_000) {
            let address = SocketAddr::new(ip.into(), port);
            let (outcome, left) = block(entered(&v2(&address.to_string(), tlv)));
            prop_assert_eq!(outcome.ok(), Some(address));
            prop_assert!(left.is_empty());
        }
    }
}
