//! Publications kept for years, and the service that reads them.

use std::time::Duration;

use super::Config;
use super::channel::ChannelOptions;
use super::report::Report;
use super::setting::{choice, join, section};
use super::units::{ByteSize, Secret};
use super::values::item_path;

section! {
    /// The archive of namespaces with `history_archive`. Not of Centrifugo.
    pub struct History {
        /// Where messages are stored.
        pub store: HistoryStore,
        /// The file of the embedded store.
        pub path: String = "bobolink-history.db".into(),
        /// The database of the store in MongoDB.
        pub mongo: Mongo,
        /// Memory for pages of the file, for each of its connections.
        pub file_cache_size: ByteSize = 8 * 1024 * 1024,
        /// Publications that may wait to be stored; in Redis, those of one queue.
        pub backlog: u32 = 10_000,
        /// The longest that a publish waits to be stored, with `history_archive_ack = "stored"`.
        pub ack_timeout: Duration = Duration::from_secs(10),
        /// Between two rounds that drop what is older than `history_archive_ttl` of its namespace.
        pub expire_interval: Duration = Duration::from_secs(600),
        /// Leaves out the REST service.
        pub rest_disabled: bool,
        /// Where the REST service is on the main port, and on that of `bobolink history`.
        pub handler_prefix: String = "/history".into(),
        /// Interface of `bobolink history`.
        pub address: String,
        /// Port of `bobolink history`.
        pub port: u16 = 8_010,
        /// Publications that one recovery from the archive may bring.
        pub recovery_max_publications: u32 = 10_000,
        /// Bytes of payloads that one recovery from the archive may bring.
        pub recovery_max_size: ByteSize = 8 * 1024 * 1024,
        /// How old the oldest of them may be, unless the client may read the history.
        pub recovery_max_age: Duration = Duration::from_secs(168 * 3_600),
        /// Memory for messages that recovering clients share.
        pub recovery_cache_size: ByteSize = 32 * 1024 * 1024,
        /// How what waits in Redis comes into the store.
        pub ingest: Ingest,
    }
}

section! {
    /// Consumers of the archive streams in Redis.
    pub struct Ingest {
        /// What the consumer group knows the process by; empty for host and port.
        pub name: String,
        /// Messages that go to the store at once.
        pub batch_size: u32 = 1_000,
        /// Bytes of them.
        pub batch_bytes: ByteSize = 4 * 1024 * 1024,
        /// After so long in the hands of one consumer an entry is taken over by another.
        pub claim_after: Duration = Duration::from_secs(30),
        /// How long a publication may wait to be stored before health says so.
        pub max_lag: Duration = Duration::from_secs(60),
        /// Entries that can never be stored, of which so many are kept to be looked at.
        pub dead_letters: u32 = 1_000,
    }
}

section! {
    /// Where the database is, and how long it may take.
    pub struct Mongo {
        /// Connection string of a replica set or of a sharded cluster.
        pub uri: Secret,
        /// The database that holds the history and nothing else.
        pub database: String = "bobolink".into(),
        /// The longest that a read may take, with all its attempts.
        pub read_timeout: Duration = Duration::from_secs(3),
        /// The longest that a write may take, with all its attempts.
        pub write_timeout: Duration = Duration::from_secs(15),
    }
}

/// Most messages of one batch: the store writes no more at once.
const MAX_BATCH: u32 = 8_000;

choice! {
    /// The kinds of store.
    pub enum HistoryStore {
        /// One local file, of one process.
        #[default]
        Embedded = "embedded",
        /// A database that any number of processes share.
        Mongo = "mongo",
    }
}

impl Config {
    /// Whether any namespace is archived.
    pub fn archives(&self) -> bool {
        let channel = &self.channel;
        let mut named = channel.namespaces.iter().map(|namespace| &namespace.options);
        channel.without_namespace.history_archive || named.any(|options| options.history_archive)
    }
}

