//! A load in an open loop, and the check that every subscriber gets all of it.

use bytes::Bytes;
use hdrhistogram::Histogram;

use super::crew::{Crew, Halt};
use super::event::{Counters, Delivery, Event, Peer};
use super::http::Requests;
use super::meter::{Meter, MeterError, Usage};
use super::payload::Mark;
use super::report::{Latency, Row, histogram, record};
use super::roster::{Place, Publishers, Roster};
use super::schedule::Schedule;
use super::ticker::{SECOND_NS, nanoseconds};
use super::verify::{Faults, Sequence, Verdict};
use crate::protocol::command::{Command, PublishRequest};

/// From the plan to the first publication.
const LEAD_NS: u64 = SECOND_NS / 100;
/// Publications sent between two looks at the sockets.
const BURST: usize = 64;
/// When so long after the last publication nothing more came, what is missing is missing.
const SILENCE_NS: u64 = 3 * SECOND_NS;
/// Longest wait after the last publication.
const PATIENCE_NS: u64 = 60 * SECOND_NS;
/// Faults of one step that are listed one by one.
const MAX_NAMED: u64 = 10;

/// How publications get to the server.
#[derive(Debug)]
pub enum Route {
    /// Over these connections to the server API; a publisher always takes the same.
    Api { requests: Requests, peers: Vec<Peer> },
    /// By these connections, one for each publisher.
    Clients(Vec<Peer>),
    /// By the members themselves.
    Members,
}

/// What one step of a load is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub roster: Roster,
    /// Publications per second.
    pub rate: f64,
    /// Bytes of each.
    pub size: usize,
    pub warmup_s: f64,
    pub seconds: f64,
}

/// What one step found.
#[derive(Debug)]
pub struct Outcome {
    pub usage: Usage,
    /// Due in the time that counts.
    pub published: u64,
    /// Deliveries of these that should have come, and that came.
    pub expected: u64,
    pub delivered: u64,
    /// Deliveries, of whatever, read in the time that counts.
    pub read: u64,
    pub read_frames: u64,
    /// Over the whole step.
    pub faults: Faults,
    pub latency: Histogram<u64>,
    /// How late the generator itself sent.
    pub lag: Histogram<u64>,
    /// Members that were dropped.
    pub lost: u64,
    /// Going on is pointless: nothing is taken any more, or nobody is left.
    pub is_broken: bool,
}

/// A step at work.
struct Step<'a> {
    load: &'a Load,
    route: &'a Route,
    run: u16,
    names: Vec<String>,
    /// The time that counts, as due times.
    window: std::ops::Range<u64>,
    /// Publications so far, by channel and voice.
    sent: Vec<u32>,
    /// What each member saw, by member and voice.
    seen: Vec<Sequence>,
    /// The offset that each member saw last; 0 before the first.
    offsets: Vec<u64>,
    ignored: &'a dyn Fn(usize) -> bool,
    outstanding: u64,
    named: u64,
    command_id: u32,
    outcome: Outcome,
}

/// Runs one step on members that are subscribed as its roster says. Of the members for which
/// `ignored` says so nothing is expected.
///
/// # Errors
/// If the kernel cannot wait or the server's process is gone.
pub fn run(
    crew: &mut Crew,
    load: &Load,
    route: &Route,
    run: u16,
    ignored: &dyn Fn(usize) -> bool,
) -> Result<Outcome, Halt> {
    let start_ns = crew.engine.now_ns() + LEAD_NS;
    let mut schedule = Schedule::new(start_ns, load.rate, load.warmup_s + load.seconds);
    let from = start_ns + nanoseconds(load.warmup_s);
    let window = from..from + nanoseconds(load.seconds);
    let mut step = Step::new(crew, load, route, run, window.clone(), ignored);
    let mut gauge = Gauge::default();
    let (mut events, mut last_ns) = (Vec::new(), window.end);
    loop {
        let now_ns = crew.engine.now_ns();
        gauge.look(crew, now_ns, &window, &mut step.outcome)?;
        for (number, due_ns) in std::iter::from_fn(|| schedule.take_due(now_ns)).take(BURST) {
            step.publish(crew, number, due_ns)?;
        }
        if let Some((_, due_ns)) = schedule.peek() {
            last_ns = due_ns.max(now_ns);
        } else if gauge.is_done() {
            let silent = now_ns >= last_ns + SILENCE_NS || now_ns >= window.end + PATIENCE_NS;
            if step.outstanding == 0 || silent {
                break;
            }
        }
        let edge = if gauge.is_running() { window.end } else { window.start };
        let edge = if gauge.is_done() { now_ns + SECOND_NS / 10 } else { edge };
        let due = schedule.peek().map_or(u64::MAX, |(_, due_ns)| due_ns);
        crew.engine.poll(due.min(edge).min(now_ns + SECOND_NS / 2), &mut events)?;
        for event in &events {
            if step.take(crew, event) {
                last_ns = last_ns.max(now_ns);
            }
        }
        if step.outcome.is_broken {
            gauge.stop(crew, &mut step.outcome);
            break;
        }
        crew.progress.show(now_ns, || step.describe(now_ns));
    }
    Ok(step.finish(crew))
}

