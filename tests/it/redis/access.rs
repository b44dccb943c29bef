//! Passwords, users and certificates of Redis and of Sentinel, and shards of several groups.

use super::gateways::{OPEN, data_until, gateway};
use super::group::{Group, Security, settings_of};
use super::outages::{FAILOVER, publishes};
use crate::support::{SOON, Server, eventually};

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
