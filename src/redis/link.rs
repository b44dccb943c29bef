//! The connection that carries commands: many callers, one pipeline, one identity for life.
//!
//! What is asked while the pipeline is busy goes out together as soon as nothing more waits to be
//! asked; no timer is involved. A question is sent once or not at all: when the link ends, callers
//! learn which of the two it was.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use compact_str::CompactString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::dial::{ConnectionError, Conversation, Wire};
use super::keys::Keys;
use super::options::{Access, Place};
use super::resp::{Command, Decoder, Value};
use super::script::{Loaded, Script, eval};

/// Questions that may wait to be sent; more wait at their callers.
const WAITING: usize = 4_096;
/// Questions that may be open. Redis answers in order, so more of them would only be late.
const OPEN: usize = 16_384;
/// Bytes gathered before they are written.
const GATHERED: usize = 256 * 1_024;
/// Bytes made room for before each read.
const READ_BYTES: usize = 64 * 1_024;
/// How often the server is asked whether it is still the same master: the rule of the fence.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A connection to a master. Clones share it; it ends with its supervisor's token.
#[derive(Clone, Debug)]
pub struct Link {
    ask: mpsc::Sender<Question>,
    loaded: Loaded,
    identity: Identity,
}

/// Which history of the data a master goes on with: Redis draws another one at each promotion and
/// each restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: CompactString,
    /// It is the first that this data ever had under our eyes, so that streams without an identity
    /// cannot have lost anything.
    pub is_first: bool,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection. Nothing was sent.
    #[error("Redis is unavailable")]
    Unavailable,
    /// The connection ended before the answer came: it may or may not be done.
    #[error("Redis did not answer, so the outcome is unknown")]
    OutcomeUnknown,
    /// Redis refused.
    #[error("Redis refused: {0}")]
    Refused(CompactString),
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    receiver: oneshot::Receiver<Result<Value, CallError>>,
}

#[derive(Debug)]
struct Question {
    command: Command,
    answer: oneshot::Sender<Result<Value, CallError>>,
}

impl Link {
    /// Connects to a master and makes sure that it is one. The second half drives it, until it ends
    /// with the reason.
    ///
    /// # Errors
    /// The server cannot be reached, is loading its data, or is no master.
    pub(super) async fn open(
        place: &Place,
        access: &Access,
        keys: &Keys,
    ) -> Result<(Self, Driver), ConnectionError> {
        let mut conversation = Conversation::open(place, access).await?;
        let id = identity_of(&mut conversation).await?;
        let first = keys.first_identity();
        let mut commands = vec![
            Command::new("SET").arg(&first).arg(&id).arg("NX"),
            Command::new("GET").arg(&first),
        ];
        commands.extend(Loaded::commands());
        let answers = conversation.ask(&commands).await?;
        let (first, names) =
            answers.split_at_checked(2).ok_or(ConnectionError::Unexpected("an answer"))?;
        let is_first = first.get(1).and_then(Value::str) == Some(id.as_str());
        let loaded = Loaded::of(names).ok_or(ConnectionError::Unexpected("names of scripts"))?;
        let (ask, questions) = mpsc::channel(WAITING);
        let driver = Driver::new(conversation, questions, id.clone(), access.io_timeout);
        Ok((Self { ask, loaded, identity: Identity { id, is_first } }, driver))
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, command: Command) -> Result<Value, CallError> {
        let (sender, receiver) = oneshot::channel();
        let question = Question { command, answer: sender };
        self.ask.send(question).await.map_err(|_| CallError::Unavailable)?;
        Answer { receiver }.wait().await
    }

    /// Sends a command before this returns, so that what is sent later comes later.
    ///
    /// # Errors
    /// There is no connection, or too much waits for it already.
    pub fn begin(&self, command: Command) -> Result<Answer, CallError> {
        let (sender, receiver) = oneshot::channel();
        let question = Question { command, answer: sender };
        self.ask.try_send(question).map_err(|_| CallError::Unavailable)?;
        Ok(Answer { receiver })
    }

    /// Begins a call of a script with so many keys; they follow, then the arguments.
    pub fn script(&self, script: Script, keys: u64) -> Command {
        self.loaded.call(script, keys)
    }

    /// Calls a script. A server that has lost it has not begun, so it is sent again, whole.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run<A: AsRef<[u8]>>(
        &self,
        script: Script,
        keys: u64,
        args: &[A],
    ) -> Result<Value, CallError> {
        match self.call(self.script(script, keys).args(args)).await {
            Err(CallError::Refused(text)) if text.starts_with("NOSCRIPT") => {
                self.call(eval(script, keys).args(args)).await
            }
            answer => answer,
        }
    }
}

impl Answer {
    /// Waits for it. There is no timer for each call: a connection on which nothing is answered ends
    /// within `io_timeout` and a second, and with it the wait.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn wait(self) -> Result<Value, CallError> {
        self.receiver.await.unwrap_or(Err(CallError::OutcomeUnknown))
    }
}

/// The identity of a server that has loaded its data and is a master.
pub(super) async fn identity_of(
    conversation: &mut Conversation,
) -> Result<CompactString, ConnectionError> {
    // A server that is loading refuses the ping.
    let answers = conversation.ask(&[Command::new("PING"), look()]).await?;
    let info = answers.get(1).and_then(Value::str);
    master_id(info.ok_or(ConnectionError::Unexpected("what INFO tells"))?).map(CompactString::from)
}

