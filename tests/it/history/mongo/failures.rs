//! The store in MongoDB while its servers fail: what was acknowledged is there once, and nobody waits
//! longer than was said.

use std::time::Duration;

use bobolink::archive::{MessageStore, MongoSettings, MongoStore, StoreError};
use tokio::sync::watch;

use super::super::contract::record;
use super::{LONG, all, open, settings};
use crate::support::{ReplicaSet, SOON, eventually};

/// Messages of one append.
const BATCH: u64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_append_whose_acknowledgements_are_lost_stores_everything_once() {
    let mut set = ReplicaSet::scripted().await;
    let store = open(&set.uri(), "lost").await;
    let batch = |offsets: std::ops::RangeInclusive<u64>| {
        offsets.map(|offset| record("lost", "e1", offset)).collect::<Vec<_>>()
    };
    // The channel's own document, too, is written by a call that is not answered.
    for (round, lost) in [(0, 3), (1, 4), (2, 6)] {
        set.lose_acknowledgements(lost).await;
        let first = round * 100 + 1;
        let appended = store.append(batch(first..=first + 99)).await.expect("stored");
        assert_eq!((appended.stored, appended.duplicates), (100, 0), "they are found to be ours");
    }
    let replayed = store.append(batch(250..=310)).await.expect("answers");
    assert_eq!((replayed.stored, replayed.duplicates), (10, 51));
    // The channel reaches over this bucket already, so that messages are all that is written.
    set.lose_acknowledgements(3).await;
    let appended = store.append(batch(311..=319)).await.expect("stored");
    assert_eq!((appended.stored, appended.duplicates), (9, 0), "they are found to be ours");
    let other = record("lost", "e1", 7);
    let other = bobolink::archive::Record { message: record("x", "e1", 8).message, ..other };
    set.lose_acknowledgements(3).await;
    let replayed = store.append(vec![other]).await.expect("answers");
    assert_eq!((replayed.stored, replayed.duplicates), (0, 1));
    let verdict = store.verify("lost").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.holes, verdict.faults), (319, vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_or_doubled_when_the_primary_changes_at_full_rate() {
    let mut set = ReplicaSet::scripted().await;
    let store = open(&set.uri(), "changes").await;
    let (told, mut batches) = watch::channel(0_u64);
    let writer = tokio::spawn(async move {
        while !told.is_closed() {
            let first = *told.borrow() * BATCH + 1;
            let batch = (first..first + BATCH).map(|offset| record("full", "e1", offset));
            let appended = store.append(batch.collect()).await.expect("acknowledged");
            assert_eq!((appended.stored as u64, appended.duplicates), (BATCH, 0));
            told.send_modify(|batches| *batches += 1);
        }
        let batches = *told.borrow();
        (store, batches)
    });
    for next in [2, 3, 1] {
        goes_on(&mut batches).await;
        set.no_primary().await;
        set.primary(next).await;
        goes_on(&mut batches).await;
        set.crash().await;
        set.primary(next % 3 + 1).await;
        set.up(next).await;
    }
    goes_on(&mut batches).await;
    drop(batches);
    let (store, batches) = writer.await.expect("every append was acknowledged");
    let verdict = store.verify("full").await.expect("a verdict");
    assert_eq!(
        (verdict.messages, verdict.holes, verdict.faults),
        (batches * BATCH, vec![], vec![])
    );
    let tail = store.tail("full").await.expect("answers").expect("a tail");
    assert_eq!(tail.offset, batches * BATCH);
}

/// Waits for three more appends: the first may have begun before.
async fn goes_on(batches: &mut watch::Receiver<u64>) {
    let now = *batches.borrow_and_update();
    let going = batches.wait_for(|batches| *batches >= now + 3);
    tokio::time::timeout(LONG, going).await.expect("in time").expect("the writer writes");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_primary_calls_end_in_time_and_afterwards_go_on() {
    let mut set = ReplicaSet::scripted().await;
    let hasty = MongoSettings {
        read_timeout: Duration::from_secs(2),
        write_timeout: Duration::from_secs(4),
        ..settings(&set.uri(), "away")
    };
    // On a busy machine the first steps may take longer than that.
    let opening = async {
        loop {
            if let Ok(store) = MongoStore::open(&hasty, "e1".into()).await {
                break store;
            }
        }
    };
    let store = tokio::time::timeout(LONG, opening).await.expect("opens");
    let stores = async |offset| store.append(vec![record("a", "e1", offset)]).await.is_ok();
    eventually("it stores", LONG, async || stores(1).await).await;
    set.no_primary().await;
    // Less than the 30 s after which the driver gives up by itself.
    let refused = tokio::time::timeout(SOON, store.append(vec![record("a", "e1", 2)])).await;
    let refused = refused.expect("in time");
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_) | StoreError::Unknown)),
        "{refused:?}"
    );
    let refused = tokio::time::timeout(SOON, store.page("a", &all(9))).await.expect("in time");
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    set.primary(2).await;
    eventually("it stores again", LONG, async || stores(2).await).await;
    let page = store.page("a", &all(9)).await;
    assert_eq!(page.map(|page| page.messages.len()), Ok(2));
}
