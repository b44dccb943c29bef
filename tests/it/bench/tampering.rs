//! `bobolink bench` behind a proxy that withholds, doubles or swaps what the server sends: each of it
//! has to be seen.

use std::net::SocketAddr;

use bobolink::bench::frames::{self, Frame};
use bobolink::bench::scan::{Message, Scanner};
use bobolink::protocol::frame::Codec;
use bobolink::websocket::frame::{Header, OpCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::{SETTINGS, bench_at};
use crate::support::{OPEN, Server};

/// What the proxy does to publications of the first connection.
#[derive(Clone, Copy, Debug)]
enum Tampering {
    Drop,
    Double,
    /// Sends it behind the next one.
    Swap,
    /// Sends it twice, and the next one not at all.
    DoubleAndDrop,
    /// Withholds from every connection that its publications were taken.
    Mute,
}

/// The publication of a connection that is tampered with.
const CHOSEN: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_is_dropped_doubled_or_swapped_is_seen() {
    let settings = [SETTINGS.to_owned(), format!("{OPEN}http_api.key = \"api-key\"")];
    for settings in settings {
        let server = Server::start(&settings).await;
        for (tampering, codec, fault, text) in [
            (Tampering::Drop, Codec::Json, "missing", "1 publications before it are missing"),
            (Tampering::Double, Codec::Protobuf, "doubled", "it comes a second time"),
            (Tampering::Swap, Codec::Json, "disordered", "it comes after later ones"),
        ] {
            let proxy = proxy(server.address(), tampering, codec).await;
            let args = format!("fanout --subscribers 3 --rate 20 --codec {}", name(codec));
            let run = bench_at(&server, proxy, &args).await;
            run.assert_failed_with(text);
            assert_eq!(run.metric("20 pub/s", fault), 1.0, "{tampering:?}: {run}");
            let others = ["missing", "doubled", "disordered"].into_iter().filter(|it| *it != fault);
            for other in others {
                assert_eq!(run.metric("20 pub/s", other), 0.0, "{other}: {run}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubled_delivery_hides_no_missing_one_whatever_the_method() {
    let server = Server::start(SETTINGS).await;
    for (method, codec) in [
        ("publish", Codec::Json),
        ("broadcast", Codec::Json),
        ("broadcast", Codec::Protobuf),
        ("batch", Codec::Protobuf),
    ] {
        let proxy = proxy(server.address(), Tampering::DoubleAndDrop, codec).await;
        let args = format!(
            "publish --method {method} --items 3 --channels 3 --connections 1 --subscribers 2 \
             --rate 20 --codec {}",
            name(codec)
        );
        let run = bench_at(&server, proxy, &args).await;
        run.assert_failed_with("1 never came, 1 came a second time and 0 after later ones");
        let label = format!("{method} 20/s");
        assert_eq!(run.metric(&label, "missing"), 1.0, "{run}");
        assert_eq!(run.metric(&label, "doubled"), 1.0, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_a_failure_in_the_search_for_the_highest_rate_too() {
    let server = Server::start(SETTINGS).await;
    let proxy = proxy(server.address(), Tampering::Drop, Codec::Json).await;
    let args = "fanout --find-max --p99 1s --rate 100 --subscribers 2 --seconds 0.5 --warmup 0";
    let run = bench_at(&server, proxy, args).await;
    run.assert_failed_with("1 publications before it are missing");
    assert_eq!(run.metric("100 pub/s", "held"), 0.0, "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn publications_that_are_never_answered_are_counted() {
    let server = Server::start(SETTINGS).await;
    for (scenario, codec) in [
        ("fanout --via client --subscribers 3", Codec::Json),
        ("chat --channels 2 --members 2", Codec::Protobuf),
    ] {
        let proxy = proxy(server.address(), Tampering::Mute, codec).await;
        let args = format!("{scenario} --rate 20 --codec {}", name(codec));
        let run = bench_at(&server, proxy, &args).await;
        // Those of the warm-up too.
        run.assert_failed_with("24 publications were never answered");
        assert_eq!(run.metric("20 pub/s", "unanswered"), 24.0, "{run}");
        assert_eq!(run.metric("20 pub/s", "missing"), 0.0, "{run}");
    }
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Json => "json",
        Codec::Protobuf => "protobuf",
    }
}

/// A proxy for connections to `server`.
async fn proxy(server: SocketAddr, tampering: Tampering, codec: Codec) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((client, _)) = listener.accept().await {
            let upstream = TcpStream::connect(server).await.expect("the server listens");
            let (mut from_client, to_client) = client.into_split();
            let (from_server, mut to_server) = upstream.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
            let is_meant = std::mem::take(&mut is_first) || matches!(tampering, Tampering::Mute);
            let tamperer = Tamperer {
                codec,
                tampering: Some(tampering).filter(|_| is_meant),
                scanner: Scanner::new(codec),
                publications: 0,
                kept: Vec::new(),
            };
            tokio::spawn(forward(from_server, to_client, tamperer));
        }
    });
    address
}

/// Forwards what the server sends, message by message.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut tamperer: Tamperer,
) -> std::io::Result<()> {
    let (mut bytes, mut is_open) = (Vec::new(), false);
    while from.read_buf(&mut bytes).await? > 0 {
        if !is_open {
            let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
            let Some(end) = end else { continue };
            to.write_all(&bytes.drain(..end + 4).collect::<Vec<_>>()).await?;
            is_open = true;
        }
        while let Frame::Whole { opcode, payload, end } = frames::first(&bytes) {
            let frame: Vec<_> = bytes.drain(..end).collect();
            if !matches!(opcode, OpCode::Text | OpCode::Binary) {
                to.write_all(&frame).await?;
                continue;
            }
            for message in tamperer.take(&frame[payload]) {
                to.write_all(&framed(opcode, &message)).await?;
            }
        }
    }
    Ok(())
}

/// A frame of a server, which is not masked.
fn framed(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let (mut frame, len) = (Vec::new(), payload.len() as u64);
    Header { fin: true, compressed: false, opcode, mask: None, len }.put(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// Tampers with one connection.
struct Tamperer {
    codec: Codec,
    tampering: Option<Tampering>,
    scanner: Scanner,
    publications: usize,
    kept: Vec<u8>,
}

impl Tamperer {
    /// What the client gets in the place of a frame's payload, one message after the other.
    fn take(&mut self, payload: &[u8]) -> Vec<Vec<u8>> {
        let (mut rest, mut passed) = (payload, Vec::new());
        while let Some((message, behind)) = self.scanner.split_first(rest).expect("whole messages")
        {
            // Protobuf has a length in front of each, JSON a line end between two.
            let whole = match self.codec {
                Codec::Json => message.to_vec(),
                Codec::Protobuf => rest[..rest.len() - behind.len()].to_vec(),
            };
            let seen = self.scanner.look(message).expect("a message of the protocol");
            rest = behind;
            passed.extend(self.replace(seen, whole));
        }
        passed
    }

    fn replace(&mut self, seen: Message, message: Vec<u8>) -> Vec<Vec<u8>> {
        let Some(tampering) = self.tampering else { return vec![message] };
        match (seen, tampering) {
            (Message::Acknowledged(_), Tampering::Mute) => return Vec::new(),
            (Message::Published { .. }, _) => self.publications += 1,
            _ => return vec![message],
        }
        match (tampering, self.publications) {
            (Tampering::Drop, CHOSEN) => Vec::new(),
            (Tampering::Double | Tampering::DoubleAndDrop, CHOSEN) => {
                vec![message.clone(), message]
            }
            (Tampering::Swap, CHOSEN) => {
                self.kept = message;
                Vec::new()
            }
            (Tampering::Swap, next) if next == CHOSEN + 1 => {
                vec![message, std::mem::take(&mut self.kept)]
            }
            (Tampering::DoubleAndDrop, next) if next == CHOSEN + 1 => Vec::new(),
            _ => vec![message],
        }
    }
}
