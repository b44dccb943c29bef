//! Ways to reach clusters: several of them as shards, and with TLS.

use bobolink::redis::shard_of;

use super::gateways::{OPEN, data_until, gateway, recover};
use super::group::Security;
use super::masters::TestCluster;
use super::outages::FAILOVER;
use crate::support::{SOON, Server, eventually};

/// A channel of `chat:` that is kept by this one of two shards, at this one of its masters.
fn channel_at(cluster: &TestCluster, shard: usize, master: usize) -> String {
    let names = (0..).map(|number| format!("chat:{number}"));
    let is_there = |name: &String| shard_of(name, 2) == shard && cluster.master_of(name) == master;
    names.into_iter().find(is_there).expect("a channel")
}

#[tokio::test(flavor = "multi_thread")]
async fn several_clusters_are_shards_and_a_lost_master_takes_along_only_what_is_its_own() {
    let (first, mut second) = tokio::join!(TestCluster::start(0), TestCluster::start(0));
    let settings = format!(
        "engine.type = \"redis\"\n\
         engine.redis.cluster_address = [\"{}\", \"{}\"]\n\
         engine.redis.failover_spread = \"100ms\"\n",
        first.addresses(),
        second.addresses()
    );
    let (one, two) = tokio::join!(gateway(&settings), gateway(&settings));
    let (mut ann, mut bob) = (one.connected("ann").await, two.connected("bob").await);
    let mut epochs = Vec::new();
    for (shard, cluster) in [&first, &second].into_iter().enumerate() {
        for master in 0..3 {
            let channel = channel_at(cluster, shard, master);
            epochs.push(ann.subscribe(&channel).await.expect("subscribed").epoch);
            bob.publish(&channel, "1").await.expect("published");
            assert_eq!(data_until(&mut ann, "1").await, ["1"]);
            let stream = format!("centrifugo.stream.{{{channel}}}");
            let kept = cluster.nodes[master].cli(&["KEYS", "centrifugo.stream.{*"]);
            assert_eq!(kept, [stream]);
        }
    }
    let (whole, lost) = (channel_at(&first, 0, 1), channel_at(&second, 1, 1));

    second.nodes[1].kill();
    eventually("what was there is refused", SOON, async || bob.publish(&lost, "2").await.is_err())
        .await;
    bob.publish(&whole, "2").await.expect("the other cluster is as it was");
    for master in [0, 2] {
        let other = channel_at(&second, 1, master);
        eventually("the rest of its own goes on", SOON, async || {
            bob.publish(&other, "2").await.is_ok()
        })
        .await;
    }
    second.nodes[1].revive();
    eventually("it is back, and empty", FAILOVER, async || bob.publish(&lost, "3").await.is_ok())
        .await;
    let mut told = Vec::new();
    while !told.contains(&lost) {
        let push = ann.push(SOON).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            assert_eq!(unsubscribe.code, 2500);
            told.push(push.channel);
        }
    }
    let of_first = (0..3).map(|master| channel_at(&first, 0, master));
    assert!(of_first.into_iter().all(|channel| !told.contains(&channel)), "{told:?}");
    let result = recover(&mut ann, &lost, 1, &epochs[4]).await;
    assert!(result.was_recovering && !result.recovered);
    let result = recover(&mut bob, &whole, 1, &epochs[1]).await;
    assert!(result.recovered, "nothing of it was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_speaks_tls_is_followed_through_a_failover_and_wants_to_see_a_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let [cert, key] = Security::certificate_in(folder.path());
    let certificate = Some([cert.clone(), key.clone()]);
    let security = Security { certificate, ..Security::default() };
    let mut cluster = TestCluster::start_with(1, &security).await;
    let trust = format!(
        "engine.type = \"redis\"\n\
         engine.redis.tls.server_ca_pem = \"{cert}\"\n"
    );
    let shown = format!(
        "{trust}engine.redis.tls.cert_pem = \"{cert}\"\nengine.redis.tls.key_pem = \"{key}\"\n"
    );
    let by_url = format!(
        "engine.redis.address = \"rediss+cluster://{}?addr={}\"\n",
        cluster.nodes[1].address(),
        cluster.nodes[2].address()
    );
    let by_key = format!(
        "engine.redis.cluster_address = \"{}\"\nengine.redis.tls.enabled = true\n",
        cluster.addresses()
    );
    let settings = [&by_url, &by_key].map(|address| format!("{shown}{address}"));
    let (one, two) = tokio::join!(gateway(&settings[0]), gateway(&settings[1]));
    let (mut ann, mut bob) = (one.connected("ann").await, two.connected("bob").await);
    for master in 0..3 {
        let (channel, data) = (cluster.channel_at(master, "chat:"), master.to_string());
        ann.subscribe(&channel).await.expect("subscribed");
        bob.publish(&channel, data.clone()).await.expect("published");
        assert_eq!(data_until(&mut ann, &data).await, [data]);
    }
    let refused = Server::start(&format!("{trust}{by_key}{OPEN}")).await;
    refused.log().wait_for(|line| line["message"] == "cannot use Redis, trying on").await;

    let channel = cluster.channel_at(0, "chat:");
    cluster.nodes[0].kill();
    cluster.take_over(3).await;
    eventually("it publishes again", FAILOVER, async || bob.publish(&channel, "8").await.is_ok())
        .await;
    let code = loop {
        let push = ann.push(SOON).await.expect("a push");
        if let Some(unsubscribe) = push.unsubscribe {
            break unsubscribe.code;
        }
    };
    assert_eq!(code, 2500);
    eventually("she subscribes again", SOON, async || ann.subscribe(&channel).await.is_ok()).await;
    bob.publish(&channel, "9").await.expect("published");
    assert_eq!(data_until(&mut ann, "9").await, ["9"]);
}
