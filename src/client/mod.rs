//! A client of the protocol, for tools and tests: it sees what is on the wire and decides nothing.
//!
//! There is no task behind a [`Client`]: it reads when it is asked to, so that not reading is a way
//! to use it too. While it waits for one thing it keeps pushes for later, in order and up to a
//! bound, and answers the server's pings. Every wait has its limit.

mod endpoint;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub use self::endpoint::{Endpoint, EndpointError};

use crate::protocol::command::{Command, ConnectRequest, PublishRequest, SubscribeRequest};
use crate::protocol::frame::{Codec, Replies};
use crate::protocol::publication::Publication;
use crate::protocol::reply::{self, ConnectResult, Push, Reply, SubscribeResult};
use crate::protocol::{DecodeError, EncodeError};

/// Bytes read at once. Tools hold thousands of clients, and tungstenite's default is 128 KiB each.
const READ_BUFFER: usize = 4 * 1_024;
/// Bytes of the largest frame that a client takes.
const MAX_FRAME: usize = 64 * 1_024 * 1_024;
/// How long the helpers wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// One connection to a gateway, over TCP or any other stream of bytes.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: WebSocketStream<S>,
    codec: Codec,
    answers_pings: bool,
    /// What the server answered to the handshake.
    headers: HeaderMap,
    last_id: u32,
    /// The rest of the frame that is being read.
    replies: Option<Replies>,
    /// Pushes that came while something else was waited for.
    pushes: VecDeque<Box<Push>>,
    max_pushes: usize,
    closed: Option<Close>,
}

/// One thing that came from the server.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// The answer to a command.
    Reply(Box<Reply>),
    Push(Box<Push>),
    /// The server wants to know whether the client is alive. Answered already, unless the endpoint
    /// says not to.
    Ping,
    /// The same with the means of WebSocket.
    NativePing,
    /// There is nothing more; further reads give the same.
    Closed(Close),
}

/// How the server ended the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The code of the close frame; `None` if the connection ended without one or with an empty one.
    pub code: Option<u16>,
    pub reason: String,
}

/// What can go wrong for a client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot connect: {0}")]
    Tcp(#[from] std::io::Error),
    #[error("the server answered the handshake with {0}")]
    Status(StatusCode),
    #[error("the handshake failed: {0}")]
    Handshake(String),
    #[error("cannot send: {0}")]
    Send(tungstenite::Error),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error("the server sent what is not of the protocol: {0}")]
    Decode(#[from] DecodeError),
    #[error("nothing came within {0:?}")]
    Timeout(Duration),
    #[error("more than {0} pushes wait to be read")]
    TooManyPushes(usize),
    #[error("closed with {code:?} {reason:?}", code = .0.code, reason = .0.reason)]
    Closed(Close),
    #[error("the server refused with {code} {message}", code = .0.code, message = .0.message)]
    Refused(reply::Error),
    #[error("not what was waited for: {0:?}")]
    Unexpected(Box<Reply>),
}

impl Client<TcpStream> {
    /// Opens a TCP connection to the endpoint, and the WebSocket on it.
    ///
    /// # Errors
    /// If there is no connection, or the server does not switch protocols.
    pub async fn open(endpoint: &Endpoint) -> Result<Self, Error> {
        let stream = TcpStream::connect(endpoint.host_and_port()).await?;
        stream.set_nodelay(true)?;
        Self::open_on(stream, endpoint).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Opens the WebSocket on a stream that is connected to the endpoint, such as one with TLS.
    ///
    /// # Errors
    /// If the server does not switch protocols.
    pub async fn open_on(stream: S, endpoint: &Endpoint) -> Result<Self, Error> {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER)
            .max_message_size(Some(MAX_FRAME))
            .max_frame_size(Some(MAX_FRAME));
        let opened = client_async_with_config(endpoint.request()?, stream, Some(config)).await;
        let (stream, response) = opened.map_err(|error| match error {
            tungstenite::Error::Http(response) => Error::Status(response.status()),
            other => Error::Handshake(other.to_string()),
        })?;
        Ok(Self {
            stream,
            codec: endpoint.codec,
            answers_pings: endpoint.answers_pings,
            headers: response.headers().clone(),
            last_id: 0,
            replies: None,
            pushes: VecDeque::new(),
            max_pushes: endpoint.max_pushes,
            closed: None,
        })
    }

    /// Authenticates; an empty token connects as whoever the server lets in without one.
    ///
    /// # Errors
    /// As [`Client::request`], and a refusal.
    pub async fn connect(&mut self, token: &str) -> Result<ConnectResult, Error> {
        let request = ConnectRequest { token: token.to_owned(), ..ConnectRequest::default() };
        let command = Command { connect: Some(request), ..Command::default() };
        let mut reply = accepted(self.request(command).await?)?;
        reply.connect.take().ok_or_else(|| Error::Unexpected(Box::new(reply)))
    }

