//! Nodes know each other, and what is asked of one is done by all.

use bobolink::client::{Client, Error};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::gateways::gateway;
use super::group::Group;
use super::nodes::{call, channels, cluster, code_of_close, connected, done, nodes, push};
use super::outages::FAILOVER;
use super::process::RedisServer;
use crate::support::{SOON, Server, eventually, get};

/// Whether the connection stands, as a round trip shows.
async fn is_open(client: &mut Client) -> bool {
    match client.subscribe("lobby:round-trip").await {
        Ok(_) => true,
        // A second time it has the channel already.
        Err(Error::Refused(error)) => error.code == 105,
        Err(_) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_acts_on_connections_of_the_other_node() {
    let redis = RedisServer::start();
    let [one, two] = cluster(&redis.settings()).await;
    let (mut ann, client) = connected(&two, "ann").await;
    let (mut anonymous_bob, _) = connected(&two, "bob").await;
    for number in 1..=2 {
        done(&one, "publish", json!({ "channel": "chat:a", "data": number })).await;
    }

    let subscribe = json!({
        "user": "ann", "channel": "chat:a", "data": [1], "info": { "a": 1 },
        "recover_since": { "offset": 1 }, "override": { "join_leave": { "value": false } },
    });
    let subscribe = {
        let history = done(&one, "history", json!({ "channel": "chat:a" })).await;
        let mut subscribe = subscribe;
        subscribe["recover_since"]["epoch"] = history["epoch"].clone();
        subscribe
    };
    done(&one, "subscribe", subscribe).await;
    let told = push(&mut ann).await;
    let subscribed = told.subscribe.expect("the subscription");
    assert_eq!((told.channel.as_str(), &subscribed.data[..]), ("chat:a", &b"[1]"[..]));
    assert!(subscribed.recoverable && subscribed.positioned);
    let (_, missed) = ann.publication(SOON).await.expect("what it missed");
    assert_eq!((missed.offset, &missed.data[..]), (2, &b"2"[..]));
    let presence = done(&one, "presence", json!({ "channel": "chat:a" })).await;
    assert_eq!(presence["presence"][&client]["chan_info"], json!({ "a": 1 }));

    done(&one, "refresh", json!({ "user": "ann", "expire_at": 4_000_000_000_u32 })).await;
    let refreshed = push(&mut ann).await.refresh.expect("no join came in between");
    assert!(refreshed.expires && refreshed.ttl > 0);

    done(&one, "unsubscribe", json!({ "user": "ann", "channel": "chat:a" })).await;
    assert_eq!(push(&mut ann).await.unsubscribe.expect("the end").code, 2_000);

    let disconnect = json!({ "user": "ann", "disconnect": { "code": 4_500, "reason": "enough" } });
    done(&one, "disconnect", disconnect).await;
    let close = ann.closed(SOON).await.expect("closed");
    assert_eq!((close.code, close.reason.as_str()), (Some(4_500), "enough"));

    let (mut ann, _) = connected(&two, "ann").await;
    done(&one, "refresh", json!({ "user": "ann", "expired": true })).await;
    assert_eq!(code_of_close(&mut ann).await, Some(3_005));
    assert!(is_open(&mut anonymous_bob).await, "nobody spoke of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_means_the_same_on_every_node() {
    let redis = RedisServer::start();
    let [one, two] = cluster(&redis.settings()).await;
    let (mut first, client) = connected(&two, "ann").await;
    let (mut second, _) = connected(&two, "ann").await;
    let (mut third, spared) = connected(&two, "ann").await;
    done(&one, "disconnect", json!({ "user": "ann", "session": "none has one" })).await;
    done(&one, "disconnect", json!({ "user": "", "disconnect": null })).await;
    done(&one, "disconnect", json!({ "user": "ann", "client": client })).await;
    assert_eq!(code_of_close(&mut first).await, Some(3_503));
    assert!(is_open(&mut second).await && is_open(&mut third).await);
    done(&one, "disconnect", json!({ "user": "ann", "whitelist": [spared] })).await;
    assert_eq!(code_of_close(&mut second).await, Some(3_503));
    assert!(is_open(&mut third).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_one_connection_has_it_in_the_whole_cluster() {
    let redis = RedisServer::start();
    let single = "client.subscribe_to_user_personal_channel.enabled = true\n\
        client.subscribe_to_user_personal_channel.single_connection = true\n\
        client.subscribe_to_user_personal_channel.personal_channel_namespace = \"lobby\"\n";
    let [one, two] = cluster(&format!("{}{single}", redis.settings())).await;
    let (mut before, _) = connected(&one, "ann").await;
    let (mut after, _) = connected(&two, "ann").await;
    assert_eq!(code_of_close(&mut before).await, Some(3_504));
    assert!(is_open(&mut after).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_tells_of_all_with_what_they_hold() {
    let redis = RedisServer::start();
    let metrics = "node.info_metrics_aggregate_interval = \"1s\"\nprometheus.enabled = true\n";
    let [one, two] = cluster(&format!("{}{metrics}", redis.settings())).await;
    let (mut ann, _) = connected(&one, "ann").await;
    let (mut bob, _) = connected(&two, "bob").await;
    let (mut again, _) = connected(&two, "bob").await;
    for client in [&mut ann, &mut bob, &mut again] {
        client.subscribe("chat:a").await.expect("subscribed");
    }
    bob.subscribe("chat:b").await.expect("subscribed");
    for server in [&one, &two] {
        eventually("it knows what all hold", SOON, async || {
            let mut counts: Vec<_> = nodes(server).await.iter().map(counts).collect();
            counts.sort();
            counts == [[1, 1, 1, 1], [2, 1, 3, 2]]
        })
        .await;
        eventually("it knows what all count", SOON, async || {
            let of_all = nodes(server).await;
            let subscribed = "bobolink.client.subscriptions_inflight.client_name.unnamed";
            of_all.iter().all(|node| {
                let metrics = &node["metrics"];
                metrics["interval"].as_f64().is_some_and(|seconds| seconds >= 1.0)
                    && metrics["items"][subscribed].as_f64().is_some_and(|count| count >= 1.0)
            })
        })
        .await;
        let of_all = nodes(server).await;
        let mut uids: Vec<_> = of_all.iter().map(|node| node["uid"].to_string()).collect();
        uids.dedup();
        assert_eq!(uids.len(), 2);
        for node in &of_all {
            assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        }
    }
    let scraped = get(one.address(), "/metrics").await.body;
    assert!(scraped.contains("\nbobolink_node_num_nodes 2\n"), "{scraped}");
}

fn counts(node: &Value) -> [u64; 4] {
    ["num_clients", "num_users", "num_subs", "num_channels"]
        .map(|field| node[field].as_u64().expect("a count"))
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_of_all_nodes_are_added_up() {
    let redis = RedisServer::start();
    let [one, two] = cluster(&redis.settings()).await;
    let _here = [one.subscribed("ann", "chat:a").await, one.subscribed("bob", "chat:b").await];
    let _there = [two.subscribed("ann", "chat:a").await, two.subscribed("bob", "lobby:c").await];
    for server in [&one, &two] {
        let expected = json!({ "chat:a": { "num_clients": 2 }, "chat:b": { "num_clients": 1 } });
        assert_eq!(channels(server, "chat:*").await, expected);
        let expected = json!({ "lobby:c": { "num_clients": 1 } });
        assert_eq!(channels(server, "lobby:*").await, expected);
    }
    let refused = call(&one, "channels", json!({ "pattern": "[a" })).await;
    assert_eq!(refused["error"]["code"], 107);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_forgotten_and_so_is_who_was_there() {
    let redis = RedisServer::start();
    let soon = "client.presence_update_interval = \"1s\"\nengine.redis.presence_ttl = \"10s\"\n";
    let [one, two] = cluster(&format!("{}{soon}", redis.settings())).await;
    let _ann = one.subscribed("ann", "lobby:a").await;
    let _bob = two.subscribed("bob", "lobby:a").await;
    let present = async || {
        let stats = done(&one, "presence_stats", json!({ "channel": "lobby:a" })).await;
        stats["num_clients"].as_u64()
    };
    eventually("both are present", SOON, async || present().await == Some(2)).await;
    two.signal(Signal::KILL);
    eventually("its presence is gone", SOON, async || present().await == Some(1)).await;
    eventually("it is gone", SOON, async || nodes(&one).await.len() == 1).await;
    one.log().wait_for(|line| line["message"] == "a node is silent, it counts as dead").await;
    assert_eq!(channels(&one, "").await, json!({ "lobby:a": { "num_clients": 1 } }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_is_gone_before_its_connections_are() {
    let redis = RedisServer::start();
    let slowly = "shutdown.drain_window = \"60s\"\nshutdown.timeout = \"90s\"\n";
    let [one, mut two] = cluster(&format!("{}{slowly}", redis.settings())).await;
    let mut crowd = Vec::new();
    for _ in 0..3 {
        crowd.push(two.subscribed("bob", "chat:a").await);
    }
    two.signal(Signal::TERM);
    eventually("it is gone", SOON, async || nodes(&one).await.len() == 1).await;
    one.log().wait_for(|line| line["message"] == "a node has stopped").await;
    assert!(two.is_alive(), "it lets its connections go one by one");
    assert_eq!(one.log().count(|line| line["message"] == "a node is silent, it counts as dead"), 0);
    // Those that are left still obey.
    done(&one, "disconnect", json!({ "user": "bob", "disconnect": { "code": 4_500 } })).await;
    let mut codes = Vec::new();
    for client in &mut crowd {
        codes.push(code_of_close(client).await);
    }
    assert!(codes.contains(&Some(4_500)), "{codes:?}");
    assert_eq!(channels(&one, "").await, json!({}), "nobody is waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_done_and_nobody_is_forgotten() {
    let mut redis = RedisServer::start();
    let [one, two] = cluster(&redis.settings()).await;
    let (mut here, _) = connected(&one, "ann").await;
    let (mut there, _) = connected(&two, "ann").await;
    redis.kill();
    let all = [
        ("subscribe", json!({ "user": "ann", "channel": "chat:a" })),
        ("unsubscribe", json!({ "user": "ann" })),
        ("disconnect", json!({ "user": "ann" })),
        ("refresh", json!({ "user": "ann", "expired": true })),
        ("channels", json!({})),
    ];
    for (method, request) in all {
        eventually("Redis is seen to be away", SOON, async || {
            call(&one, method, request.clone()).await["error"]["code"] == 100
        })
        .await;
    }
    redis.revive();
    eventually("Redis is seen to be back", SOON, async || {
        call(&one, "channels", json!({})).await.get("result").is_some()
    })
    .await;
    assert_eq!(nodes(&one).await.len(), 2, "known since before");
    // A subscription to a channel waits for Redis; then the connections are seen to stand.
    for client in [&mut here, &mut there] {
        eventually("it is open", SOON, async || is_open(client).await).await;
    }
    done(&one, "disconnect", json!({ "user": "ann" })).await;
    assert_eq!(code_of_close(&mut here).await, Some(3_503));
    eventually("the other node can be told again", SOON, async || {
        done(&one, "disconnect", json!({ "user": "ann" })).await;
        there.closed(std::time::Duration::from_millis(100)).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_dies_while_it_is_asked_makes_an_error_and_no_half_answer() {
    let redis = RedisServer::start();
    let [one, two] = cluster(&redis.settings()).await;
    let _bob = two.subscribed("bob", "chat:a").await;
    two.signal(Signal::STOP);
    let answer = call(&one, "channels", json!({})).await;
    assert_eq!(answer["error"]["code"], 100, "{answer}");
    eventually("it is gone", SOON, async || nodes(&one).await.len() == 1).await;
    assert_eq!(channels(&one, "").await, json!({}));
    two.signal(Signal::CONT);
    eventually("it is back", SOON, async || nodes(&one).await.len() == 2).await;
    eventually("it is asked again", SOON, async || {
        channels(&one, "").await == json!({ "chat:a": { "num_clients": 1 } })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_shards_one_is_enough_to_command() {
    let mut shards = [RedisServer::start(), RedisServer::start()];
    let addresses = shards.each_ref().map(|shard| format!("{:?}", shard.address().to_string()));
    let address = addresses.join(", ");
    let settings = format!("engine.type = \"redis\"\nengine.redis.address = [{address}]\n");
    let [one, two] = cluster(&settings).await;
    // One after the other takes either way.
    for _ in 0..4 {
        let (mut ann, _) = connected(&two, "ann").await;
        done(&one, "disconnect", json!({ "user": "ann" })).await;
        assert_eq!(code_of_close(&mut ann).await, Some(3_503));
    }
    shards[0].kill();
    for _ in 0..4 {
        let (mut ann, _) = connected(&two, "ann").await;
        eventually("the other shard is taken", SOON, async || {
            call(&one, "disconnect", json!({ "user": "ann" })).await.get("result").is_some()
        })
        .await;
        assert_eq!(code_of_close(&mut ann).await, Some(3_503));
    }
    assert_eq!(nodes(&one).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_know_and_command_each_other_after_a_failover() {
    let mut redis = Group::start().await;
    let [one, two] = cluster(&redis.settings()).await;
    let _bob = two.subscribed("bob", "lobby:a").await;
    let (mut ann, _) = connected(&two, "ann").await;
    redis.kill_master().await;
    eventually("the successor is found", FAILOVER, async || {
        channels_if_told(&one).await == Some(json!({ "lobby:a": { "num_clients": 1 } }))
    })
    .await;
    assert_eq!(nodes(&one).await.len(), 2, "known since before");
    done(&one, "disconnect", json!({ "user": "ann" })).await;
    assert_eq!(code_of_close(&mut ann).await, Some(3_503));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_finds_no_sentinel_says_so_and_joins_when_they_come() {
    let mut redis = Group::start().await;
    let one = gateway(&redis.settings()).await;
    redis.sentinels.iter_mut().for_each(RedisServer::kill);
    let settings = format!("{}health.enabled = true\n", redis.settings());
    let two = Server::start(&settings).await;
    two.log().wait_for(|line| line["message"] == "no sentinel names a master, asking on").await;
    assert_eq!(get(two.address(), "/health/ready").await.status, 503);
    assert_eq!(nodes(&one).await.len(), 1);
    redis.sentinels.iter_mut().for_each(RedisServer::revive);
    let is_ready = async || get(two.address(), "/health/ready").await.status == 200;
    eventually("it is ready", FAILOVER, is_ready).await;
    eventually("it is known", SOON, async || nodes(&one).await.len() == 2).await;
}

/// All channels, or `None` if that cannot be said now.
async fn channels_if_told(server: &Server) -> Option<Value> {
    let mut answer = call(server, "channels", json!({})).await;
    answer.get_mut("result").map(|result| result["channels"].take())
}
