//! Several gateways on one Redis are one gateway to their clients.

use std::fs;

use bobolink::client::Client;
use bobolink::protocol::command::{Command, HistoryRequest, PresenceRequest, PresenceStatsRequest};
use bobolink::protocol::reply::SubscribeResult;
use rcgen::{CertifiedKey, generate_simple_self_signed};

use super::process::{RedisServer, settings_of};
use crate::support::{SOON, Server, eventually, get, recovering};

/// Settings with which everybody may do everything in `chat:` and in channels without a namespace.
pub const OPEN: &str = "
http_api.insecure = true
health.enabled = true
[[channel.namespaces]]
name = \"chat\"
history_size = 20
history_ttl = \"60s\"
force_recovery = true
presence = true
join_leave = true
force_push_join_leave = true
allow_subscribe_for_client = true
allow_publish_for_client = true
allow_history_for_client = true
allow_presence_for_client = true
[[channel.namespaces]]
name = \"lobby\"
presence = true
allow_subscribe_for_client = true
allow_publish_for_client = true
";

/// A gateway that has reached Redis.
pub async fn gateway(redis: &str) -> Server {
    let server = Server::start(&format!("{redis}{OPEN}")).await;
    let is_ready = async || get(server.address(), "/health/ready").await.status == 200;
    eventually("it is ready", SOON, is_ready).await;
    server
}

/// Publications until one with this data, which is included; panics if it does not come.
pub async fn data_until(client: &mut Client, last: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.last().is_none_or(|data| data != last) {
        let (_, publication) = client.publication(SOON).await.expect("a publication");
        seen.push(String::from_utf8(publication.data.to_vec()).expect("text"));
    }
    seen
}

