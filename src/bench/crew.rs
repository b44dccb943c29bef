//! The connections of a scenario: opened with a window, numbered, and watched.

use std::io;

use bytes::Bytes;
use hdrhistogram::Histogram;

use super::engine::{Engine, Leaving};
use super::event::{Event, Peer};
use super::http::Requests;
use super::meter::{Meter, MeterError, Usage, Watched};
use super::options::Shared;
use super::progress::Progress;
use super::redis;
use super::report::{Failures, Row, histogram, record};
use super::scan::Scanner;
use super::target::{Target, TargetError};
use super::ticker::{SECOND_NS, Ticker, nanoseconds};
use crate::auth::issue;
use crate::protocol::EncodeError;
use crate::protocol::command::{Command, ConnectRequest, SubscribeRequest};
use crate::protocol::frame::Codec;
use crate::protocol::reply::SubscribeResult;
use crate::time::Clock;

/// Connections begun between two looks at the others: a burst of all that may be under way would be
/// measured as the server's slowness.
const DIALS: usize = 8;
/// When for so long no connection under way gets anywhere, opening them has failed.
const STALLED_NS: u64 = 30 * SECOND_NS;
/// Seconds for which tokens made here are valid.
const TOKEN_TTL: u32 = 86_400;

/// Everything that a scenario works with.
pub struct Crew {
    pub engine: Engine,
    pub failures: Failures,
    pub rows: Vec<Row>,
    pub progress: Progress,
    shared: Shared,
    watched: Watched,
    api: Target,
    clock: Clock,
    ticker: Ticker,
    /// The connections, by their number in the scenario.
    members: Vec<Peer>,
    /// Their numbers, by their peer.
    numbers: Vec<Option<usize>>,
}

