//! The flags of `bobolink drill`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Serialize, Serializer};

use super::secret::Hidden;
use super::verdict::Limits;
use crate::config::units::parse_duration;

/// What stands below the list of flags.
const EXAMPLES: &str = "\
Examples:
  bobolink drill redis-failover
  bobolink drill all --rounds 2 --json verdicts.json
  bobolink drill cluster
  bobolink drill redis-failover --watch --url ws://10.0.0.5/connection/websocket --api http://10.0.0.5:8000/api

Without --watch the drill starts a cluster of its own on this machine, from the files of docker-compose,
and breaks that. With --watch it only publishes and reads, while somebody else pulls the plug.

The exit code is 0 if every promise was kept, 1 if not, 2 if the flags make no sense and 3 if there
was no drill: a program is missing, or the cluster did not start. docs/drills.md says more.";

/// The longest that a database is away.
const LONGEST_AWAY: Duration = Duration::from_secs(3_600);

/// Breaks a cluster and looks what its clients notice.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DrillArgs {
    /// What is to happen; several run one after the other
    #[arg(value_name = "NAME", value_enum, required = true, num_args = 1..)]
    pub drills: Vec<Name>,
    /// How often each of them runs
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// File to write the verdicts to; - for standard output, in the place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Readers in all [default: 24, and 500 for node-kill]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub readers: Option<u32>,
    /// Writers in all
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub writers: u32,
    /// Channels that readers and writers are spread over
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub channels: u32,
    /// Publications per second of each writer [default: 10, and 50 for mongo-failover]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rate: Option<u32>,
    /// How long mongo-failover leaves the archive without its database, such as 10m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = away)]
    pub away: Duration,
    /// Folder with sentinel/ and haproxy/, in the place of the files in this program
    #[arg(long, value_name = "FOLDER")]
    pub files: Option<PathBuf>,
    /// Program of the gateways, in the place of this one
    #[arg(long, value_name = "FILE")]
    pub gateway: Option<PathBuf>,
    /// Centrifugo's program, for mixed and mixed-failover
    #[arg(long, value_name = "FILE")]
    pub centrifugo: Option<PathBuf>,
    /// Program of a MongoDB replica set (the example replica_set), for mongo-failover; cluster then
    /// archives what is published and has two history services
    #[arg(long, value_name = "FILE")]
    pub replica_set: Option<PathBuf>,
    /// Leaves the logs and the data of the processes behind, and says where
    #[arg(long)]
    pub keep: bool,
    /// Goes without HAProxy, also where it is installed
    #[arg(long)]
    pub without_haproxy: bool,
    #[command(flatten)]
    pub watch: WatchArgs,
}

/// Flags for a cluster that is there already.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "A cluster that is there already")]
pub struct WatchArgs {
    /// Watches the cluster at --url and --api, and breaks nothing
    #[arg(long, requires_all = ["url", "api"])]
    pub watch: bool,
    /// Where clients connect (ws:// or wss://host:port/connection/websocket); several with commas
    #[arg(long, value_name = "URL", value_delimiter = ',', requires = "watch")]
    pub url: Vec<String>,
    /// Where the server API is (http:// or https://host:port/api); several with commas
    #[arg(long, value_name = "URL", value_delimiter = ',', requires = "watch")]
    pub api: Vec<String>,
    /// Certificates (PEM) that vouch for the addresses with TLS [default: those of the system]
    #[arg(long, value_name = "FILE", requires = "watch", conflicts_with = "tls_insecure")]
    pub tls_ca: Option<PathBuf>,
    /// Takes any certificate
    #[arg(long, requires = "watch")]
    pub tls_insecure: bool,
    /// Key of the server API
    #[arg(long, value_name = "KEY", env = "BOBOLINK_DRILL_API_KEY", hide_env_values = true)]
    pub api_key: Option<Hidden>,
    /// Key (HS256) to sign the readers' connection tokens with
    #[arg(long, value_name = "KEY", env = "BOBOLINK_DRILL_TOKEN_SECRET", hide_env_values = true)]
    pub token_secret: Option<Hidden>,
    /// One connection token for all readers
    #[arg(long, value_name = "JWT", conflicts_with = "token_secret")]
    pub token: Option<Hidden>,
    /// What names of channels start with; their namespace needs history and force_recovery
    #[arg(long, value_name = "PREFIX", default_value = "chat:drill-")]
    pub channel: String,
    /// Seconds to watch
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3_600))]
    pub seconds: u32,
}

