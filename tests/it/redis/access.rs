//! Passwords, users and certificates of Redis and of Sentinel, and shards of several groups.

use std::collections::BTreeSet;

use bobolink::client::Client;
use bobolink::protocol::command::{Command, PresenceRequest};
use hyper::Method;
use regex::Regex;

use super::gateways::{OPEN, data_until, gateway, recover};
use super::group::{Group, Security, settings_of};
use super::health::until;
use super::masters::TestCluster;
use super::outages::{FAILOVER, publishes};
use super::process::RedisServer;
use crate::source::files;
use crate::support::{SOON, Server, eventually, http};

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_and_redis_have_passwords_of_their_own() {
    let security = Security { password: "sesame", sentinel_password: "mustard", certificate: None };
    let mut group = Group::start_with(&security).await;
    let passwords = "engine.redis.password = \"sesame\"\n\
                     engine.redis.sentinel_password = \"mustard\"\n";
    let one = gateway(&(group.settings() + passwords)).await;
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, one.connected("bob").await);
    assert!(publishes(&mut bob, "1").await);
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);
    group.kill_master().await;
    eventually("it publishes again", FAILOVER, async || publishes(&mut bob, "2").await).await;

    let wrong = passwords.replace("mustard", "hunter2");
    let refused = Server::start(&format!("{}{wrong}{OPEN}", group.settings())).await;
    let line =
        refused.log().wait_for(|line| line["message"] == "cannot use a sentinel, trying on").await;
    assert!(line["error"].as_str().is_some_and(|error| error.contains("WRONGPASS")), "{line}");
    assert!(refused.log().lines().iter().all(|line| !line.contains("hunter2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_and_redis_speak_tls_and_want_to_see_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let [cert, key] = Security::certificate_in(folder.path());
    let certificate = Some([cert.clone(), key.clone()]);
    let mut group = Group::start_with(&Security { certificate, ..Security::default() }).await;
    let section = |name: &str, keys: &[(&str, &str)]| -> String {
        let line = |(key, value): &(&str, &str)| format!("engine.redis.{name}.{key} = {value}\n");
        keys.iter().map(line).collect()
    };
    let [cert, key] = [cert, key].map(|path| format!("\"{path}\""));
    let trust = [("enabled", "true"), ("server_ca_pem", cert.as_str())];
    let shown = [&trust[..], &[("cert_pem", &cert), ("key_pem", &key)]].concat();
    let settings = group.settings() + &section("tls", &shown) + &section("sentinel_tls", &shown);
    let one = gateway(&settings).await;
    let (mut ann, mut bob) = (one.subscribed("ann", "chat:a").await, one.connected("bob").await);
    assert!(publishes(&mut bob, "1").await);
    assert_eq!(data_until(&mut ann, "1").await, ["1"]);
    group.kill_master().await;
    eventually("it publishes again", FAILOVER, async || publishes(&mut bob, "2").await).await;

    // Who shows none is not let in: neither by the sentinels nor by Redis.
    for (redis, sentinel, complaint) in [
        (&shown[..], &trust[..], "cannot use a sentinel, trying on"),
        (&trust[..], &shown[..], "cannot use Redis, trying on"),
    ] {
        let sections = section("tls", redis) + &section("sentinel_tls", sentinel);
        let refused = Server::start(&format!("{}{sections}{OPEN}", group.settings())).await;
        refused.log().wait_for(|line| line["message"] == complaint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shards_that_fail_over_at_once_come_back_each_with_its_own() {
    let (mut first, mut second) = tokio::join!(Group::start(), Group::start());
    let one = gateway(&settings_of(&[&first, &second])).await;
    let (mut ann, mut bob) = (one.connected("ann").await, one.connected("bob").await);
    let channels: Vec<_> = (0..8).map(|number| format!("chat:{number}")).collect();
    for channel in &channels {
        ann.subscribe(channel).await.expect("subscribed");
        bob.publish(channel, "1").await.expect("published");
    }
    for group in [&first, &second] {
        let streams =
            group.servers[group.master().await].cli(&["KEYS", "centrifugo.stream.chat:*"]);
        assert!(streams.iter().any(|name| !name.is_empty()), "both have some");
    }
    tokio::join!(first.kill_master(), second.kill_master());
    let mut told = Vec::new();
    while told.len() < channels.len() {
        let push = ann.push(FAILOVER).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            assert_eq!(unsubscribe.code, 2500);
            told.push(push.channel);
        }
    }
    told.sort_unstable();
    assert_eq!(told, channels, "each is told once");
    for channel in &channels {
        eventually("it publishes again", FAILOVER, async || {
            bob.publish(channel, "2").await.is_ok()
        })
        .await;
        ann.subscribe(channel).await.expect("subscribed");
        bob.publish(channel, "3").await.expect("published");
    }
    let mut seen = 0;
    while seen < channels.len() {
        let (_, publication) = ann.publication(SOON).await.expect("a publication");
        seen += usize::from(publication.data == "3");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_the_rights_that_the_docs_name_and_no_others_is_enough() {
    let [user, _, _, sentinel_user] = &documented_users()[..] else { panic!("four users") };
    let (group, cluster) = tokio::join!(Group::start(), TestCluster::start(0));
    for server in group.servers.iter().chain(&cluster.nodes) {
        let_in(server, user);
    }
    for sentinel in &group.sentinels {
        let_in(sentinel, sentinel_user);
    }
    let login = "engine.redis.user = \"bobolink\"\nengine.redis.password = \"replace-me\"\n\
                 engine.redis.sentinel_user = \"bobolink\"\n\
                 engine.redis.sentinel_password = \"replace-me\"\n\
                 engine.redis.client_name = \"gateway\"\n\
                 engine.redis.presence_user_mapping = true\n";
    let single = group.settings()
        + login
        + "engine.redis.min_replicas = 1\nengine.redis.min_replicas_timeout = \"900ms\"\n";
    let addresses = cluster.addresses();
    let clustered =
        format!("engine.type = \"redis\"\nengine.redis.cluster_address = \"{addresses}\"\n{login}");
    for settings in [single, clustered] {
        let (one, two) = tokio::join!(gateway(&settings), gateway(&settings));
        let (mut ann, mut bob) = (one.connected("ann").await, two.connected("bob").await);
        let epoch = ann.subscribe("chat:a").await.expect("subscribed").epoch;
        for data in ["1", "2"] {
            bob.publish("chat:a", data).await.expect("published");
        }
        assert_eq!(data_until(&mut ann, "2").await, ["1", "2"]);
        let recovered = recover(&mut bob, "chat:a", 1, &epoch).await;
        assert!(recovered.recovered);
        assert_eq!(recovered.publications.len(), 1);
        assert_eq!(present(&mut ann, "chat:a").await, ["ann", "bob"]);
        for (method, request) in [
            ("publish", r#"{"channel": "chat:a", "data": 3, "idempotency_key": "k"}"#),
            ("publish", r#"{"channel": "plain", "data": 3, "idempotency_key": "k"}"#),
            ("presence_stats", r#"{"channel": "chat:a"}"#),
            ("history_remove", r#"{"channel": "chat:a"}"#),
            ("disconnect", r#"{"user": "ann"}"#),
        ] {
            let path = format!("/api/{method}");
            let answer = http(one.address(), Method::POST, &path, &[], request).await.body;
            assert!(answer.starts_with(r#"{"result":"#), "{method}: {answer}");
        }
        eventually("who leaves is gone", SOON, async || {
            present(&mut bob, "chat:a").await == ["bob"]
        })
        .await;
        for node in [&one, &two] {
            until(node, "/delivery", 200, SOON).await;
            let lines = node.log().lines();
            assert!(lines.iter().all(|line| !line.contains("NOPERM")), "{lines:?}");
        }
    }
}

#[test]
fn the_rights_that_the_docs_name_are_those_to_what_is_run() {
    let users = documented_users();
    let named = users.iter().take(3).flatten().filter_map(|rule| rule.strip_prefix('+'));
    let named: BTreeSet<_> =
        named.map(|name| name.split('|').next().unwrap_or_default().to_uppercase()).collect();
    let in_rust = Regex::new(r#"(?:Command::new|call)\("([A-Z]+)"\)"#).expect("a pattern");
    let in_lua = Regex::new(r"call\('([a-z]+)'").expect("a pattern");
    let folders = ["src/redis", "src/broker/redis", "src/presence", "src/ingest"];
    let mut run = BTreeSet::new();
    for file in folders.iter().flat_map(|folder| files(folder, &[".rs", ".lua"])) {
        let pattern = if file.path.ends_with(".lua") { &in_lua } else { &in_rust };
        run.extend(pattern.captures_iter(&file.text).map(|found| found[1].to_uppercase()));
    }
    // Everybody may say who he is, and sentinels have users of their own.
    for other in ["AUTH", "HELLO", "SENTINEL"] {
        assert!(run.remove(other), "{other}");
    }
    assert_eq!(named, run);
}

fn let_in(server: &RedisServer, user: &[String]) {
    let command: Vec<_> = user.iter().map(String::as_str).collect();
    assert_eq!(server.ask(&command), "OK", "{user:?}");
}

/// The commands of the docs that make users, word by word.
fn documented_users() -> Vec<Vec<String>> {
    let docs = files("docs", &["redis.md"]);
    let section = docs[0].text.split("\n## ").find(|part| part.starts_with("Rights\n"));
    let blocks = section.expect("the section").split("```").skip(1).step_by(2);
    let words = |block: &str| {
        let words = block.split_whitespace().skip_while(|word| *word != "ACL");
        let words = words.filter(|word| *word != "\\");
        words.map(|word| word.trim_matches('\'').to_owned()).collect()
    };
    blocks.map(words).collect()
}

/// The users in a channel, in order.
async fn present(client: &mut Client, channel: &str) -> Vec<String> {
    let presence = Some(PresenceRequest { channel: channel.to_owned() });
    let command = Command { presence, ..Command::default() };
    let presence = client.request(command).await.expect("answered").presence.expect("presence");
    let mut users: Vec<_> = presence.presence.values().map(|info| info.user.clone()).collect();
    users.sort_unstable();
    users
}
