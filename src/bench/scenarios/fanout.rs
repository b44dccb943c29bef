//! Few publish, many listen; and the search for how much of that a server holds.

use super::subscription;
use crate::bench::crew::{Crew, Halt};
use crate::bench::delivery::{self, Load, Outcome, Route};
use crate::bench::engine::Leaving;
use crate::bench::ladder::{Ladder, Rung};
use crate::bench::options::{FanoutArgs, Via};
use crate::bench::report::Row;
use crate::bench::roster::{Publishers, Roster};

/// Connections to the server API at most; more publishers share them.
const MAX_API_CONNECTIONS: usize = 32;
/// The part of what was offered that has to arrive in the same time for a rate to count as held.
const KEPT_UP: f64 = 0.97;

/// Runs the scenario: a row per rate, or per step of the search.
///
/// # Errors
/// As [`Crew::gather`] and [`delivery::run`].
pub fn run(crew: &mut Crew, args: &FanoutArgs) -> Result<(), Halt> {
    let roster = Roster {
        channels: args.channels as usize,
        subscribers: args.subscribers as usize,
        publishers: Publishers::Apart(args.publishers as usize),
    };
    let (warmup_s, seconds) = (crew.shared().warmup, crew.shared().seconds);
    let load = |rate| Load { roster, rate, size: args.size, warmup_s, seconds };
    if args.find_max {
        return find_max(crew, args, load);
    }
    let route = assemble(crew, args, &roster)?;
    for (run, rate) in (1..).zip(&args.rate) {
        let load = load(*rate);
        let outcome = delivery::run(crew, &load, &route, run, &|_| false)?;
        crew.rows.push(outcome.row(format!("{rate} pub/s"), &load));
        if outcome.is_broken {
            break;
        }
    }
    Ok(())
}

/// Subscribes the members and opens what the publishers need.
fn assemble(crew: &mut Crew, args: &FanoutArgs, roster: &Roster) -> Result<Route, Halt> {
    let names: Vec<_> = (0..roster.channels).map(|number| crew.channel(number)).collect();
    let members = roster.members();
    let publishers = args.publishers as usize;
    let subscriptions = |member: usize| {
        // Behind the members come publishers, which subscribe to nothing.
        let name = (member < members).then(|| names.get(roster.channel_of(member)).cloned());
        name.flatten().into_iter().map(subscription).collect()
    };
    match args.via {
        Via::Api => {
            crew.gather(members, subscriptions, |_, _| {})?;
            let peers = crew.dial_api(publishers.min(MAX_API_CONNECTIONS))?;
            Ok(Route::Api { requests: crew.requests(), peers })
        }
        Via::Client => {
            crew.gather(members + publishers, subscriptions, |_, _| {})?;
            Ok(Route::Clients(crew.members().get(members..).unwrap_or_default().to_vec()))
        }
    }
}

fn find_max(crew: &mut Crew, args: &FanoutArgs, load: impl Fn(f64) -> Load) -> Result<(), Halt> {
    let mut ladder = Ladder::starting_at(args.rate.first().copied().unwrap_or(1.0));
    let (mut best, mut run, mut voids) = (None, 0, Vec::new());
    while let Some(rate) = ladder.next().filter(|rate| load(*rate).sends_something()) {
        run += 1;
        let load = load(rate);
        let route = assemble(crew, args, &load.roster)?;
        let mut outcome = delivery::attempt(crew, &load, &route, run, &|_| false)?;
        let mut row = outcome.row(format!("{rate:.0} pub/s"), &load);
        let rung = judge(&outcome, &row, args.p99);
        row.metrics.count("held", (rung == Rung::Held).into());
        if outcome.is_broken && best.is_none() {
            // Not too much, but refused from the start.
            crew.failures.append(std::mem::take(&mut outcome.overload));
            crew.rows.push(row);
            return Ok(());
        }
        voids.extend(row.void.clone().map(|why| (rate, why)));
        ladder.tell(rung);
        if rung == Rung::Held {
            best = Some(Row { label: "max".to_owned(), ..outcome.row("max", &load) });
        }
        crew.rows.push(row);
        disband(crew, route);
    }
    let Some(mut max) = best else {
        return Err(Halt::Fault(format!("no rate holds a p99 of {} ms", args.p99)));
    };
    let offered = max.metrics.get("publications_per_s").unwrap_or_default();
    max.metrics.set("max_publications_per_s", offered);
    max.metrics.set("max_deliveries_per_s", max.metrics.get("offered_per_s").unwrap_or_default());
    let limit = voids.into_iter().find(|(rate, _)| Some(*rate) == ladder.limit());
    max.at_least = limit.map(|(_, why)| format!("the next higher rate is void: {why}"));
    crew.rows.push(max);
    Ok(())
}

/// What a step says of its rate. A server that is asked for too much may drop clients and leave out
/// the end, and its rate does not hold; what else went wrong is a failure whatever the rate.
fn judge(outcome: &Outcome, row: &Row, p99_ms: f64) -> Rung {
    let of = |name| row.metrics.get(name).unwrap_or_default();
    let keeps_up = outcome.is_whole()
        && outcome.p99_ms() <= p99_ms
        && of("delivered_per_s") >= of("offered_per_s") * KEPT_UP;
    match (keeps_up, &row.void) {
        (true, None) => Rung::Held,
        (true, Some(_)) => Rung::Void,
        (false, _) => Rung::Failed,
    }
}

/// Ends all connections, so that the next step starts without a backlog.
fn disband(crew: &mut Crew, route: Route) {
    crew.scatter(Leaving::Close);
    if let Route::Api { peers, .. } = route {
        peers.into_iter().for_each(|peer| crew.engine.leave(peer, Leaving::Close));
    }
}