impl Outcome {
    /// A row with everything that is the same for all loads.
    pub fn row(&self, label: impl Into<String>, load: &Load) -> Row {
        let mut row = self.usage.row(label);
        let metrics = &mut row.metrics;
        let seconds = self.usage.seconds;
        metrics.set("publications_per_s", load.rate);
        metrics.set("offered_per_s", load.rate * self.deliveries_per_publication(load));
        metrics.set("delivered_per_s", self.read as f64 / seconds);
        metrics.count("published", self.published);
        metrics.count("expected", self.expected);
        metrics.count("delivered", self.delivered);
        metrics.count("missing", self.faults.missing);
        metrics.count("doubled", self.faults.doubled);
        metrics.count("disordered", self.faults.disordered);
        metrics.count("disconnected", self.lost);
        metrics.set("messages_per_frame", self.read as f64 / self.read_frames as f64);
        metrics.set("send_lag_p99_us", self.lag.value_at_quantile(0.99) as f64 / 1_000.0);
        if let Some(server) = self.usage.server {
            let deliveries = self.read as f64;
            metrics.set("cpu_us_per_delivery", server.cpu_s() * 1e6 / deliveries);
            metrics.set("user_us_per_delivery", server.user_s * 1e6 / deliveries);
            metrics.set("system_us_per_delivery", server.system_s * 1e6 / deliveries);
        }
        row.latency = Latency::of(&self.latency);
        row
    }

    /// 99 % of the deliveries came within this, in milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.latency.value_at_quantile(0.99) as f64 / 1e6
    }

    fn deliveries_per_publication(&self, load: &Load) -> f64 {
        match self.published {
            0 => load.roster.subscribers as f64,
            published => self.expected as f64 / published as f64,
        }
    }
}

/// Looks at the meters where the time that counts begins and ends.
#[derive(Default)]
struct Gauge {
    meter: Option<(Meter, Counters)>,
    is_done: bool,
}

