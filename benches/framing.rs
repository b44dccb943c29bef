//! What a message costs between the socket and the session, beside tungstenite; and compression.
//! `cargo bench --bench framing`.

use std::io::{self, Read, Write};

use bobolink::websocket::deflate::{self, negotiate};
use bobolink::websocket::frame::{Header, OpCode, mask};
use bobolink::websocket::receive::{Limits, Receiver, Role};
use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use tokio_tungstenite::tungstenite::WebSocket;
use tokio_tungstenite::tungstenite::protocol::{self, WebSocketConfig};

/// Payload lengths: a command, a document, the largest message by default.
const LENGTHS: [usize; 3] = [100, 1_024, 65_536];
/// Bytes that either reads at once.
const READ: usize = 16 * 1_024;
const LIMITS: Limits = Limits { message: 65_536, inflated: 655_360 };

fn main() {
    divan::main();
}

fn json(len: usize) -> Vec<u8> {
    let line = |at: usize| format!("{{\"line\":{at},\"user\":\"user-{}\"}}\n", at * 7919 % 1000);
    let mut text: String = (0..=len / 20).map(line).collect();
    text.truncate(len);
    text.into_bytes()
}

fn frame(compressed: bool, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let len = payload.len() as u64;
    let opcode = OpCode::Text;
    let mut bytes = Vec::new();
    Header { fin: true, compressed, opcode, mask: Some(key), len }.put(&mut bytes);
    let start = bytes.len();
    bytes.extend_from_slice(payload);
    mask(key, 0, &mut bytes[start..]);
    bytes
}

/// A client that sends the same frame over and over, and reads nothing.
struct Repeating {
    frame: Vec<u8>,
    sent: usize,
}

impl Read for Repeating {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = &self.frame[self.sent..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.sent = (self.sent + len) % self.frame.len();
        Ok(len)
    }
}

impl Write for Repeating {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies from the client into a buffer that all connections of a thread would share, and receives.
fn receive_all(bencher: Bencher, len: usize, frame: Vec<u8>) {
    let agreed = negotiate(["permessage-deflate"].into_iter());
    let mut client = Repeating { frame, sent: 0 };
    let mut receiver = Receiver::new(Role::Server, LIMITS, agreed);
    let mut buffer = vec![0; READ];
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        loop {
            let read = client.read(&mut buffer).expect("never fails");
            let mut input = &buffer[..read];
            if let Some(event) = receiver.receive(&mut input).expect("a good frame") {
                assert!(input.is_empty());
                return event;
            }
        }
    });
}

#[divan::bench(args = LENGTHS)]
fn receive(bencher: Bencher, len: usize) {
    receive_all(bencher, len, frame(false, &json(len)));
}

#[divan::bench(args = LENGTHS)]
fn receive_by_tungstenite(bencher: Bencher, len: usize) {
    let client = Repeating { frame: frame(false, &json(len)), sent: 0 };
    let config = WebSocketConfig::default().read_buffer_size(READ);
    let mut socket = WebSocket::from_raw_socket(client, protocol::Role::Server, Some(config));
    bencher.counter(BytesCount::new(len)).bench_local(|| socket.read().expect("a good frame"));
}

#[divan::bench(args = LENGTHS)]
fn receive_compressed(bencher: Bencher, len: usize) {
    receive_all(bencher, len, frame(true, &deflate::compress(6, 15, &json(len))));
}

#[divan::bench(args = LENGTHS)]
fn unmask(bencher: Bencher, len: usize) {
    let mut payload = json(len);
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| mask([1, 2, 3, 4], 0, divan::black_box(&mut payload)));
}

#[divan::bench(args = LENGTHS, consts = [1, 2, 6])]
fn compress<const LEVEL: u32>(bencher: Bencher, len: usize) {
    let payload = json(len);
    bencher
        .counter(BytesCount::new(len))
        .bench_local(|| -> Bytes { deflate::compress(LEVEL, 15, divan::black_box(&payload)) });
}