/// Subscribes from a position on.
pub async fn recover(
    client: &mut Client,
    channel: &str,
    offset: u64,
    epoch: &str,
) -> SubscribeResult {
    client.subscribe_with(recovering(channel, offset, epoch)).await.expect("subscribed")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_on_one_gateway_arrives_on_the_other_in_order() {
    let redis = RedisServer::start();
    let (one, two) = tokio::join!(gateway_on(&redis), gateway_on(&redis));
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, two.connected("bob").await);
    bob.subscribe("chat:a").await.expect("subscribed");
    for number in 0..100 {
        let publisher = if number % 2 == 0 { &mut ann } else { &mut bob };
        publisher.publish("chat:a", number.to_string()).await.expect("published");
    }
    let expected: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(data_until(&mut ann, "99").await, expected);
    assert_eq!(data_until(&mut bob, "99").await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_recovers_on_another_gateway() {
    let redis = RedisServer::start();
    let (one, two) = tokio::join!(gateway_on(&redis), gateway_on(&redis));
    let mut ann = one.connected("ann").await;
    let start = ann.subscribe("chat:a").await.expect("subscribed");
    assert!(start.recoverable && start.positioned);
    ann.publish("chat:a", "1").await.expect("published");
    ann.close().await.expect("closed");
    let mut bob = two.connected("bob").await;
    for number in 2..=4 {
        bob.publish("chat:a", number.to_string()).await.expect("published");
    }
    let mut ann = two.connected("ann").await;
    let result = recover(&mut ann, "chat:a", 1, &start.epoch).await;
    assert!(result.recovered);
    let missed: Vec<_> = result.publications.iter().map(|p| (p.offset, &*p.data)).collect();
    assert_eq!(missed, [(2, &b"2"[..]), (3, b"3"), (4, b"4")]);
    // Behind what it missed it is live.
    bob.publish("chat:a", "5").await.expect("published");
    assert_eq!(data_until(&mut ann, "5").await, ["5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_without_an_epoch_recovers_only_from_the_beginning() {
    let redis = RedisServer::start();
    let one = gateway_on(&redis).await;
    let mut ann = one.connected("ann").await;
    ann.publish("chat:a", "1").await.expect("published");
    assert!(!recover(&mut ann, "chat:a", 1, "").await.recovered);
    let mut bob = one.connected("bob").await;
    let result = recover(&mut bob, "chat:a", 0, "").await;
    assert!(result.recovered);
    assert_eq!(result.publications.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_presence_are_the_same_on_every_gateway() {
    let redis = RedisServer::start();
    let (one, two) = tokio::join!(gateway_on(&redis), gateway_on(&redis));
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, two.connected("bob").await);
    ann.publish("chat:a", "1").await.expect("published");
    bob.subscribe("chat:a").await.expect("subscribed");

    let channel = || "chat:a".to_owned();
    let history = HistoryRequest { channel: channel(), limit: 10, ..HistoryRequest::default() };
    let command = Command { history: Some(history), ..Command::default() };
    let history = bob.request(command).await.expect("answered").history.expect("history");
    assert_eq!((history.offset, history.publications.len()), (1, 1));

    let presence = Some(PresenceRequest { channel: channel() });
    let command = Command { presence, ..Command::default() };
    let presence = ann.request(command).await.expect("answered").presence.expect("presence");
    let mut users: Vec<_> = presence.presence.values().map(|info| info.user.as_str()).collect();
    users.sort_unstable();
    assert_eq!(users, ["ann", "bob"]);

    let presence_stats = Some(PresenceStatsRequest { channel: channel() });
    let command = Command { presence_stats, ..Command::default() };
    let stats = ann.request(command).await.expect("answered").presence_stats.expect("stats");
    assert_eq!((stats.num_clients, stats.num_users), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn joins_and_leaves_are_told_on_every_gateway() {
    let redis = RedisServer::start();
    let (one, two) = tokio::join!(gateway_on(&redis), gateway_on(&redis));
    let mut ann = one.subscribed("ann", "chat:a").await;
    let own = ann.push(SOON).await.expect("its own join").join.expect("a join");
    assert_eq!(own.info.expect("info").user, "ann");
    let mut bob = two.subscribed("bob", "chat:a").await;
    let join = ann.push(SOON).await.expect("a push").join.expect("a join");
    assert_eq!(join.info.expect("info").user, "bob");
    bob.close().await.expect("closed");
    let leave = ann.push(SOON).await.expect("a push").leave.expect("a leave");
    assert_eq!(leave.info.expect("info").user, "bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_have_their_channels_and_all_gateways_agree() {
    let shards = [RedisServer::start(), RedisServer::start()];
    let [first, second] = shards.each_ref().map(|shard| shard.address().to_string());
    let settings =
        format!("engine.type = \"redis\"\nengine.redis.address = [\"{first}\", \"{second}\"]\n");
    let (one, two) = tokio::join!(gateway(&settings), gateway(&settings));
    let (mut ann, mut bob) = (one.connected("ann").await, two.connected("bob").await);
    for number in 0..8 {
        let channel = format!("chat:{number}");
        ann.subscribe(&channel).await.expect("subscribed");
        bob.publish(&channel, number.to_string()).await.expect("published");
        assert_eq!(data_until(&mut ann, &number.to_string()).await.len(), 1);
    }
    let kept =
        shards.each_ref().map(|shard| shard.cli(&["KEYS", "centrifugo.stream.chat:*"]).len());
    assert_eq!(kept.iter().sum::<usize>(), 8);
    assert!(kept.iter().all(|count| *count > 0), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_left_a_while_after_its_last_subscriber() {
    let redis = RedisServer::start();
    let one = gateway_on(&redis).await;
    let heard = || redis.cli(&["PUBSUB", "NUMSUB", "centrifugo.client.chat:a"])[1] == "1";
    let mut ann = one.subscribed("ann", "chat:a").await;
    assert!(heard());
    ann.close().await.expect("closed");
    eventually("the channel is left", SOON, async || !heard()).await;
    let mut bob = one.subscribed("bob", "chat:a").await;
    assert!(heard());
    bob.publish("chat:a", "1").await.expect("published");
    assert_eq!(data_until(&mut bob, "1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_redis_is_not_ready_and_serves_when_redis_comes() {
    let mut redis = RedisServer::start();
    redis.kill();
    let one = Server::start(&format!("{}{OPEN}", redis.settings())).await;
    one.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    assert_eq!(get(one.address(), "/health/ready").await.status, 503);
    redis.revive();
    let is_ready = async || get(one.address(), "/health/ready").await.status == 200;
    eventually("it is ready", SOON, is_ready).await;
    let mut ann = one.subscribed("ann", "chat:a").await;
    ann.publish("chat:a", "1").await.expect("published");
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_users_and_databases_are_used() {
    let user = ["--user", "ann", "on", ">open", "~*", "&*", "+@all"];
    let redis = RedisServer::start_with(&[&["--requirepass", "sesame"], &user[..]].concat());
    let url = format!("redis://ann:open@{}/3", redis.address());
    let by_user = format!("engine.type = \"redis\"\nengine.redis.address = \"{url}\"\n");
    let by_password =
        format!("{}engine.redis.password = \"sesame\"\nengine.redis.db = 3\n", redis.settings());
    let (one, two) = tokio::join!(gateway(&by_user), gateway(&by_password));
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, two.connected("bob").await);
    bob.publish("chat:a", "1").await.expect("published");
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);
    let result = recover(&mut bob, "chat:a", 0, "").await;
    assert_eq!(result.publications.len(), 1, "both use the same database");

    let wrong = redis.settings() + "engine.redis.password = \"hunter2\"\n";
    let refused = Server::start(&format!("{wrong}{OPEN}")).await;
    let line =
        refused.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    assert!(line["error"].as_str().is_some_and(|error| error.contains("WRONGPASS")), "{line}");
    assert!(refused.log().lines().iter().all(|line| !line.contains("hunter2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_with_a_server_that_can_be_trusted_and_with_no_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let key = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let CertifiedKey { cert, signing_key } = key;
    let [cert_path, key_path] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    fs::write(&cert_path, cert.pem()).expect("a file");
    fs::write(&key_path, signing_key.serialize_pem()).expect("a file");
    let [cert_path, key_path] = [cert_path, key_path].map(|path| path.display().to_string());
    let files = ["--tls-cert-file", &cert_path, "--tls-key-file", &key_path];
    let trust = ["--tls-ca-cert-file", &cert_path, "--tls-auth-clients", "no"];
    let redis = RedisServer::start_with(&[files, trust].concat());
    let address = format!(
        "engine.type = \"redis\"\nengine.redis.address = \"rediss://localhost:{}\"\n",
        redis.address().port()
    );
    let trusting = format!("{address}engine.redis.tls.server_ca_pem = \"{cert_path}\"\n");
    let one = gateway(&trusting).await;
    let mut ann = one.subscribed("ann", "chat:a").await;
    let long = format!("\"{}\"", "x".repeat(60_000));
    ann.publish("chat:a", long.clone()).await.expect("published");
    assert_eq!(data_until(&mut ann, &long).await.len(), 1);

    let other = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let other_path = folder.path().join("other.pem");
    fs::write(&other_path, other.cert.pem()).expect("a file");
    let path = other_path.display();
    let doubting = format!("{address}engine.redis.tls.server_ca_pem = \"{path}\"\n");
    let two = Server::start(&format!("{doubting}{OPEN}")).await;
    let line = two.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;
    assert!(line["error"].as_str().is_some_and(|e| e.contains("certificate")), "{line}");

    let careless = format!("{doubting}engine.redis.tls.insecure_skip_verify = true\n");
    gateway(&careless).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_engine_cannot_do_is_refused_at_the_start() {
    for (setting, problem) in [
        ("address = \"redis+cluster://a:1:2\"", "engine.redis.address[0]: expected a port"),
        ("address = \"redis+sentinel://a:1\"", "names no sentinel_master_name"),
        ("min_replicas = 1\nengine.redis.min_replicas_timeout = \"9s\"", "min_replicas_timeout"),
        ("history_use_lists = true", "engine.redis.history_use_lists"),
        ("replica_client.enabled = true", "engine.redis.replica_client.enabled"),
    ] {
        let settings = format!("engine.type = \"redis\"\nengine.redis.{setting}\n");
        let (status, told) = Server::fails_to_start(&settings, &[]).await;
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains(problem), "{setting}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_subscribers_reads_the_stream_few_times() {
    let redis = RedisServer::start();
    let one = gateway_on(&redis).await;
    let mut publisher = one.connected("ann").await;
    publisher.publish("chat:a", "1").await.expect("published");
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(one.connected("bob").await);
    }
    let before = redis.calls("xrange");
    let coming = crowd.iter_mut().map(|client| recover(client, "chat:a", 0, ""));
    let results = futures_util::future::join_all(coming).await;
    assert!(results.iter().all(|result| result.recovered));
    let reads = redis.calls("xrange") - before;
    assert!(reads <= 100, "{reads} reads for 200 subscribers");
}

async fn gateway_on(redis: &RedisServer) -> Server {
    gateway(&settings_of(redis.address())).await
}
