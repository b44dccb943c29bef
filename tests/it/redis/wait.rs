//! With `min_replicas` an answer means that replicas have it, too.

use std::time::Duration;

use bobolink::broker::{BrokerError, PublishOptions, Suppressed};
use bobolink::config::redis::Addresses;
use futures_util::future::join_all;
use hyper::Method;
use serde_json::Value;

use super::contract::{Backend, keeping};
use super::gateways::{data_until, gateway};
use super::proxy::Pair;
use crate::support::{SOON, Server, eventually, http};

/// So long wait publishes that have to succeed: longer than any machine stands still.
const PATIENT: Duration = Duration::from_secs(10);
/// And those that nothing is to come of.
const HASTY: Duration = Duration::from_millis(300);

async fn waiting(pair: &Pair, so_long: Duration) -> Backend {
    let address = Addresses(vec![pair.master.address().to_string()]);
    let settings = Backend::reaching(|redis| {
        redis.address = address;
        redis.min_replicas = 1;
        redis.min_replicas_timeout = so_long;
        // A call that waits for replicas is no connection that hangs.
        redis.io_timeout = 2 * PATIENT;
    });
    settings.await
}

fn with_key(key: &str) -> PublishOptions {
    PublishOptions { idempotency_key: key.to_owned(), ..keeping(20) }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_replica_has_is_delivered_and_answered_as_unknown() {
    let pair = Pair::start().await;
    let (backend, hasty) = (waiting(&pair, PATIENT).await, waiting(&pair, HASTY).await);
    let subscriber = backend.subscriber("a").await;
    assert_eq!(backend.publish("a", "1", &with_key("1")).await.offset, 1);
    pair.cut();
    for options in [with_key("2"), PublishOptions { history: None, ..with_key("3") }] {
        let unknown = hasty.try_publish("a", "2", &options).await;
        assert_eq!(unknown, Err(BrokerError::OutcomeUnknown));
    }
    assert_eq!(subscriber.publications(3).await, ["1", "2", "2"]);
    // The answer that is remembered is worth no more before a replica has it.
    let again = hasty.try_publish("a", "2", &with_key("2")).await;
    assert_eq!(again, Err(BrokerError::OutcomeUnknown));
    // What is written nowhere waits for nobody.
    let told = hasty.try_publish("a", "3", &PublishOptions::default()).await;
    assert!(told.is_ok(), "{told:?}");

    pair.mend().await;
    let again = backend.publish("a", "2", &with_key("2")).await;
    assert_eq!((again.offset, again.suppressed), (2, Some(Suppressed::Idempotency)));
    assert_eq!(backend.publish("a", "4", &with_key("4")).await.offset, 3);
    assert_eq!(subscriber.publications(2).await, ["3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_publications_wait_together() {
    let pair = Pair::start().await;
    let backend = waiting(&pair, PATIENT).await;
    let before = pair.master.calls("wait");
    let options = keeping(9);
    let publishing = (0..500).map(|_| backend.publish("a", "x", &options));
    let mut offsets: Vec<_> =
        join_all(publishing).await.iter().map(|published| published.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (1..=500).collect::<Vec<_>>());
    let waits = pair.master.calls("wait") - before;
    assert!(waits <= 50, "{waits} for 500 publications");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_that_the_outcome_is_unknown() {
    let pair = Pair::start().await;
    let settings = pair.master.settings()
        + "engine.redis.min_replicas = 1\nengine.redis.min_replicas_timeout = \"300ms\"\n";
    let one = gateway(&settings).await;
    let mut ann = one.subscribed("ann", "chat:a").await;
    pair.cut();
    let request = r#"{"channel": "chat:a", "data": "1", "idempotency_key": "k"}"#;
    let answer = publish(&one, request).await;
    assert_eq!(answer["error"]["code"], 100);
    let message = "outcome unknown, retry with the same idempotency key";
    assert_eq!(answer["error"]["message"], message);
    assert_eq!(data_until(&mut ann, "\"1\"").await.len(), 1);
    let refused = ann.publish("chat:a", "2").await.expect_err("unknown").to_string();
    assert!(refused.contains("outcome unknown"), "{refused}");

    pair.mend().await;
    eventually("it is published", SOON, async || {
        let answer = publish(&one, request).await;
        answer["result"]["offset"] == 1
    })
    .await;
}

async fn publish(gateway: &Server, request: &str) -> Value {
    let answer = http(gateway.address(), Method::POST, "/api/publish", &[], request).await;
    serde_json::from_str(&answer.body).expect("JSON")
}
