//! The embedded store: appending batches durably, and reading pages of small and large channels.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bobolink::archive::{
    Anchor, EmbeddedSettings, EmbeddedStore, Message, MessageId, MessageStore, Order, PageQuery,
    Record,
};
use bobolink::protocol::publication::Publication;
use divan::Bencher;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Bytes of a payload.
const PAYLOAD: usize = 160;
/// Messages in one append while channels are filled.
const BATCH: u64 = 8_000;

fn main() {
    divan::main();
}

/// Channels that one batch of a gateway goes to.
#[divan::bench(args = [1, 100, 1_000])]
fn append_1000_messages_to_channels(bencher: Bencher<'_, '_>, channels: u64) {
    let (runtime, store, _folder) = open();
    let next = AtomicU64::new(1);
    bencher
        .counter(divan::counter::ItemsCount::new(1_000_u64))
        .with_inputs(|| {
            let first = next.fetch_add(1_000 / channels, Ordering::Relaxed);
            let place = |index: u64| (index % channels, first + index / channels);
            (0..1_000).map(place).map(|(channel, offset)| record(channel, offset)).collect()
        })
        .bench_values(|batch: Vec<Record>| {
            runtime.block_on(store.append(black_box(batch))).expect("stored")
        });
}

#[divan::bench(args = [100, 200_000])]
fn page_of_50_in_a_channel_of(bencher: Bencher<'_, '_>, count: u64) {
    let (runtime, store, _folder) = filled(count);
    let offset = AtomicU64::new(0);
    bencher.bench(|| {
        // Anywhere in the channel, not always in the pages that are at hand.
        let at = 50 + offset.fetch_add(7_919, Ordering::Relaxed) % (count - 50);
        let before = Some(Anchor::Offset { epoch: None, offset: at });
        let query = PageQuery { after: None, before, order: Order::NewestFirst, limit: 50 };
        runtime.block_on(store.page("0", black_box(&query))).expect("a page")
    });
}

#[divan::bench(args = [100, 200_000])]
fn page_before_a_time_in_a_channel_of(bencher: Bencher<'_, '_>, count: u64) {
    let (runtime, store, _folder) = filled(count);
    let offset = AtomicU64::new(0);
    bencher.bench(|| {
        let at = 50 + offset.fetch_add(7_919, Ordering::Relaxed) % (count - 50);
        let before = Some(Anchor::Time(at as i64));
        let query = PageQuery { after: None, before, order: Order::NewestFirst, limit: 50 };
        runtime.block_on(store.page("0", black_box(&query))).expect("a page")
    });
}

fn filled(count: u64) -> (Runtime, EmbeddedStore, TempDir) {
    let (runtime, store, folder) = open();
    for first in (1..=count).step_by(BATCH as usize) {
        let batch = (first..=count.min(first + BATCH - 1)).map(|offset| record(0, offset));
        runtime.block_on(store.append(batch.collect())).expect("stored");
    }
    (runtime, store, folder)
}

fn open() -> (Runtime, EmbeddedStore, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings =
        EmbeddedSettings { path: folder.path().join("history.db"), cache: 8 * 1024 * 1024 };
    let store = EmbeddedStore::open(&settings, "epoch".into()).expect("opens");
    (Runtime::new().expect("a runtime"), store, folder)
}

fn record(channel: u64, offset: u64) -> Record {
    let publication =
        Publication { data: vec![b'1'; PAYLOAD].into(), offset, ..Default::default() };
    let id = MessageId::first_at(offset as i64);
    let message = Message { id, epoch: "epoch".into(), publication: Arc::new(publication) };
    Record { channel: channel.to_string().into(), message }
}
