//! `bobolink bench`: loads a server that speaks the protocol, and measures it.
//!
//! One pinned thread holds all connections ([`engine`]) and reads what comes without allocating for
//! a message ([`scan`]); what it sends follows a schedule whatever the server does ([`schedule`]), and
//! every delivery is checked ([`verify`]). A scenario says who connects and what is sent, and gives
//! rows for the [`report`].
//!
//! To add a scenario: its flags in [`options`], a file in [`scenarios`] that pushes rows, a line in
//! [`run`], its columns in [`table`], a section in `docs/bench.md` and a test in `tests/it/bench.rs`.

pub mod options;
pub mod report;
pub mod table;
pub mod scenarios;
pub mod delivery;
pub mod crew;
pub mod roster;
pub mod schedule;
pub mod verify;
pub mod ladder;
pub mod payload;
pub mod engine;
pub mod event;
pub mod connection;
pub mod http;
pub mod handshake;
pub mod frames;
pub mod scan;
pub mod socket;
pub mod target;
pub mod machine;
pub mod meter;
pub mod procfs;
pub mod redis;
pub mod ticker;
mod progress;

use crate::time::{Clock, rfc3339};
use crew::{Crew, Halt};
use machine::MachineError;
use options::{BenchArgs, Method, Scenario};
use procfs::Machine;
use report::{FORMAT, Report};

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Halt(#[from] Halt),
    #[error("cannot write down the options: {0}")]
    Options(#[from] serde_json::Error),
    #[error("{0}")]
    Flags(&'static str),
}

/// Runs a scenario. The report lists what went wrong; an error means that there is no report.
///
/// # Errors
/// Flags that cannot be followed on this machine.
pub fn run(args: &BenchArgs, clock: &Clock) -> Result<Report, BenchError> {
    check(args)?;
    // Read before the thread is bound to one of its processors.
    let machine = Machine::read();
    machine::allow_connections(connections(&args.scenario))?;
    machine::pin(args.shared.cpu)?;
    let (started, began) = (clock.unix().as_secs(), clock.now());
    let mut crew = Crew::new(&args.shared, clock.clone())?;
    let outcome = match &args.scenario {
        Scenario::Idle(idle) => scenarios::idle::run(&mut crew, idle),
        Scenario::Fanout(fanout) => scenarios::fanout::run(&mut crew, fanout),
        Scenario::Chat(chat) => scenarios::chat::run(&mut crew, chat),
        Scenario::Publish(publish) => scenarios::publish::run(&mut crew, publish),
        Scenario::Storm(storm) => scenarios::storm::run(&mut crew, storm),
        Scenario::Presence(presence) => scenarios::presence::run(&mut crew, presence),
        Scenario::Slow(slow) => scenarios::slow::run(&mut crew, slow),
    };
    crew.progress.clear();
    match outcome {
        Ok(()) => {}
        Err(Halt::Fault(why)) => crew.failures.add(why),
        // Where something was found already, it is reported, and this with it.
        Err(other) if !crew.rows.is_empty() || !crew.failures.is_empty() => {
            crew.failures.add(other.to_string());
        }
        Err(other) => return Err(other.into()),
    }
    Ok(Report {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION"),
        scenario: args.scenario.name(),
        options: serde_json::to_value(args)?,
        machine,
        started: rfc3339(started),
        elapsed_s: clock.now().saturating_duration_since(began).as_secs_f64(),
        failures: crew.failures,
        rows: crew.rows,
    })
}

/// What clap cannot see for itself.
fn check(args: &BenchArgs) -> Result<(), BenchError> {
    match &args.scenario {
        Scenario::Idle(idle) if (1..idle.subscriptions).contains(&idle.channels) => {
            Err(BenchError::Flags("--channels must be 0 or at least --subscriptions"))
        }
        Scenario::Publish(publish)
            if publish.method == Method::Broadcast && publish.channels < publish.items =>
        {
            Err(BenchError::Flags("--channels must be at least --items for a broadcast"))
        }
        Scenario::Slow(slow) if slow.stopped >= slow.subscribers => {
            Err(BenchError::Flags("--stopped must be below --subscribers"))
        }
        _ => Ok(()),
    }
}

/// Connections that a scenario holds at the same time.
fn connections(scenario: &Scenario) -> u64 {
    match scenario {
        Scenario::Idle(idle) => idle.connections.into(),
        Scenario::Fanout(fanout) => {
            u64::from(fanout.channels) * u64::from(fanout.subscribers)
                + u64::from(fanout.publishers)
        }
        Scenario::Chat(chat) => u64::from(chat.channels) * u64::from(chat.members),
        Scenario::Publish(publish) => {
            u64::from(publish.connections) + u64::from(publish.subscribers)
        }
        Scenario::Storm(storm) => storm.connections.into(),
        Scenario::Presence(presence) => {
            u64::from(presence.connections) + u64::from(presence.api_connections)
        }
        Scenario::Slow(slow) => slow.subscribers.into(),
    }
}
