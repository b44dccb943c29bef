//! Where everybody in a drill writes down what happened to them, with one clock for all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::event::{Event, Outcome, Reader, Record, Writer};
use super::verdict::{Seen, Verdict, judge};
use crate::time::Clock;

/// Records of one drill; beyond, there is no verdict. Some 50 bytes each.
const MAX_RECORDS: usize = 4_000_000;

/// The journal of one drill.
#[derive(Debug)]
pub struct Journal {
    clock: Clock,
    began: Instant,
    crowd: Crowd,
    pages: Mutex<Pages>,
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub channels: u32,
    pub writers: u32,
    pub readers: u32,
}

#[derive(Debug, Default)]
struct Pages {
    records: Vec<Record>,
    /// When each publication went out.
    sent: HashMap<(Writer, u32), Duration>,
    /// Of each writer, when the latest that was acknowledged went out.
    acknowledged: HashMap<Writer, Duration>,
    /// Of each reader, when the latest that it got went out.
    got: HashMap<Reader, Duration>,
    is_full: bool,
}

impl Journal {
    pub fn new(clock: Clock, crowd: Crowd) -> Self {
        let began = clock.now();
        Self { clock, began, crowd, pages: Mutex::default() }
    }

    /// Writes down that something happens now.
    pub fn note(&self, event: Event) {
        // The time is taken under the lock, so that the records are in its order.
        let mut pages = self.pages.lock();
        let record = Record { at: self.now(), event };
        pages.note(record);
    }

    /// Who takes part.
    pub fn crowd(&self) -> Crowd {
        self.crowd
    }

    /// The time since the drill began.
    pub fn now(&self) -> Duration {
        self.clock.now().saturating_duration_since(self.began)
    }

    /// Whether everybody is well again: each writer has an acknowledgement for, and each reader has
    /// received, something that went out after `since`.
    pub fn is_whole_since(&self, since: Duration) -> bool {
        let pages = self.pages.lock();
        let writers = (0..self.crowd.writers)
            .all(|writer| pages.acknowledged.get(&writer).is_some_and(|sent| *sent > since));
        let readers = (0..self.crowd.readers)
            .all(|reader| pages.got.get(&reader).is_some_and(|sent| *sent > since));
        writers && readers
    }

    /// Looks at everything so far.
    pub fn look(&self, at: impl FnMut(&Record)) {
        self.pages.lock().records.iter().for_each(at);
    }

    /// Whether more happened than can be kept.
    pub fn is_full(&self) -> bool {
        self.pages.lock().is_full
    }

    /// The verdict on everything so far.
    pub fn verdict(&self, unseen_promotions: bool) -> Verdict {
        let records = self.pages.lock().records.clone();
        let Crowd { channels, readers, .. } = self.crowd;
        judge(&Seen { records: &records, channels, readers, unseen_promotions })
    }
}

impl Pages {
    fn note(&mut self, record: Record) {
        if self.records.len() >= MAX_RECORDS {
            self.is_full = true;
            return;
        }
        self.records.push(record);
        match record.event {
            Event::Sent { writer, number } => {
                self.sent.insert((writer, number), record.at);
            }
            Event::Answered { writer, number, outcome: Outcome::Acknowledged } => {
                if let Some(sent) = self.sent.get(&(writer, number)) {
                    self.acknowledged.insert(writer, *sent);
                }
            }
            Event::Got { reader, writer, number } => {
                if let Some(sent) = self.sent.get(&(writer, number)) {
                    self.got.insert(reader, *sent);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_to_be_well_for_the_whole_to_be() {
        let clock = Clock::manual(0);
        let journal = Journal::new(clock.clone(), Crowd { channels: 1, writers: 1, readers: 2 });
        clock.advance(Duration::from_millis(10));
        journal.note(Event::Sent { writer: 0, number: 1 });
        let outcome = Outcome::Acknowledged;
        journal.note(Event::Answered { writer: 0, number: 1, outcome });
        journal.note(Event::Got { reader: 0, writer: 0, number: 1 });
        assert!(!journal.is_whole_since(Duration::ZERO), "one reader has nothing");
        journal.note(Event::Got { reader: 1, writer: 0, number: 1 });
        assert!(journal.is_whole_since(Duration::ZERO));
        assert!(!journal.is_whole_since(Duration::from_millis(10)), "that went out before");
        let mut received = 0;
        journal.look(|record| received += u32::from(matches!(record.event, Event::Got { .. })));
        assert_eq!(received, 2);
        assert_eq!(journal.verdict(false).delivered, 2);
    }
}
