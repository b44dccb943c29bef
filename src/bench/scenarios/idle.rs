//! Connections that do nothing, and what they cost.

use super::subscription;
use crate::bench::crew::{Crew, Gathered, Halt};
use crate::bench::engine::Leaving;
use crate::bench::options::IdleArgs;
use crate::bench::procfs::ProcessUse;
use crate::bench::report::{Latency, Metrics, Row};

/// Seconds that the server gets to come to rest before its memory is read.
const REST_S: f64 = 1.0;

/// Runs the scenario: a row per phase, and one with all numbers.
///
/// # Errors
/// As [`Crew::gather`].
pub fn run(crew: &mut Crew, args: &IdleArgs) -> Result<(), Halt> {
    let count = args.connections as usize;
    let mut all = Metrics::default();
    let before = crew.meter()?;
    crew.hold(REST_S, "at rest")?;
    let empty = before.finish()?;
    crew.rows.push(empty.row("before"));
    let memory = Memory { before: empty.server.map(|server| server.rss_bytes), count };

    let gathered = gather(crew, args)?;
    let row = connect_row("connect", &gathered, count);
    all.extend(&row.metrics);
    crew.rows.push(row);
    crew.hold(REST_S, "at rest")?;

    let meter = crew.meter()?;
    crew.hold(crew.shared().seconds, "idle")?;
    let usage = meter.finish()?;
    let mut row = usage.row("idle");
    if let Some(server) = usage.server {
        let seconds = usage.seconds * count as f64;
        row.metrics.set("idle_cpu_us_per_connection_s", server.cpu_s() * 1e6 / seconds);
    }
    if let Some(redis) = usage.redis {
        row.metrics.set("idle_redis_commands_per_s", redis.commands as f64 / usage.seconds);
        row.metrics.set("idle_redis_scripts_per_s", redis.scripts as f64 / usage.seconds);
        row.metrics.set("idle_redis_cpu", redis.cpu_s() / usage.seconds);
    }
    memory.set(&mut row, "bytes_per_connection");
    all.extend(&row.metrics);
    crew.rows.push(row);

    for round in 1..=args.churn {
        crew.scatter(Leaving::Close);
        let gathered = gather(crew, args)?;
        crew.rows.push(connect_row(&format!("churn {round}"), &gathered, count));
    }
    if args.churn > 0 {
        let meter = crew.meter()?;
        crew.hold(args.settle, "after churn")?;
        let mut row = meter.finish()?.row("after churn");
        memory.set(&mut row, "bytes_per_connection_after_churn");
        all.extend(&row.metrics);
        crew.rows.push(row);
    }

    let meter = crew.meter()?;
    crew.scatter(Leaving::Close);
    crew.hold(args.settle, "after closing all")?;
    let mut row = meter.finish()?.row("after close");
    memory.set(&mut row, "bytes_per_connection_after_close");
    if let Some((peak, before)) = memory.peak(crew)? {
        row.metrics.set("peak_bytes_per_connection", (peak - before) / count as f64);
    }
    all.extend(&row.metrics);
    crew.rows.push(row);
    crew.rows.push(Row { label: "summary".to_owned(), metrics: all, ..Row::default() });
    Ok(())
}

/// The memory of the server against what it was without connections.
struct Memory {
    before: Option<u64>,
    count: usize,
}

impl Memory {
    fn set(&self, row: &mut Row, name: &'static str) {
        if let (Some(before), Some(server)) = (self.before, row.server) {
            let more = server.rss_bytes as f64 - before as f64;
            row.metrics.set(name, more / self.count as f64);
        }
    }

    /// Most that the process ever held, and what it held before.
    fn peak(&self, crew: &Crew) -> Result<Option<(f64, f64)>, Halt> {
        let (Some(pid), Some(before)) = (crew.shared().pid, self.before) else { return Ok(None) };
        Ok(Some((ProcessUse::read(pid)?.peak_bytes as f64, before as f64)))
    }
}

fn gather(crew: &mut Crew, args: &IdleArgs) -> Result<Gathered, Halt> {
    let (each, channels) = (args.subscriptions as usize, args.channels as usize);
    let prefix = crew.shared().channel.clone();
    let subscriptions = |number: usize| {
        (number * each..(number + 1) * each)
            .map(|at| if channels == 0 { at } else { at % channels })
            .map(|at| subscription(format!("{prefix}{at}")))
            .collect()
    };
    crew.gather(args.connections as usize, subscriptions, |_, _| {})
}

fn connect_row(label: &str, gathered: &Gathered, count: usize) -> Row {
    let usage = &gathered.usage;
    let mut row = usage.row(label);
    let at = |quantile| gathered.times.value_at_quantile(quantile) as f64 / 1_000.0;
    row.metrics.set("connect_per_s", count as f64 / usage.seconds);
    row.metrics.set("connect_p50_us", at(0.5));
    row.metrics.set("connect_p99_us", at(0.99));
    if let Some(server) = usage.server {
        row.metrics.set("connect_cpu_us", server.cpu_s() * 1e6 / count as f64);
    }
    row.latency = Latency::of(&gathered.times);
    row
}
