//! The verdict: what was seen goes in, what was lost, doubled or lied about comes out. Pure.
//!
//! A publication that was acknowledged has to reach every reader of its channel, or the reader has to
//! be told that it may lack something. What was answered with an error, or not at all, may arrive or
//! not. So for each publication that a reader lacks, the question is what the gateway said to the
//! reader between the publications before and behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::event::{Event, Number, Outcome, Reader, Record, Start, Writer};

/// A delivery later than this is one that the fault has held up.
pub const LATE: Duration = Duration::from_secs(1);
/// For this long after a promotion a node may still be attached to the former master and answer
/// from it, as long as it takes that back.
pub const GRACE: Duration = Duration::from_secs(10);

/// What the drill saw.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub records: &'a [Record],
    /// Readers and writers are spread over so many channels, by their numbers.
    pub channels: u32,
    pub readers: u32,
    /// Whether there may be promotions that nobody noted, as in a cluster that is only watched.
    pub unseen_promotions: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Publications that were acknowledged.
    pub acknowledged: u64,
    /// Publications that were answered with an error, or could not be sent.
    pub refused: u64,
    /// Publications without an answer.
    pub unknown: u64,
    /// Acknowledged publications that came, counted once for each reader.
    pub delivered: u64,
    /// Acknowledged publications that did not come, with the reader told that it may lack some.
    pub told: u64,
    /// Acknowledged publications that did not come, and the reader does not know.
    pub lost: u64,
    /// Publications that came again.
    pub doubled: u64,
    /// Publications that came behind one that was sent after their acknowledgement.
    pub out_of_order: u64,
    /// Answers "recovered: true" to a reader for whom something was missing.
    pub false_recovered: u64,
    /// Answers "recovered: true", right or wrong.
    pub recovered: u64,
    /// Answers "recovered: false".
    pub not_recovered: u64,
    /// Connections that ended though the reader wanted them.
    pub dropped: u64,
    /// Attempts to connect or to subscribe that did not succeed.
    pub failed_attempts: u64,
    /// The longest time for which a reader that wanted to got nothing, in milliseconds.
    pub longest_silence_ms: u64,
    /// From the fault until the last that was felt of it: an error, a late delivery, a reader's
    /// return. In milliseconds; none if there was no fault.
    pub whole_after_ms: Option<u64>,
}

/// What a drill allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Whether readers may be told that they lack something.
    pub may_tell: bool,
    /// Whether connections may end.
    pub may_drop: bool,
    /// Whether attempts to connect and to subscribe may fail.
    pub may_fail: bool,
    /// Whether publications may be refused, or stay without an answer.
    pub may_refuse: bool,
    /// The longest until all is as before.
    pub whole_within: Duration,
}

impl Verdict {
    /// What breaks a promise, in words; empty if nothing does.
    pub fn breaches(&self, limits: &Limits) -> Vec<String> {
        let mut found = Vec::new();
        let mut none = |count: u64, what: &str| {
            if count > 0 {
                found.push(format!("{count} {what}"));
            }
        };
        none(self.lost, "acknowledged publications lost without a word");
        none(self.doubled, "publications doubled");
        none(self.out_of_order, "publications out of order");
        none(self.false_recovered, "answers \"recovered: true\" that were false");
        if !limits.may_tell {
            none(self.told, "acknowledged publications missed where nothing had to be");
            none(self.not_recovered, "answers \"recovered: false\" where nothing was lost");
        }
        if !limits.may_drop {
            none(self.dropped, "connections dropped");
        }
        if !limits.may_fail {
            none(self.failed_attempts, "attempts to connect or subscribe failed");
        }
        if !limits.may_refuse {
            none(self.refused + self.unknown, "publications refused or left without an answer");
        }
        let whole_within = limits.whole_within.as_millis() as u64;
        if let Some(after) = self.whole_after_ms.filter(|after| *after > whole_within) {
            found.push(format!("whole only after {after} ms, allowed are {whole_within} ms"));
        }
        if self.acknowledged == 0 || self.delivered == 0 {
            found.push("nothing was published and delivered, so nothing was tried".to_owned());
        }
        found
    }
}

/// Judges what was seen.
pub fn judge(seen: &Seen) -> Verdict {
    let sent = Published::of(seen.records);
    let mut verdict = sent.counts();
    let mut by_reader: Vec<Vec<&Record>> = vec![Vec::new(); seen.readers as usize];
    for record in seen.records {
        let list = record.event.reader().and_then(|reader| by_reader.get_mut(reader as usize));
        if let Some(list) = list {
            list.push(record);
        }
    }
    let until = sent.last_sent.unwrap_or_default();
    for (reader, records) in by_reader.iter().enumerate() {
        let story = Story::of(records, &sent);
        story.count(&mut verdict);
        let channel = reader as Reader % seen.channels.max(1);
        for (writer, numbers) in &sent.by_writer {
            if writer % seen.channels.max(1) == channel {
                story.judge(*writer, numbers, seen, &sent, &mut verdict);
            }
        }
        let silence = story.longest_silence(until).as_millis() as u64;
        verdict.longest_silence_ms = verdict.longest_silence_ms.max(silence);
    }
    verdict.whole_after_ms = whole_after(seen.records, &sent, &by_reader);
    verdict
}

