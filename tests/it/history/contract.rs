//! What every store does: the scenarios that `MessageStore` promises, run with each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bobolink::archive::{
    Anchor, Deletion, End, Message, MessageId, MessageStore, Order, PageQuery, Record, Span,
    StoreError,
};
use bobolink::protocol::publication::Publication;
use proptest::prelude::*;

/// A message with an id that rises with its offset, and says where it stands.
pub fn record(channel: &str, epoch: &str, offset: u64) -> Record {
    let id = MessageId::of(id_of(epoch, offset)).expect("an id");
    let publication = Publication {
        data: format!("\"{channel} {epoch} {offset}\"").into(),
        tags: BTreeMap::from([("offset".into(), offset.to_string())]),
        offset,
        time: id.time(),
        ..Publication::default()
    };
    let message = Message { id, epoch: epoch.into(), publication: Arc::new(publication) };
    Record { channel: channel.into(), message }
}

/// Epochs are called `e1`, `e2`, …; each has its own second, each offset its millisecond.
fn id_of(epoch: &str, offset: u64) -> u64 {
    let number: u64 = epoch.trim_start_matches('e').parse().expect("a number");
    let millis = number * 1_000_000 + offset;
    MessageId::first_at(millis as i64).number()
}

fn records(channel: &str, epoch: &str, offsets: impl IntoIterator<Item = u64>) -> Vec<Record> {
    offsets.into_iter().map(|offset| record(channel, epoch, offset)).collect()
}

fn span(epoch: &str, after: u64, through: u64) -> Span {
    Span { epoch: epoch.into(), after, through }
}

fn newest(limit: usize) -> PageQuery {
    PageQuery { after: None, before: None, order: Order::NewestFirst, limit }
}

async fn append(store: &dyn MessageStore, records: Vec<Record>) -> (usize, usize) {
    let appended = store.append(records).await.expect("stored");
    (appended.stored, appended.duplicates)
}

async fn offsets(store: &dyn MessageStore, channel: &str, query: &PageQuery) -> Vec<u64> {
    let page = store.page(channel, query).await.expect("a page");
    page.messages.iter().map(Message::offset).collect()
}

/// Runs every scenario with channels of its own.
pub async fn every_scenario(store: &dyn MessageStore) {
    unknown_channels_have_nothing(store).await;
    a_message_comes_back_as_it_went_in(store).await;
    replays_and_disorder_change_nothing(store).await;
    holes_are_known_until_they_are_filled(store).await;
    pages_go_both_ways_and_between_any_anchors(store).await;
    anchors_are_found_at_every_offset_of_a_long_channel(store).await;
    epochs_follow_each_other(store).await;
    epochs_of_one_batch_follow_their_ids(store).await;
    deleted_messages_count_for_density_and_are_never_read(store).await;
    what_comes_while_the_newest_is_deleted_stays(store).await;
    a_channel_can_be_emptied_and_goes_on(store).await;
    the_oldest_messages_expire_and_leave_their_places_unknown(store).await;
    channels_are_listed_in_order(store).await;
    offsets_that_no_database_counts_are_refused(store).await;
}

async fn unknown_channels_have_nothing(store: &dyn MessageStore) {
    assert_eq!(store.tail("nowhere").await, Ok(None));
    assert_eq!(store.summary("nowhere").await, Ok(None));
    assert!(store.chain("nowhere").await.expect("a chain").0.is_empty());
    assert!(offsets(store, "nowhere", &newest(10)).await.is_empty());
    let holes = store.holes("nowhere", &span("e1", 0, 5), 9).await;
    assert_eq!(holes, Ok(vec![(1, 5)]));
    assert!(store.range("nowhere", &span("e1", 0, 5)).await.expect("a range").is_empty());
    assert_eq!(store.delete("nowhere", Deletion::Channel).await.map(|d| d.count), Ok(0));
}

