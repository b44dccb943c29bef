//! Joins and leaves, and reads of who is there.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use serde_json::Value;

use super::subscription;
use crate::bench::crew::{Crew, Halt};
use crate::bench::event::{Event, Peer};
use crate::bench::gauge::{Gauge, Measured};
use crate::bench::http::Requests;
use crate::bench::options::PresenceArgs;
use crate::bench::report::{Latency, Row, histogram, record};
use crate::bench::schedule::Schedule;
use crate::bench::ticker::{SECOND_NS, nanoseconds};
use crate::protocol::command::{Command, UnsubscribeRequest};

/// Longest wait for what is not answered when the time is over.
const PATIENCE_NS: u64 = 10 * SECOND_NS;
/// Channels whose presence is compared with what it should be at the end.
const COMPARED: usize = 100;

/// Runs the scenario: one row.
///
/// # Errors
/// As [`Crew::gather`], and a server API that cannot be reached.
pub fn run(crew: &mut Crew, args: &PresenceArgs) -> Result<(), Halt> {
    let channels = args.channels as usize;
    let names: Vec<_> = (0..channels).map(|number| crew.channel(number)).collect();
    let name = |client: usize| names.get(client % channels).cloned().unwrap_or_default();
    crew.gather(args.connections as usize, |client| vec![subscription(name(client))], |_, _| {})?;
    let api = crew.dial_api(args.api_connections as usize)?;
    let mut churn = Churn::new(crew, args, names, api);
    let measured = churn.run(crew)?;
    churn.compare(crew)?;
    let row = churn.row(&measured, args);
    crew.rows.push(row);
    Ok(())
}

/// The load at work.
struct Churn {
    names: Vec<String>,
    requests: Requests,
    api: Vec<Peer>,
    /// Due times of the requests on each connection to the server API.
    reads_due: Vec<VecDeque<u64>>,
    /// Of each client: whether it is in its channel, and since when it waits for a reply.
    clients: Vec<(bool, Option<u64>)>,
    churning: Schedule,
    reading: Schedule,
    window: std::ops::Range<u64>,
    command_id: u32,
    /// Joins and leaves, due in the time that counts, that found their client still waiting for a
    /// reply; and those that it did.
    skipped: u64,
    changed: u64,
    pushed: u64,
    changes: Histogram<u64>,
    reads: Histogram<u64>,
}

impl Churn {
    fn new(crew: &Crew, args: &PresenceArgs, names: Vec<String>, api: Vec<Peer>) -> Self {
        let (warmup, seconds) = (crew.shared().warmup, crew.shared().seconds);
        let start_ns = crew.engine.now_ns();
        let from = start_ns + nanoseconds(warmup);
        Self {
            names,
            requests: crew.requests(),
            reads_due: vec![VecDeque::new(); api.len()],
            api,
            clients: vec![(true, None); args.connections as usize],
            churning: Schedule::new(start_ns, args.rate, warmup + seconds),
            reading: Schedule::new(start_ns, args.reads, warmup + seconds),
            window: from..from + nanoseconds(seconds),
            command_id: 1_000,
            skipped: 0,
            changed: 0,
            pushed: 0,
            changes: histogram(),
            reads: histogram(),
        }
    }

    fn run(&mut self, crew: &mut Crew) -> Result<Measured, Halt> {
        let mut gauge = Gauge::new(self.window.clone());
        let mut events = Vec::new();
        loop {
            gauge.look(crew)?;
            let now_ns = crew.engine.now_ns();
            self.send(crew, now_ns)?;
            let is_over = now_ns >= self.window.end + PATIENCE_NS;
            if gauge.is_done() && (is_over || self.unanswered() == 0) {
                return Ok(gauge.finish(crew));
            }
            let due = [&self.churning, &self.reading].into_iter().filter_map(Schedule::peek);
            let due = due.map(|(_, due_ns)| due_ns).min().unwrap_or(u64::MAX);
            crew.engine.poll(due.min(now_ns + SECOND_NS / 20), &mut events)?;
            for event in &events {
                self.take(crew, event)?;
            }
            let changed = self.changed;
            crew.progress.show(now_ns, || format!("{changed} joins and leaves"));
        }
    }

    fn send(&mut self, crew: &mut Crew, now_ns: u64) -> Result<(), Halt> {
        while let Some((number, due_ns)) = self.churning.take_due(now_ns) {
            let client = (number % self.clients.len() as u64) as usize;
            let (Some((is_in, waits)), Some(peer)) =
                (self.clients.get_mut(client), crew.members().get(client).copied())
            else {
                continue;
            };
            if waits.is_some() {
                self.skipped += u64::from(self.window.contains(&due_ns));
                continue;
            }
            *waits = Some(due_ns);
            let channel = self.names.get(client % self.names.len()).cloned().unwrap_or_default();
            self.command_id += 1;
            let mut command = Command { id: self.command_id, ..Command::default() };
            if *is_in {
                command.unsubscribe = Some(UnsubscribeRequest { channel });
            } else {
                command.subscribe = Some(subscription(channel));
            }
            let encoded = crew.codec().encode_command(&command)?;
            crew.engine.send(peer, &encoded);
        }
        while let Some((number, due_ns)) = self.reading.take_due(now_ns) {
            self.read(crew, number as usize, due_ns);
        }
        Ok(())
    }

