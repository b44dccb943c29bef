//! Where `min_replicas` is not met every publish into a stream fails, and health knows.

use super::gateways::gateway;
use super::health::{PATIENT, TIMEOUT, ask, metric, reason, status, until};
use super::proxy::Pair;
use crate::support::SOON;

#[tokio::test(flavor = "multi_thread")]
async fn too_few_replicas_are_an_alarm_and_in_the_log_and_move_no_clients() {
    let pair = Pair::start().await;
    let settings = pair.master.settings()
        + "engine.redis.min_replicas = 1\nengine.redis.min_replicas_timeout = \"300ms\"\n"
        + PATIENT;
    let one = gateway(&settings).await;
    until(&one, "/delivery", 200, SOON).await;
    pair.cut();
    let body = until(&one, "/delivery", 503, TIMEOUT + SOON).await;
    let expected =
        "engine.redis.min_replicas is 1, and 0 replicas had what was written within 300ms";
    assert_eq!(reason(&body), expected);
    assert_eq!(body["faults"][0]["this_node_only"], false);
    assert_eq!(status(&one, "/ready").await, 200);
    let told = |line: &serde_json::Value| {
        line["message"] == "what is published is not kept as it should be"
            && line["error"] == reason(&body)
    };
    one.log().wait_for(told).await;
    // It is repeated every ten seconds, and a canary goes twice a second.
    assert!(one.log().count(told) <= 3, "it is no flood");
    assert_eq!(metric(&one, "redis_reconnects{shard=\"0\"}").await, 0.0);

    // A node that starts meanwhile serves, and tells the same.
    let two = gateway(&settings).await;
    assert_eq!(reason(&until(&two, "/delivery", 503, TIMEOUT + SOON).await), reason(&body));

    pair.mend().await;
    for node in [&one, &two] {
        until(node, "/delivery", 200, SOON).await;
        let (_, body) = ask(node, "/ready").await;
        assert!(body["faults"].is_null(), "{body}");
        node.log().wait_for(|line| line["message"] == "what is published is kept again").await;
    }
}