/// A drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// All but `cluster` and those that need a program to be named
    All,
    /// No drill: starts the local cluster, says where everything is, and stops it on Ctrl-C
    Cluster,
    /// The master is killed
    RedisFailover,
    /// The master hangs, is replaced, and wakes up as a master of old
    RedisHang,
    /// The sentinels are asked to fail over
    PlannedFailover,
    /// A sentinel is killed; then the first one hangs while the master is killed
    SentinelKill,
    /// One gateway's wires to Redis go dead, then are cut
    Partition,
    /// The master is cut off from its replicas, goes on for a moment, and is killed
    ReplicationCut,
    /// All of Redis is down for 20 seconds
    RedisOutage,
    /// The master is restarted empty
    RedisEmpty,
    /// As redis-empty, with one Redis and no Sentinel
    LoneRedisEmpty,
    /// The master is restarted with a snapshot older than what it has acknowledged
    RedisOldSnapshot,
    /// As redis-old-snapshot, with one Redis and no Sentinel
    LoneRedisOldSnapshot,
    /// In a Redis Cluster a master is replaced on purpose, then its successor is killed
    ClusterFailover,
    /// A gateway is killed under 500 clients
    NodeKill,
    /// HAProxy reloads its configuration
    HaproxyReload,
    /// The gateways are restarted one after the other
    RollingRestart,
    /// The primary of MongoDB steps down, is killed, and then all of it is away
    MongoFailover,
    /// Two of Centrifugo's nodes beside two of ours: everything in both directions, and restarts
    Mixed,
    /// The same, and the master is killed
    MixedFailover,
}

impl Name {
    /// All drills, in the order in which they run.
    pub fn all() -> impl Iterator<Item = Self> {
        let is_drill = |name: &Self| {
            !matches!(name, Self::All | Self::Cluster | Self::MongoFailover) && !name.is_mixed()
        };
        Self::value_variants().iter().copied().filter(is_drill)
    }

    /// Whether nodes of Centrifugo take part.
    pub fn is_mixed(self) -> bool {
        matches!(self, Self::Mixed | Self::MixedFailover)
    }

    /// What it is called on the command line.
    pub fn text(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What clients may notice of it.
    pub fn limits(self) -> Limits {
        let lossless = Limits {
            may_tell: false,
            may_drop: false,
            may_fail: false,
            may_refuse: false,
            whole_within: Duration::from_secs(60),
        };
        match self {
            Self::HaproxyReload => lossless,
            Self::RollingRestart => Limits { may_drop: true, ..lossless },
            Self::NodeKill | Self::Mixed => {
                Limits { may_drop: true, may_fail: true, may_refuse: true, ..lossless }
            }
            // What readers lack may be on its way into the store: then they have to ask again.
            Self::MongoFailover => Limits { may_fail: true, ..lossless },
            Self::Partition => Limits { may_fail: true, may_refuse: true, ..lossless },
            // Redis moves: connections stay, and positions are void.
            _ => Limits { may_tell: true, may_fail: true, may_refuse: true, ..lossless },
        }
    }

    /// Whether it is about HAProxy, and means nothing without.
    pub fn needs_balancer(self) -> bool {
        matches!(self, Self::HaproxyReload | Self::RollingRestart)
    }

    /// Whether it uses wires that can be cut.
    pub fn needs_links(self) -> bool {
        matches!(self, Self::Partition | Self::ReplicationCut)
    }

    /// Whether channels are archived in it, where there is a replica set for that.
    pub fn may_archive(self) -> bool {
        matches!(self, Self::Cluster | Self::MongoFailover)
    }

    /// Whether there are sentinels in it.
    pub fn has_sentinels(self) -> bool {
        !matches!(
            self,
            Self::LoneRedisEmpty
                | Self::LoneRedisOldSnapshot
                | Self::ClusterFailover
                | Self::MongoFailover
        )
    }

    /// Whether Redis keeps snapshots in it, in the place of everything.
    pub fn keeps_snapshots(self) -> bool {
        matches!(self, Self::RedisOldSnapshot | Self::LoneRedisOldSnapshot)
    }

    /// Readers, if nobody says how many.
    pub fn usual_readers(self) -> u32 {
        if self == Self::NodeKill { 500 } else { 24 }
    }

    /// Publications per second of each writer, if nobody says how many.
    pub fn usual_rate(self) -> u32 {
        if self == Self::MongoFailover { 50 } else { 10 }
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text())
    }
}

fn away(text: &str) -> Result<Duration, String> {
    let away = parse_duration(text)?;
    let is_allowed = (Duration::from_secs(1)..=LONGEST_AWAY).contains(&away);
    if is_allowed { Ok(away) } else { Err("must be from 1s to 1h".to_owned()) }
}
