//! Moves the bytes of a [`Link`](super::link::Link): questions out in batches, answers back in order.
//!
//! A driver that waits for replicas sends one `WAIT` behind each batch of questions and hands out the
//! batch's answers when that one is there. While it waits, the next batch gathers: however many are
//! waiting, the replicas are asked once for all of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use compact_str::CompactString;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::dial::{ConnectionError, Conversation, Wire};
use super::link::{CallError, look, master_id};
use super::options::Replicas;
use super::resp::{Command, Decoder, Value};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::CallOutcome;
use crate::time::Clock;

/// Questions that may wait to be sent; more wait at their callers.
pub(super) const WAITING: usize = 4_096;
/// Questions that may be open. Redis answers in order, so more of them would only be late.
const OPEN: usize = 16_384;
/// Bytes gathered before they are written.
const GATHERED: usize = 256 * 1_024;
/// Bytes made room for before each read.
const READ_BYTES: usize = 64 * 1_024;
/// How often the server is asked whether it is still the same master: the rule of the fence.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A command, and who waits for its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub command: Command,
    /// Send `ASKING` before it: the server is still taking over the slot.
    pub asking: bool,
    pub answer: Sender,
}

type Sender = oneshot::Sender<Result<Value, CallError>>;

/// Counts and times calls.
#[derive(Clone)]
pub(super) struct Meter {
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}

/// An answer that is to come.
enum Open {
    /// To a question, and when it was sent.
    Answer(Sender, std::time::Instant),
    /// To our own look at the server.
    Look,
    /// To `ASKING`: the question behind it has an answer of its own.
    Asking,
    /// To `WAIT`: how many replicas have the batch before it.
    Wait,
}

/// See the [module](self).
pub(super) struct Driver {
    input: ReadHalf<Box<dyn Wire>>,
    output: WriteHalf<Box<dyn Wire>>,
    decoder: Decoder,
    received: BytesMut,
    to_send: BytesMut,
    questions: mpsc::Receiver<Question>,
    /// What was sent, in order.
    open: VecDeque<Open>,
    identity: CompactString,
    io_timeout: Duration,
    /// When the look that is open was sent.
    looking_since: Option<Instant>,
    /// How many replicas must have what is written before it is answered.
    replicas: Option<Replicas>,
    /// Answers of the batch whose `WAIT` is open.
    held: Vec<(Sender, Value)>,
    is_waiting: bool,
    meter: Meter,
}

