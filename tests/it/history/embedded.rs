//! The embedded store: the contract, any order of calls against a model, and a full disk.

use std::path::Path;

use bobolink::archive::{
    EmbeddedSettings, EmbeddedStore, MessageStore, Order, PageQuery, StoreError,
};
use proptest::test_runner::{Config, TestRunner};

use super::contract::{every_scenario, follow, record, steps};
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
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("history.db");
        runtime.block_on(follow(async || open(&path), &steps));
        Ok(())
    });
    checked.expect("equal");
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
