//! The cluster of `make cluster`, with MongoDB and two history services: publishing does not wait for
//! either.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bobolink::drill::api::{Api, Place};
use bobolink::drill::topology::{Shape, Topology};
use hyper::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{SOON, eventually, http};

/// What a consumer that died had in hand is taken over after `history.ingest.claim_after` (30s).
const CAUGHT_UP: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_archives_what_it_published_without_a_primary_and_with_a_service_killed() {
    let mut cluster = start().await;
    let mut api = api(&cluster);
    let readers = cluster.balancer.as_ref().expect("HAProxy").addresses.clients;
    let key = cluster.secrets.api.expose().to_owned();
    publish(&mut api, 1..=50).await;
    eventually("the archive has them", CAUGHT_UP, async || {
        count(readers, &key).await == Ok((50, 50))
    })
    .await;

    let control = cluster.database.as_ref().expect("MongoDB").control;
    say(control, "no-primary").await;
    publish(&mut api, 51..=150).await;
    eventually("readers are told to come back", SOON, async || {
        count(readers, &key).await == Err(503)
    })
    .await;
    cluster.history[0].process.kill();
    publish(&mut api, 151..=200).await;
    say(control, "primary 2").await;
    eventually("the archive has all", CAUGHT_UP, async || {
        count(readers, &key).await == Ok((200, 200))
    })
    .await;
    cluster.stop().await.expect("all of it stops");
}

async fn start() -> Topology {
    let program = Path::new(env!("CARGO_BIN_EXE_bobolink"));
    let replica_set = program.with_file_name("examples").join("replica_set");
    assert!(replica_set.is_file(), "cargo build --example replica_set, which `make test` does");
    let shape = Shape {
        has_sentinels: true,
        is_clustered: false,
        has_links: false,
        has_balancer: true,
        keeps_snapshots: false,
        gateways: 2,
        program: Some(program.to_owned()),
        centrifugo: None,
        replica_set: Some(replica_set),
        backlog: None,
        files: None,
        is_kept: false,
    };
    Topology::start(&shape).await.expect("the cluster starts")
}

fn api(cluster: &Topology) -> Api {
    let addresses = cluster.api_addresses();
    let place = Place::new(addresses.first().expect("HAProxy")).expect("an address");
    Api::new(place, Some(cluster.secrets.api.clone()))
}

async fn publish(api: &mut Api, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        let answer = api.publish("chat:years", &json!({ "n": number })).await.expect("published");
        assert_eq!(answer["offset"], number, "{answer}");
    }
}

/// How many messages the archive has and the offset of its last, which are the same if none is missing and
/// none there twice; else the status of the answer.
async fn count(readers: SocketAddr, key: &str) -> Result<(u64, u64), u16> {
    let path = "/history/v1/channels/chat:years";
    let answer = http(readers, Method::GET, path, &[("x-api-key", key)], "").await;
    if answer.status != 200 {
        return Err(answer.status);
    }
    let channel: Value = serde_json::from_str(&answer.body).expect("JSON");
    let number = |value: &Value| value.as_u64().expect("a number");
    Ok((number(&channel["count"]), number(&channel["position"]["offset"])))
}

/// Goes on in the script of the replica set.
async fn say(control: SocketAddr, line: &str) {
    let mut stream = TcpStream::connect(control).await.expect("the replica set listens");
    stream.write_all(format!("{line}\n").as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("said all");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert_eq!(answer, "ok\n");
}