/// One publication's life.
#[derive(Clone, Copy, Debug)]
struct Publication {
    sent: Duration,
    answered: Option<(Duration, Outcome)>,
}

impl Publication {
    fn acknowledged(&self) -> Option<Duration> {
        self.answered.filter(|(_, outcome)| *outcome == Outcome::Acknowledged).map(|(at, _)| at)
    }
}

/// All publications.
#[derive(Debug, Default)]
struct Published {
    by_writer: BTreeMap<Writer, BTreeMap<Number, Publication>>,
    last_sent: Option<Duration>,
    promoted: Vec<Duration>,
}

impl Published {
    fn of(records: &[Record]) -> Self {
        let mut all = Self::default();
        for Record { at, event } in records {
            match event {
                Event::Sent { writer, number } => {
                    let publication = Publication { sent: *at, answered: None };
                    all.by_writer.entry(*writer).or_default().insert(*number, publication);
                    all.last_sent = all.last_sent.max(Some(*at));
                }
                Event::Answered { writer, number, outcome } => {
                    let numbers = all.by_writer.entry(*writer).or_default();
                    if let Some(publication) = numbers.get_mut(number) {
                        publication.answered = Some((*at, *outcome));
                    }
                }
                Event::Promoted => all.promoted.push(*at),
                _ => {}
            }
        }
        all
    }

    fn get(&self, writer: Writer, number: Number) -> Option<&Publication> {
        self.by_writer.get(&writer)?.get(&number)
    }

    fn counts(&self) -> Verdict {
        let mut verdict = Verdict::default();
        for publication in self.by_writer.values().flat_map(BTreeMap::values) {
            match publication.answered {
                Some((_, Outcome::Acknowledged)) => verdict.acknowledged += 1,
                Some((_, Outcome::Refused)) => verdict.refused += 1,
                Some((_, Outcome::Unknown)) | None => verdict.unknown += 1,
            }
        }
        verdict
    }
}

/// Where in its story a reader was given an answer about its position.
#[derive(Clone, Copy, Debug)]
struct Joined {
    /// The place among the reader's records.
    place: usize,
    asked: Duration,
    at: Duration,
    start: Start,
}

/// What one reader lived through.
#[derive(Debug)]
struct Story<'a> {
    records: &'a [&'a Record],
    joined: Vec<Joined>,
    /// The place at which each publication came first.
    got: HashMap<(Writer, Number), usize>,
    doubled: u64,
    out_of_order: u64,
}

