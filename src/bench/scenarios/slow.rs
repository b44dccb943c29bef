//! Subscribers that stop reading, and what the others notice of it.

use super::subscription;
use crate::bench::crew::{Crew, Halt};
use crate::bench::delivery::{self, Load, Route};
use crate::bench::event::Event;
use crate::bench::options::SlowArgs;
use crate::bench::roster::{Publishers, Roster};
use crate::bench::ticker::SECOND_NS;

/// Bytes that the kernel keeps for a subscriber which does not read, so that the server soon feels
/// it.
const KERNEL_BYTES: usize = 4 * 1_024;
/// How long the stopped ones are read at the end, to see which of them the server has sent away.
const FAREWELL_NS: u64 = 2 * SECOND_NS;

/// Runs the scenario: a row with all reading, and one with some stopped. Both tell of those that
/// read all the time.
///
/// # Errors
/// As [`Crew::gather`] and [`delivery::run`].
pub fn run(crew: &mut Crew, args: &SlowArgs) -> Result<(), Halt> {
    let subscribers = args.subscribers as usize;
    let roster = Roster { channels: 1, subscribers, publishers: Publishers::Apart(1) };
    let channel = crew.channel(0);
    crew.gather(subscribers, |_| vec![subscription(channel.clone())], |_, _| {})?;
    let route = Route::Api { requests: crew.requests(), peers: crew.dial_api(1)? };
    let (warmup_s, seconds) = (crew.shared().warmup, crew.shared().seconds);
    let load = Load { roster, rate: args.rate, size: args.size, warmup_s, seconds };
    let first_stopped = subscribers - args.stopped as usize;
    let is_stopped = |member| member >= first_stopped;

    let before = delivery::run(crew, &load, &route, 1, &is_stopped)?;
    let mut row = before.row("all read", &load);
    // What is delivered is so to those too that stop later, and whose times are not compared.
    row.metrics.set("offered_per_s", args.rate * f64::from(args.subscribers));
    crew.rows.push(row);
    if before.is_broken {
        return Ok(());
    }
    let stopped = crew.members().get(first_stopped..).unwrap_or_default().to_vec();
    for peer in &stopped {
        crew.engine.stop_reading(*peer, KERNEL_BYTES);
    }
    let after = delivery::run(crew, &load, &route, 2, &is_stopped)?;
    let mut row = after.row(format!("{} stopped", args.stopped), &load);
    row.metrics.set("p99_ratio", after.p99_ms() / before.p99_ms());

    for peer in &stopped {
        crew.engine.read_again(*peer);
    }
    let (mut closed, mut events) = (0, Vec::new());
    let end_ns = crew.engine.now_ns() + FAREWELL_NS;
    while crew.engine.now_ns() < end_ns && closed < args.stopped.into() {
        crew.engine.poll(end_ns, &mut events)?;
        for event in &events {
            match event {
                Event::Closed { peer, .. } if stopped.contains(peer) => closed += 1,
                other => drop(crew.note(other)),
            }
        }
    }
    row.metrics.count("stopped_closed", closed);
    crew.rows.push(row);
    Ok(())
}