/// Reports what does not go together.
pub fn check(config: &Config, report: &mut Report<'_>) {
    let history = &config.history;
    let positive = [
        ("history.backlog", history.backlog > 0),
        ("history.expire_interval", !history.expire_interval.is_zero()),
        ("history.recovery_max_publications", history.recovery_max_publications > 0),
        ("history.recovery_max_size", history.recovery_max_size > 0),
    ];
    check_ingest(&history.ingest, report);
    for (key, _) in positive.iter().filter(|(_, positive)| !positive) {
        report.fault(&[key], "0 is not allowed, expected a limit");
    }
    if history.ack_timeout.is_zero() {
        report.fault(&["history.ack_timeout"], "0 is not allowed, expected a limit");
    }
    match history.store {
        HistoryStore::Embedded if history.path.is_empty() => {
            report.fault(&["history.path"], "must be the path of a file");
        }
        HistoryStore::Embedded => {}
        HistoryStore::Mongo => check_mongo(&history.mongo, report),
    }
    let channel = &config.channel;
    check_options(&channel.without_namespace, "channel.without_namespace", report);
    for (index, namespace) in channel.namespaces.iter().enumerate() {
        let at = item_path("channel.namespaces", index, &namespace.name);
        check_options(&namespace.options, &at, report);
    }
}

fn check_ingest(ingest: &Ingest, report: &mut Report<'_>) {
    if !(1..=MAX_BATCH).contains(&ingest.batch_size) {
        let message = format!("must be from 1 to {MAX_BATCH}");
        report.fault(&["history.ingest.batch_size"], message);
    }
    if ingest.batch_bytes == 0 {
        report.fault(&["history.ingest.batch_bytes"], "0 is not allowed, expected a limit");
    }
    for (key, time) in [
        ("history.ingest.claim_after", ingest.claim_after),
        ("history.ingest.max_lag", ingest.max_lag),
    ] {
        if time < Duration::from_millis(1) {
            report.fault(&[key], "must be 1ms or more");
        }
    }
}

/// Does not repeat the URI, which may hold a password.
fn check_mongo(mongo: &Mongo, report: &mut Report<'_>) {
    const URI: &str = "history.mongo.uri";
    let uri = mongo.uri.expose();
    if uri.starts_with("mongodb+srv://") {
        report.fault(&[URI], "mongodb+srv:// is not known: name the servers after mongodb://");
    } else if uri.strip_prefix("mongodb://").is_none_or(str::is_empty) {
        let message = "must be a connection string when history.store = \"mongo\": \
                       mongodb://host:port,host:port/?replicaSet=name";
        report.fault(&[URI, "history.store"], message);
    }
    let is_odd = |letter: char| "/\\. \"$*<>:|?".contains(letter) || letter.is_control();
    if mongo.database.is_empty() || mongo.database.len() > 63 || mongo.database.contains(is_odd) {
        let message = "must be the name of a database: 1 to 63 bytes, without spaces and / \\ . \" $ * < > : | ?";
        report.fault(&["history.mongo.database"], message);
    }
    let times = [
        ("history.mongo.read_timeout", mongo.read_timeout),
        ("history.mongo.write_timeout", mongo.write_timeout),
    ];
    for (key, _) in times.iter().filter(|(_, time)| time.is_zero()) {
        report.fault(&[key], "0 is not allowed, expected a limit");
    }
}

fn check_options(options: &ChannelOptions, at: &str, report: &mut Report<'_>) {
    let (key, ttl) = (join(at, "history_archive"), join(at, "history_archive_ttl"));
    let keeps_for = options.history_archive_ttl;
    if !keeps_for.is_zero() && !options.history_archive {
        report.fault(&[&ttl, &key], format!("needs {key} = true"));
    }
    if !options.history_archive {
        return;
    }
    let hot = join(at, "history_ttl");
    if !keeps_for.is_zero() && keeps_for < options.history_ttl {
        report.fault(&[&ttl, &hot], format!("must not be shorter than {hot}; 0 keeps for ever"));
    }
    if options.history_size == 0 || options.history_ttl.is_zero() {
        report.fault(&[&key], "needs history: set history_size and history_ttl");
    }
}
