//! The flags of `bobolink bench`, which are also what a report tells of how it was made.

mod values;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

pub use self::values::Hidden;
use self::values::{milliseconds, not_negative, positive, size};
use crate::protocol::frame::Codec;

/// What stands below the list of scenarios.
const EXAMPLES: &str = "\
Examples:
  bobolink bench idle --connections 10000 --pid \"$(pidof bobolink)\"
  bobolink bench fanout --subscribers 1000 --rate 50,100,200 --api-key \"$API_KEY\"
  bobolink bench fanout --subscribers 1000 --find-max --p99 100ms --json max.json

A row that measures the generator or the machine's other guests says `void` and counts for nothing.
The exit code is 1 if anything was lost, doubled, out of order, refused or dropped. docs/bench.md says
more.";

/// Measures a server: one thread that holds thousands of connections and loads them.
#[derive(Args, Clone, Debug, Serialize)]
#[command(after_help = EXAMPLES)]
pub struct BenchArgs {
    #[command(subcommand)]
    #[serde(flatten)]
    pub scenario: Scenario,
    #[command(flatten)]
    #[serde(flatten)]
    pub shared: Shared,
}

/// What to measure.
#[derive(Clone, Debug, Serialize, Subcommand)]
#[serde(untagged)]
pub enum Scenario {
    /// Connections that do nothing: how fast they are made, what they cost
    ///
    /// Opens --connections with --subscriptions each, holds them for --seconds, drops and opens them
    /// again --churn times, and closes all. Memory and CPU of the server need --pid.
    Idle(IdleArgs),
    /// Few publish, many listen
    ///
    /// Publishes at --rate, whether or not the server keeps up, to --channels with --subscribers
    /// each. Latency counts from the moment at which a publication was due. With --find-max, looks
    /// for the highest rate at which 99 % arrive within --p99.
    Fanout(FanoutArgs),
    /// Rooms in which everybody publishes
    ///
    /// As fanout, with the subscribers of each channel publishing in turn, as clients.
    Chat(ChatArgs),
    /// The server API: how many publications it takes
    ///
    /// Sends requests over --connections that stay open: at --rate, or with `--rate max` the next as
    /// soon as the one before is answered. Latency is that of the answers.
    Publish(PublishArgs),
    /// All clients dropped at once, and back
    ///
    /// Resets all connections, publishes --missed to their channels, and connects all again with
    /// recovery. Needs history and recovery in the channels' namespace. The time runs from the first
    /// packet until the last client has everything.
    Storm(StormArgs),
    /// Joins and leaves, and reads of who is there
    ///
    /// Clients subscribe and unsubscribe at --rate, and the server API is asked for presence at
    /// --reads. Needs presence in the channels' namespace.
    Presence(PresenceArgs),
    /// Subscribers that stop reading, and what the others notice of it
    ///
    /// As fanout, twice: with all subscribers reading, and with --stopped of them not.
    Slow(SlowArgs),
}

