//! The store in MongoDB: the contract, any order of calls against a model, several writers at once,
//! what a look costs, and who may use a database.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bobolink::archive::{
    Deletion, MessageId, MessageStore, MongoOpenError, MongoSettings, MongoStore, Order, PageQuery, StoreError,
};
use bobolink::config::units::Secret;
use mongodb::bson::{Document, doc};
use mongodb::{Client, Database};
use proptest::test_runner::{Config, TestRunner};

use super::contract::{Model, Step, every_scenario, record, steps};

struct Set;
impl Set {
    fn uri(&self) -> String { std::env::var("MONGO_URI").expect("uri") }
}
async fn start() -> Set { Set }

fn settings(uri: &str, database: &str) -> MongoSettings {
    MongoSettings {
        uri: Secret::new(uri),
        database: database.into(),
        read_timeout: Duration::from_secs(20),
        write_timeout: Duration::from_secs(30),
    }
}

async fn open(uri: &str, database: &str) -> MongoStore {
    MongoStore::open(&settings(uri, database), "e1".into()).await.expect("opens")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mongo_store_keeps_the_contract() {
    let set = start().await;
    let name = format!("contract{}", std::process::id());
    let started = std::time::Instant::now();
    every_scenario(&open(&set.uri(), &name).await).await;
    eprintln!("took {:?}", started.elapsed());
}

#[test]
fn the_mongo_store_does_what_the_model_does() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let set = runtime.block_on(start());
    let cases = AtomicU32::new(0);
    // Each case has databases of its own, which is what takes the time.
    let config = Config { cases: 12, failure_persistence: None, max_shrink_iters: 50, ..Config::default() };
    let checked = TestRunner::new(config).run(&steps(), |steps| {
        let name = format!("model{}_{}", std::process::id(), cases.fetch_add(1, Ordering::Relaxed));
        runtime.block_on(follow(&set.uri(), &name, &steps));
        Ok(())
    });
    checked.expect("equal");
}

async fn follow(uri: &str, database: &str, steps: &[Step]) {
    let mut store = open(uri, database).await;
    let mut models: [Model; 3] = Default::default();
    let name = |channel: u8| format!("channel-{channel}");
    for step in steps {
        match step {
            Step::Append(messages) => {
                let batch = messages.iter().map(|(c, offset)| record(&name(*c), "e1", *offset));
                store.append(batch.collect()).await.expect("stored");
                for (channel, offset) in messages {
                    models[usize::from(*channel)].append(*offset);
                }
            }
            Step::Delete(channel, from, to) => {
                let what = Deletion::Offsets { epoch: None, from: *from, to: *to };
                store.delete(&name(*channel), what).await.expect("deleted");
                models[usize::from(*channel)].delete(*from, *to);
            }
            Step::Reopen => {
                store.close().await;
                store = open(uri, database).await;
            }
        }
    }
    for (channel, model) in (0..).zip(&models) {
        model.check(&store, &name(channel)).await;
    }
}
