//! `bobolink drill`: breaks a cluster on purpose, and looks whether its clients were told the truth.
//!
//! Writers publish numbered publications, readers keep subscriptions as an SDK would ([`crew`]), and
//! all of them write into one [`journal`]. The [`verdict`] on it is pure. The cluster is one of this
//! machine ([`topology`]) to which the [`faults`] happen, or one that is there already and is only
//! watched.

pub mod event;
pub mod verdict;
pub mod journal;
pub mod kept;
pub mod report;
pub mod options;
pub mod secret;
pub mod dial;
pub mod api;
pub mod writer;
pub mod reader;
pub mod crew;
pub mod redis;
pub mod link;
pub mod topology;
pub mod lookout;
pub mod stage;
mod faults;
mod local;
mod watch;

use std::io::Write;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use api::CallError;
use crew::EntranceError;
use options::{DrillArgs, Name};
use report::Report;
use topology::TopologyError;

use crate::client;
use crate::time::Clock;

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Entrance(#[from] EntranceError),
    #[error("no Redis is the master")]
    NoMaster,
    #[error(
        "HAProxy is not installed, or not wanted (--without-haproxy), and this drill is about it"
    )]
    NoBalancer,
    #[error("this drill needs Centrifugo's program, name it with --centrifugo")]
    NoCentrifugo,
    #[error(
        "this drill needs the program of a MongoDB replica set, name it with --replica-set (the \
         example replica_set)"
    )]
    NoReplicaSet,
    #[error("the replica set does not do {0:?}: {1}")]
    Script(String, String),
    #[error("what is stored cannot be read: {0}")]
    Archive(CallError),
    #[error("a client: {0}")]
    Client(client::Error),
    #[error("the snapshot of Redis: {0}")]
    Snapshot(std::io::Error),
    #[error("more happened than can be kept; take fewer readers, or less time")]
    TooMuch,
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("stopped by a signal")]
    Stopped,
    #[error("cannot print: {0}")]
    Print(#[from] std::io::Error),
}

/// Flags that make no sense together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    #[error("cluster is no drill and stands alone")]
    ClusterAndMore,
    #[error("--watch breaks nothing, so that it takes one name: that of what will happen")]
    WatchMany,
    #[error("--channels must be at most --readers and --writers, so that each channel has both")]
    Channels,
}

/// What clap cannot see for itself.
///
/// # Errors
/// Flags that make no sense together.
pub fn check(args: &DrillArgs) -> Result<(), UsageError> {
    if args.drills.contains(&Name::Cluster) && args.drills.len() > 1 {
        return Err(UsageError::ClusterAndMore);
    }
    let is_one =
        matches!(args.drills.as_slice(), [name] if !matches!(name, Name::All | Name::Cluster));
    if args.watch.watch && !is_one {
        return Err(UsageError::WatchMany);
    }
    let readers = args.readers.unwrap_or(u32::MAX);
    if args.channels > args.writers.min(readers) {
        return Err(UsageError::Channels);
    }
    Ok(())
}

/// Runs the drills, and tells on `out` how far they are; `None` for `cluster`, which is no drill.
///
/// # Errors
/// Where there is nothing to judge: something did not start, or not become as it should.
pub async fn run(
    args: &DrillArgs,
    clock: &Clock,
    out: &mut impl Write,
) -> Result<Option<Report>, DrillError> {
    if args.drills == [Name::Cluster] {
        local::cluster(args, out).await?;
        return Ok(None);
    }
    let rounds = match args.watch.watch {
        true => vec![watch::run(args, clock, out).await?],
        false => local::rounds(args, clock, out).await?,
    };
    Ok(Some(Report::of(rounds)))
}

/// Ticks at once, and then after each `period`. A look that takes long, as on a busy machine, is followed
/// by a pause all the same.
fn looks(period: Duration) -> Interval {
    let mut looks = interval(period);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