impl Gauge {
    fn look(
        &mut self,
        crew: &Crew,
        now_ns: u64,
        window: &std::ops::Range<u64>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        match &self.meter {
            None if now_ns >= window.start => {
                self.meter = Some((crew.meter()?, crew.engine.counters()));
            }
            Some((meter, before)) if !self.is_done && now_ns >= window.end => {
                self.is_done = true;
                read(meter, before, crew, outcome)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what there is when a step ends before its time.
    fn stop(&self, crew: &mut Crew, outcome: &mut Outcome) {
        if let (Some((meter, before)), false) = (&self.meter, self.is_done)
            && let Err(error) = read(meter, before, crew, outcome)
        {
            crew.failures.add(error.to_string());
        }
    }

    fn is_running(&self) -> bool {
        self.meter.is_some() && !self.is_done
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

fn read(
    meter: &Meter,
    before: &Counters,
    crew: &Crew,
    outcome: &mut Outcome,
) -> Result<(), MeterError> {
    let after = crew.engine.counters();
    outcome.read = after.publications - before.publications;
    outcome.read_frames = after.frames - before.frames;
    outcome.usage = meter.finish()?;
    Ok(())
}

impl<'a> Step<'a> {
    fn new(
        crew: &Crew,
        load: &'a Load,
        route: &'a Route,
        run: u16,
        window: std::ops::Range<u64>,
        ignored: &'a dyn Fn(usize) -> bool,
    ) -> Self {
        let roster = &load.roster;
        let (voices, members) = (roster.voices(), roster.members());
        Self {
            load,
            route,
            run,
            names: (0..roster.channels).map(|number| crew.channel(number)).collect(),
            window,
            sent: vec![0; roster.channels * voices],
            seen: vec![Sequence::default(); members * voices],
            offsets: vec![0; members],
            ignored,
            outstanding: 0,
            named: 0,
            // Commands of the greeting have the numbers below.
            command_id: 1_000,
            outcome: Outcome {
                usage: Usage::default(),
                published: 0,
                expected: 0,
                delivered: 0,
                read: 0,
                read_frames: 0,
                faults: Faults::default(),
                latency: histogram(),
                lag: histogram(),
                lost: 0,
                is_broken: false,
            },
        }
    }

    fn publish(&mut self, crew: &mut Crew, number: u64, due_ns: u64) -> Result<(), Halt> {
        let roster = self.load.roster;
        let Place { channel, voice, publisher } = roster.place(number);
        let Some(sent) = self.sent.get_mut(channel * roster.voices() + voice) else {
            return Ok(());
        };
        let mark = Mark {
            run: self.run,
            channel: channel as u32,
            voice: voice as u32,
            sequence: *sent,
            due_ns,
        };
        *sent += 1;
        let mut payload = Vec::with_capacity(self.load.size);
        mark.write(self.load.size, &mut payload);
        let name = self.names.get(channel).map(String::as_str).unwrap_or_default();
        let peer = match self.route {
            Route::Api { requests, peers } => {
                let peer = peers.get(publisher % peers.len().max(1)).copied();
                if let Some(peer) = peer {
                    crew.engine.request(peer, requests.post("publish", &api_body(name, &payload)));
                }
                peer
            }
            Route::Clients(peers) => peers.get(publisher).copied(),
            Route::Members => crew.members().get(publisher).copied(),
        };
        if !matches!(self.route, Route::Api { .. })
            && let Some(peer) = peer
        {
            self.command_id = self.command_id.wrapping_add(1).max(1);
            let command = publish_command(self.command_id, name, payload);
            let encoded = crew.codec().encode_command(&command)?;
            crew.engine.send(peer, &encoded);
        }
        let expected = self.expected_of(channel);
        self.outstanding += expected;
        let lag_ns = crew.engine.now_ns().saturating_sub(due_ns);
        if self.window.contains(&due_ns) {
            self.outcome.published += 1;
            self.outcome.expected += expected;
            record(&mut self.outcome.lag, lag_ns);
        }
        Ok(())
    }

    fn expected_of(&self, channel: usize) -> u64 {
        let each = self.load.roster.subscribers;
        let members = channel * each..(channel + 1) * each;
        members.filter(|member| !(self.ignored)(*member)).count() as u64
    }

    /// Takes an event; whether it was a delivery that was waited for.
    fn take(&mut self, crew: &mut Crew, event: &Event) -> bool {
        match event {
            Event::Published(delivery) => {
                let Some(member) = crew.number(delivery.peer) else { return false };
                return self.deliver(crew, member, delivery);
            }
            Event::Acknowledged { .. } => {}
            Event::Answered { outcome: Ok(_), .. } => {}
            Event::Answered { outcome: Err(why), .. } => {
                crew.failures.add(why.clone());
                self.outcome.is_broken = true;
            }
            Event::Closed { peer, why } if crew.number(*peer).is_none() => {
                crew.failures.add(format!("a publisher: {why}"));
                self.outcome.is_broken = true;
            }
            other => {
                let member = crew.number(other.peer());
                if member.is_some_and(|member| (self.ignored)(member)) {
                    return false;
                }
                let is_refused =
                    matches!(other, Event::Replied { reply, .. } if reply.error.is_some());
                let lost = crew.note(other);
                self.outcome.lost += u64::from(lost.is_some());
                let members = self.load.roster.members();
                // Behind the members come publishers.
                let is_alone =
                    lost.is_some_and(|lost| lost >= members) || self.outcome.lost >= members as u64;
                self.outcome.is_broken |= is_refused || is_alone;
            }
        }
        false
    }

    fn deliver(&mut self, crew: &mut Crew, member: usize, delivery: &Delivery) -> bool {
        let roster = self.load.roster;
        let Delivery { mark, offset, at_ns, .. } = *delivery;
        let (channel, voice) = (mark.channel as usize, mark.voice as usize);
        // What an earlier step left behind was judged by that step.
        if mark.run != self.run || (self.ignored)(member) {
            return false;
        }
        let is_ours = roster.channel_of(member) == channel && voice < roster.voices();
        let sequence = self.seen.get_mut(member * roster.voices() + voice).filter(|_| is_ours);
        let Some(sequence) = sequence else {
            crew.failures.add(format!("client {member}: a publication of channel {channel}"));
            return false;
        };
        let verdict = sequence.take(mark.sequence.into());
        self.outcome.faults.count(verdict);
        let is_in_order = self.is_in_order(member, offset);
        if verdict == Verdict::Next && !is_in_order {
            self.outcome.faults.disordered += 1;
        }
        if (verdict != Verdict::Next || !is_in_order) && self.named < MAX_NAMED {
            self.named += 1;
            let what = match verdict {
                Verdict::Next => format!("offset {offset} does not follow the one before"),
                Verdict::Ahead(count) => format!("{count} publications before it are missing"),
                Verdict::Late => "it comes after later ones".to_owned(),
                Verdict::Doubled => "it comes a second time".to_owned(),
            };
            let (name, number) = (crew.channel(channel), mark.sequence);
            crew.failures
                .add(format!("client {member}, {name}, publication {number} of {voice}: {what}"));
        }
        if verdict == Verdict::Doubled {
            return false;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.window.contains(&mark.due_ns) {
            self.outcome.delivered += 1;
            record(&mut self.outcome.latency, at_ns.saturating_sub(mark.due_ns));
        }
        true
    }

    /// Whether an offset is the next one of this member, as far as its channel has offsets.
    fn is_in_order(&mut self, member: usize, offset: u64) -> bool {
        let Some(last) = self.offsets.get_mut(member) else { return true };
        let is_next = offset == 0 || *last == 0 || offset == *last + 1;
        *last = offset.max(*last);
        is_next
    }

    fn describe(&self, now_ns: u64) -> String {
        let Outcome { published, delivered, latency, .. } = &self.outcome;
        let left = self.window.end.saturating_sub(now_ns).div_ceil(SECOND_NS);
        let p99_ms = latency.value_at_quantile(0.99) as f64 / 1e6;
        let rate = self.load.rate;
        format!(
            "{rate} pub/s: {published} published, {delivered} delivered, p99 {p99_ms:.1} ms, {left} s left"
        )
    }

    fn finish(mut self, crew: &mut Crew) -> Outcome {
        let roster = self.load.roster;
        let voices = roster.voices();
        let (mut missing, mut members) = (0, 0);
        for member in (0..roster.members()).filter(|member| !(self.ignored)(*member)) {
            let channel = roster.channel_of(member);
            let sent = self.sent.get(channel * voices..(channel + 1) * voices).unwrap_or_default();
            let seen = self.seen.get(member * voices..(member + 1) * voices).unwrap_or_default();
            let lacking: u64 = std::iter::zip(sent, seen)
                .map(|(sent, seen)| u64::from(*sent).saturating_sub(seen.next()))
                .sum();
            missing += lacking;
            members += u64::from(lacking > 0);
        }
        if missing > 0 {
            crew.failures.add(format!("{missing} deliveries to {members} clients never came"));
        }
        self.outcome.faults.missing += missing;
        let Faults { missing, doubled, disordered } = self.outcome.faults;
        if self.named >= MAX_NAMED {
            crew.failures.add(format!(
                "in all {missing} deliveries missing, {doubled} doubled, {disordered} out of order"
            ));
        }
        self.outcome
    }
}

/// Publishers that stand apart from the members.
pub fn apart(publishers: u32) -> Publishers {
    Publishers::Apart(publishers as usize)
}

/// The body of the server API's publish. The payload is JSON.
pub fn api_body(channel: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(payload.len() + channel.len() + 32);
    body.extend_from_slice(b"{\"channel\":");
    body.extend_from_slice(serde_json::Value::from(channel).to_string().as_bytes());
    body.extend_from_slice(b",\"data\":");
    body.extend_from_slice(payload);
    body.push(b'}');
    body
}

fn publish_command(id: u32, channel: &str, payload: Vec<u8>) -> Command {
    let data = Bytes::from(payload);
    let request = PublishRequest { channel: channel.to_owned(), data, ..PublishRequest::default() };
    Command { id, publish: Some(request), ..Command::default() }
}