/// Why a run ends before its end.
#[derive(Debug, thiserror::Error)]
pub enum Halt {
    /// The server did what makes going on pointless; the report says so.
    #[error("{0}")]
    Fault(String),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Meter(#[from] MeterError),
    #[error("the system refuses: {0}")]
    System(#[from] io::Error),
    #[error("cannot encode a command: {0}")]
    Encode(#[from] EncodeError),
}

/// How opening connections went.
#[derive(Debug)]
pub struct Gathered {
    /// From the first packet to the last subscription, in nanoseconds.
    pub times: Histogram<u64>,
    pub usage: Usage,
}

impl Crew {
    /// A crew without members.
    ///
    /// # Errors
    /// Addresses that cannot be used.
    pub fn new(shared: &Shared, clock: Clock) -> Result<Self, Halt> {
        let target = Target::new(&shared.url)?;
        let api = shared.api_url.as_deref().map_or_else(|| Ok(target.api()), Target::http)?;
        let watched = Watched {
            pid: shared.pid,
            beside: shared.beside.clone(),
            redis: shared.redis.as_deref().map(redis::find).transpose()?,
        };
        let engine = Engine::new(target, shared.codec.codec(), clock.clone())?;
        Ok(Self {
            ticker: engine.ticker().clone(),
            engine,
            failures: Failures::default(),
            rows: Vec::new(),
            progress: Progress::new(),
            shared: shared.clone(),
            watched,
            api,
            clock,
            members: Vec::new(),
            numbers: Vec::new(),
        })
    }

    /// Opens connections until there are `count`; each gets the subscriptions of its number. What
    /// happens meanwhile is handed to `seen`, with the number of the member.
    ///
    /// # Errors
    /// A member that is refused or dropped, and a server that does not answer.
    pub fn gather(
        &mut self,
        count: usize,
        subscriptions: impl Fn(usize) -> Vec<SubscribeRequest>,
        mut seen: impl FnMut(usize, &Event),
    ) -> Result<Gathered, Halt> {
        let first = self.members.len();
        let (mut ready, mut times, mut events) = (first, histogram(), Vec::new());
        // Signing tokens is not what is measured.
        let greetings: Result<Vec<_>, _> =
            (first..count).map(|number| self.greeting(number, subscriptions(number))).collect();
        let mut greetings = greetings?.into_iter();
        self.engine.prepare(greetings.len())?;
        let meter = self.meter()?;
        let mut stalled_ns = self.engine.now_ns() + STALLED_NS;
        while ready < count {
            let under_way = self.members.len() - ready;
            let room = (self.shared.window as usize).saturating_sub(under_way);
            for (greeting, replies) in greetings.by_ref().take(room.min(DIALS)) {
                let peer = self.engine.dial(greeting, replies)?;
                self.enlist(peer);
            }
            self.engine.poll(stalled_ns, &mut events)?;
            for event in &events {
                let Some(number) = self.number(event.peer()) else { continue };
                match event {
                    Event::Ready { took_ns, .. } => {
                        ready += 1;
                        record(&mut times, *took_ns);
                        stalled_ns = self.engine.now_ns() + STALLED_NS;
                    }
                    Event::Closed { why, .. } => {
                        return Err(Halt::Fault(format!("client {number}: {why}")));
                    }
                    _ => {}
                }
                seen(number, event);
            }
            let now_ns = self.engine.now_ns();
            if now_ns >= stalled_ns {
                let seconds = STALLED_NS / SECOND_NS;
                return Err(Halt::Fault(format!(
                    "{} of {count} clients are connected, and for {seconds} s no other was",
                    ready
                )));
            }
            self.progress.show(now_ns, || format!("connecting: {ready} of {count}"));
        }
        Ok(Gathered { times, usage: meter.finish()? })
    }

    /// Ends all connections.
    pub fn scatter(&mut self, leaving: Leaving) {
        for peer in std::mem::take(&mut self.members) {
            self.engine.leave(peer, leaving);
        }
        self.numbers.clear();
    }

    /// Waits, answers pings, and notes every member that is dropped meanwhile.
    ///
    /// # Errors
    /// If the kernel cannot wait.
    pub fn hold(&mut self, seconds: f64, what: &str) -> Result<(), Halt> {
        let end_ns = self.engine.now_ns() + nanoseconds(seconds);
        let mut events = Vec::new();
        loop {
            let now_ns = self.engine.now_ns();
            if now_ns >= end_ns {
                return Ok(());
            }
            self.progress.show(now_ns, || {
                format!("{what}: {} s left", (end_ns - now_ns).div_ceil(SECOND_NS))
            });
            self.engine.poll(end_ns.min(now_ns + SECOND_NS), &mut events)?;
            for event in &events {
                self.note(event);
            }
        }
    }

    /// Notes what must not happen in a run: a member that is dropped, an unsubscription, a refusal.
    /// Gives the member that was lost, if one was.
    pub fn note(&mut self, event: &Event) -> Option<usize> {
        let number = self.number(event.peer())?;
        match event {
            Event::Closed { why, peer } => {
                self.failures.add(format!("client {number}: {why}"));
                self.forget(*peer);
                return Some(number);
            }
            Event::Pushed { push, .. } => {
                if let Some(unsubscribed) = &push.unsubscribe {
                    let (code, channel) = (unsubscribed.code, &push.channel);
                    self.failures
                        .add(format!("client {number}: unsubscribed from {channel} with {code}"));
                }
            }
            Event::Replied { reply, .. } => {
                if let Some(error) = &reply.error {
                    let (code, message) = (error.code, &error.message);
                    self.failures.add(format!("client {number}: refused with {code} {message:?}"));
                }
            }
            _ => {}
        }
        None
    }

    /// Takes the number from a connection that is gone; another may get its peer.
    pub fn forget(&mut self, peer: Peer) {
        if let Some(entry) = self.numbers.get_mut(peer) {
            *entry = None;
        }
    }

    /// Opens connections to the server API.
    ///
    /// # Errors
    /// If there are no more sockets.
    pub fn dial_api(&mut self, count: usize) -> Result<Vec<Peer>, Halt> {
        let dialled = (0..count).map(|_| self.engine.dial_api(&self.api));
        Ok(dialled.collect::<io::Result<_>>()?)
    }

    /// Requests to the server API.
    pub fn requests(&self) -> Requests {
        let key = self.shared.api_key.as_ref();
        Requests::new(&self.api, key.map(|key| key.expose()))
    }

    /// Starts to measure a row.
    ///
    /// # Errors
    /// If the server's process, or another of the run, is not there.
    pub fn meter(&self) -> Result<Meter, Halt> {
        Ok(Meter::start(&self.watched, &self.ticker)?)
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    pub fn codec(&self) -> Codec {
        self.engine.codec()
    }

    /// The connections, by their number.
    pub fn members(&self) -> &[Peer] {
        &self.members
    }

    /// The number of a connection; `None` for one to the server API or one that is gone.
    pub fn number(&self, peer: Peer) -> Option<usize> {
        self.numbers.get(peer).copied().flatten()
    }

    /// The name of a channel.
    pub fn channel(&self, number: usize) -> String {
        format!("{}{number}", self.shared.channel)
    }

    fn enlist(&mut self, peer: Peer) {
        if self.numbers.len() <= peer {
            self.numbers.resize(peer + 1, None);
        }
        if let Some(entry) = self.numbers.get_mut(peer) {
            *entry = Some(self.members.len());
        }
        self.members.push(peer);
    }

    /// The result of a subscription, if that is what was [made](Event::Made).
    ///
    /// # Errors
    /// What is not of the protocol.
    pub fn subscribed(&self, message: &[u8]) -> Result<Option<SubscribeResult>, Halt> {
        let reply = Scanner::new(self.codec()).decode(message).map_err(Halt::Fault)?;
        Ok(reply.subscribe)
    }

    /// The first frame of a member, and how many replies it gets.
    fn greeting(
        &self,
        number: usize,
        subscriptions: Vec<SubscribeRequest>,
    ) -> Result<(Vec<u8>, usize), Halt> {
        let codec = self.codec();
        let request = ConnectRequest {
            token: self.token(number),
            name: "bobolink-bench".to_owned(),
            ..ConnectRequest::default()
        };
        let connect = Command { id: 1, connect: Some(request), ..Command::default() };
        let mut messages: Vec<Bytes> = vec![codec.encode_command(&connect)?];
        for (id, request) in (2..).zip(subscriptions) {
            let subscribe = Command { id, subscribe: Some(request), ..Command::default() };
            messages.push(codec.encode_command(&subscribe)?);
        }
        Ok((codec.join(&messages).to_vec(), messages.len()))
    }

    fn token(&self, number: usize) -> String {
        match (&self.shared.token, &self.shared.token_secret) {
            (Some(token), _) => token.expose().to_owned(),
            (None, Some(secret)) => {
                let (user, now) = (format!("bench-{number}"), self.clock.unix_seconds());
                issue::connection_token(secret.expose(), &user, Some(TOKEN_TTL), now)
            }
            (None, None) => String::new(),
        }
    }
}