async fn a_message_comes_back_as_it_went_in(store: &dyn MessageStore) {
    let sent = record("whole", "e1", 1);
    assert_eq!(append(store, vec![sent.clone()]).await, (1, 0));
    let page = store.page("whole", &newest(1)).await.expect("a page");
    assert_eq!(page.messages, std::slice::from_ref(&sent.message));
    assert_eq!((page.more, page.prev), (false, None));
    let summary = store.summary("whole").await.expect("an answer").expect("a summary");
    assert_eq!((summary.count, summary.offset), (1, 1));
    assert_eq!((summary.first, summary.last), (Some(sent.message.clone()), Some(sent.message)));
}

async fn replays_and_disorder_change_nothing(store: &dyn MessageStore) {
    assert_eq!(append(store, records("replay", "e1", [3, 1, 2, 2])).await, (3, 1));
    assert_eq!(append(store, records("replay", "e1", [5, 2, 4, 1])).await, (2, 2));
    assert_eq!(offsets(store, "replay", &newest(10)).await, [5, 4, 3, 2, 1]);
    let tail = store.tail("replay").await.expect("an answer").expect("a tail");
    assert_eq!((tail.offset, tail.last_id.number()), (5, id_of("e1", 5)));
}

async fn holes_are_known_until_they_are_filled(store: &dyn MessageStore) {
    append(store, records("holes", "e1", [1, 2, 5, 6, 9])).await;
    let holes = async |after, through, limit| {
        store.holes("holes", &span("e1", after, through), limit).await.expect("holes")
    };
    assert_eq!(holes(0, 9, 9).await, [(3, 4), (7, 8)]);
    assert_eq!(holes(0, 9, 1).await, [(3, 4)]);
    assert_eq!(holes(2, 4, 9).await, [(3, 4)]);
    assert_eq!(holes(3, 7, 9).await, [(4, 4), (7, 7)]);
    assert_eq!(holes(4, 6, 9).await, []);
    assert_eq!(holes(9, 12, 9).await, [(10, 12)]);
    assert_eq!(holes(5, 5, 9).await, [], "nothing is dense");
    assert_eq!(holes(0, u64::MAX, 9).await.last().map(|hole| hole.0), Some(10));
    append(store, records("holes", "e1", [4, 3])).await;
    assert_eq!(holes(0, 9, 9).await, [(7, 8)]);
    append(store, records("holes", "e1", [7, 8])).await;
    assert_eq!(holes(0, 9, 9).await, []);
    let verdict = store.verify("holes").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.holes, verdict.faults), (9, vec![], vec![]));
}

async fn pages_go_both_ways_and_between_any_anchors(store: &dyn MessageStore) {
    append(store, records("pages", "e1", 1..=20)).await;
    let id = |offset| Anchor::Id(MessageId::of(id_of("e1", offset)).expect("an id"));
    let at = |offset| Anchor::Offset { epoch: None, offset };
    let time = |offset: u64| Anchor::Time((1_000_000 + offset) as i64);
    for anchor in [id, at, time] {
        let before = PageQuery { before: Some(anchor(10)), ..newest(3) };
        assert_eq!(offsets(store, "pages", &before).await, [9, 8, 7]);
        let after = PageQuery { after: Some(anchor(10)), order: Order::OldestFirst, ..newest(3) };
        assert_eq!(offsets(store, "pages", &after).await, [11, 12, 13]);
        let within = PageQuery { after: Some(anchor(10)), before: Some(anchor(13)), ..newest(9) };
        assert_eq!(offsets(store, "pages", &within).await, [12, 11]);
    }
    let page = store.page("pages", &newest(5)).await.expect("a page");
    assert!(page.more);
    assert_eq!(page.prev.map(MessageId::number), Some(id_of("e1", 15)));
    let page = store.page("pages", &newest(20)).await.expect("a page");
    assert!(!page.more);
    assert_eq!(page.prev, None);
    let beyond = PageQuery { after: Some(time(500)), ..newest(5) };
    assert!(offsets(store, "pages", &beyond).await.is_empty());
    let last = MessageId::of(i64::MAX as u64).expect("the highest");
    let behind_all = PageQuery { after: Some(Anchor::Id(last)), ..newest(5) };
    assert!(offsets(store, "pages", &behind_all).await.is_empty());
    let unknown = Anchor::Offset { epoch: Some("e9".into()), offset: 3 };
    for query in [
        PageQuery { after: Some(unknown.clone()), ..newest(5) },
        PageQuery { before: Some(unknown), ..newest(5) },
    ] {
        assert!(offsets(store, "pages", &query).await.is_empty(), "{query:?}");
    }
}

