//! A connection that hears PUB/SUB channels, and hands on what it hears in its order.
//!
//! There is no queue between the socket and whoever receives: if that takes long, the server keeps
//! the rest, up to its `client-output-buffer-limit`, past which it closes the connection.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use compact_str::CompactString;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::dial::{ConnectionError, Wire, refused};
use super::driver::{LOOK_EVERY, looks};
use super::interest::{Disagreement, Interest};
use super::keys::Keys;
use super::link::{Greeting, Identity};
use super::options::{Access, Place};
use super::resp::{Command, Decoder, Value};
use super::shard::Receive;

/// Channels in one SUBSCRIBE: Centrifugo's number.
const BATCH: usize = 512;
/// Bytes made room for before each read.
const READ_BYTES: usize = 64 * 1_024;

/// Looks after which the server is asked how many channels it holds for us.
const COUNT_EVERY: u32 = 5;

/// What one reader is to hear; outlives its connections.
#[derive(Debug)]
pub(super) struct Listening {
    pub interest: Mutex<Interest>,
    /// Rings when the interest has changed.
    pub changed: Notify,
    /// What it hears in any case.
    always: CompactString,
}

/// One connection.
pub(super) struct Reader {
    input: ReadHalf<Box<dyn Wire>>,
    output: WriteHalf<Box<dyn Wire>>,
    decoder: Decoder,
    received: BytesMut,
    to_send: BytesMut,
    keys: Keys,
    listening: Arc<Listening>,
    receive: Arc<dyn Receive>,
    io_timeout: Duration,
    /// When the first ping was sent that nothing came after.
    silent_since: Option<Instant>,
    looks: u32,
    /// To be told when everything that is of interest is heard.
    settled: Option<oneshot::Sender<()>>,
}

impl Reader {
    /// Connects to the master that has `identity`, and to no other.
    ///
    /// # Errors
    /// The server cannot be reached, or is another one.
    pub async fn open(
        place: &Place,
        access: &Access,
        identity: &Identity,
        keys: Keys,
        listening: Arc<Listening>,
        receive: Arc<dyn Receive>,
    ) -> Result<(Self, oneshot::Receiver<()>), ConnectionError> {
        let greeting = Greeting::of(place, access).await?;
        if greeting.id != identity.id {
            return Err(ConnectionError::OtherIdentity);
        }
        let conversation = greeting.conversation;
        listening.interest.lock().restart();
        let (input, output) = split(conversation.wire);
        let (settled, is_settled) = oneshot::channel();
        let reader = Self {
            input,
            output,
            decoder: conversation.decoder,
            received: conversation.input,
            to_send: BytesMut::new(),
            keys,
            listening,
            receive,
            io_timeout: access.io_timeout,
            silent_since: None,
            looks: 0,
            settled: Some(settled),
        };
        Ok((reader, is_settled))
    }

    /// Reads until the connection ends by itself, or `stop` ends it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ConnectionError> {
        tokio::select! {
            ended = self.exchange() => ended,
            () = stop.cancelled() => Ok(()),
        }
    }

    async fn exchange(&mut self) -> Result<(), ConnectionError> {
        let listening = Arc::clone(&self.listening);
        let mut looks = looks(LOOK_EVERY);
        loop {
            if self.to_send.is_empty() {
                self.follow_interest();
            }
            self.received.reserve(READ_BYTES);
            tokio::select! {
                // Reading comes last, lest a flood of messages keep the rest waiting.
                biased;
                now = looks.tick() => self.look(now)?,
                count = self.output.write(&self.to_send), if !self.to_send.is_empty() => {
                    match count? {
                        0 => return Err(ConnectionError::Closed),
                        count => self.to_send.advance(count),
                    }
                }
                () = listening.changed.notified() => {}
                count = self.input.read_buf(&mut self.received) => {
                    if count? == 0 {
                        return Err(ConnectionError::Closed);
                    }
                    self.silent_since = None;
                    self.hand_on()?;
                }
            }
        }
    }

    fn look(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let since = *self.silent_since.get_or_insert(now);
        if now.duration_since(since) >= self.io_timeout {
            return Err(ConnectionError::Timeout(self.io_timeout));
        }
        if since == now {
            Command::new("PING").encode(&mut self.to_send);
        }
        self.looks = self.looks.wrapping_add(1);
        let always = &self.listening.always;
        if self.looks.is_multiple_of(COUNT_EVERY)
            && self.listening.interest.lock().ask_again(always)
        {
            Command::new("SUBSCRIBE").arg(always).encode(&mut self.to_send);
        }
        Ok(())
    }

    fn follow_interest(&mut self) {
        let mut interest = self.listening.interest.lock();
        let dropped = interest.drop_now();
        let on_wire = |names: &[CompactString]| -> Vec<_> {
            names.iter().map(|name| self.keys.on_wire(name)).collect()
        };
        for names in dropped.chunks(BATCH) {
            Command::new("UNSUBSCRIBE").args(on_wire(names)).encode(&mut self.to_send);
        }
        let names = interest.ask(BATCH);
        if !names.is_empty() {
            Command::new("SUBSCRIBE").args(on_wire(&names)).encode(&mut self.to_send);
        }
    }

    fn hand_on(&mut self) -> Result<(), ConnectionError> {
        while let Some(value) = self.decoder.next(&mut self.received)? {
            refused(&value)?;
            // A pong may be a plain text.
            let Some([kind, name, rest @ ..]) = value.list() else { continue };
            match (kind.str(), name.str(), rest) {
                (Some("message"), Some(name), [Value::Text(payload)]) => {
                    self.receive.message(&self.keys.plain(name), payload);
                }
                (Some("subscribe"), Some(name), [held]) => {
                    self.confirm(&self.keys.plain(name), held)?;
                }
                (Some("unsubscribe"), _, [held]) => {
                    self.listening.interest.lock().left(number(held)?)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn confirm(&mut self, name: &str, held: &Value) -> Result<(), ConnectionError> {
        let mut interest = self.listening.interest.lock();
        interest.confirm(name, number(held)?)?;
        if self.settled.is_some() && interest.is_settled() {
            self.settled.take().map(|settled| settled.send(()));
        }
        Ok(())
    }
}

fn number(value: &Value) -> Result<u64, ConnectionError> {
    value.number().ok_or(ConnectionError::Unexpected("a number of channels"))
}

impl From<Disagreement> for ConnectionError {
    fn from(disagreement: Disagreement) -> Self {
        match disagreement {
            Disagreement::Order => Self::Unexpected("a confirmation out of order"),
            Disagreement::Count => Self::Forgotten,
        }
    }
}

impl Listening {
    /// Nothing but one channel, so that it is a connection that hears something.
    pub fn to(always: &CompactString) -> Self {
        let mut interest = Interest::default();
        drop(interest.want(always));
        let (interest, changed) = (Mutex::new(interest), Notify::new());
        Self { interest, changed, always: always.clone() }
    }

    /// Wants a channel. `None` if it is heard already; otherwise what tells when it is.
    pub fn want(&self, name: &str) -> Option<oneshot::Receiver<()>> {
        let heard = self.interest.lock().want(name)?;
        self.changed.notify_one();
        Some(heard)
    }

    /// Wants a channel no more, unless `is_wanted` says otherwise at that moment.
    pub fn leave(&self, name: &str, is_wanted: impl FnOnce() -> bool) {
        let mut interest = self.interest.lock();
        if !is_wanted() {
            interest.leave(name);
            self.changed.notify_one();
        }
    }
}
