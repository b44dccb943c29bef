//! The server API under load: how many requests it answers, and that what it took is delivered.

use std::collections::VecDeque;
use std::ops::Range;

use hdrhistogram::Histogram;

use super::subscription;
use crate::bench::crew::{Crew, Halt};
use crate::bench::event::{Delivery, Event, Peer};
use crate::bench::gauge::{Gauge, Measured};
use crate::bench::http::{Requests, broadcast_body, publish_body};
use crate::bench::options::{Method, PublishArgs, Rate};
use crate::bench::payload::Mark;
use crate::bench::report::{Latency, Row, histogram, record};
use crate::bench::schedule::Schedule;
use crate::bench::ticker::{SECOND_NS, nanoseconds};
use crate::bench::verify::{Faults, Sequence, Verdict};

/// Requests that may be overdue; past these the server is too far behind to measure.
const MAX_OVERDUE: usize = 100_000;
/// When so long after the last answer nothing more comes, it is not waited for any more.
const SILENCE_NS: u64 = 5 * SECOND_NS;
/// What publications of the run are marked with.
const RUN: u16 = 1;

/// Runs the scenario: one row.
///
/// # Errors
/// As [`Crew::gather`], and a server API that cannot be reached.
pub fn run(crew: &mut Crew, args: &PublishArgs) -> Result<(), Halt> {
    let names: Vec<_> = (0..args.channels as usize).map(|number| crew.channel(number)).collect();
    let all = |_| names.iter().cloned().map(subscription).collect();
    // A broadcast carries the same mark into all its channels.
    let prefix = crew.shared().channel.clone();
    crew.engine.read_channels(&prefix);
    crew.gather(args.subscribers as usize, all, |_, _| {})?;
    let peers = crew.dial_api(args.connections as usize)?;
    let mut load = Publishing::new(crew, args, names.clone(), peers);
    let measured = load.run(crew)?;
    let row = load.finish(crew, &measured);
    crew.rows.push(row);
    Ok(())
}

/// The load at work.
struct Publishing<'a> {
    args: &'a PublishArgs,
    names: Vec<String>,
    requests: Requests,
    peers: Vec<Peer>,
    /// Connections without a request, as places in `peers`.
    free: VecDeque<usize>,
    /// When the request of each connection was due.
    due: Vec<u64>,
    /// Due times of requests for which there was no connection.
    overdue: VecDeque<u64>,
    schedule: Option<Schedule>,
    window: Range<u64>,
    /// The next channel.
    turn: usize,
    /// Publications by channel and connection.
    sent: Vec<u32>,
    /// What each subscriber saw, by subscriber, channel and connection.
    seen: Vec<Sequence>,
    faults: Faults,
    outstanding: u64,
    times: Histogram<u64>,
}

impl<'a> Publishing<'a> {
    fn new(crew: &Crew, args: &'a PublishArgs, names: Vec<String>, peers: Vec<Peer>) -> Self {
        let (warmup, seconds) = (crew.shared().warmup, crew.shared().seconds);
        let start_ns = crew.engine.now_ns();
        let from = start_ns + nanoseconds(warmup);
        let lanes = names.len() * peers.len();
        Self {
            args,
            requests: crew.requests(),
            free: (0..peers.len()).collect(),
            due: vec![0; peers.len()],
            peers,
            overdue: VecDeque::new(),
            schedule: match args.rate {
                Rate::Max => None,
                Rate::PerSecond(rate) => Some(Schedule::new(start_ns, rate, warmup + seconds)),
            },
            window: from..from + nanoseconds(seconds),
            turn: 0,
            sent: vec![0; lanes],
            seen: vec![Sequence::default(); lanes * args.subscribers as usize],
            names,
            faults: Faults::default(),
            outstanding: 0,
            times: histogram(),
        }
    }

    fn run(&mut self, crew: &mut Crew) -> Result<Measured, Halt> {
        let mut gauge = Gauge::new(self.window.clone());
        let (mut events, mut heard_ns) = (Vec::new(), 0);
        loop {
            gauge.look(crew)?;
            let now_ns = crew.engine.now_ns();
            self.send(crew, now_ns)?;
            let is_over = gauge.is_done();
            let is_idle = self.free.len() == self.peers.len() && self.overdue.is_empty();
            if is_over && is_idle && self.outstanding == 0 {
                return Ok(gauge.finish(crew));
            }
            let edge = gauge.next_ns().unwrap_or(now_ns + SECOND_NS / 10);
            crew.engine.poll(self.until_ns(now_ns, edge), &mut events)?;
            for event in &events {
                self.take(crew, event)?;
            }
            // Silence is what a look at the sockets finds, however long this thread was kept from it.
            let is_silent = events.is_empty() && now_ns >= heard_ns + SILENCE_NS;
            if !events.is_empty() || !is_over {
                heard_ns = crew.engine.now_ns();
            } else if is_silent {
                return Ok(gauge.finish(crew));
            }
            let published = self.times.len() * self.args.items_each();
            crew.progress.show(now_ns, || format!("{published} published"));
        }
    }

