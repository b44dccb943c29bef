//! What a call to Redis costs the gateway: through the shard, which finds out where a channel is, and
//! over the connection itself, which is the same without that.
//!
//! `cargo bench --bench redis`. Needs `redis-server`; without it nothing is measured.

use std::net::TcpListener;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bobolink::config;
use bobolink::config::redis::Addresses;
use bobolink::redis::{Command, Receive, Redis};
use bobolink::time::Clock;
use bytes::Bytes;
use compact_str::CompactString;
use divan::{Bencher, black_box, counter::ItemsCount};
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

const CHANNEL: &str = "news:bench";
/// Calls that are open at the same time.
const IN_FLIGHT: [usize; 3] = [1, 16, 512];
/// Longest wait for a Redis that starts.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    divan::main();
}

#[divan::bench(args = IN_FLIGHT)]
fn through_the_shard(bencher: Bencher, in_flight: usize) {
    let Some(rig) = Rig::start() else { return };
    let shard = rig.redis.shard(CHANNEL);
    bencher.counter(ItemsCount::new(in_flight)).bench_local(|| {
        let calls = (0..in_flight).map(|_| shard.call(CHANNEL, |_| Command::new("PING")));
        rig.runtime.block_on(join_all(calls)).into_iter().for_each(|answer| {
            black_box(answer.expect("an answer"));
        });
    });
}

#[divan::bench(args = IN_FLIGHT)]
fn over_the_connection(bencher: Bencher, in_flight: usize) {
    let Some(rig) = Rig::start() else { return };
    let attachment = rig.redis.shard(CHANNEL).attachment().expect("it is connected");
    bencher.counter(ItemsCount::new(in_flight)).bench_local(|| {
        let calls = (0..in_flight).map(|_| attachment.link.call(Command::new("PING")));
        rig.runtime.block_on(join_all(calls)).into_iter().for_each(|answer| {
            black_box(answer.expect("an answer"));
        });
    });
}

/// A Redis, and connections to it.
struct Rig {
    runtime: Runtime,
    redis: Arc<Redis>,
    _stop: DropGuard,
    server: Child,
}

/// Hears nothing.
struct Nobody;

impl Rig {
    /// `None` without the program.
    fn start() -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut program = Process::new("redis-server");
        program.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        program.args(["--port", &address.port().to_string()]);
        let Ok(server) = program.stdin(Stdio::null()).stdout(Stdio::null()).spawn() else {
            eprintln!("not measured: redis-server does not start, see scripts/setup");
            return None;
        };
        let address = Addresses(vec![address.to_string()]);
        let settings = config::redis::Redis { address, ..config::redis::Redis::default() };
        let receive: Arc<dyn Receive> = Arc::new(Nobody);
        let redis = Redis::new(&settings, &Clock::real(), &receive).expect("settings");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let stop = CancellationToken::new();
        runtime.block_on(async {
            redis.start(&stop);
            tokio::time::timeout(PATIENCE, redis.reached()).await.expect("it is reached");
        });
        Some(Self { runtime, redis, _stop: stop.drop_guard(), server })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Receive for Nobody {
    fn message(&self, _name: &str, _payload: &Bytes) {}

    fn is_wanted(&self, _name: &str) -> bool {
        false
    }

    fn wanted(&self, _is_ours: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
    }

    fn interrupted(&self, _: usize, _same_history: bool, _is_ours: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _shard: usize) {}
}
