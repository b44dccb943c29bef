//! Which entries of which queues somebody waits for, and what is to be asked of the queues. Pure but
//! for the waiting callers it wakes.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use ahash::{HashMap, HashSet};
use compact_str::CompactString;
use tokio::sync::oneshot;

use crate::broker::BrokerError;

/// Ids of one generation of [`Lately`]: some hundred kilobytes.
const GENERATION: usize = 8_192;

/// A queue: its name, which is what consumers call it by, and the number of its shard.
pub(super) type Queue = (CompactString, usize);

/// An entry that was put into a queue.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub queue: Queue,
    /// One that leads to the queue.
    pub channel: CompactString,
    pub id: CompactString,
    /// The identity of the master that has put it there.
    pub under: CompactString,
}

/// What a queue is to be asked: whether it still has these entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub queue: Queue,
    pub channel: CompactString,
    pub ids: Vec<CompactString>,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Awaited {
    queues: BTreeMap<Queue, Waiters>,
    /// Queues with ids that consumers have named.
    named: BTreeSet<Queue>,
    lately: Lately,
}

/// Those who wait for entries of one queue.
struct Waiters {
    /// A channel that leads there is as good as another.
    channel: CompactString,
    /// By the id of the entry.
    entries: HashMap<CompactString, Vec<Waiter>>,
    named: HashSet<CompactString>,
    /// An answer is on its way; it is asked nothing else before that.
    is_asked: bool,
}

struct Waiter {
    under: CompactString,
    tell: oneshot::Sender<Result<(), BrokerError>>,
}

/// Ids that were named and nobody waited for yet: the newest so many at least.
#[derive(Default)]
struct Lately {
    young: HashSet<CompactString>,
    old: HashSet<CompactString>,
}

impl Awaited {
    /// Waits for an entry. With it comes whether it was named before, so that there is something to ask.
    pub fn wait(&mut self, entry: Entry) -> (oneshot::Receiver<Result<(), BrokerError>>, bool) {
        let Entry { queue, channel, id, under } = entry;
        let (tell, told) = oneshot::channel();
        let is_named = self.lately.has(&id);
        let waiters = self.queues.entry(queue.clone()).or_insert_with(|| Waiters {
            channel,
            entries: HashMap::default(),
            named: HashSet::default(),
            is_asked: false,
        });
        if is_named {
            waiters.named.insert(id.clone());
            self.named.insert(queue);
        }
        waiters.entries.entry(id).or_default().push(Waiter { under, tell });
        (told, is_named)
    }

    /// Consumers have named entries of the queues that have a name; says whether any of them is waited
    /// for.
    pub fn name<'a>(&mut self, queue: &str, ids: impl Iterator<Item = &'a str>) -> bool {
        let all = (queue.into(), 0)..=(queue.into(), usize::MAX);
        let mut of_name: Vec<_> = self.queues.range_mut(all).collect();
        let mut is_awaited = false;
        for id in ids {
            let mut is_known = false;
            for (queue, waiters) in &mut of_name {
                if waiters.entries.contains_key(id) {
                    waiters.named.insert(id.into());
                    self.named.insert(queue.clone());
                    is_known = true;
                }
            }
            if !is_known {
                self.lately.add(id);
            }
            is_awaited |= is_known;
        }
        is_awaited
    }

    /// What to ask now: for entries that were named, or for all. Each question wants to hear of
    /// [`Awaited::answered`].
    pub fn questions(&mut self, all: bool) -> Vec<Question> {
        let mut questions = Vec::new();
        if all {
            self.named.clear();
            self.queues.retain(|queue, waiters| {
                waiters.forget_those_who_left();
                if !waiters.is_asked && !waiters.entries.is_empty() {
                    waiters.named.clear();
                    questions.push(waiters.ask(queue, waiters.entries.keys().cloned().collect()));
                    waiters.is_asked = true;
                }
                waiters.is_asked || !waiters.entries.is_empty()
            });
            return questions;
        }
        for queue in mem::take(&mut self.named) {
            let Some(waiters) = self.queues.get_mut(&queue) else { continue };
            if !waiters.is_asked {
                let ids = mem::take(&mut waiters.named).into_iter().collect();
                questions.push(waiters.ask(&queue, ids));
                waiters.is_asked = true;
            }
        }
        questions
    }

    /// A queue has said which of some entries it still has; `is_same` says whether what was put there
    /// under an identity cannot have got lost.
    pub fn settle(
        &mut self,
        queue: &Queue,
        ids: &[CompactString],
        still: &HashSet<&str>,
        is_same: impl Fn(&str) -> bool,
    ) {
        let Some(waiters) = self.queues.get_mut(queue) else { return };
        for id in ids {
            let Some(all) = waiters.entries.get_mut(id) else { continue };
            for one in mem::take(all) {
                match (is_same(&one.under), still.contains(id.as_str())) {
                    (true, true) => all.push(one),
                    (true, false) => drop(one.tell.send(Ok(()))),
                    (false, _) => drop(one.tell.send(Err(BrokerError::OutcomeUnknown))),
                }
            }
            if all.is_empty() {
                waiters.entries.remove(id);
            }
        }
    }

    /// A question has got its answer, or will never. Says whether there is something else to ask.
    pub fn answered(&mut self, queue: &Queue) -> bool {
        let Some(waiters) = self.queues.get_mut(queue) else { return false };
        waiters.is_asked = false;
        if waiters.entries.is_empty() {
            self.queues.remove(queue);
            return false;
        }
        let is_named = !waiters.named.is_empty();
        if is_named {
            self.named.insert(queue.clone());
        }
        is_named
    }
}