    /// Subscribes to a channel.
    ///
    /// # Errors
    /// As [`Client::request`], and a refusal.
    pub async fn subscribe(&mut self, channel: &str) -> Result<SubscribeResult, Error> {
        let request =
            SubscribeRequest { channel: channel.to_owned(), ..SubscribeRequest::default() };
        self.subscribe_with(request).await
    }

    /// Subscribes with everything that a request can say.
    ///
    /// # Errors
    /// As [`Client::request`], and a refusal.
    pub async fn subscribe_with(
        &mut self,
        request: SubscribeRequest,
    ) -> Result<SubscribeResult, Error> {
        let command = Command { subscribe: Some(request), ..Command::default() };
        let mut reply = accepted(self.request(command).await?)?;
        reply.subscribe.take().ok_or_else(|| Error::Unexpected(Box::new(reply)))
    }

    /// Publishes and waits for the confirmation. `data` must be JSON for a JSON client.
    ///
    /// # Errors
    /// As [`Client::request`], and a refusal.
    pub async fn publish(&mut self, channel: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        let command =
            Command { publish: Some(publish_request(channel, data)), ..Command::default() };
        accepted(self.request(command).await?).map(drop)
    }

    /// Sends a command under the next id and gives its reply, be it an error or not. What is pushed
    /// meanwhile waits for [`Client::push`].
    ///
    /// # Errors
    /// If it cannot be sent; if the connection closes, an answer to another command comes, or
    /// nothing at all for 20 seconds; if too many pushes come.
    pub async fn request(&mut self, command: Command) -> Result<Reply, Error> {
        let id = self.send(command).await?;
        let waiting = async {
            match self.next_reply().await? {
                reply if reply.id == id => Ok(reply),
                other => Err(Error::Unexpected(Box::new(other))),
            }
        };
        timeout(ANSWER_TIMEOUT, waiting).await.map_err(|_| Error::Timeout(ANSWER_TIMEOUT))?
    }

    /// Sends a command without waiting for its reply. One without an id gets the next one, which is
    /// returned; `send` has none.
    ///
    /// # Errors
    /// If it cannot be encoded or sent.
    pub async fn send(&mut self, command: Command) -> Result<u32, Error> {
        let ids = self.send_many([command]).await?;
        Ok(ids.last().copied().unwrap_or_default())
    }

    /// Sends commands in one frame. Those without an id get the next ones; all ids are returned.
    ///
    /// # Errors
    /// If they cannot be encoded or sent.
    pub async fn send_many(
        &mut self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Result<Vec<u32>, Error> {
        let (mut messages, mut ids) = (Vec::new(), Vec::new());
        for mut command in commands {
            if command.id == 0 && command.send.is_none() {
                self.last_id += 1;
                command.id = self.last_id;
            }
            ids.push(command.id);
            messages.push(self.codec.encode_command(&command)?);
        }
        self.send_payload(self.codec.join(&messages)).await?;
        Ok(ids)
    }

    /// Answers a ping.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn send_pong(&mut self) -> Result<(), Error> {
        self.send_payload(self.codec.ping()).await
    }

