//! `bobolink drill`: quick drills on a cluster of real processes, and a watch that is lied to.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Output, Stdio};

use bobolink::drill::api::{Api, Place};
use bobolink::drill::dial::Dial;
use memchr::memmem;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{SECRET, SOON, Server, eventually};

/// What a drill needs of a gateway that it only watches.
const WATCHED: &str = "
http_api.key = \"api-key\"
[[channel.namespaces]]
name = \"chat\"
history_size = 1000
history_ttl = \"60s\"
force_recovery = true
allow_subscribe_for_client = true
";

/// A few of everything, so that what is slow is the cluster.
const FEW: &[&str] = &["--readers", "12", "--json", "-"];

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_master_loses_nothing_without_a_word() {
    passes(&[&["redis-failover"], FEW].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_of_the_stream_is_never_called_recovered() {
    let round = passes(&[&["replication-cut"], FEW].concat()).await;
    let checks = round["checks"].to_string();
    assert!(checks.contains("the new master lacks acknowledged publications"), "{checks}");
    assert!(checks.contains("resumes from 13 is not called recovered"), "{checks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_a_killed_gateway_recover_on_the_other() {
    let round = passes(&["node-kill", "--readers", "60", "--json", "-"]).await;
    assert!(round["recovered"].as_u64() > Some(0), "{round}");
    assert!(round["dropped"].as_u64() > Some(0), "{round}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_redis_cluster_a_replaced_master_concerns_its_own_readers_alone() {
    let round = passes(&[&["cluster-failover"], FEW].concat()).await;
    // How many publications a reader lacks that is told so hangs on how fast it comes back.
    assert!(round["not_recovered"].as_u64() > Some(0), "{round}");
    let checks = round["checks"].to_string();
    assert_eq!(
        checks.matches("every reader at the replaced master is told").count(),
        2,
        "{checks}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_primary_of_the_database_loses_and_doubles_nothing_in_the_archive() {
    let program = Path::new(env!("CARGO_BIN_EXE_bobolink"));
    let replica_set = program.with_file_name("examples").join("replica_set");
    assert!(replica_set.is_file(), "cargo build --example replica_set, which `make test` does");
    let replica_set = replica_set.display().to_string();
    let database = ["mongo-failover", "--replica-set", &replica_set, "--away", "6s"];
    let round = passes(&[&database, FEW].concat()).await;
    let archive = &round["archive"];
    for none in ["lost", "doubled", "missing", "failed"] {
        assert_eq!(archive[none], 0, "{none}: {archive}");
    }
    assert_eq!((&round["refused"], &round["unknown"]), (&0.into(), &0.into()), "{round}");
    assert!(archive["stored"].as_u64() >= round["acknowledged"].as_u64(), "{round}");
    // It was felt, or nothing was tried.
    assert!(archive["come_again"].as_u64() > Some(0), "{archive}");
    assert!(archive["longest_lag_ms"].as_u64() >= Some(6_000), "{archive}");
    assert!(archive["away"]["waiting"].as_u64() > Some(100), "{archive}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_cluster_takes_all_its_processes_along() {
    let mut command = drill(&["cluster"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the program");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut addresses = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line == "Ctrl-C stops it." {
                return;
            }
            let address = line.split_whitespace().nth(1).unwrap_or_default();
            addresses.extend(address.trim_end_matches(',').parse::<SocketAddr>());
        }
        panic!("it ended by itself");
    };
    tokio::time::timeout(3 * SOON, reading).await.expect("the cluster starts");
    assert!(addresses.len() >= 8, "{addresses:?}");
    for address in &addresses {
        TcpStream::connect(address).await.expect("it listens");
    }
    let id = child.id().and_then(|id| Pid::from_raw(id.cast_signed())).expect("it runs");
    kill_process(id, Signal::INT).expect("it is there");
    let status = tokio::time::timeout(3 * SOON, child.wait()).await.expect("it ends");
    assert_eq!(status.expect("a status").code(), Some(0));
    for address in &addresses {
        TcpStream::connect(address).await.expect_err("nobody listens any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_make_no_sense_and_drills_that_cannot_run_have_codes_of_their_own() {
    for (args, code, told) in [
        (&["no-such-drill"][..], 2, "possible values"),
        (&["cluster", "node-kill"], 2, "cluster is no drill"),
        (&["all", "--channels", "9"], 2, "--channels must be at most"),
        (&["node-kill", "--url", "ws://127.0.0.1:1/"], 2, "--watch"),
        (&["all", "--watch", "--url", "ws://h/", "--api", "http://h/api"], 2, "takes one name"),
        (&["mixed"], 3, "not run: this drill needs Centrifugo"),
        (&["mongo-failover"], 3, "not run: this drill needs the program of a MongoDB replica set"),
        (&["mongo-failover", "--replica-set", "no/such"], 3, "not run: cannot start mongo"),
        (&["mongo-failover", "--away", "2h"], 2, "must be from 1s to 1h"),
        (&["haproxy-reload", "--without-haproxy"], 3, "not run: HAProxy"),
        (&["node-kill", "--files", "no/such/folder"], 3, "not run: no/such/folder"),
    ] {
        let output = drill(args).output().await.expect("the program");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(told), "{args:?}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_gateway_passes_while_it_is_watched() {
    let gateway = Server::start(WATCHED).await;
    let output = watch(&gateway, gateway.address()).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let round = &report["rounds"][0];
    assert_eq!(round["dropped"], 1, "{round}");
    assert_eq!((&round["lost"], &round["told"]), (&0.into(), &0.into()), "{round}");
    assert!(round["recovered"].as_u64() > Some(0), "{round}");
    assert!(!shown(&output).contains(SECRET), "a secret is told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publication_that_becomes_another_fails_the_drill() {
    let gateway = Server::start(WATCHED).await;
    let (address, _forger) = forger(gateway.address()).await;
    let output = watch(&gateway, address).await;
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    let round = &report["rounds"][0];
    assert!(round["lost"].as_u64() > Some(0), "{round}");
    assert!(round["doubled"].as_u64() > Some(0), "{round}");
    assert_eq!(report["passed"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_tls_is_watched_by_who_knows_its_authority_and_by_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, cert.pem()).expect("a file");
    let tls = format!(
        "[http_server.tls]\nenabled = true\ncert_pem = \"\"\"{}\"\"\"\nkey_pem = \"\"\"{}\"\"\"\n",
        cert.pem(),
        signing_key.serialize_pem()
    );
    let gateway = Server::start(&format!("{WATCHED}{tls}")).await;
    let at = format!("localhost:{}", gateway.address().port());
    let (url, api) = (format!("wss://{at}/connection/websocket"), format!("https://{at}/api"));
    let dial = Dial::secure(Some(&authority), false).expect("a certificate");
    let known = authority.display().to_string();
    let output = watch_at(&url, &api, dial, &["--tls-ca", &known]).await;
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    assert_eq!(report(&output)["rounds"][0]["dropped"], 1, "{}", shown(&output));

    let watching = ["node-kill", "--watch", "--url", &url, "--api", &api];
    for (more, told) in [
        (&[][..], "cannot reach localhost"),
        (&["--tls-ca", "no/such/file"], "--tls-ca no/such/file: "),
    ] {
        let output = drill(&[&watching, more].concat()).output().await.expect("the program");
        assert_eq!(output.status.code(), Some(3), "{}", shown(&output));
        assert!(shown(&output).contains(told), "{}", shown(&output));
    }
}

/// Runs drills that have to pass; the first round.
async fn passes(args: &[&str]) -> Value {
    let output = drill(args).output().await.expect("the program");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
    let round = report(&output)["rounds"][0].take();
    assert_eq!(round["passed"], true, "{round}");
    for none in ["lost", "doubled", "out_of_order", "false_recovered"] {
        assert_eq!(round[none], 0, "{none}: {round}");
    }
    assert!(round["delivered"].as_u64() > Some(100), "{round}");
    round
}

/// Watches a gateway through an address, and disconnects one reader as the fault.
async fn watch(gateway: &Server, address: SocketAddr) -> Output {
    let url = format!("ws://{address}/connection/websocket");
    let api = format!("http://{}/api", gateway.address());
    watch_at(&url, &api, Dial::default(), &[]).await
}

async fn watch_at(url: &str, api: &str, dial: Dial, more: &[&str]) -> Output {
    let mut command = drill(
        &[
            &["node-kill", "--watch", "--url", url, "--api", api, "--api-key", "api-key"],
            &["--token-secret", SECRET, "--seconds", "8", "--channels", "2", "--writers", "2"],
            &["--readers", "6", "--json", "-"][..],
            more,
        ]
        .concat(),
    );
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    until_all_is_well(&mut child).await;
    let place = Place::new(api).expect("an address");
    let mut caller = Api::new(place, Some("api-key".to_owned().into())).over(dial);
    // It comes and goes with the fault, so that it may have to be tried again.
    eventually("the reader is disconnected", SOON, async || {
        caller.call("disconnect", &json!({ "user": "reader-1" })).await.is_ok()
    })
    .await;
    child.wait_with_output().await.expect("it ends")
}

async fn until_all_is_well(child: &mut Child) {
    let mut lines = BufReader::new(child.stderr.as_mut().expect("piped")).lines();
    let waiting = async {
        while let Some(line) = lines.next_line().await.expect("text") {
            if line.starts_with("All is well.") {
                return;
            }
        }
        panic!("it ended before all was well");
    };
    tokio::time::timeout(2 * SOON, waiting).await.expect("all is well in time");
}

/// Stands between readers and gateway, and makes the 25th publication the 24th.
async fn forger(target: SocketAddr) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(forge(near, target));
        }
    });
    (address, AbortOnDropHandle::new(task))
}

async fn forge(near: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = TcpStream::connect(target).await?.into_split();
    let up = async move { tokio::io::copy(&mut from_near, &mut to_far).await.map(drop) };
    let down = async move {
        let mut bytes = vec![0; 64 * 1_024];
        loop {
            let len = from_far.read(&mut bytes).await?;
            if len == 0 {
                return Ok(());
            }
            while let Some(at) = memmem::find(&bytes[..len], b"\"n\":25}") {
                bytes[at + 5] = b'4';
            }
            to_near.write_all(&bytes[..len]).await?;
        }
    };
    tokio::try_join!(up, down).map(drop)
}

fn drill(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bobolink"));
    command.arg("drill").args(args).kill_on_drop(true);
    command.env_remove("BOBOLINK_DRILL_API_KEY").env_remove("BOBOLINK_DRILL_TOKEN_SECRET");
    command
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", shown(output)))
}

fn shown(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}", text(&output.stderr), text(&output.stdout))
}