    fn send(&mut self, crew: &mut Crew, now_ns: u64) -> Result<(), Halt> {
        match &mut self.schedule {
            Some(schedule) => {
                self.overdue
                    .extend(std::iter::from_fn(|| schedule.take_due(now_ns)).map(|(_, due)| due));
            }
            None if now_ns < self.window.end => {
                let lacking = self.free.len().saturating_sub(self.overdue.len());
                self.overdue.extend(std::iter::repeat_n(now_ns, lacking));
            }
            None => self.overdue.clear(),
        }
        if self.overdue.len() > MAX_OVERDUE {
            let count = self.overdue.len();
            return Err(Halt::Fault(format!("{count} requests wait for the server API")));
        }
        while let (Some(lane), false) = (self.free.front().copied(), self.overdue.is_empty()) {
            self.free.pop_front();
            let due_ns = self.overdue.pop_front().unwrap_or(now_ns);
            let body = self.body(lane, due_ns);
            let request = self.requests.post(self.args.method.name(), &body);
            if let (Some(peer), Some(due)) = (self.peers.get(lane), self.due.get_mut(lane)) {
                *due = due_ns;
                crew.engine.request(*peer, request);
            }
        }
        Ok(())
    }

    fn until_ns(&self, now_ns: u64, edge: u64) -> u64 {
        let due = self.schedule.as_ref().and_then(Schedule::peek).map(|(_, due_ns)| due_ns);
        let is_stuck = self.free.is_empty();
        edge.min(due.filter(|_| !is_stuck).unwrap_or(u64::MAX)).min(now_ns + SECOND_NS / 2)
    }

    fn body(&mut self, lane: usize, due_ns: u64) -> Vec<u8> {
        let items = self.args.items_each() as usize;
        match self.args.method {
            Method::Publish => {
                let channel = self.next_channel();
                let payload = self.payload(channel, lane, due_ns);
                publish_body(self.name(channel), &payload)
            }
            Method::Batch => {
                let mut body = b"{\"commands\":[".to_vec();
                for item in 0..items {
                    let channel = self.next_channel();
                    let payload = self.payload(channel, lane, due_ns);
                    body.extend_from_slice(if item == 0 { b"" } else { b"," });
                    body.extend_from_slice(b"{\"publish\":");
                    body.extend_from_slice(&publish_body(self.name(channel), &payload));
                    body.push(b'}');
                }
                body.extend_from_slice(b"]}");
                body
            }
            Method::Broadcast => {
                // All channels get the same payload, which is marked as of the first. Each has had
                // as many from this connection.
                let payload = self.payload(0, lane, due_ns);
                for channel in 1..items {
                    self.count(channel, lane);
                }
                broadcast_body(self.names.get(..items).unwrap_or_default(), &payload)
            }
        }
    }

