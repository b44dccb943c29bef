//! `bobolink bench` against the running gateway: what it finds when all is well, and that it does
//! not miss what is not.

mod redis;
mod tampering;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::{SECRET, SOON, Server, eventually, http};

/// Everything that a scenario needs of a namespace.
const SETTINGS: &str = "
http_api.key = \"api-key\"
websocket.write_timeout = \"15s\"
channel.without_namespace.allow_subscribe_for_client = true
channel.without_namespace.allow_publish_for_client = true
channel.without_namespace.history_size = 100
channel.without_namespace.history_ttl = \"60s\"
channel.without_namespace.force_recovery = true
channel.without_namespace.presence = true
";

/// Why a row is void that was not measured when it should have been.
const OFF_THE_TIME: &str = "off the time that counts";

/// What a run wrote down and how it ended.
struct Run {
    output: Output,
    report: Value,
}

impl Run {
    /// The row with this label.
    fn row(&self, label: &str) -> &Value {
        let rows = self.report["rows"].as_array().expect("rows");
        rows.iter().find(|row| row["label"] == label).unwrap_or_else(|| panic!("{label}: {self}"))
    }

    fn metric(&self, label: &str, name: &str) -> f64 {
        self.row(label)["metrics"][name].as_f64().unwrap_or_else(|| panic!("{name}: {self}"))
    }

    /// Whether the row was measured in the time that counts. Where a busy machine kept the generator
    /// from it, what was due is still counted, but rates say nothing.
    fn was_measured(&self, label: &str) -> bool {
        !self.row(label)["void"].as_str().is_some_and(|why| why.contains(OFF_THE_TIME))
    }