impl Driver {
    pub fn new(
        conversation: Conversation,
        questions: mpsc::Receiver<Question>,
        identity: CompactString,
        io_timeout: Duration,
        replicas: Option<Replicas>,
        meter: Meter,
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
            replicas,
            held: Vec::new(),
            is_waiting: false,
            meter,
        }
    }

    /// Drives the link until it ends by itself, or `stop` ends it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ConnectionError> {
        let ended = tokio::select! {
            ended = self.exchange() => ended,
            () = stop.cancelled() => Ok(()),
        };
        // Those that are open learn it from their senders being dropped.
        let open = self.open.iter().filter(|open| matches!(open, Open::Answer(..))).count();
        self.meter.calls(CallOutcome::Unknown, open + self.held.len());
        self.questions.close();
        while let Ok(question) = self.questions.try_recv() {
            self.meter.calls(CallOutcome::Unavailable, 1);
            let _ = question.answer.send(Err(CallError::Unavailable));
        }
        ended
    }

    async fn exchange(&mut self) -> Result<(), ConnectionError> {
        let mut looks = looks(LOOK_EVERY);
        let mut gathered = Vec::new();
        loop {
            let room = OPEN.saturating_sub(self.open.len());
            let gathers = room > 0 && self.to_send.len() < GATHERED && !self.is_waiting;
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
                    self.ask(gathered.drain(..));
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

    fn ask(&mut self, questions: impl Iterator<Item = Question>) {
        let now = self.meter.clock.now();
        for question in questions {
            if question.asking {
                Command::new("ASKING").encode(&mut self.to_send);
                self.open.push_back(Open::Asking);
            }
            question.command.encode(&mut self.to_send);
            self.open.push_back(Open::Answer(question.answer, now));
        }
        if let Some(replicas) = &self.replicas {
            let wait = Command::new("WAIT").number(u64::from(replicas.count));
            let limit_ms = replicas.timeout.as_millis().max(1) as u64;
            wait.number(limit_ms).encode(&mut self.to_send);
            self.open.push_back(Open::Wait);
            self.is_waiting = true;
        }
    }

    /// Asks the server whether it is the same still. Answers come in order, so a look that stays
    /// open means that nothing is answered.
    fn look(&mut self, now: Instant) -> Result<(), ConnectionError> {
        match self.looking_since {
            None => {
                look().encode(&mut self.to_send);
                self.open.push_back(Open::Look);
                self.looking_since = Some(now);
                Ok(())
            }
            Some(since) if now.duration_since(since) < self.io_timeout => Ok(()),
            Some(_) => Err(ConnectionError::Timeout(self.io_timeout)),
        }
    }

    fn hand_out_answers(&mut self) -> Result<(), ConnectionError> {
        let now = self.meter.clock.now();
        while let Some(value) = self.decoder.next(&mut self.received)? {
            if matches!(value, Value::Push(_)) {
                continue;
            }
            match self.open.pop_front() {
                Some(Open::Answer(answer, asked)) => {
                    self.meter.timed(now.saturating_duration_since(asked));
                    self.answer(answer, value);
                }
                Some(Open::Look) => {
                    self.looking_since = None;
                    let info = value.str().ok_or(ConnectionError::Unexpected("what INFO tells"))?;
                    if master_id(info)? != self.identity {
                        return Err(ConnectionError::OtherIdentity);
                    }
                }
                Some(Open::Asking) => {}
                Some(Open::Wait) => self.release(&value),
                None => return Err(ConnectionError::Unexpected("an answer to no question")),
            }
        }
        Ok(())
    }

    fn answer(&mut self, answer: Sender, value: Value) {
        match value {
            // Nothing was written that replicas could have.
            Value::Error(text) => {
                let text = CompactString::from_utf8_lossy(&text);
                self.meter.calls(CallOutcome::Refused, 1);
                let _ = answer.send(Err(CallError::Refused(text)));
            }
            value if self.replicas.is_some() => self.held.push((answer, value)),
            value => {
                self.meter.calls(CallOutcome::Done, 1);
                let _ = answer.send(Ok(value));
            }
        }
    }

    /// Hands out the answers of the batch that replicas were waited for.
    fn release(&mut self, count: &Value) {
        self.is_waiting = false;
        let failure = match (&self.replicas, count.number()) {
            (Some(Replicas { count, timeout }), Some(had)) if had < u64::from(*count) => {
                Some(CallError::TooFewReplicas { wanted: *count, had, within: *timeout })
            }
            (_, Some(_)) => None,
            // A server that stops being a master answers with an error.
            (_, None) => Some(CallError::OutcomeUnknown),
        };
        let outcome = if failure.is_none() { CallOutcome::Done } else { CallOutcome::Unknown };
        self.meter.calls(outcome, self.held.len());
        for (answer, value) in self.held.drain(..) {
            let _ = answer.send(failure.clone().map_or(Ok(value), Err));
        }
    }
}

impl Meter {
    fn timed(&self, took: Duration) {
        self.metrics.redis.call_duration.observe(took.as_secs_f64());
    }

    fn calls(&self, outcome: CallOutcome, count: usize) {
        self.metrics.redis.calls.with(outcome).inc_by(count as u64);
    }
}

/// Ticks from one `period` on; a stall is not made up for.
pub(super) fn looks(period: Duration) -> Interval {
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.reset();
    looks
}
