//! Drills on a cluster of this machine's own.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::crew::{Crew, Entrance, Tokens};
use super::faults::play;
use super::journal::{Crowd, Journal};
use super::options::{DrillArgs, Name};
use super::report::{Checks, Round};
use super::stage::{PATIENCE, Stage};
use super::topology::{Shape, Topology, is_installed};
use super::verdict::Verdict;
use super::{DrillError, looks};
use crate::time::Clock;

/// For how long publications may still arrive when nothing is published any more.
const LAST: Duration = Duration::from_secs(20);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The usual `history.backlog`.
const USUAL_BACKLOG: u64 = 10_000;
/// What the namespace of sentinel/gateway.toml makes of a channel of drills.
const PREFIX: &str = "chat:drill-";

/// Runs every drill that was asked for, each round on a fresh cluster.
pub async fn rounds(
    args: &DrillArgs,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<Vec<Round>, DrillError> {
    let mut names = Vec::new();
    for name in &args.drills {
        match name {
            Name::All => names.extend(Name::all()),
            one => names.push(*one),
        }
    }
    let is_one_of_many = names.len() > 1 || args.rounds > 1;
    let mut rounds = Vec::new();
    for number in 1..=args.rounds {
        for name in &names {
            write!(out, "{} …", name.text())?;
            out.flush()?;
            let round = match unless_stopped(round(*name, number, args, clock)).await {
                // Where others run too, what they say is not lost for it.
                Err(error) if is_one_of_many && !matches!(error, DrillError::Stopped) => {
                    Round::not_run(*name, number, error)
                }
                other => other?,
            };
            writeln!(out, " {} after {:.0} s", round.word(), round.seconds)?;
            rounds.push(round);
        }
    }
    Ok(rounds)
}

/// Starts the cluster and keeps it until a signal comes.
pub async fn cluster(args: &DrillArgs, out: &mut impl Write) -> Result<(), DrillError> {
    let topology =
        unless_stopped(async { Ok(Topology::start(&shape(args, Name::Cluster)).await?) });
    let topology = topology.await?;
    // Signals are heard before anybody is told to send one: one that comes in between would be lost.
    let told = unless_stopped(async {
        tell(&topology, out)?;
        std::future::pending().await
    });
    match told.await {
        Err(DrillError::Stopped) => Ok(topology.stop().await?),
        other => other,
    }
}

fn tell(topology: &Topology, out: &mut impl Write) -> Result<(), DrillError> {
    for (name, places) in topology.places() {
        writeln!(out, "{name:<12} {places}")?;
    }
    writeln!(out, "API key      {}", topology.secrets.api.expose())?;
    writeln!(out, "token key    {}", topology.secrets.token.expose())?;
    writeln!(out, "logs in      {}", topology.folder().display())?;
    writeln!(out, "Ctrl-C stops it.")?;
    out.flush()?;
    Ok(())
}

/// Whether HAProxy stands before the gateways.
fn has_balancer(args: &DrillArgs) -> bool {
    !args.without_haproxy && is_installed("haproxy")
}

fn shape(args: &DrillArgs, name: Name) -> Shape {
    Shape {
        has_sentinels: name.has_sentinels(),
        is_clustered: name == Name::ClusterFailover,
        has_links: name.needs_links(),
        has_balancer: has_balancer(args) && !name.is_mixed(),
        keeps_snapshots: name.keeps_snapshots(),
        gateways: 2,
        program: args.gateway.clone(),
        centrifugo: args.centrifugo.clone().filter(|_| name.is_mixed()),
        replica_set: args.replica_set.clone().filter(|_| name.may_archive()),
        backlog: (name == Name::MongoFailover).then(|| backlog(args)),
        files: args.files.clone(),
        is_kept: args.keep,
    }
}

/// Twice what is published while the database is away, and no less than usual.
fn backlog(args: &DrillArgs) -> u64 {
    let rate = args.rate.unwrap_or(Name::MongoFailover.usual_rate());
    let published = u64::from(args.writers * rate) * args.away.as_secs();
    (2 * published).max(USUAL_BACKLOG)
}

async fn round(
    name: Name,
    number: u32,
    args: &DrillArgs,
    clock: &Clock,
) -> Result<Round, DrillError> {
    if name.needs_balancer() && !has_balancer(args) {
        return Err(DrillError::NoBalancer);
    }
    if name.is_mixed() && !args.centrifugo.as_ref().is_some_and(|program| program.is_file()) {
        return Err(DrillError::NoCentrifugo);
    }
    if name == Name::MongoFailover && args.replica_set.is_none() {
        return Err(DrillError::NoReplicaSet);
    }
    let began = clock.now();
    let topology = Topology::start(&shape(args, name)).await?;
    let (mut urls, mut apis) = (topology.client_addresses(), topology.api_addresses());
    for gateway in &topology.foreign {
        // Of a failover only our nodes promise to tell.
        if name == Name::Mixed {
            urls.push(gateway.client_address());
        }
        apis.push(gateway.api_address());
    }
    let entrance = Entrance::new(
        &urls,
        &apis,
        Some(topology.secrets.api.clone()),
        Tokens::Signed(topology.secrets.token.clone()),
        PREFIX.to_owned(),
    )?;
    let readers = args.readers.unwrap_or(name.usual_readers());
    let rate = args.rate.unwrap_or(name.usual_rate());
    let crowd = Crowd { channels: args.channels, writers: args.writers, readers };
    let journal = Arc::new(Journal::new(clock.clone(), crowd));
    let crew = Crew::start(&entrance, crowd, rate, &journal, clock);
    let mut stage = Stage {
        topology,
        entrance,
        journal,
        checks: Checks::default(),
        clock: clock.clone(),
        away: args.away,
        lookout: None,
    };
    stage.calm().await?;
    let played = play(name, &mut stage).await;
    stage.health_is_back().await;
    let verdict = last_of(crew, &stage.journal, false).await?;
    // What did not become as it should is a failure of the cluster, and told with what was seen.
    if let Err(error) = played {
        stage.checks.that("the drill comes to its end", false, error);
    }
    let kept = match stage.lookout.take() {
        Some(lookout) => Some(lookout.kept(&stage, PATIENCE).await?),
        None => None,
    };
    let Stage { topology, checks, .. } = stage;
    topology.stop().await?;
    let seconds = clock.now().saturating_duration_since(began).as_secs_f64();
    let mut limits = name.limits();
    if kept.is_some() {
        limits.whole_within += args.away;
    }
    Ok(Round::of(name, number, verdict, &limits, checks, seconds).with_archive(kept))
}

/// Ends the writing, and waits for what is still under way.
pub async fn last_of(
    mut crew: Crew,
    journal: &Journal,
    unseen_promotions: bool,
) -> Result<Verdict, DrillError> {
    crew.stop_writing().await;
    let mut looks = looks(LOOK_EVERY);
    let waiting = async {
        loop {
            looks.tick().await;
            if journal.verdict(unseen_promotions).lost == 0 {
                return;
            }
        }
    };
    // Whether it was in time is for the verdict to say.
    let _ = timeout(LAST, waiting).await;
    if journal.is_full() {
        return Err(DrillError::TooMuch);
    }
    Ok(journal.verdict(unseen_promotions))
}

/// Does something until it is done or a signal comes.
pub async fn unless_stopped<T>(
    doing: impl Future<Output = Result<T, DrillError>>,
) -> Result<T, DrillError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DrillError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DrillError::Signals)?;
    tokio::select! {
        done = doing => done,
        _ = interrupt.recv() => Err(DrillError::Stopped),
        _ = terminate.recv() => Err(DrillError::Stopped),
    }
}