/// Stores keep many messages together, or runs of them: none of their borders is to be noticed.
async fn anchors_are_found_at_every_offset_of_a_long_channel(store: &dyn MessageStore) {
    for first in [101, 1, 201] {
        append(store, records("anchors", "e1", first..first + 100)).await;
    }
    for offset in [1, 2, 62, 63, 64, 65, 127, 128, 191, 192, 193, 255, 256, 257, 299, 300] {
        let id = Anchor::Id(MessageId::of(id_of("e1", offset)).expect("an id"));
        let time = Anchor::Time((1_000_000 + offset) as i64);
        for anchor in [id, time, Anchor::Offset { epoch: None, offset }] {
            let before = PageQuery { before: Some(anchor.clone()), ..newest(2) };
            let expected: Vec<_> = (1..offset).rev().take(2).collect();
            assert_eq!(offsets(store, "anchors", &before).await, expected, "before {anchor:?}");
            let oldest = PageQuery { order: Order::OldestFirst, ..newest(2) };
            let after = PageQuery { after: Some(anchor.clone()), ..oldest };
            let expected: Vec<_> = (offset + 1..=300).take(2).collect();
            assert_eq!(offsets(store, "anchors", &after).await, expected, "after {anchor:?}");
        }
    }
}

async fn epochs_follow_each_other(store: &dyn MessageStore) {
    append(store, records("epochs", "e1", 1..=3)).await;
    store.seal("epochs", "e1", 3).await.expect("sealed");
    store.seal("epochs", "e1", 2).await.expect("the first seal stays");
    append(store, records("epochs", "e2", 3..=4)).await;
    append(store, records("epochs", "e1", [3])).await;
    let chain = store.chain("epochs").await.expect("a chain").0;
    let seen: Vec<_> = chain.iter().map(|e| (e.name.as_str(), e.first, e.last, e.end)).collect();
    assert_eq!(seen, [("e1", 1, 3, End::SealedAt(3)), ("e2", 3, 4, End::Open)]);
    let page = store.page("epochs", &newest(9)).await.expect("a page");
    let seen: Vec<_> = page.messages.iter().map(|m| (m.epoch.as_str(), m.offset())).collect();
    assert_eq!(seen, [("e2", 4), ("e2", 3), ("e1", 3), ("e1", 2), ("e1", 1)]);
    let old = Anchor::Offset { epoch: Some("e1".into()), offset: 2 };
    let behind = PageQuery { after: Some(old), order: Order::OldestFirst, ..newest(2) };
    assert_eq!(offsets(store, "epochs", &behind).await, [3, 3], "across the border");
    let by_time = PageQuery { after: Some(Anchor::Time(2_000_003)), ..newest(9) };
    assert_eq!(offsets(store, "epochs", &by_time).await, [4]);
}

async fn epochs_of_one_batch_follow_their_ids(store: &dyn MessageStore) {
    // The later one is the first by its name.
    append(store, [records("batch", "e10", [3]), records("batch", "e9", [1, 2])].concat()).await;
    let chain = store.chain("batch").await.expect("a chain").0;
    let names: Vec<_> = chain.iter().map(|epoch| epoch.name.as_str()).collect();
    assert_eq!(names, ["e9", "e10"]);
    let tail = store.tail("batch").await.expect("an answer").expect("a tail");
    assert_eq!((tail.epoch.as_str(), tail.offset), ("e10", 3));
}