    /// Sends a frame as it is: as text for JSON, if it is text, and binary otherwise.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn send_payload(&mut self, payload: impl Into<Bytes>) -> Result<(), Error> {
        let payload = payload.into();
        let message = match self.codec {
            Codec::Json => match Utf8Bytes::try_from(payload.clone()) {
                Ok(text) => Message::Text(text),
                Err(_) => Message::Binary(payload),
            },
            Codec::Protobuf => Message::Binary(payload),
        };
        self.send_message(message).await
    }

    /// Sends any WebSocket message.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn send_message(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await.map_err(Error::Send)
    }

    /// The next push, be it one that was kept or one to come. Pings in between are passed over.
    ///
    /// # Errors
    /// If the connection closes, a reply comes in the place of a push, or nothing in time.
    pub async fn push(&mut self, within: Duration) -> Result<Push, Error> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(*push);
        }
        let waiting = async {
            loop {
                match self.read().await? {
                    Incoming::Push(push) => return Ok(*push),
                    Incoming::Reply(reply) => return Err(Error::Unexpected(reply)),
                    Incoming::Ping | Incoming::NativePing => {}
                    Incoming::Closed(close) => return Err(Error::Closed(close)),
                }
            }
        };
        timeout(within, waiting).await.map_err(|_| Error::Timeout(within))?
    }

    /// The next publication and its channel. Other pushes, and pings, are passed over.
    ///
    /// # Errors
    /// As [`Client::push`]; the time is that of each push.
    pub async fn publication(&mut self, within: Duration) -> Result<(String, Publication), Error> {
        loop {
            let push = self.push(within).await?;
            if let Some(publication) = push.publication {
                return Ok((push.channel, publication));
            }
        }
    }

    /// The next thing from the server; kept pushes come first.
    ///
    /// # Errors
    /// If nothing comes in time, or something that is not of the protocol.
    pub async fn next(&mut self, within: Duration) -> Result<Incoming, Error> {
        if let Some(push) = self.pushes.pop_front() {
            return Ok(Incoming::Push(push));
        }
        timeout(within, self.read()).await.map_err(|_| Error::Timeout(within))?
    }

    /// Reads on until the server closes the connection, whatever comes before that.
    ///
    /// # Errors
    /// If it does not close in time.
    pub async fn closed(&mut self, within: Duration) -> Result<Close, Error> {
        let waiting = async {
            loop {
                if let Incoming::Closed(close) = self.read().await? {
                    return Ok(close);
                }
            }
        };
        timeout(within, waiting).await.map_err(|_| Error::Timeout(within))?
    }

    /// Tells the server goodbye.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub async fn close(&mut self) -> Result<(), Error> {
        self.stream.close(None).await.map_err(Error::Send)
    }

    /// The headers with which the server switched protocols.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The stream below, past the handshake and before any frame that was not read.
    pub fn stream_mut(&mut self) -> &mut S {
        self.stream.get_mut()
    }

    async fn next_reply(&mut self) -> Result<Reply, Error> {
        loop {
            match self.read().await? {
                Incoming::Reply(reply) => return Ok(*reply),
                Incoming::Push(_) if self.pushes.len() >= self.max_pushes => {
                    return Err(Error::TooManyPushes(self.max_pushes));
                }
                Incoming::Push(push) => self.pushes.push_back(push),
                Incoming::Ping | Incoming::NativePing => {}
                Incoming::Closed(close) => return Err(Error::Closed(close)),
            }
        }
    }

    /// The next thing on the wire. May be given up at any wait: what was read is in `self`.
    async fn read(&mut self) -> Result<Incoming, Error> {
        loop {
            if let Some(reply) = self.replies.as_mut().and_then(Iterator::next) {
                return self.sort(reply?).await;
            }
            self.replies = None;
            if let Some(close) = &self.closed {
                return Ok(Incoming::Closed(close.clone()));
            }
            let frame = match self.stream.next().await {
                Some(Ok(Message::Text(text))) => Bytes::from(text),
                Some(Ok(Message::Binary(bytes))) => bytes,
                Some(Ok(Message::Ping(_))) => {
                    // The stream has queued the pong. What cannot be written shows at the next read.
                    let _ = self.stream.flush().await;
                    return Ok(Incoming::NativePing);
                }
                Some(Ok(Message::Close(frame))) => {
                    self.closed = Some(Close {
                        code: frame.as_ref().map(|frame| frame.code.into()),
                        reason: frame.map(|frame| frame.reason.to_string()).unwrap_or_default(),
                    });
                    // Our close frame and the end of our side: the server waits for nothing else.
                    let _ = self.stream.flush().await;
                    let _ = self.stream.get_mut().shutdown().await;
                    continue;
                }
                Some(Ok(Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Err(_)) | None => {
                    self.closed = Some(Close { code: None, reason: String::new() });
                    continue;
                }
            };
            self.replies = Some(self.codec.replies(frame));
        }
    }

    async fn sort(&mut self, reply: Reply) -> Result<Incoming, Error> {
        if reply.id > 0 {
            return Ok(Incoming::Reply(Box::new(reply)));
        }
        match reply.push {
            Some(push) => Ok(Incoming::Push(Box::new(push))),
            None if reply == Reply::default() => {
                if self.answers_pings {
                    // What cannot be written shows at the next read.
                    let _ = self.send_pong().await;
                }
                Ok(Incoming::Ping)
            }
            None => Err(Error::Unexpected(Box::new(reply))),
        }
    }
}

/// A request to publish `data` into `channel`.
pub fn publish_request(channel: &str, data: impl Into<Bytes>) -> PublishRequest {
    PublishRequest { channel: channel.to_owned(), data: data.into(), ..PublishRequest::default() }
}

fn accepted(reply: Reply) -> Result<Reply, Error> {
    match reply.error {
        Some(error) => Err(Error::Refused(error)),
        None => Ok(reply),
    }
}

#[cfg(test)]
mod tests;
