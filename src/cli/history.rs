//! `bobolink history`: serves the archive alone; `bobolink history verify` proves it whole.

use std::io::Write;
use std::process::ExitCode;

use super::serve::{announce, log_settings, reload_of};
use super::{CliError, HistoryArgs, HistoryCommand, VerifyArgs, configured, flags, runtime};
use crate::archive::{MAX_READ, MessageStore, StoreError, Verdict};
use crate::config::{Disk, Sources, load};
use crate::server;
use crate::telemetry::logging;

/// Does what the arguments say.
pub fn run(args: HistoryArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    match args.command {
        None => serve(args.config).map(|()| ExitCode::SUCCESS),
        Some(HistoryCommand::Verify(args)) => verify(args, out),
    }
}

fn serve(file: Option<String>) -> Result<(), CliError> {
    let sources = move || Sources::of_process(file.clone(), flags::Flags::default().0);
    let loaded = load(&sources(), &Disk)?;
    let level = logging::init(&log_settings(&loaded.config.log))?;
    announce(&loaded, false);
    let reload = reload_of(sources, level, false);
    Ok(runtime()?.block_on(server::history::run(&loaded.config, reload))?)
}

/// What a walk through channels came to.
#[derive(Default)]
struct Sum {
    channels: u64,
    messages: u64,
    deleted: u64,
    unsound: u64,
    unknown: u64,
}

/// Fails if anything is missing or contradicts itself.
fn verify(args: VerifyArgs, out: &mut impl Write) -> Result<ExitCode, CliError> {
    let config = configured(args.config, flags::Flags::default())?;
    runtime()?.block_on(async {
        let store = server::store::open_existing(&config.history).await?;
        let mut sum = Sum::default();
        if args.channels.is_empty() {
            let mut after: Option<String> = None;
            loop {
                let names = store.channels("", after.as_deref(), MAX_READ).await?;
                for name in &names {
                    walk(&*store, name, &mut sum, out).await?;
                }
                match names.last() {
                    Some(last) => after = Some(last.clone()),
                    None => break,
                }
            }
        }
        for name in &args.channels {
            if store.tail(name).await.is_ok_and(|tail| tail.is_none()) {
                sum.unknown += 1;
                writeln!(out, "{name}: unknown channel")?;
                continue;
            }
            walk(&*store, name, &mut sum, out).await?;
        }
        let Sum { channels, messages, deleted, unsound, unknown } = sum;
        writeln!(
            out,
            "{channels} channels with {messages} messages, {deleted} deleted; {unsound} not sound, \
             {unknown} unknown"
        )?;
        let sound = unsound == 0 && unknown == 0;
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Walks one channel, tells what it found and adds it to the sum.
async fn walk(
    store: &dyn MessageStore,
    channel: &str,
    sum: &mut Sum,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let Verdict { messages, deleted, holes, faults } = match store.verify(channel).await {
        Err(StoreError::Damaged(what)) => Verdict { faults: vec![what], ..Verdict::default() },
        verdict => verdict?,
    };
    let sound = holes.is_empty() && faults.is_empty();
    let word = if sound { "dense" } else { "NOT SOUND" };
    writeln!(out, "{channel}: {messages} messages, {deleted} deleted, {word}")?;
    for (epoch, first, last) in holes {
        writeln!(out, "  offsets {first} to {last} of epoch {epoch} were never stored")?;
    }
    for fault in faults {
        writeln!(out, "  {fault}")?;
    }
    sum.channels += 1;
    sum.messages += messages;
    sum.deleted += deleted;
    sum.unsound += u64::from(!sound);
    Ok(())
}