async fn deleted_messages_count_for_density_and_are_never_read(store: &dyn MessageStore) {
    append(store, records("delete", "e1", 1..=10)).await;
    let id = MessageId::of(id_of("e1", 4)).expect("an id");
    let deleted = store.delete("delete", Deletion::Message(id)).await.expect("deleted");
    assert_eq!((deleted.count, deleted.offsets), (1, Some((4, 4))));
    assert_eq!(deleted.epoch.as_deref(), Some("e1"));
    let again = store.delete("delete", Deletion::Message(id)).await.expect("answers");
    assert_eq!((again.count, again.offsets), (0, None));
    let range = Deletion::Offsets { epoch: None, from: 7, to: 8 };
    assert_eq!(store.delete("delete", range).await.map(|d| d.count), Ok(2));
    let foreign = Deletion::Offsets { epoch: Some("e7".into()), from: 1, to: 8 };
    assert_eq!(store.delete("delete", foreign).await.map(|d| d.count), Ok(0));
    assert_eq!(append(store, records("delete", "e1", [4, 7])).await, (0, 2), "stay deleted");
    assert_eq!(offsets(store, "delete", &newest(9)).await, [10, 9, 6, 5, 3, 2, 1]);
    assert_eq!(store.holes("delete", &span("e1", 0, 10), 9).await, Ok(vec![]));
    let range = store.range("delete", &span("e1", 2, 8)).await.expect("a range");
    assert_eq!(range.iter().map(Message::offset).collect::<Vec<_>>(), [3, 5, 6]);
    let before = PageQuery { before: Some(Anchor::Id(id)), ..newest(1) };
    assert_eq!(offsets(store, "delete", &before).await, [3], "an anchor need not be there");
    let page = store.page("delete", &newest(4)).await.expect("a page");
    assert_eq!(page.prev, None, "what was before is deleted");
    let verdict = store.verify("delete").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.deleted, verdict.faults), (7, 3, vec![]));
}

async fn what_comes_while_the_newest_is_deleted_stays(store: &dyn MessageStore) {
    append(store, records("newest", "e1", [1])).await;
    for newest in 1..=40 {
        let id = MessageId::of(id_of("e1", newest)).expect("an id");
        let deletion = store.delete("newest", Deletion::Message(id));
        let (deleted, appended) =
            tokio::join!(deletion, append(store, records("newest", "e1", [newest + 1])));
        let deleted = deleted.expect("deleted");
        assert_eq!((deleted.count, deleted.offsets), (1, Some((newest, newest))));
        assert_eq!(appended, (1, 0));
    }
    assert_eq!(offsets(store, "newest", &newest(9)).await, [41]);
    // An id between two messages is nobody's.
    append(store, records("newest", "e1", [45])).await;
    for nobody in [id_of("e1", 43), id_of("e1", 45) + 1, 0] {
        let what = Deletion::Message(MessageId::of(nobody).expect("an id"));
        assert_eq!(store.delete("newest", what).await.map(|deleted| deleted.count), Ok(0));
    }
    assert_eq!(offsets(store, "newest", &newest(9)).await, [45, 41]);
    let verdict = store.verify("newest").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.deleted, verdict.faults), (2, 40, vec![]));
}

async fn a_channel_can_be_emptied_and_goes_on(store: &dyn MessageStore) {
    append(store, records("empty", "e1", 1..=2_500)).await;
    let deleted = store.delete("empty", Deletion::Channel).await.expect("deleted");
    assert_eq!((deleted.count, deleted.offsets), (2_500, Some((1, 2_500))));
    let summary = store.summary("empty").await.expect("an answer").expect("a summary");
    assert_eq!((summary.count, summary.offset, summary.last), (0, 2_500, None));
    append(store, records("empty", "e1", [2_501])).await;
    assert_eq!(offsets(store, "empty", &newest(9)).await, [2_501]);
    assert_eq!(store.holes("empty", &span("e1", 0, 2_501), 9).await, Ok(vec![]));
}