impl Waiters {
    fn ask(&self, queue: &Queue, ids: Vec<CompactString>) -> Question {
        Question { queue: queue.clone(), channel: self.channel.clone(), ids }
    }

    fn forget_those_who_left(&mut self) {
        self.entries.retain(|_, all| {
            all.retain(|one| !one.tell.is_closed());
            !all.is_empty()
        });
    }
}

impl Lately {
    fn has(&self, id: &str) -> bool {
        self.young.contains(id) || self.old.contains(id)
    }

    fn add(&mut self, id: &str) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(id.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = oneshot::Receiver<Result<(), BrokerError>>;

    fn queue(shard: usize) -> Queue {
        ("q".into(), shard)
    }

    fn wait(awaited: &mut Awaited, shard: usize, id: &str) -> (Told, bool) {
        let (queue, channel) = (queue(shard), "c".into());
        awaited.wait(Entry { queue, channel, id: id.into(), under: "m".into() })
    }

    fn asked(questions: Vec<Question>) -> Vec<(usize, Vec<CompactString>)> {
        let one = |question: Question| {
            let mut ids = question.ids;
            ids.sort_unstable();
            (question.queue.1, ids)
        };
        questions.into_iter().map(one).collect()
    }

    #[test]
    fn only_what_was_named_is_asked_for_between_two_looks_at_everything() {
        let mut awaited = Awaited::default();
        let _told: Vec<_> = ["1-0", "2-0", "3-0"].map(|id| wait(&mut awaited, 0, id)).into();
        assert!(!awaited.name("other", ["1-0"].into_iter()), "another queue's");
        assert!(awaited.questions(false).is_empty());
        assert!(awaited.name("q", ["9-0", "2-0"].into_iter()));
        assert_eq!(asked(awaited.questions(false)), [(0, vec!["2-0".into()])]);
        assert!(!awaited.answered(&queue(0)));
        let all = vec!["1-0".into(), "2-0".into(), "3-0".into()];
        assert_eq!(asked(awaited.questions(true)), [(0, all)]);
    }

    #[test]
    fn a_queue_that_does_not_answer_keeps_no_other_waiting() {
        let mut awaited = Awaited::default();
        let _told: Vec<_> = [0, 1].map(|shard| wait(&mut awaited, shard, "1-0")).into();
        assert_eq!(awaited.questions(true).len(), 2);
        awaited.answered(&queue(1));
        assert_eq!(asked(awaited.questions(true)), [(1, vec!["1-0".into()])], "0 is silent");
        awaited.answered(&queue(1));
        let _late = wait(&mut awaited, 0, "2-0");
        assert!(awaited.name("q", ["2-0"].into_iter()));
        assert!(awaited.questions(false).is_empty(), "it is asked one thing after the other");
        assert!(awaited.answered(&queue(0)), "and then what came meanwhile");
        assert_eq!(asked(awaited.questions(false)), [(0, vec!["2-0".into()])]);
    }

    #[test]
    fn what_was_named_before_anybody_waited_is_asked_for_at_once() {
        let mut awaited = Awaited::default();
        assert!(!awaited.name("q", ["1-0"].into_iter()));
        let (mut told, is_named) = wait(&mut awaited, 0, "1-0");
        assert!(is_named);
        assert_eq!(asked(awaited.questions(false)), [(0, vec!["1-0".into()])]);
        awaited.settle(&queue(0), &["1-0".into()], &HashSet::default(), |under| under == "m");
        assert_eq!(told.try_recv(), Ok(Ok(())));
        assert!(!awaited.answered(&queue(0)) && awaited.queues.is_empty());
        let (_told, is_named) = wait(&mut awaited, 0, "2-0");
        assert!(!is_named);
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut lately = Lately::default();
        for number in 0..5 * GENERATION {
            lately.add(&number.to_string());
            assert!(lately.young.len() + lately.old.len() <= 2 * GENERATION);
        }
        let newest = (4 * GENERATION..5 * GENERATION).map(|number| number.to_string());
        assert!(newest.into_iter().all(|id| lately.has(&id)));
        assert!(!lately.has("0"));
    }

    #[test]
    fn an_entry_that_is_there_waits_on_and_one_of_another_master_is_unknown() {
        let mut awaited = Awaited::default();
        let (mut told, _) = wait(&mut awaited, 0, "1-0");
        let ids: [CompactString; 1] = ["1-0".into()];
        awaited.settle(&queue(0), &ids, &["1-0"].into_iter().collect(), |_| true);
        assert!(told.try_recv().is_err());
        awaited.settle(&queue(0), &ids, &HashSet::default(), |_| false);
        assert_eq!(told.try_recv(), Ok(Err(BrokerError::OutcomeUnknown)));
    }

    #[test]
    fn nothing_is_kept_for_those_who_gave_up() {
        let mut awaited = Awaited::default();
        drop(wait(&mut awaited, 0, "1-0"));
        assert!(awaited.questions(true).is_empty() && awaited.queues.is_empty());
    }
}
