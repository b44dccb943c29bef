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
pub mod gauge;
pub mod procfs;
pub mod redis;
pub mod ticker;
mod progress;

use crate::time::{Clock, rfc3339};
use crew::{Crew, Halt};
use machine::MachineError;
use options::{BenchArgs, Method, PublishArgs, Rate, Scenario};
use procfs::Machine;
use report::{FORMAT, Report};
use schedule::sends_something;

/// Sequences that are checked at most, which take 640 MB.
const MAX_SEQUENCES: u64 = 20_000_000;

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
    #[error(
        "{flag} {rate}: nothing is due in the {seconds} s that count, behind a warm-up of {warmup} s; \
         raise it, or --seconds"
    )]
    Nothing { flag: &'static str, rate: f64, seconds: f64, warmup: f64 },
    #[error(
        "{0} sequences would have to be checked, one for each subscriber and publisher of a channel, \
         and {MAX_SEQUENCES} are the most; ask for fewer of {1}"
    )]
    Sequences(u64, &'static str),
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
            return Err(BenchError::Flags("--channels must be 0 or at least --subscriptions"));
        }
        Scenario::Publish(publish)
            if publish.method == Method::Broadcast && publish.channels < publish.items =>
        {
            return Err(BenchError::Flags("--channels must be at least --items for a broadcast"));
        }
        Scenario::Slow(slow) if slow.stopped >= slow.subscribers => {
            return Err(BenchError::Flags("--stopped must be below --subscribers"));
        }
        _ => {}
    }
    let (warmup, seconds) = (args.shared.warmup, args.shared.seconds);
    let too_low = |rate: f64| !sends_something(rate, warmup, seconds);
    let found = rates(&args.scenario).into_iter().find(|(_, rate)| too_low(*rate));
    if let Some((flag, rate)) = found {
        return Err(BenchError::Nothing { flag, rate, seconds, warmup });
    }
    match sequences(&args.scenario) {
        (count, flags) if count > MAX_SEQUENCES => Err(BenchError::Sequences(count, flags)),
        _ => Ok(()),
    }
}

/// At which rates a scenario sends, with the flags that say so.
fn rates(scenario: &Scenario) -> Vec<(&'static str, f64)> {
    let all = |rates: &[f64]| rates.iter().map(|rate| ("--rate", *rate)).collect();
    match scenario {
        Scenario::Idle(_) | Scenario::Storm(_) => Vec::new(),
        Scenario::Fanout(fanout) => all(&fanout.rate),
        Scenario::Chat(chat) => all(&chat.rate),
        Scenario::Slow(slow) => all(&[slow.rate]),
        Scenario::Publish(PublishArgs { rate: Rate::PerSecond(rate), .. }) => all(&[*rate]),
        Scenario::Publish(_) => Vec::new(),
        Scenario::Presence(presence) => {
            // Without any reads there are none to miss.
            let reads = Some(("--reads", presence.reads)).filter(|(_, rate)| *rate > 0.0);
            [("--rate", presence.rate)].into_iter().chain(reads).collect()
        }
    }
}

/// How many sequences a scenario checks, and the flags that decide it.
fn sequences(scenario: &Scenario) -> (u64, &'static str) {
    let product = |factors: &[u32]| {
        factors.iter().fold(1, |product: u64, factor| product.saturating_mul((*factor).into()))
    };
    match scenario {
        Scenario::Fanout(fanout) => {
            let voices = fanout.publishers.div_ceil(fanout.channels.max(1));
            let flags = "--channels, --subscribers or --publishers";
            (product(&[fanout.channels, fanout.subscribers, voices]), flags)
        }
        Scenario::Chat(chat) => {
            (product(&[chat.channels, chat.members, chat.members]), "--channels or --members")
        }
        Scenario::Publish(publish) => {
            let subscribers = publish.subscribers.max(1);
            let flags = "--channels, --connections or --subscribers";
            (product(&[publish.channels, publish.connections, subscribers]), flags)
        }
        _ => (0, ""),
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
