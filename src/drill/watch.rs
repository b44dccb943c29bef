//! Drills on a cluster that is there already: somebody else pulls the plug.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::crew::{Crew, Entrance, EntranceError, Tokens};
use super::dial::Dial;
use super::event::{Event, Outcome, Record};
use super::journal::{Crowd, Journal};
use super::local::{last_of, unless_stopped};
use super::options::DrillArgs;
use super::report::{Checks, Round};
use super::secret::Hidden;
use super::topology::TopologyError;
use super::{DrillError, looks};
use crate::time::Clock;

/// The longest until everybody publishes and receives.
const START: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Watches for as long as was asked.
pub async fn run(
    args: &DrillArgs,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<Round, DrillError> {
    let watch = &args.watch;
    let tokens = match (&watch.token_secret, &watch.token) {
        (Some(key), _) => Tokens::Signed(key.clone()),
        (None, Some(token)) => Tokens::Same(token.clone()),
        (None, None) => Tokens::Same(Hidden::from(String::new())),
    };
    let prefix = watch.channel.clone();
    let api_key = watch.api_key.clone();
    let mut entrance = Entrance::new(&watch.url, &watch.api, api_key, tokens, prefix)?;
    if entrance.is_secure() {
        let dial = Dial::secure(watch.tls_ca.as_deref(), watch.tls_insecure);
        entrance.dial = dial.map_err(EntranceError::Dial)?;
    }
    entrance.reach().await?;
    let Some(name) = args.drills.first().copied() else { return Err(DrillError::NoMaster) };
    let readers = args.readers.unwrap_or(name.usual_readers());
    let crowd = Crowd { channels: args.channels, writers: args.writers, readers };
    let began = clock.now();
    let journal = Arc::new(Journal::new(clock.clone(), crowd));
    let crew =
        Crew::start(&entrance, crowd, args.rate.unwrap_or(name.usual_rate()), &journal, clock);
    unless_stopped(everybody_is_there(&journal)).await?;
    writeln!(out, "All is well. Now {} may happen, for {} s.", name.text(), watch.seconds)?;
    out.flush()?;
    let seconds = Duration::from_secs(watch.seconds.into());
    let watching = async {
        tokio::select! {
            () = sleep(seconds) => {}
            () = note_the_fault(&journal) => {}
        }
        Ok(())
    };
    unless_stopped(watching).await?;
    let verdict = last_of(crew, &journal, true).await?;
    let mut checks = Checks::default();
    let what = "something was felt";
    checks.that(what, verdict.whole_after_ms.is_some(), "nothing happened, so nothing was tried");
    let seconds = clock.now().saturating_duration_since(began).as_secs_f64();
    Ok(Round::of(name, 1, verdict, &name.limits(), checks, seconds))
}

async fn everybody_is_there(journal: &Journal) -> Result<(), DrillError> {
    let mut looks = looks(LOOK_EVERY);
    let waiting = async {
        while !journal.is_whole_since(Duration::ZERO) {
            looks.tick().await;
        }
    };
    let what = "every writer publishes and every reader receives";
    timeout(START, waiting).await.map_err(|_| TopologyError::Never(what, START).into())
}

/// Notes that there is a fault as soon as something of it is felt, and goes on for ever.
async fn note_the_fault(journal: &Journal) {
    let mut looks = looks(LOOK_EVERY);
    let mut seen = journal.now();
    loop {
        looks.tick().await;
        let (mut is_felt, since) = (false, seen);
        seen = journal.now();
        journal.look(|Record { at, event }| {
            is_felt |= *at >= since
                && match event {
                    Event::Answered { outcome, .. } => *outcome != Outcome::Acknowledged,
                    Event::Voided { .. } | Event::Dropped { .. } | Event::Failed { .. } => true,
                    _ => false,
                };
        });
        if is_felt {
            journal.note(Event::Fault);
            return std::future::pending().await;
        }
    }
}