async fn the_oldest_messages_expire_and_leave_their_places_unknown(store: &dyn MessageStore) {
    append(store, records("expire", "e1", 1..=5)).await;
    append(store, records("expire", "e2", 6..=10)).await;
    store.seal("expire", "e1", 5).await.expect("sealed");
    let seventh = Deletion::Offsets { epoch: None, from: 7, to: 7 };
    store.delete("expire", seventh).await.expect("deleted");
    let (tail, chain) = (store.tail("expire").await, store.chain("expire").await);
    let expire = async |epoch, offset, limit| {
        let before = MessageId::of(id_of(epoch, offset)).expect("an id");
        store.expire("expire", before, limit).await.expect("answers")
    };
    let holes = async |epoch, after, through| {
        store.holes("expire", &span(epoch, after, through), 9).await.expect("holes")
    };
    assert_eq!(expire("e1", 1, 9).await, 0, "the bound is exclusive");
    assert_eq!(expire("e1", 3, 9).await, 2);
    assert_eq!(holes("e1", 0, 5).await, [(1, 2)]);
    assert_eq!(expire("e2", 9, 4).await, 4, "no more than asked for, over the end of an epoch");
    assert_eq!(holes("e1", 0, 5).await, [(1, 5)]);
    assert_eq!(holes("e2", 5, 10).await, [(6, 6)]);
    assert_eq!(expire("e2", 9, 4).await, 1);
    assert_eq!(holes("e2", 5, 10).await, [(6, 8)], "what was deleted before it expires with it");
    assert_eq!(offsets(store, "expire", &newest(9)).await, [10, 9]);
    let verdict = store.verify("expire").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.holes, verdict.faults), (2, vec![], vec![]));
    let summary = store.summary("expire").await.expect("an answer").expect("a summary");
    assert_eq!(summary.count, 2);
    assert_eq!(expire("e3", 1, 9).await, 2, "everything may go");
    assert_eq!(expire("e3", 1, 9).await, 0);
    assert_eq!(store.tail("expire").await, tail, "and the channel ends where it did");
    assert_eq!(store.chain("expire").await, chain);
    assert_eq!(append(store, records("expire", "e2", [11])).await, (1, 0));
    assert_eq!(holes("e2", 5, 11).await, [(6, 10)]);
    let nowhere = store.expire("nowhere", MessageId::of(9).expect("an id"), 9).await;
    assert_eq!(nowhere, Ok(0));
}

async fn channels_are_listed_in_order(store: &dyn MessageStore) {
    for name in ["list:b", "list:a", "list:c", "lisu"] {
        append(store, records(name, "e1", [1])).await;
    }
    let list = async |after, limit| store.channels("list:", after, limit).await.expect("a list");
    assert_eq!(list(None, 9).await, ["list:a", "list:b", "list:c"]);
    assert_eq!(list(Some("list:a"), 1).await, ["list:b"]);
    assert!(list(Some("list:c"), 9).await.is_empty());
}

async fn offsets_that_no_database_counts_are_refused(store: &dyn MessageStore) {
    for offset in [0, u64::MAX] {
        let mut record = record("odd", "e1", 1);
        let publication = Publication::clone(&record.message.publication);
        record.message.publication = Arc::new(Publication { offset, ..publication });
        let refused = store.append(vec![record]).await;
        assert!(matches!(refused, Err(StoreError::BadRequest(_))), "{offset}: {refused:?}");
    }
    assert_eq!(store.tail("odd").await, Ok(None));
}

/// Something that is done to a store and to the model of one.
#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<(u8, u64)>),
    Delete(u8, u64, u64),
    /// Below an offset, at most so many.
    Expire(u8, u64, usize),
    Reopen,
}

/// Few channels and offsets, so that batches meet.
pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = proptest::collection::vec((0..3_u8, 1..40_u64), 1..12).prop_map(Step::Append);
    let delete = (0..3_u8, 1..40_u64, 0..8_u64)
        .prop_map(|(channel, from, count)| Step::Delete(channel, from, from + count));
    let expire = (0..3_u8, 1..40_u64, 1..9_usize)
        .prop_map(|(c, below, limit)| Step::Expire(c, below, limit));
    let step = prop_oneof![6 => append, 2 => delete, 1 => expire, 1 => Just(Step::Reopen)];
    proptest::collection::vec(step, 1..25)
}

