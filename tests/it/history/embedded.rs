//! The embedded store: the contract, any order of calls against a model, and a full disk.

use std::path::Path;

use bobolink::archive::{
    Deletion, EmbeddedSettings, EmbeddedStore, MessageStore, Order, PageQuery, StoreError,
};
use proptest::test_runner::{Config, TestRunner};

use super::contract::{Model, Step, every_scenario, record, steps};
use super::disk::Disk;

fn open(path: &Path) -> EmbeddedStore {
    let settings = EmbeddedSettings { path: path.to_owned(), cache: 1 << 20 };
    EmbeddedStore::open(&settings, "e1".into()).expect("opens")
}

#[tokio::test]
async fn the_embedded_store_keeps_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    every_scenario(&open(&folder.path().join("history.db"))).await;
}

#[test]
fn the_embedded_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().expect("a runtime");
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let checked = TestRunner::new(config).run(&steps(), |steps| {
        runtime.block_on(follow(&steps));
        Ok(())
    });
    checked.expect("equal");
}

async fn follow(steps: &[Step]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.db");
    let mut store = open(&path);
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
                drop(store);
                store = open(&path);
            }
        }
    }
    for (channel, model) in (0..).zip(&models) {
        model.check(&store, &name(channel)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_what_does_not_fit_and_damages_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::mount(folder.path(), "1m");
    let store = open(&folder.path().join("history.db"));
    let mut stored = 0;
    let full = loop {
        let batch = (stored + 1..=stored + 50).map(|offset| record("full", "e1", offset));
        match store.append(batch.collect()).await {
            Ok(_) => stored += 50,
            Err(error) => break error,
        }
        assert!(stored < 100_000, "the disk never fills");
    };
    assert_eq!(full, StoreError::Full);
    assert!(stored > 0, "something fits");
    let all = PageQuery { after: None, before: None, order: Order::OldestFirst, limit: 1_000 };
    let page = store.page("full", &all).await.expect("reading goes on");
    assert_eq!(page.messages.first().map(|m| m.offset()), Some(1));
    let verdict = store.verify("full").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.faults), (stored, vec![]));

    disk.resize("8m");
    let batch = (stored + 1..=stored + 50).map(|offset| record("full", "e1", offset)).collect();
    store.append(batch).await.expect("with room it goes on without being opened again");
    drop(store);
    let store = open(&folder.path().join("history.db"));
    let verdict = store.verify("full").await.expect("a verdict");
    assert_eq!((verdict.messages, verdict.faults), (stored + 50, vec![]));
    drop(store);
}