fn look() -> Command {
    Command::new("INFO").arg("replication")
}

/// The replication id in the answer to `INFO replication`.
fn master_id(info: &str) -> Result<&str, ConnectionError> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    match (field("role"), field("master_replid")) {
        (Some("master"), Some(id)) if !id.is_empty() => Ok(id),
        (Some("master"), _) => Err(ConnectionError::Unexpected("a master without an identity")),
        _ => Err(ConnectionError::NotMaster),
    }
}

/// Moves the bytes of a [`Link`].
pub(super) struct Driver {
    input: ReadHalf<Box<dyn Wire>>,
    output: WriteHalf<Box<dyn Wire>>,
    decoder: Decoder,
    received: BytesMut,
    to_send: BytesMut,
    questions: mpsc::Receiver<Question>,
    /// Sent, in order. `None` stands for our own look at the server.
    open: VecDeque<Option<oneshot::Sender<Result<Value, CallError>>>>,
    identity: CompactString,
    io_timeout: Duration,
    /// When the look that is open was sent.
    looking_since: Option<Instant>,
}

impl Driver {
    fn new(
        conversation: Conversation,
        questions: mpsc::Receiver<Question>,
        identity: CompactString,
        io_timeout: Duration,
    ) -> Self {
        let (input, output) = split(conversation.wire);
        Self {
            input,
            output,
            decoder: conversation.decoder,
            received: conversation.input,
            to_send: BytesMut::new(),
            questions,
            open: VecDeque::new(),
            identity,
            io_timeout,
            looking_since: None,
        }
    }

    /// Drives the link until it ends by itself, or `stop` ends it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ConnectionError> {
        let ended = tokio::select! {
            ended = self.exchange() => ended,
            () = stop.cancelled() => Ok(()),
        };
        // Those that are open learn it from their senders being dropped.
        self.questions.close();
        while let Ok(question) = self.questions.try_recv() {
            let _ = question.answer.send(Err(CallError::Unavailable));
        }
        ended
    }

    async fn exchange(&mut self) -> Result<(), ConnectionError> {
        let mut looks = looks(LOOK_EVERY);
        let mut gathered = Vec::new();
        loop {
            let room = OPEN.saturating_sub(self.open.len());
            let gathers = room > 0 && self.to_send.len() < GATHERED;
            self.received.reserve(READ_BYTES);
            tokio::select! {
                // Answers first, since they make room; and what waits is gathered before anything
                // is written.
                biased;
                now = looks.tick() => self.look(now)?,
                count = self.input.read_buf(&mut self.received) => match count? {
                    0 => return Err(ConnectionError::Closed),
                    _ => self.hand_out_answers()?,
                },
                count = self.questions.recv_many(&mut gathered, room.min(WAITING)), if gathers => {
                    if count == 0 {
                        return Ok(());
                    }
                    for question in gathered.drain(..) {
                        question.command.encode(&mut self.to_send);
                        self.open.push_back(Some(question.answer));
                    }
                }
                count = self.output.write(&self.to_send), if !self.to_send.is_empty() => {
                    match count? {
                        0 => return Err(ConnectionError::Closed),
                        count => self.to_send.advance(count),
                    }
                }
            }
        }
    }

    /// Asks the server whether it is the same still. Answers come in order, so a look that stays
    /// open means that nothing is answered.
    fn look(&mut self, now: Instant) -> Result<(), ConnectionError> {
        match self.looking_since {
            None => {
                look().encode(&mut self.to_send);
                self.open.push_back(None);
                self.looking_since = Some(now);
                Ok(())
            }
            Some(since) if now.duration_since(since) < self.io_timeout => Ok(()),
            Some(_) => Err(ConnectionError::Timeout(self.io_timeout)),
        }
    }

    fn hand_out_answers(&mut self) -> Result<(), ConnectionError> {
        while let Some(value) = self.decoder.next(&mut self.received)? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            match self.open.pop_front() {
                Some(Some(answer)) => {
                    let _ = answer.send(match value {
                        Value::Error(text) => {
                            Err(CallError::Refused(CompactString::from_utf8_lossy(&text)))
                        }
                        value => Ok(value),
                    });
                }
                Some(None) => {
                    self.looking_since = None;
                    let info = value.str().ok_or(ConnectionError::Unexpected("what INFO tells"))?;
                    if master_id(info)? != self.identity {
                        return Err(ConnectionError::OtherIdentity);
                    }
                }
                None => return Err(ConnectionError::Unexpected("an answer to no question")),
            }
        }
        Ok(())
    }
}

/// Ticks from one `period` on; a stall is not made up for.
pub(super) fn looks(period: Duration) -> Interval {
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset();
    looks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_master_has_an_identity() {
        let info = "# Replication\r\nrole:master\r\nmaster_replid:abc\r\nmaster_replid2:000\r\n";
        assert_eq!(master_id(info).expect("a master"), "abc");
        let replica = info.replace("role:master", "role:slave");
        assert!(matches!(master_id(&replica), Err(ConnectionError::NotMaster)));
        assert!(master_id("role:master\r\n").is_err());
        assert!(master_id("").is_err());
    }
}