    fn read(&mut self, crew: &mut Crew, number: usize, due_ns: u64) {
        let channel = self.names.get(number % self.names.len()).map_or("", String::as_str);
        let body = serde_json::json!({ "channel": channel }).to_string();
        let lane = number % self.api.len().max(1);
        if let (Some(peer), Some(due)) = (self.api.get(lane), self.reads_due.get_mut(lane)) {
            due.push_back(due_ns);
            crew.engine.request(*peer, self.requests.post("presence", body.as_bytes()));
        }
    }

    fn take(&mut self, crew: &mut Crew, event: &Event) -> Result<(), Halt> {
        match event {
            Event::Replied { peer, reply, at_ns } if reply.error.is_none() => {
                let client = crew.number(*peer).and_then(|number| self.clients.get_mut(number));
                let Some((is_in, waits)) = client else { return Ok(()) };
                *is_in = reply.subscribe.is_some();
                let due_ns = waits.take().unwrap_or(*at_ns);
                if self.window.contains(&due_ns) {
                    self.changed += 1;
                    record(&mut self.changes, at_ns.saturating_sub(due_ns));
                }
            }
            Event::Answered { outcome: Err(why), .. } => return Err(Halt::Fault(why.clone())),
            Event::Answered { peer, at_ns, .. } => {
                let lane = self.api.iter().position(|it| it == peer);
                let due = lane.and_then(|lane| self.reads_due.get_mut(lane)?.pop_front());
                if let Some(due_ns) = due.filter(|due_ns| self.window.contains(due_ns)) {
                    record(&mut self.reads, at_ns.saturating_sub(due_ns));
                }
            }
            Event::Closed { peer, why } if crew.number(*peer).is_none() => {
                return Err(Halt::Fault(format!("a connection to the server API: {why}")));
            }
            Event::Pushed { push, .. } if push.join.is_some() || push.leave.is_some() => {
                self.pushed += 1;
            }
            other => drop(crew.note(other)),
        }
        Ok(())
    }

    fn unanswered(&self) -> usize {
        let waiting = self.clients.iter().filter(|(_, waits)| waits.is_some()).count();
        waiting + self.reads_due.iter().map(VecDeque::len).sum::<usize>()
    }

    /// Asks who is in the first channels and compares that with who should be.
    fn compare(&mut self, crew: &mut Crew) -> Result<(), Halt> {
        let unanswered = self.unanswered();
        if unanswered > 0 {
            crew.failures.add(format!("{unanswered} commands or requests were never answered"));
            return Ok(());
        }
        let Some(peer) = self.api.first().copied() else { return Ok(()) };
        let mut expected: VecDeque<_> = (0..self.names.len().min(COMPARED))
            .map(|channel| {
                let members = self.clients.iter().skip(channel).step_by(self.names.len());
                (channel, members.filter(|(is_in, _)| *is_in).count())
            })
            .collect();
        for (channel, _) in &expected {
            let name = self.names.get(*channel).map_or("", String::as_str);
            let body = serde_json::json!({ "channel": name }).to_string();
            crew.engine.request(peer, self.requests.post("presence_stats", body.as_bytes()));
        }
        let (end_ns, mut events) = (crew.engine.now_ns() + PATIENCE_NS, Vec::new());
        while !expected.is_empty() && crew.engine.now_ns() < end_ns {
            crew.engine.poll(end_ns, &mut events)?;
            for event in &events {
                let Event::Answered { outcome, .. } = event else {
                    crew.note(event);
                    continue;
                };
                let Some((channel, should)) = expected.pop_front() else { break };
                let body = outcome.as_ref().map_err(|why| Halt::Fault(why.clone()))?;
                let answer: Value = serde_json::from_slice(body).unwrap_or_default();
                let is = &answer["result"]["num_clients"];
                if is.as_u64() != Some(should as u64) {
                    let name = self.names.get(channel).map_or("", String::as_str);
                    crew.failures.add(format!("{name}: {should} clients are in it, not {is}"));
                }
            }
        }
        if !expected.is_empty() {
            crew.failures.add("the server API does not answer".to_owned());
        }
        Ok(())
    }

    fn row(&self, measured: &Measured, args: &PresenceArgs) -> Row {
        let Measured { usage, counted } = measured;
        let mut row = usage.row(format!("{} joins and leaves/s", args.rate));
        let operations = (counted.replies + counted.answers) as f64;
        row.metrics.set("ops_per_s", operations / usage.seconds);
        row.metrics.set("changes_per_s", counted.replies as f64 / usage.seconds);
        row.metrics.set("reads_per_s", counted.answers as f64 / usage.seconds);
        row.metrics.count("changes", self.changed);
        let at = |quantile| self.changes.value_at_quantile(quantile) as f64 / 1_000.0;
        row.metrics.set("change_p50_us", at(0.5));
        row.metrics.set("change_p99_us", at(0.99));
        row.metrics.count("changes_skipped", self.skipped);
        row.metrics.count("joins_and_leaves_pushed", self.pushed);
        if let Some(server) = usage.server {
            row.metrics.set("cpu_us_per_op", server.cpu_s() * 1e6 / operations);
        }
        row.latency = Latency::of(&self.reads);
        row
    }
}