impl<'a> Story<'a> {
    fn of(records: &'a [&'a Record], sent: &Published) -> Self {
        let mut story =
            Self { records, joined: Vec::new(), got: HashMap::new(), doubled: 0, out_of_order: 0 };
        let mut asked = Duration::ZERO;
        let mut latest: HashMap<Writer, Number> = HashMap::new();
        for (place, Record { at, event }) in records.iter().enumerate() {
            match *event {
                Event::Asked { .. } => asked = *at,
                Event::Joined { start, .. } => {
                    story.joined.push(Joined { place, asked, at: *at, start });
                }
                Event::Got { writer, number, .. } => {
                    if story.got.contains_key(&(writer, number)) {
                        story.doubled += 1;
                        continue;
                    }
                    story.got.insert((writer, number), place);
                    let before = latest.entry(writer).or_default();
                    if number < *before && was_due_before(sent, writer, number, *before) {
                        story.out_of_order += 1;
                    }
                    *before = number.max(*before);
                }
                _ => {}
            }
        }
        story
    }

    fn count(&self, verdict: &mut Verdict) {
        verdict.doubled += self.doubled;
        verdict.out_of_order += self.out_of_order;
        for Record { event, .. } in self.records {
            match event {
                Event::Joined { start: Start::Recovered, .. } => verdict.recovered += 1,
                Event::Joined { start: Start::Told, .. } => verdict.not_recovered += 1,
                Event::Dropped { .. } => verdict.dropped += 1,
                Event::Failed { .. } => verdict.failed_attempts += 1,
                _ => {}
            }
        }
    }

    /// Looks for what the reader lacks of one writer.
    fn judge(
        &self,
        writer: Writer,
        numbers: &BTreeMap<Number, Publication>,
        seen: &Seen,
        sent: &Published,
        verdict: &mut Verdict,
    ) {
        let mut false_answers = BTreeSet::new();
        let mut before = 0;
        for (number, publication) in numbers {
            if let Some(place) = self.got.get(&(writer, *number)) {
                before = before.max(*place);
                verdict.delivered += u64::from(publication.acknowledged().is_some());
                continue;
            }
            let Some(acknowledged) = publication.acknowledged() else { continue };
            let behind = numbers.range(number + 1..).map(|(number, _)| *number);
            let behind = behind.filter_map(|number| self.got.get(&(writer, number))).min();
            let behind = behind.copied().unwrap_or(usize::MAX);
            let answers: Vec<_> = self
                .joined
                .iter()
                .filter(|joined| (before..behind).contains(&joined.place))
                .collect();
            let excuse = answers.iter().position(|joined| {
                joined.start != Start::Recovered && publication.sent < joined.at
            });
            match excuse.map(|at| answers[at].start) {
                Some(Start::Fresh) => continue,
                Some(_) => verdict.told += 1,
                None => verdict.lost += 1,
            }
            // The first answer that is about it; those behind it begin at the position of this one.
            let answers_about = &answers[..excuse.unwrap_or(answers.len())];
            let claim = answers_about.iter().find(|answer| claims_wholeness(answer, acknowledged));
            let told = excuse.map(|at| answers[at].at);
            if let Some(claim) = claim.filter(|claim| !is_taken_back(claim, told, seen, sent)) {
                false_answers.insert(claim.place);
            }
        }
        verdict.false_recovered += false_answers.len() as u64;
    }

    fn longest_silence(&self, until: Duration) -> Duration {
        let (mut longest, mut since) = (Duration::ZERO, None);
        for Record { at, event } in self.records.iter().filter(|record| record.at <= until) {
            let silence = since.map_or(Duration::ZERO, |since| at.saturating_sub(since));
            match event {
                Event::Got { .. } => {
                    longest = longest.max(silence);
                    since = Some(*at);
                }
                Event::Joined { .. } | Event::Returning { .. } => since = since.or(Some(*at)),
                Event::Left { .. } => {
                    longest = longest.max(silence);
                    since = None;
                }
                _ => {}
            }
        }
        longest.max(since.map_or(Duration::ZERO, |since| until.saturating_sub(since)))
    }
}

/// Whether a publication was acknowledged before another one of its writer went out.
fn was_due_before(sent: &Published, writer: Writer, number: Number, later: Number) -> bool {
    let due = sent.get(writer, number).and_then(Publication::acknowledged);
    let went_out = sent.get(writer, later).map(|publication| publication.sent);
    matches!((due, went_out), (Some(due), Some(went_out)) if due <= went_out)
}

/// Whether an answer says that what was acknowledged at some time is there.
fn claims_wholeness(answer: &Joined, acknowledged: Duration) -> bool {
    answer.start == Start::Recovered && acknowledged < answer.asked
}

/// Whether a false answer was given by a node that may not have known better, and was taken back.
fn is_taken_back(claim: &Joined, told: Option<Duration>, seen: &Seen, sent: &Published) -> bool {
    let Some(told) = told else { return false };
    let near = |promoted: &Duration| claim.at < *promoted + GRACE;
    sent.promoted.iter().any(near) || seen.unseen_promotions && told < claim.at + GRACE
}

/// From the first fault until the last that was felt of it.
fn whole_after(records: &[Record], sent: &Published, stories: &[Vec<&Record>]) -> Option<u64> {
    let fault = records.iter().find(|record| record.event == Event::Fault)?.at;
    let refused = records.iter().filter_map(|Record { at, event }| match event {
        Event::Answered { outcome, .. } if *outcome != Outcome::Acknowledged => Some(*at),
        _ => None,
    });
    let felt = stories.iter().filter_map(|story| last_felt(story, sent));
    let last = refused.chain(felt).max().unwrap_or_default();
    Some(last.saturating_sub(fault).as_millis() as u64)
}

/// When a reader last felt something that it did not cause itself.
fn last_felt(story: &[&Record], sent: &Published) -> Option<Duration> {
    let (mut felt, mut returned, mut is_away) = (None, Duration::ZERO, false);
    for Record { at, event } in story {
        match event {
            Event::Left { .. } => is_away = true,
            Event::Returning { .. } => (is_away, returned) = (false, *at),
            Event::Failed { .. } | Event::Dropped { .. } | Event::Voided { .. } => felt = Some(*at),
            Event::Joined { start: Start::Told, .. } => felt = Some(*at),
            Event::Got { writer, number, .. } if !is_away => {
                let Some(publication) = sent.get(*writer, *number) else { continue };
                if publication.sent > returned && at.saturating_sub(publication.sent) > LATE {
                    felt = Some(*at);
                }
            }
            _ => {}
        }
    }
    felt
}

#[cfg(test)]
mod tests;