    fn payload(&mut self, channel: usize, lane: usize, due_ns: u64) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.args.size);
        if let Some(sequence) = self.count(channel, lane) {
            let (channel, voice) = (channel as u32, lane as u32);
            Mark { run: RUN, channel, voice, sequence, due_ns }.write(self.args.size, &mut payload);
        }
        payload
    }

    /// Counts a publication of a connection to a channel; how many it had before.
    fn count(&mut self, channel: usize, lane: usize) -> Option<u32> {
        let place = self.place(channel, lane)?;
        let sent = self.sent.get_mut(place)?;
        let before = *sent;
        *sent += 1;
        self.outstanding += u64::from(self.args.subscribers);
        Some(before)
    }

    fn next_channel(&mut self) -> usize {
        let channel = self.turn;
        self.turn = (self.turn + 1) % self.names.len().max(1);
        channel
    }

    fn name(&self, channel: usize) -> &str {
        self.names.get(channel).map(String::as_str).unwrap_or_default()
    }

    fn take(&mut self, crew: &mut Crew, event: &Event) -> Result<(), Halt> {
        match event {
            Event::Answered { peer, outcome, at_ns } => {
                if let Err(why) = outcome {
                    return Err(Halt::Fault(why.clone()));
                }
                let Some(lane) = self.peers.iter().position(|it| it == peer) else { return Ok(()) };
                self.free.push_back(lane);
                let due_ns = self.due.get(lane).copied().unwrap_or(*at_ns);
                if self.window.contains(&due_ns) {
                    record(&mut self.times, at_ns.saturating_sub(due_ns));
                }
            }
            Event::Published(delivery) => self.deliver(crew, delivery),
            Event::Closed { peer, why } if crew.number(*peer).is_none() => {
                return Err(Halt::Fault(format!("a connection to the server API: {why}")));
            }
            other => drop(crew.note(other)),
        }
        Ok(())
    }

    fn deliver(&mut self, crew: &mut Crew, delivery: &Delivery) {
        let Delivery { peer, channel: Some(channel), mark, .. } = *delivery else {
            crew.failures.add("a publication came from a channel of no such name");
            return;
        };
        let Some(member) = crew.number(peer).filter(|_| mark.run == RUN) else { return };
        let place = self.place(channel as usize, mark.voice as usize);
        let is_ours = self.args.method == Method::Broadcast || channel == mark.channel;
        let sequence = place.and_then(|place| self.seen.get_mut(member * self.sent.len() + place));
        let Some(sequence) = sequence.filter(|_| is_ours) else {
            let from = mark.channel;
            crew.failures
                .add(format!("client {member}: a publication of channel {from} in {channel}"));
            return;
        };
        let verdict = sequence.take(mark.sequence.into());
        self.faults.count(verdict);
        self.outstanding = self.outstanding.saturating_sub(u64::from(verdict != Verdict::Doubled));
    }

    /// Where what a connection published to a channel is counted.
    fn place(&self, channel: usize, lane: usize) -> Option<usize> {
        let is_there = channel < self.names.len() && lane < self.peers.len();
        is_there.then_some(channel * self.peers.len() + lane)
    }

    /// Deliveries of which neither they nor any later ones came.
    fn lacking(&self) -> u64 {
        let of = |seen: &[Sequence]| -> u64 {
            let pairs = std::iter::zip(&self.sent, seen);
            pairs.map(|(sent, seen)| u64::from(*sent).saturating_sub(seen.next())).sum()
        };
        self.seen.chunks(self.sent.len().max(1)).map(of).sum()
    }

    fn finish(mut self, crew: &mut Crew, measured: &Measured) -> Row {
        let mut row = self.row(measured);
        let unanswered = self.peers.len() - self.free.len() + self.overdue.len();
        if unanswered > 0 {
            crew.failures.add(format!("{unanswered} requests were never answered"));
        }
        self.faults.missing += self.lacking();
        let Faults { missing, doubled, disordered } = self.faults;
        if !self.faults.is_none() {
            crew.failures.add(format!(
                "of the deliveries {missing} never came, {doubled} came a second time and \
                 {disordered} after later ones"
            ));
        }
        row.metrics.count("missing", missing);
        row.metrics.count("doubled", doubled);
        row.metrics.count("disordered", disordered);
        row.latency = Latency::of(&self.times);
        row
    }

    fn row(&self, measured: &Measured) -> Row {
        let Measured { usage, counted } = measured;
        let label = match self.args.rate {
            Rate::Max => format!("{} max", self.args.method.name()),
            Rate::PerSecond(rate) => format!("{} {rate}/s", self.args.method.name()),
        };
        let mut row = usage.row(label);
        let publications = (counted.answers * self.args.items_each()) as f64;
        row.metrics.set("requests_per_s", counted.answers as f64 / usage.seconds);
        row.metrics.set("publications_per_s", publications / usage.seconds);
        if let Some(server) = usage.server {
            row.metrics.set("cpu_us_per_publication", server.cpu_s() * 1e6 / publications);
            row.metrics.set("user_us_per_publication", server.user_s * 1e6 / publications);
            row.metrics.set("system_us_per_publication", server.system_s * 1e6 / publications);
        }
        if let Some(redis) = usage.redis {
            row.metrics.set("redis_cpu_us_per_publication", redis.cpu_s() * 1e6 / publications);
            let commands = redis.commands as f64;
            row.metrics.set("redis_commands_per_publication", commands / publications);
        }
        row
    }
}

impl PublishArgs {
    /// Publications of one request.
    fn items_each(&self) -> u64 {
        match self.method {
            Method::Publish => 1,
            Method::Broadcast | Method::Batch => self.items.into(),
        }
    }
}

impl Method {
    /// As the server API calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Broadcast => "broadcast",
            Self::Batch => "batch",
        }
    }
}
