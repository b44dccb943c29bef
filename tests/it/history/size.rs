//! A channel of 200,000 messages, and two thousand clients.

use bobolink::archive::BLOCK;
use bobolink::time::Clock;
use futures_util::{StreamExt, stream};
use hyper::Method;
use serde_json::{Value, json};

use super::cold::{expect_all, recover};
use super::{EPOCH, KEY, settings, store_many};
use crate::support::{Server, http_bytes};

const TOP: u64 = 200_000;

/// Two thousand clients come back together to a channel of 200,000 messages, a part of them from far.
#[tokio::test(flavor = "multi_thread")]
async fn many_clients_from_far_back_share_their_reads_and_stay_within_bounds() {
    const CLIENTS: u64 = 2_000;
    const MEMORY: u64 = 96 * 1024 * 1024;
    bobolink::descriptors::claim();
    let folder = tempfile::tempdir().expect("a folder");
    store_many(&folder, "long:a", TOP).await;
    let more = "prometheus.enabled = true\nhistory.recovery_cache_size = 4194304";
    let server = Server::start(&settings(&folder, more)).await;
    let connect = |index| {
        let server = &server;
        async move { (index, server.connected(&format!("user-{index}")).await) }
    };
    let clients: Vec<_> =
        stream::iter(0..CLIENTS).map(connect).buffer_unordered(50).collect().await;
    let (before, clock) = (server.resident_bytes(), Clock::real());
    let began = clock.now();
    let recovering = clients.into_iter().map(async |(index, mut client)| {
        // All from different positions: some hundreds back, or a few dozen.
        let missed = if index % 20 == 0 { 700 + index / 10 } else { 20 + index % 40 };
        let from = TOP - missed;
        let made = recover(&mut client, "long:a", from, EPOCH).await.expect("subscribed");
        assert!(made.recovered, "from {from}");
        expect_all(&mut client, &made, from, TOP).await;
    });
    futures_util::future::join_all(recovering).await;
    let took = clock.now().saturating_duration_since(began);
    let grown = server.peak_bytes().saturating_sub(before);
    assert!(grown < MEMORY, "{grown} bytes");
    let metrics = crate::support::get(server.address(), "/metrics").await.body;
    let reads = metrics.lines().find_map(|line| line.strip_prefix("bobolink_history_block_reads "));
    let reads: u64 = reads.expect("the metric").parse().expect("a number");
    // The blocks from 199,100 on, each at most once in the five seconds that it is remembered.
    let (blocks, times) = (TOP / BLOCK - (TOP - 900) / BLOCK + 1, took.as_secs() / 5 + 2);
    assert!(reads <= blocks * times, "{reads} reads of {blocks} blocks in {took:?}");
}

/// Bytes that a process has read so far, from files and sockets, also those that the system remembers.
fn bytes_read(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", server.id())).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|number| number.parse().ok()).expect("a number")
}

/// Sixty-four pages of the file, for a page of fifty messages, whatever it is asked for by.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_reads_as_little_of_a_large_channel_as_of_a_small_one() {
    const SMALL: u64 = 100;
    const BYTES: u64 = 64 * 4_096;
    let folder = tempfile::tempdir().expect("a folder");
    for (channel, count) in [("long:large", TOP), ("long:small", SMALL)] {
        store_many(&folder, channel, count).await;
    }
    let headers = [("x-api-key", KEY)];
    for (channel, count) in [("long:large", TOP), ("long:small", SMALL)] {
        // Another process for each, since one remembers what it has read.
        let server = Server::start(&settings(&folder, "")).await;
        let ask = async |path: &str| {
            let before = bytes_read(&server);
            let path = format!("/history/v1/channels/{channel}{path}");
            let (head, body) = http_bytes(server.address(), Method::GET, &path, &headers).await;
            assert_eq!(head.status, 200, "{path}");
            (bytes_read(&server) - before, body)
        };
        let (read, body) = ask("/messages").await;
        assert!(read <= BYTES, "{channel}: {read} bytes for the newest");
        let page: Value = serde_json::from_slice(&body).expect("JSON");
        let newest = &page["messages"][0];
        let time = newest["time"].as_i64().expect("a time");
        let id: u64 = newest["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        for part in [3, 5, 7] {
            let (at, back) = (count / part, (count - count / part) as i64);
            for query in [
                format!("/messages?before_offset={at}"),
                format!("/messages?after_offset={at}&order=oldest"),
                format!("/messages?before_time={}", time - back),
                format!("/messages/around/{}", id - ((back as u64) << 20)),
            ] {
                let (read, body) = ask(&query).await;
                let page: Value = serde_json::from_slice(&body).expect("JSON");
                let messages = page["messages"].as_array().map_or(0, Vec::len) as u64;
                assert!(messages >= 50.min(at - 1), "{channel}{query}: {messages} messages");
                assert!(read <= BYTES, "{channel}{query}: {read} bytes");
            }
        }
        if count == TOP {
            let read = ask("/export").await.0;
            assert!(read > 20 * BYTES, "all of it is much more: {read}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_large_channel_takes_little_memory() {
    const MEMORY: u64 = 24 * 1024 * 1024;
    let folder = tempfile::tempdir().expect("a folder");
    store_many(&folder, "long:a", TOP).await;
    let server = Server::start(&settings(&folder, "")).await;
    let before = server.resident_bytes();
    let path = "/history/v1/channels/long:a/export";
    let headers = [("x-api-key", KEY)];
    let (head, body) = http_bytes(server.address(), Method::GET, path, &headers).await;
    assert_eq!(head.status, 200);
    let grown = server.peak_bytes().saturating_sub(before);
    assert!(grown < MEMORY, "{grown} bytes for an export of {} bytes", body.len());
    let lines: Vec<_> = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
    assert_eq!(lines.len() as u64, TOP);
    for number in [1, 1_000, TOP] {
        let line: Value = serde_json::from_slice(lines[number as usize - 1]).expect("JSON");
        assert_eq!((&line["offset"], &line["data"]), (&json!(number), &json!({ "n": number })));
    }
}
