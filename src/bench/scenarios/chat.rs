//! Rooms in which everybody publishes.

use super::subscription;
use crate::bench::crew::{Crew, Halt};
use crate::bench::delivery::{self, Load, Route};
use crate::bench::options::ChatArgs;
use crate::bench::roster::{Publishers, Roster};

/// Runs the scenario: a row per rate.
///
/// # Errors
/// As [`Crew::gather`] and [`delivery::run`].
pub fn run(crew: &mut Crew, args: &ChatArgs) -> Result<(), Halt> {
    let roster = Roster {
        channels: args.channels as usize,
        subscribers: args.members as usize,
        publishers: Publishers::Members,
    };
    let names: Vec<_> = (0..roster.channels).map(|number| crew.channel(number)).collect();
    let room = |member| names.get(roster.channel_of(member)).cloned().unwrap_or_default();
    crew.gather(roster.members(), |member| vec![subscription(room(member))], |_, _| {})?;
    let (warmup_s, seconds) = (crew.shared().warmup, crew.shared().seconds);
    for (run, rate) in (1..).zip(&args.rate) {
        let load = Load { roster, rate: *rate, size: args.size, warmup_s, seconds };
        let outcome = delivery::run(crew, &load, &Route::Members, run, &|_| false)?;
        crew.rows.push(outcome.row(format!("{rate} pub/s"), &load));
        if outcome.is_broken {
            break;
        }
    }
    Ok(())
}