    /// Panics unless all was well and everything that the contract asks of a report is there.
    fn assert_sound(&self) {
        assert!(self.output.status.success(), "{self}");
        let report = &self.report;
        assert_eq!(report["format"], 1);
        assert_eq!(report["failures"].as_array().map(Vec::len), Some(0), "{self}");
        assert!(report["started"].as_str().is_some_and(|at| at.ends_with('Z')), "{self}");
        assert!(report["machine"]["cores"].as_u64() > Some(0), "{self}");
        assert!(report["elapsed_s"].as_f64() > Some(0.0), "{self}");
        assert!(!report.to_string().contains(SECRET), "a secret is in the report");
        for row in report["rows"].as_array().expect("rows") {
            assert!(row["metrics"].is_object(), "{self}");
            let latency = &row["latency"];
            let whole = ["count", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"];
            let is_whole = whole.iter().all(|name| latency[name].as_f64() > Some(0.0));
            assert!(latency.is_null() || is_whole && latency["histogram"].is_string(), "{self}");
        }
    }

    /// Panics unless the run ended badly and listed a failure with this text.
    fn assert_failed_with(&self, text: &str) {
        assert_eq!(self.output.status.code(), Some(1), "{self}");
        let failures = self.report["failures"].as_array().expect("failures");
        let is_listed = failures.iter().any(|it| it.as_str().is_some_and(|it| it.contains(text)));
        assert!(is_listed, "{text}: {self}");
        assert!(String::from_utf8_lossy(&self.output.stdout).contains("failed: "), "{self}");
    }

    /// Panics unless all that was published came, once, to so many subscribers.
    fn assert_whole(&self, label: &str, published: f64, subscribers: f64) {
        assert_eq!(self.metric(label, "published"), published, "{self}");
        assert_eq!(self.metric(label, "expected"), published * subscribers, "{self}");
        assert_eq!(self.metric(label, "delivered"), published * subscribers, "{self}");
        for fault in ["missing", "doubled", "disordered", "disconnected"] {
            assert_eq!(self.metric(label, fault), 0.0, "{fault}: {self}");
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stdout = String::from_utf8_lossy(&self.output.stdout);
        let stderr = String::from_utf8_lossy(&self.output.stderr);
        write!(f, "{}\n{stdout}\n{stderr}\n{:#}", self.output.status, self.report)
    }
}

/// Runs the program on a server, with clients at `clients`.
async fn bench_at(server: &Server, clients: SocketAddr, args: &str) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let child = spawn(server, clients, args, &folder);
    finished(child, &folder).await
}

async fn bench(server: &Server, args: &str) -> Run {
    bench_at(server, server.address(), args).await
}

fn spawn(
    server: &Server,
    clients: SocketAddr,
    args: &str,
    folder: &TempDir,
) -> tokio::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bobolink"));
    command.arg("bench").args(args.split_whitespace());
    command.args(["--url", &format!("ws://{clients}/connection/websocket")]);
    command.args(["--api-url", &format!("http://{}/api", server.address())]);
    command.args(["--api-key", "api-key", "--token-secret", SECRET]);
    if !args.contains("--seconds") {
        command.args(["--seconds", "1", "--warmup", "0.2"]);
    }
    if !args.contains("--json") {
        command.args(["--json", "report.json"]);
    }
    command.current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

async fn finished(child: tokio::process::Child, folder: &TempDir) -> Run {
    let output = tokio::time::timeout(SOON * 4, child.wait_with_output()).await;
    let output = output.expect("it ends in time").expect("an exit code");
    let report = std::fs::read(folder.path().join("report.json")).unwrap_or_default();
    Run { output, report: serde_json::from_slice(&report).unwrap_or_default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn fanout_counts_every_delivery_in_both_codecs_and_both_ways_to_publish() {
    let server = Server::start(SETTINGS).await;
    for (codec, via, publishers) in [
        ("json", "api", 1),
        ("protobuf", "api", 3),
        ("json", "client", 3),
        ("protobuf", "client", 1),
    ] {
        let run = bench(
            &server,
            &format!(
                "fanout --channels 2 --subscribers 5 --rate 40,60 --codec {codec} --via {via} \
                 --publishers {publishers} --pid {}",
                server.id()
            ),
        )
        .await;
        run.assert_sound();
        run.assert_whole("40 pub/s", 40.0, 5.0);
        run.assert_whole("60 pub/s", 60.0, 5.0);
        assert_eq!(run.report["scenario"], "fanout");
        assert_eq!(run.report["options"]["codec"], codec);
        assert!(run.row("40 pub/s")["server"]["rss_bytes"].as_u64() > Some(0), "{run}");
        assert_eq!(run.row("60 pub/s")["latency"]["count"], 300);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_without_history_are_checked_too() {
    let server = Server::start(crate::support::OPEN).await;
    let run = bench(&server, "fanout --via client --subscribers 3 --rate 50").await;
    run.assert_sound();
    run.assert_whole("50 pub/s", 50.0, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_of_rooms_get_what_each_of_them_says() {
    let server = Server::start(SETTINGS).await;
    for codec in ["json", "protobuf"] {
        let args = format!("chat --channels 4 --members 3 --rate 60 --codec {codec}");
        let run = bench(&server, &args).await;
        run.assert_sound();
        run.assert_whole("60 pub/s", 60.0, 3.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_tells_what_connections_cost_while_open_after_churn_and_when_gone() {
    let server = Server::start(SETTINGS).await;
    let args = format!(
        "idle --connections 50 --subscriptions 2 --window 10 --churn 2 --settle 0.2 --pid {}",
        server.id()
    );
    let run = bench(&server, &args).await;
    run.assert_sound();
    for name in [
        "connect_per_s",
        "connect_p50_us",
        "connect_p99_us",
        "connect_cpu_us",
        "bytes_per_connection",
        "idle_cpu_us_per_connection_s",
        "bytes_per_connection_after_churn",
        "bytes_per_connection_after_close",
        "peak_bytes_per_connection",
    ] {
        run.metric("summary", name);
    }
    assert_eq!(run.row("churn 2")["latency"]["count"], 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn publish_counts_requests_and_sees_them_delivered() {
    let server = Server::start(SETTINGS).await;
    for method in ["publish", "broadcast", "batch"] {
        let items = if method == "publish" { 1.0 } else { 5.0 };
        let args = format!(
            "publish --method {method} --items 5 --channels 5 --connections 4 --rate 20 \
             --subscribers 2 --codec protobuf"
        );
        let label = format!("{method} 20/s");
        let run = bench(&server, &args).await;
        run.assert_sound();
        // Those that were due in the time that counts.
        assert_eq!(run.row(&label)["latency"]["count"], 20, "{run}");
        let requests = run.metric(&label, "requests_per_s");
        assert!(requests > 0.0 || !run.was_measured(&label), "{run}");
        let publications = run.metric(&label, "publications_per_s");
        assert!((publications / items - requests).abs() < 1e-6, "{run}");
        for fault in ["missing", "doubled", "disordered"] {
            assert_eq!(run.metric(&label, fault), 0.0, "{fault}: {run}");
        }
    }
    let run = bench(&server, "publish --connections 2").await;
    run.assert_sound();
    let requests = run.metric("publish max", "requests_per_s");
    assert!(requests > 0.0 || !run.was_measured("publish max"), "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_recovers_everything_in_shared_and_own_channels() {
    let server = Server::start(SETTINGS).await;
    for args in ["storm", "storm --own-channels --codec protobuf"] {
        let run = bench(&server, &format!("{args} --connections 30 --missed 20 --rounds 2")).await;
        run.assert_sound();
        for round in ["round 1", "round 2"] {
            assert_eq!(run.metric(round, "recovered"), 30.0);
            assert_eq!(run.metric(round, "lost"), 0.0);
            assert_eq!(run.metric(round, "doubled"), 0.0);
            assert!(run.metric(round, "whole_s") > 0.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storm_says_when_more_was_missed_than_can_be_recovered() {
    let server = Server::start(SETTINGS).await;
    let run = bench(&server, "storm --connections 5 --missed 101").await;
    run.assert_failed_with("5 clients not recovered, 505 publications lost");
    assert_eq!(run.metric("round 1", "lost"), 505.0);
    let server =
        Server::start(&format!("{}http_api.key = \"api-key\"\n", crate::support::OPEN)).await;
    let run = bench(&server, "storm --connections 5").await;
    run.assert_failed_with("cannot be recovered: it needs history_size");
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_read_while_clients_join_and_leave_and_is_right_at_the_end() {
    let server = Server::start(SETTINGS).await;
    let args = "presence --connections 20 --channels 3 --rate 50 --reads 20";
    let label = "50 joins and leaves/s";
    let run = bench(&server, args).await;
    run.assert_sound();
    assert_eq!(run.row(label)["latency"]["count"], 20, "{run}");
    let changes = run.metric(label, "changes") + run.metric(label, "changes_skipped");
    assert_eq!(changes, 50.0, "{run}");
    if run.was_measured(label) {
        assert!(run.metric(label, "changes_per_s") > 0.0, "{run}");
        assert!(run.metric(label, "reads_per_s") > 0.0, "{run}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_that_stop_are_told_apart_from_the_others() {
    let server = Server::start(SETTINGS).await;
    let run = bench(&server, "slow --subscribers 10 --stopped 3 --rate 20").await;
    run.assert_sound();
    run.assert_whole("all read", 20.0, 7.0);
    // Those that stop later read here too, and their deliveries count as offered and as delivered.
    assert_eq!(run.metric("all read", "offered_per_s"), 200.0, "{run}");
    assert_eq!(run.metric("3 stopped", "offered_per_s"), 140.0, "{run}");
    run.assert_whole("3 stopped", 20.0, 7.0);
    assert!(run.metric("3 stopped", "p99_ratio") > 0.0, "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_for_the_highest_rate_ends_with_one_that_held() {
    let server = Server::start(SETTINGS).await;
    let args = "fanout --find-max --p99 1s --rate 5000 --subscribers 2 --size 1000 \
                --seconds 0.3 --warmup 0";
    let run = bench(&server, args).await;
    run.assert_sound();
    let best = run.metric("max", "max_publications_per_s");
    assert!(best > 0.0, "{run}");
    // Each is rounded by itself.
    let deliveries = run.metric("max", "max_deliveries_per_s");
    assert!((deliveries / best - 2.0).abs() < 1e-9, "{deliveries} of {best}");
    assert_eq!(run.metric("max", "missing"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_ends_the_run_and_is_told() {
    let server = Server::start(SETTINGS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let args = "fanout --subscribers 5 --rate 50 --seconds 600";
    let child = spawn(&server, server.address(), args, &folder);
    publications_flow(&server).await;
    server.signal(Signal::KILL);
    let run = finished(child, &folder).await;
    run.assert_failed_with("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generator_that_is_kept_from_its_time_voids_the_row_and_still_counts_everything() {
    let server = Server::start(SETTINGS).await;
    let folder = tempfile::tempdir().expect("a folder");
    let args = "fanout --subscribers 3 --rate 20 --seconds 4 --warmup 0";
    let child = spawn(&server, server.address(), args, &folder);
    publications_flow(&server).await;
    let id = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it runs");
    kill_process(id, Signal::STOP).expect("a process of ours");
    // Past the end of the time that counts, wherever in it the generator was.
    tokio::time::sleep(Duration::from_secs(5)).await;
    kill_process(id, Signal::CONT).expect("a process of ours");
    let run = finished(child, &folder).await;
    run.assert_sound();
    run.assert_whole("20 pub/s", 80.0, 3.0);
    assert!(!run.was_measured("20 pub/s"), "{run}");
}

/// Waits until a run has published something.
async fn publications_flow(server: &Server) {
    eventually("publications flow", SOON, async || {
        let body = r#"{"channel":"bench-0","limit":0}"#;
        let headers = [("x-api-key", "api-key")];
        let answer =
            http(server.address(), hyper::Method::POST, "/api/history", &headers, body).await;
        let answer: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        answer["result"]["offset"].as_u64() > Some(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_end_a_run_with_the_reason() {
    let server = Server::start("http_api.key = \"other\"\n").await;
    bench(&server, "fanout").await.assert_failed_with("103 \"permission denied\"");
    let server =
        Server::start(&format!("{}http_api.key = \"other\"\n", crate::support::OPEN)).await;
    bench(&server, "fanout").await.assert_failed_with("the server API answered 401");
    bench(&server, "publish").await.assert_failed_with("the server API answered 401");
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_cannot_be_followed_are_refused_with_the_reason() {
    let server = Server::start(SETTINGS).await;
    for (args, text) in [
        ("idle --connections 4000000000", "descriptors are needed"),
        ("idle --cpu 100000", "--cpu 100000"),
        ("idle --subscriptions 3 --channels 2", "--channels must be"),
        ("fanout --seconds 600 --json nowhere/it.json", "cannot write nowhere/it.json"),
        ("fanout --pid 4000000000", "--pid 4000000000"),
        ("fanout --size 3", "--size"),
        ("slow --subscribers 5 --stopped 5", "--stopped must be"),
        ("fanout --rate 50,0.3 --seconds 1 --warmup 0", "--rate 0.3: nothing is due in the 1 s"),
        ("chat --rate 0.3 --seconds 2 --warmup 2", "--rate 0.3: nothing is due in the 2 s"),
        ("publish --rate 0.1", "--rate 0.1: nothing is due"),
        ("presence --reads 0.1", "--reads 0.1: nothing is due"),
        ("slow --rate 0.1", "--rate 0.1: nothing is due"),
        ("chat --channels 1 --members 5000", "25000000 sequences"),
        ("publish --channels 1000000 --subscribers 10", "fewer of --channels, --connections"),
        (
            "fanout --channels 10 --publishers 300000 --subscribers 100",
            "sequences would have to be",
        ),
    ] {
        let run = bench(&server, args).await;
        let stderr = String::from_utf8_lossy(&run.output.stderr).into_owned();
        assert!(!run.output.status.success() && stderr.contains(text), "{args}: {run}");
    }
}
