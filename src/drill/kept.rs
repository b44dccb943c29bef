//! What the archive made of a drill: what was acknowledged beside what is stored, how long it waited, and
//! what readers of the REST service were told meanwhile. Pure.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::event::{Event, Number, Outcome, Record, Writer};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Kept {
    /// Messages that the archive has in the end.
    pub stored: u64,
    /// Acknowledged publications that it lacks.
    pub lost: u64,
    /// Publications that it has again.
    pub doubled: u64,
    /// Offsets between the first and the last of a channel that it lacks, or has in another order.
    pub missing: u64,
    #[serde(flatten)]
    pub queue: Queue,
    #[serde(flatten)]
    pub answers: Answers,
    /// The time for which the database was away; none if that was not tried.
    pub away: Option<Away>,
}

/// What waited in Redis to be stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// The most entries at a time.
    pub most_waiting: u64,
    /// The longest that one of them had waited, in milliseconds.
    pub longest_lag_ms: u64,
}

/// What readers of the REST service were told.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Answers {
    /// Pages of messages.
    pub pages: u64,
    /// 503 with `Retry-After`.
    pub come_again: u64,
    /// Everything else.
    pub failed: u64,
    /// The last of these, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The longest that an answer took, in milliseconds.
    pub slowest_ms: u64,
}

/// A time without the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Away {
    /// For how long, in milliseconds.
    pub away_ms: u64,
    /// Entries that waited when it came back.
    pub waiting: u64,
    /// From its return until nothing had waited for longer than a second, in milliseconds.
    pub caught_up_after_ms: u64,
}

/// A message of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub epoch: String,
    pub offset: u64,
    pub writer: Writer,
    pub number: Number,
}

/// One look at a queue: how many entries, and how long the first of them has waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub entries: u64,
    pub lag: Duration,
}

/// One answer of the REST service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Page,
    ComeAgain,
    Failed(String),
}

impl Kept {
    /// Compares what was acknowledged with what each channel has, the oldest first.
    pub fn of(records: &[Record], channels: &[Vec<Stored>]) -> Self {
        let mut found: HashMap<(Writer, Number), u64> = HashMap::new();
        let mut kept = Self::default();
        for channel in channels {
            let mut before: Option<&Stored> = None;
            for message in channel {
                kept.stored += 1;
                *found.entry((message.writer, message.number)).or_default() += 1;
                kept.missing += match before.filter(|before| before.epoch == message.epoch) {
                    Some(before) => message.offset.abs_diff(before.offset + 1),
                    None => 0,
                };
                before = Some(message);
            }
        }
        kept.doubled = found.values().map(|count| count - 1).sum();
        let is_acknowledged = |event: &Event| match *event {
            Event::Answered { writer, number, outcome: Outcome::Acknowledged } => {
                Some((writer, number))
            }
            _ => None,
        };
        let acknowledged = records.iter().filter_map(|record| is_acknowledged(&record.event));
        kept.lost = acknowledged.filter(|one| !found.contains_key(one)).count() as u64;
        kept
    }

    /// What breaks a promise, in words; empty if nothing does.
    pub fn breaches(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut none = |count: u64, what: &str| {
            if count > 0 {
                broken.push(format!("{count} {what}"));
            }
        };
        none(self.lost, "acknowledged publications are not in the archive");
        none(self.doubled, "publications are in the archive again");
        none(self.missing, "offsets are missing in the archive");
        let failure = self.answers.last_failure.as_deref().unwrap_or_default();
        let what = format!("answers of the history service that say nothing, such as: {failure}");
        none(self.answers.failed, &what);
        if self.stored == 0 || self.answers.pages == 0 {
            broken.push("nothing was stored and read, so nothing was tried".to_owned());
        }
        broken
    }

