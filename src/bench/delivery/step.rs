//! One step of a load at work.

use std::ops::Range;

use bytes::Bytes;

use super::{Load, Measured, Outcome, Route};
use crate::bench::crew::{Crew, Halt};
use crate::bench::event::{Delivery, Event, Peer};
use crate::bench::http::publish_body;
use crate::bench::payload::Mark;
use crate::bench::report::{Failures, histogram, record};
use crate::bench::roster::Place;
use crate::bench::ticker::SECOND_NS;
use crate::bench::verify::{Faults, Sequence, Verdict};
use crate::protocol::command::{Command, PublishRequest};

/// Faults of one step that are listed one by one.
const MAX_NAMED: u64 = 10;

/// A step at work: what was sent so far, and what each member has of it.
pub struct Step<'a> {
    load: &'a Load,
    route: &'a Route,
    run: u16,
    names: Vec<String>,
    /// The time that counts, as due times.
    window: Range<u64>,
    /// Publications so far, by channel and voice.
    sent: Vec<u32>,
    /// What each member saw, by member and voice.
    seen: Vec<Sequence>,
    /// The offset that each member saw last; 0 before the first.
    offsets: Vec<u64>,
    ignored: &'a dyn Fn(usize) -> bool,
    /// Deliveries that have not come.
    outstanding: u64,
    /// Publications that the server has neither taken nor refused.
    unanswered: u64,
    named: u64,
    command_id: u32,
    pub outcome: Outcome,
}

impl<'a> Step<'a> {
    /// A step that has sent nothing.
    pub fn new(
        crew: &Crew,
        load: &'a Load,
        route: &'a Route,
        run: u16,
        window: Range<u64>,
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
            unanswered: 0,
            named: 0,
            // Commands of the greeting have the numbers below.
            command_id: 1_000,
            outcome: Outcome {
                measured: Measured::default(),
                published: 0,
                expected: 0,
                delivered: 0,
                faults: Faults::default(),
                holes: 0,
                unanswered: 0,
                overload: Failures::default(),
                latency: histogram(),
                lag: histogram(),
                lost: 0,
                is_broken: false,
            },
        }
    }

    /// Sends the publication with this number.
    ///
    /// # Errors
    /// If a command cannot be encoded.
    pub fn publish(&mut self, crew: &mut Crew, number: u64, due_ns: u64) -> Result<(), Halt> {
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
                    crew.engine
                        .request(peer, requests.post("publish", &publish_body(name, &payload)));
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
        self.unanswered += 1;
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

    /// Takes an event.
    pub fn take(&mut self, crew: &mut Crew, event: &Event) {
        match event {
            Event::Published(delivery) => {
                if let Some(member) = crew.number(delivery.peer) {
                    self.deliver(crew, member, delivery);
                }
            }
            Event::Acknowledged { .. } | Event::Answered { outcome: Ok(_), .. } => self.answered(),
            Event::Replied { reply, .. } if reply.publish.is_some() => self.answered(),
            Event::Answered { outcome: Err(why), .. } => {
                self.answered();
                crew.failures.add(why.clone());
                self.outcome.is_broken = true;
            }
            Event::Closed { peer, why } => self.lose(crew, *peer, why),
            other => {
                let member = crew.number(other.peer());
                if member.is_some_and(|member| (self.ignored)(member)) {
                    return;
                }
                crew.note(other);
                self.outcome.is_broken |=
                    matches!(other, Event::Replied { reply, .. } if reply.error.is_some());
            }
        }
    }

    /// Whether all that should come has come.
    pub fn is_settled(&self) -> bool {
        self.outstanding == 0 && self.unanswered == 0
    }

    fn answered(&mut self) {
        self.unanswered = self.unanswered.saturating_sub(1);
    }

    /// Takes note of a connection that ended.
    fn lose(&mut self, crew: &mut Crew, peer: Peer, why: &str) {
        let members = self.load.roster.members();
        let outcome = &mut self.outcome;
        match crew.number(peer) {
            Some(member) if (self.ignored)(member) => {}
            Some(member) => {
                crew.forget(peer);
                outcome.lost += 1;
                outcome.overload.add(format!("client {member}: {why}"));
                // Behind the members come publishers.
                outcome.is_broken |= member >= members || outcome.lost >= members as u64;
            }
            None => {
                outcome.overload.add(format!("a publisher: {why}"));
                outcome.is_broken = true;
            }
        }
    }

    fn deliver(&mut self, crew: &mut Crew, member: usize, delivery: &Delivery) {
        let roster = self.load.roster;
        let Delivery { mark, offset, at_ns, .. } = *delivery;
        let (channel, voice) = (mark.channel as usize, mark.voice as usize);
        // What an earlier step left behind was judged by that step.
        if mark.run != self.run || (self.ignored)(member) {
            return;
        }
        let is_ours = roster.channel_of(member) == channel && voice < roster.voices();
        let sequence = self.seen.get_mut(member * roster.voices() + voice).filter(|_| is_ours);
        let Some(sequence) = sequence else {
            crew.failures.add(format!("client {member}: a publication of channel {channel}"));
            return;
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
            return;
        }
        self.outstanding = self.outstanding.saturating_sub(1);
        if self.window.contains(&mark.due_ns) {
            self.outcome.delivered += 1;
            record(&mut self.outcome.latency, at_ns.saturating_sub(mark.due_ns));
        }
    }

    /// Whether an offset is the next one of this member, as far as its channel has offsets.
    fn is_in_order(&mut self, member: usize, offset: u64) -> bool {
        let Some(last) = self.offsets.get_mut(member) else { return true };
        let is_next = offset == 0 || *last == 0 || offset == *last + 1;
        *last = offset.max(*last);
        is_next
    }

    /// How far it is, for people.
    pub fn describe(&self, now_ns: u64) -> String {
        let Outcome { published, delivered, latency, .. } = &self.outcome;
        let left = self.window.end.saturating_sub(now_ns).div_ceil(SECOND_NS);
        let p99_ms = latency.value_at_quantile(0.99) as f64 / 1e6;
        let rate = self.load.rate;
        format!(
            "{rate} pub/s: {published} published, {delivered} delivered, p99 {p99_ms:.1} ms, {left} s left"
        )
    }

    /// Counts what never came.
    pub fn finish(mut self, crew: &mut Crew) -> Outcome {
        // So far only what was jumped over is missing.
        self.outcome.holes = self.outcome.faults.missing;
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
            let what = format!("{missing} deliveries to {members} clients never came");
            self.outcome.overload.add(what);
        }
        self.outcome.unanswered = self.unanswered;
        if self.unanswered > 0 {
            let what = format!("{} publications were never answered", self.unanswered);
            self.outcome.overload.add(what);
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

fn publish_command(id: u32, channel: &str, payload: Vec<u8>) -> Command {
    let data = Bytes::from(payload);
    let request = PublishRequest { channel: channel.to_owned(), data, ..PublishRequest::default() };
    Command { id, publish: Some(request), ..Command::default() }
}
