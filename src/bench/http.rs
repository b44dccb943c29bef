//! Requests to the server API over connections that stay open, one request at a time on each.

use std::collections::VecDeque;

use memchr::memmem;
use rustix::event::epoll::EventFlags;

use super::connection::{Ended, Workbench};
use super::event::{Event, Peer};
use super::socket::{self, Got, Stream};
use super::target::Target;

/// Bytes of the longest answer that is waited for.
const MAX_ANSWER: usize = 16 * 1_024 * 1_024;
/// Requests that may wait for one connection; past these the server is too far behind to measure.
const MAX_QUEUED: usize = 100_000;
/// Bytes of an answer that an error quotes.
const QUOTED: usize = 200;

/// Writes requests to one server.
#[derive(Clone, Debug)]
pub struct Requests {
    head: String,
    prefix: String,
    key_line: String,
}

/// One connection to the server API.
#[derive(Debug)]
pub struct ApiConnection {
    peer: Peer,
    stream: Stream,
    is_open: bool,
    /// Whether an answer is waited for.
    is_busy: bool,
    queued: VecDeque<Vec<u8>>,
    answer: Vec<u8>,
}

/// How far an answer is.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Partial,
    Whole { status: u16, body: Vec<u8>, len: usize },
    Broken(&'static str),
}

impl Requests {
    /// Requests to the methods below `target`, with a key if the server asks for one.
    pub fn new(target: &Target, key: Option<&str>) -> Self {
        let key_line = key.map_or_else(String::new, |key| format!("X-API-Key: {key}\r\n"));
        let head = format!("Host: {}\r\nContent-Type: application/json\r\n", target.host);
        Self { head, prefix: target.path.trim_end_matches('/').to_owned(), key_line }
    }

    /// A request as it goes over the wire.
    pub fn post(&self, method: &str, body: &[u8]) -> Vec<u8> {
        let Self { head, prefix, key_line } = self;
        let len = body.len();
        let mut request = format!(
            "POST {prefix}/{method} HTTP/1.1\r\n{head}{key_line}Content-Length: {len}\r\n\r\n"
        )
        .into_bytes();
        request.extend_from_slice(body);
        request
    }
}

impl ApiConnection {
    pub fn new(peer: Peer, stream: Stream) -> Self {
        let (queued, answer) = (VecDeque::new(), Vec::new());
        Self { peer, stream, is_open: false, is_busy: false, queued, answer }
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Sends a request, or keeps it until those before it are answered.
    ///
    /// # Errors
    /// If the connection ended, or 100,000 requests wait.
    pub fn request(&mut self, request: Vec<u8>) -> Result<(), Ended> {
        if self.queued.len() >= MAX_QUEUED {
            return Err(Ended(format!("{MAX_QUEUED} requests wait for the server API")));
        }
        self.queued.push_back(request);
        self.send_next()
    }

    /// How many requests are not answered.
    pub fn pending(&self) -> usize {
        self.queued.len() + usize::from(self.is_busy)
    }

    /// Does what the socket is ready for.
    ///
    /// # Errors
    /// If the connection ended.
    pub fn on_ready(&mut self, flags: EventFlags, bench: &mut Workbench) -> Result<(), Ended> {
        if !self.is_open {
            self.stream
                .connected(flags)
                .map_err(|error| Ended(format!("cannot connect: {error}")))?;
            self.is_open = flags.contains(EventFlags::OUT);
            self.send_next()?;
        }
        if flags.contains(EventFlags::OUT) && self.stream.has_waiting() {
            self.stream.flush()?;
        }
        if flags.intersects(socket::READABLE) {
            while self.read(bench)?.may_have_more(flags, &bench.buffer) {}
        }
        Ok(())
    }

    fn send_next(&mut self) -> Result<(), Ended> {
        if self.is_open
            && !self.is_busy
            && let Some(request) = self.queued.pop_front()
        {
            self.is_busy = true;
            self.stream.send(&request)?;
        }
        Ok(())
    }

    fn read(&mut self, bench: &mut Workbench) -> Result<Got, Ended> {
        let got = self.stream.read(&mut bench.buffer)?;
        match got {
            Got::Nothing => return Ok(got),
            Got::End => return Err(Ended("the server API ended the connection".to_owned())),
            Got::Bytes(len) => self.answer.extend_from_slice(&bench.buffer[..len]),
        }
        match answer(&self.answer) {
            Answer::Partial if self.answer.len() > MAX_ANSWER => {
                Err(Ended(format!("the server API answered with more than {MAX_ANSWER} bytes")))
            }
            Answer::Partial => Ok(got),
            Answer::Broken(what) => Err(Ended(format!("the server API answered with {what}"))),
            Answer::Whole { status, body, len } => {
                self.answer.drain(..len);
                self.is_busy = false;
                let (outcome, at_ns) = (outcome(status, body), bench.clock.now_ns());
                bench.counters.answers += 1;
                bench.events.push(Event::Answered { peer: self.peer, outcome, at_ns });
                self.send_next().map(|()| got)
            }
        }
    }
}

/// The body of a publish. The payload is JSON.
pub fn publish_body(channel: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.len() + channel.len() + 32);
    body.extend_from_slice(b"{\"channel\":");
    body.extend_from_slice(serde_json::Value::from(channel).to_string().as_bytes());
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(payload);
    body.push(b'}');
    body
}

