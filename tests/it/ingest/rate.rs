//! How fast a consumer catches up; run with `--nocapture` for the figures.

use std::sync::Arc;

use bobolink::config::redis::Addresses;
use bobolink::ingest::{Bounds, Ingest, Settings};
use bobolink::time::Clock;
use rustix::time::{ClockId, clock_gettime};

use super::{CLAIM_AFTER, Stage};
use crate::redis::process::RedisServer;

/// Entries of the backlog, in so many channels.
const ENTRIES: u64 = 20_000;
const CHANNELS: u64 = 200;

fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_worked_off() {
    let server = RedisServer::start();
    let address = Addresses(vec![server.address().to_string()]);
    let stage = Stage::reaching(|redis| redis.address = address).await;
    let each = ENTRIES / CHANNELS;
    for channel in 0..CHANNELS {
        stage.append(&format!("c{channel}"), 1..=each).await;
    }
    assert_eq!(stage.waiting("").await, ENTRIES);
    let (clock, metrics) = (Clock::real(), Arc::default());
    let (started, before) = (clock.now(), cpu_seconds());
    let settings = Settings {
        name: "one".into(),
        bounds: Bounds { count: 1_000, bytes: 4 << 20, waiting: 10_000 },
        claim_after: CLAIM_AFTER * 100,
        forget_after: CLAIM_AFTER * 100,
        dead_letters: 10,
        sole: None,
    };
    let _ingest =
        Ingest::start((&stage.redis, &stage.arrivals), &stage.store, settings, &clock, &metrics);
    stage.until_empty("").await;
    let (took, cpu) = (clock.now() - started, cpu_seconds() - before);
    stage.has_all("c7", each).await;
    let rate = |seconds: f64| ENTRIES as f64 / seconds;
    println!(
        "{ENTRIES} entries: {:.0} a second, {:.0} per CPU second of the consumer and its store",
        rate(took.as_secs_f64()),
        rate(cpu)
    );
    assert_eq!(metrics.history.stored.get(), ENTRIES);
}