    /// In a line for people.
    pub fn text(&self) -> String {
        let Self { stored, lost, doubled, queue, answers, .. } = self;
        let seconds = |ms: u64| ms as f64 / 1_000.0;
        let mut text = format!(
            "{stored} stored, {lost} lost, {doubled} doubled; longest lag {:.1} s with {} waiting; \
             {} pages read, {} times come again, slowest {:.1} s",
            seconds(queue.longest_lag_ms),
            queue.most_waiting,
            answers.pages,
            answers.come_again,
            seconds(answers.slowest_ms),
        );
        if let Some(Away { away_ms, waiting, caught_up_after_ms }) = self.away {
            text += &format!(
                "; away for {:.0} s: {waiting} waited and were stored within {:.1} s",
                seconds(away_ms),
                seconds(caught_up_after_ms)
            );
        }
        text
    }
}

impl Queue {
    /// Counts a look.
    pub fn take(&mut self, seen: Waiting) {
        self.most_waiting = self.most_waiting.max(seen.entries);
        self.longest_lag_ms = self.longest_lag_ms.max(seen.lag.as_millis() as u64);
    }
}

impl Answers {
    /// Counts an answer that took so long.
    pub fn take(&mut self, answer: Answer, took: Duration) {
        self.slowest_ms = self.slowest_ms.max(took.as_millis() as u64);
        match answer {
            Answer::Page => self.pages += 1,
            Answer::ComeAgain => self.come_again += 1,
            Answer::Failed(why) => {
                self.failed += 1;
                self.last_failure = Some(why);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(numbers: impl IntoIterator<Item = Number>) -> Vec<Record> {
        let event = |number| Event::Answered { writer: 0, number, outcome: Outcome::Acknowledged };
        let record = |number| Record { at: Duration::ZERO, event: event(number) };
        numbers.into_iter().map(record).collect()
    }

    /// Messages with these numbers at the offsets from 1 on.
    fn stored(numbers: &[Number]) -> Vec<Stored> {
        let message = |(offset, number): (u64, &Number)| Stored {
            epoch: "e".to_owned(),
            offset,
            writer: 0,
            number: *number,
        };
        (1..).zip(numbers).map(message).collect()
    }

    fn read(kept: Kept) -> Kept {
        Kept { answers: Answers { pages: 1, ..Answers::default() }, ..kept }
    }

    #[test]
    fn what_was_acknowledged_and_is_not_stored_is_lost() {
        let whole = read(Kept::of(&acknowledged(1..=3), &[stored(&[1, 2, 3])]));
        assert_eq!((whole.stored, whole.breaches()), (3, vec![]));
        let more = read(Kept::of(&acknowledged([1, 3]), &[stored(&[1, 2, 3])]));
        assert_eq!(more.breaches(), Vec::<String>::new(), "what had no answer may be stored");
        let less = read(Kept::of(&acknowledged(1..=3), &[stored(&[1, 3])]));
        assert_eq!((less.lost, less.breaches().len()), (1, 1));
    }

    #[test]
    fn what_is_stored_again_is_doubled() {
        let kept = read(Kept::of(&acknowledged(1..=3), &[stored(&[1, 2, 3, 2, 2])]));
        assert_eq!((kept.doubled, kept.lost, kept.breaches().len()), (2, 0, 1));
    }

    #[test]
    fn offsets_have_to_be_dense_within_an_epoch() {
        let mut channel = stored(&[1, 2, 3]);
        channel[2].offset = 5;
        let kept = read(Kept::of(&[], std::slice::from_ref(&channel)));
        assert_eq!((kept.missing, kept.breaches().len()), (2, 1));
        channel[2].epoch = "f".to_owned();
        assert_eq!(Kept::of(&[], &[channel]).missing, 0);
    }

    #[test]
    fn answers_with_neither_a_page_nor_a_word_of_when_to_come_again_are_breaches() {
        let mut kept = Kept { stored: 1, ..Kept::default() };
        assert_eq!(kept.breaches().len(), 1, "nothing was read");
        for answer in [Answer::Page, Answer::ComeAgain] {
            kept.answers.take(answer, Duration::from_millis(3));
        }
        assert_eq!(kept.breaches(), Vec::<String>::new());
        kept.answers.take(Answer::Failed("status 500".to_owned()), Duration::from_millis(9));
        assert_eq!(kept.breaches().len(), 1);
        assert!(kept.breaches()[0].contains("status 500") && kept.answers.slowest_ms == 9);
    }
}