/// Does the steps to a store, which `open` opens again and again, and to a model; compares them.
pub async fn follow<S: MessageStore>(open: impl AsyncFn() -> S, steps: &[Step]) {
    let mut store = open().await;
    let mut models: [Model; 3] = Default::default();
    let name = |channel: u8| format!("channel-{channel}");
    for step in steps {
        match step {
            Step::Append(messages) => {
                let mut messages = messages.clone();
                messages.retain(|(channel, offset)| models[usize::from(*channel)].append(*offset));
                let batch = messages.iter().map(|(c, offset)| record(&name(*c), "e1", *offset));
                store.append(batch.collect()).await.expect("stored");
            }
            Step::Delete(channel, from, to) => {
                let what = Deletion::Offsets { epoch: None, from: *from, to: *to };
                store.delete(&name(*channel), what).await.expect("deleted");
                models[usize::from(*channel)].delete(*from, *to);
            }
            Step::Expire(channel, below, limit) => {
                let before = record("", "e1", *below).message.id;
                let gone = store.expire(&name(*channel), before, *limit).await;
                assert_eq!(gone, Ok(models[usize::from(*channel)].expire(*below, *limit)));
            }
            Step::Reopen => {
                store.close().await;
                // A file is open once at a time.
                drop(store);
                store = open().await;
            }
        }
    }
    for (channel, model) in (0..).zip(&models) {
        model.check(&store, &name(channel)).await;
    }
}

/// What a store should have of one channel.
#[derive(Default)]
struct Model {
    stored: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    /// The highest offset that has expired.
    expired: u64,
    top: u64,
}

impl Model {
    /// False if the place has expired, where stores may do as they like.
    fn append(&mut self, offset: u64) -> bool {
        if offset <= self.expired {
            return false;
        }
        self.top = self.top.max(offset);
        self.stored.insert(offset);
        true
    }

    /// Returns how many go.
    fn expire(&mut self, below: u64, limit: usize) -> u64 {
        let due = self.stored.difference(&self.deleted).copied();
        let due: Vec<_> = due.take_while(|offset| *offset < below).take(limit).collect();
        if let Some(last) = due.last() {
            self.expired = *last;
            self.stored.retain(|offset| offset > last);
            self.deleted.retain(|offset| offset > last);
        }
        due.len() as u64
    }

    fn delete(&mut self, from: u64, to: u64) {
        self.deleted.extend(self.stored.range(from..=to));
    }

    /// Compares everything that can be asked about the channel.
    async fn check(&self, store: &dyn MessageStore, channel: &str) {
        let living: Vec<_> = self.stored.difference(&self.deleted).copied().collect();
        let forward = PageQuery { order: Order::OldestFirst, ..newest(100) };
        assert_eq!(offsets(store, channel, &forward).await, living);
        let backward: Vec<_> = living.iter().rev().copied().collect();
        assert_eq!(offsets(store, channel, &newest(100)).await, backward);
        for bound in [0, 7, 20, 39] {
            let anchor = MessageId::of(id_of("e1", bound)).expect("an id");
            let behind = PageQuery { after: Some(Anchor::Id(anchor)), ..forward.clone() };
            let expected: Vec<_> = living.iter().copied().filter(|at| *at > bound).collect();
            assert_eq!(offsets(store, channel, &behind).await, expected);
        }
        let missing: BTreeSet<_> = (1..=40).filter(|at| !self.stored.contains(at)).collect();
        let holes = store.holes(channel, &span("e1", 0, 40), 100).await.expect("holes");
        let found: BTreeSet<_> = holes.into_iter().flat_map(|(a, b)| a..=b).collect();
        assert_eq!(found, missing);
        let verdict = store.verify(channel).await.expect("a verdict");
        assert_eq!(verdict.faults, [""; 0]);
        assert_eq!(verdict.messages as usize, living.len());
        let top = store.tail(channel).await.expect("an answer").map(|tail| tail.offset);
        assert_eq!(top, (self.top > 0).then_some(self.top));
    }
}