/// The body of a broadcast. The payload is JSON.
pub fn broadcast_body(channels: &[String], payload: &[u8]) -> Vec<u8> {
    let channels = serde_json::Value::from(channels);
    let mut body = format!("{{\"channels\":{channels},\"data\":").into_bytes();
    body.extend_from_slice(payload);
    body.push(b'}');
    body
}

fn outcome(status: u16, body: Vec<u8>) -> Result<Vec<u8>, String> {
    // What is published is not in the answer, so the word can only be the API's own.
    if status == 200 && memmem::find(&body, b"\"error\"").is_none() {
        return Ok(body);
    }
    let body = body.get(..QUOTED).unwrap_or(&body);
    let quoted: String =
        String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).collect();
    Err(format!("the server API answered {status}: {quoted}"))
}

/// Reads the answer at the start of `bytes`. Its body has a length or comes in chunks.
fn answer(bytes: &[u8]) -> Answer {
    let Some(end) = memmem::find(bytes, b"\r\n\r\n") else { return Answer::Partial };
    let (head, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 4..]);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let Some(status) = status else { return Answer::Broken("something that is not HTTP") };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            let Ok(len) = value.parse::<usize>() else {
                return Answer::Broken("a length that is no number");
            };
            return match body.get(..len) {
                Some(body) => Answer::Whole { status, body: body.to_vec(), len: end + 4 + len },
                None => Answer::Partial,
            };
        }
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            return chunked(status, body, end + 4);
        }
    }
    Answer::Broken("a body without a length")
}

fn chunked(status: u16, mut rest: &[u8], head: usize) -> Answer {
    let (whole, mut body) = (rest.len(), Vec::new());
    loop {
        let Some(line) = memmem::find(rest, b"\r\n") else { return Answer::Partial };
        let size = std::str::from_utf8(&rest[..line]).unwrap_or_default();
        let size = size.split(';').next().unwrap_or_default().trim();
        let Ok(size) = usize::from_str_radix(size, 16) else {
            return Answer::Broken("a chunk without a size");
        };
        let behind = &rest[line + 2..];
        let Some(next) = size.checked_add(2).and_then(|len| behind.get(len..)) else {
            return Answer::Partial;
        };
        body.extend_from_slice(&behind[..size]);
        rest = next;
        if size == 0 {
            return Answer::Whole { status, body, len: head + whole - rest.len() };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_method_key_and_length() {
        let target = Target::http("http://127.0.0.1:8000/api/").unwrap();
        let request = Requests::new(&target, Some("k")).post("publish", b"{}");
        let text = String::from_utf8(request).unwrap();
        assert!(
            text.starts_with("POST /api/publish HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n"),
            "{text}"
        );
        assert!(text.ends_with("X-API-Key: k\r\nContent-Length: 2\r\n\r\n{}"), "{text}");
    }

    #[test]
    fn an_answer_is_whole_only_with_its_last_byte() {
        let sized = &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..];
        let chunked =
            &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x\r\nlo\r\n0\r\n\r\n"[..];
        for bytes in [sized, chunked] {
            for cut in 0..bytes.len() {
                assert_eq!(answer(&bytes[..cut]), Answer::Partial, "{cut}");
            }
            let whole = Answer::Whole { status: 200, body: b"hello".to_vec(), len: bytes.len() };
            assert_eq!(answer(&[bytes, b"HTTP"].concat()), whole);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        for bytes in
            ["x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
        {
            assert!(matches!(answer(bytes.as_bytes()), Answer::Broken(_)), "{bytes:?}");
        }
        let chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n";
        assert!(matches!(answer(chunk.as_bytes()), Answer::Broken(_)));
    }

    #[test]
    fn an_error_of_the_api_is_none_of_its_successes() {
        let result = br#"{"result":{}}"#.to_vec();
        assert_eq!(outcome(200, result.clone()), Ok(result));
        outcome(200, br#"{"replies":[{},{"error":{"code":102}}]}"#.to_vec()).unwrap_err();
        assert!(outcome(401, Vec::new()).unwrap_err().contains("401"));
    }
}