/// Flags of every scenario.
#[derive(Args, Clone, Debug, Serialize)]
#[command(next_help_heading = "Options of every scenario")]
pub struct Shared {
    /// WebSocket address of the server
    #[arg(
        long,
        global = true,
        value_name = "URL",
        default_value = "ws://127.0.0.1:8000/connection/websocket"
    )]
    pub url: String,
    /// How clients write their messages
    #[arg(long, global = true, value_enum, default_value = "json")]
    pub codec: Wire,
    /// Key (HS256) to sign a connection token for each client with; without one or --token they
    /// connect as anonymous
    #[arg(long, global = true, value_name = "KEY")]
    pub token_secret: Option<Hidden>,
    /// One connection token for all clients
    #[arg(long, global = true, value_name = "JWT", conflicts_with = "token_secret")]
    pub token: Option<Hidden>,
    /// Address of the server API [default: /api on the port of --url]
    #[arg(long, global = true, value_name = "URL")]
    pub api_url: Option<String>,
    /// Key of the server API
    #[arg(long, global = true, value_name = "KEY")]
    pub api_key: Option<Hidden>,
    /// What names of channels start with, such as "chat:" for a namespace
    #[arg(long, global = true, value_name = "PREFIX", default_value = "bench-")]
    pub channel: String,
    /// Process of the server, if it runs here: its CPU and memory are then measured too
    #[arg(long, global = true)]
    pub pid: Option<u32>,
    /// Redis that the server uses: what it spends, and how many commands it runs, is then measured too
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub redis: Option<String>,
    /// Another process of the run, such as Redis or a second node: what it uses does not count as that
    /// of others; may be given several times
    #[arg(long, global = true, value_name = "PID")]
    pub beside: Vec<u32>,
    /// Seconds that count
    #[arg(long, global = true, default_value = "20", value_parser = positive)]
    pub seconds: f64,
    /// Seconds of the same load before these
    #[arg(long, global = true, default_value = "5", value_parser = not_negative)]
    pub warmup: f64,
    /// Connections that may be under way at the same time
    #[arg(long, global = true, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub window: u32,
    /// Processor to run on [default: the last one]
    #[arg(long, global = true, value_name = "NUMBER")]
    pub cpu: Option<usize>,
    /// File to write everything that was measured to
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub json: Option<PathBuf>,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct IdleArgs {
    /// Connections to open
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Subscriptions of each connection
    #[arg(long, default_value_t = 1)]
    pub subscriptions: u32,
    /// Channels that they are spread over; 0: each subscription has its own
    #[arg(long, default_value_t = 0)]
    pub channels: u32,
    /// How often all are dropped and opened again
    #[arg(long, default_value_t = 0)]
    pub churn: u32,
    /// Seconds between the last churn, and between closing all, and a look at the memory
    #[arg(long, default_value = "60", value_parser = not_negative)]
    pub settle: f64,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct FanoutArgs {
    /// Channels to publish to, in turn
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub channels: u32,
    /// Subscribers of each channel
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    /// Publishers; the order of each is checked on its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub publishers: u32,
    /// How they publish
    #[arg(long, value_enum, default_value = "api")]
    pub via: Via,
    /// Publications per second, of all together; several make a row each
    #[arg(long, default_value = "50", value_delimiter = ',', value_parser = positive)]
    pub rate: Vec<f64>,
    /// Bytes of each publication
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
    /// Look for the highest rate that holds --p99, starting from the first --rate
    #[arg(long)]
    pub find_max: bool,
    /// Within which time 99 % of the deliveries have to come, for --find-max
    #[arg(long, default_value = "100ms", value_parser = milliseconds)]
    #[serde(rename = "p99_ms")]
    pub p99: f64,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct ChatArgs {
    /// Channels to publish to, in turn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub channels: u32,
    /// Members of each channel
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub members: u32,
    /// Publications per second, of all together; several make a row each
    #[arg(long, default_value = "1000", value_delimiter = ',', value_parser = positive)]
    pub rate: Vec<f64>,
    /// Bytes of each publication
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct StormArgs {
    /// Clients to drop
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Gives each client a channel of its own, in the place of one for all
    #[arg(long)]
    pub own_channels: bool,
    /// Publications that each client misses
    #[arg(long, default_value_t = 50)]
    pub missed: u32,
    /// How often
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Bytes of each publication
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct PresenceArgs {
    /// Clients that join and leave
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Channels that they are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub channels: u32,
    /// Joins and leaves per second
    #[arg(long, default_value = "100", value_parser = positive)]
    pub rate: f64,
    /// Reads of a channel's presence per second
    #[arg(long, default_value = "50", value_parser = not_negative)]
    pub reads: f64,
    /// Connections to the server API
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub api_connections: u32,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct SlowArgs {
    /// Subscribers, all of one channel
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub subscribers: u32,
    /// How many of them stop reading
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub stopped: u32,
    /// Publications per second
    #[arg(long, default_value = "50", value_parser = positive)]
    pub rate: f64,
    /// Bytes of each publication
    #[arg(long, default_value_t = 1_024, value_parser = size)]
    pub size: usize,
}

#[derive(Args, Clone, Debug, Serialize)]
pub struct PublishArgs {
    /// Method of the server API
    #[arg(long, value_enum, default_value = "publish")]
    pub method: Method,
    /// Connections to the server API
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Publications of one broadcast or batch
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub items: u32,
    /// Channels to publish to, in turn
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    pub channels: u32,
    /// Clients that each subscribe to every channel
    #[arg(long, default_value_t = 0)]
    pub subscribers: u32,
    /// Requests per second, or max
    #[arg(long, default_value = "max", value_parser = Rate::parse)]
    pub rate: Rate,
    /// Bytes of each publication
    #[arg(long, default_value_t = 128, value_parser = size)]
    pub size: usize,
}

/// A method of the server API that publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// One publication to one channel.
    Publish,
    /// One publication to many channels.
    Broadcast,
    /// Many publications.
    Batch,
}

/// How fast to ask.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Rate {
    /// As fast as answers come.
    Max,
    /// So many per second, whether or not answers come.
    #[serde(untagged)]
    PerSecond(f64),
}

/// How publications get to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// Over the server's HTTP API.
    Api,
    /// By clients.
    Client,
}

/// See [`Codec`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    Json,
    Protobuf,
}

impl Wire {
    pub fn codec(self) -> Codec {
        match self {
            Self::Json => Codec::Json,
            Self::Protobuf => Codec::Protobuf,
        }
    }
}

impl Rate {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "max" => Ok(Self::Max),
            _ => positive(text).map(Self::PerSecond).map_err(|why| format!("{why}, or max")),
        }
    }
}

impl Scenario {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Idle(_) => "idle",
            Self::Fanout(_) => "fanout",
            Self::Chat(_) => "chat",
            Self::Publish(_) => "publish",
            Self::Storm(_) => "storm",
            Self::Presence(_) => "presence",
            Self::Slow(_) => "slow",
        }
    }
}
