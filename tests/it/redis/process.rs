//! A Redis of the test's own, killed when it is dropped.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bobolink::drill::topology::process::free_address;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::support::SOON;

/// A master that is silent for so many milliseconds is taken for dead by sentinels: longer than a busy
/// machine keeps one that is well, and a wait of every test that kills one.
const DOWN_AFTER_MS: u32 = 4_000;
/// Ports that are tried.
const TRIES: usize = 10;

/// A running `redis-server` without persistence, on a port that was free.
pub struct RedisServer {
    child: Option<Child>,
    folder: TempDir,
    port: u16,
    /// Where it speaks to other nodes, if it is one of a cluster.
    bus: u16,
    options: Vec<String>,
    password: String,
}

impl RedisServer {
    /// Starts one and waits until it takes connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more options, such as `["--requirepass", "secret"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let server = Self::new(options);
        server.on_some_port()
    }

    fn new(options: &[&str]) -> Self {
        let value = |key| options.iter().skip_while(|option| **option != key).nth(1);
        Self {
            child: None,
            folder: tempfile::tempdir().expect("a folder"),
            port: 0,
            bus: 0,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            password: value("--requirepass").map(|value| (*value).to_owned()).unwrap_or_default(),
        }
    }

    fn on_some_port(mut self) -> Self {
        // Somebody else may take a port between its choice and its use.
        for _ in 0..TRIES {
            let [port, bus] = [(); 2].map(|()| free_address().expect("a port").port());
            (self.port, self.bus) = (port, bus);
            self.child = self.spawn();
            if self.child.is_some() {
                return self;
            }
        }
        panic!("redis-server does not start with {:?}", self.options);
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Joins the cluster of which another node is one.
    pub fn meet(&self, other: &Self) {
        let [port, bus] = [other.port, other.bus].map(|port| port.to_string());
        assert_eq!(self.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]), "OK");
    }

    /// Settings of a gateway that uses it.
    pub fn settings(&self) -> String {
        settings_of(self.address())
    }

    /// Runs a command with `redis-cli`; its answer, line by line. Panics if it fails, or comes late.
    pub fn cli(&self, args: &[&str]) -> Vec<String> {
        let port = self.port.to_string();
        // A server that hangs does not hold up the test for ever.
        let mut command = Command::new("timeout");
        command.arg(SOON.as_secs().to_string()).args(["redis-cli", "-p", &port]);
        if !self.password.is_empty() {
            command.env("REDISCLI_AUTH", &self.password);
        }
        let value = |key| self.options.iter().skip_while(|option| *option != key).nth(1);
        if let (Some(cert), Some(key)) = (value("--tls-cert-file"), value("--tls-key-file")) {
            command.args(["--tls", "--cacert", cert, "--cert", cert, "--key", key]);
        }
        let output = beside_the_others(|| command.args(args).output());
        let output = output.expect("timeout and redis-cli");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{args:?}: {}, {text}", output.status);
        text.lines().map(str::to_owned).collect()
    }

    /// The first line of the answer to a command.
    pub fn ask(&self, args: &[&str]) -> String {
        self.cli(args).into_iter().next().unwrap_or_default()
    }

    /// Sends it a signal, such as SIGSTOP to hang it.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("it is there");
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on its port, with what it had saved.
    pub fn revive(&mut self) {
        self.kill();
        self.child = self.spawn();
        assert!(self.child.is_some(), "redis-server does not start again");
    }

    /// How far its data has come, in bytes of replication: on a replica what it has of its master.
    pub fn offset(&self) -> u64 {
        let info = self.cli(&["INFO", "replication"]);
        let offset = info.iter().find_map(|line| line.strip_prefix("master_repl_offset:"));
        offset.and_then(|offset| offset.trim().parse().ok()).expect("an offset")
    }

    /// How many calls of a command the server has seen.
    pub fn calls(&self, command: &str) -> u64 {
        let prefix = format!("cmdstat_{command}:calls=");
        let stats = self.cli(&["INFO", "commandstats"]);
        let line = stats.iter().find_map(|line| line.strip_prefix(&prefix));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    /// A sentinel of `master`, with which it needs two of three to agree. The lines of `more` follow
    /// in its file, and `options` on its command line.
    pub fn sentinel_with(master: &Self, more: &str, password: &str, options: &[&str]) -> Self {
        let mut server = Self::new(options);
        let config = format!(
            "sentinel monitor main 127.0.0.1 {} 2\n\
             sentinel down-after-milliseconds main {DOWN_AFTER_MS}\n\
             sentinel failover-timeout main 6000\n{more}",
            master.port
        );
        let path = server.folder.path().join("sentinel.conf");
        fs::write(&path, config).expect("a file");
        // The file comes first.
        server.options.splice(..0, [path.display().to_string(), "--sentinel".to_owned()]);
        password.clone_into(&mut server.password);
        server.on_some_port()
    }

    /// `None` if the port is taken.
    fn spawn(&self) -> Option<Child> {
        let stderr = File::create(self.folder.path().join("stderr")).expect("a file");
        let mut command = Command::new("redis-server");
        // The file of a sentinel comes first.
        command.args(&self.options).args(["--bind", "127.0.0.1"]);
        let has = |option: &str| self.options.iter().any(|given| given == option);
        if has("--tls-cert-file") {
            command.args(["--port", "0", "--tls-port"]);
        } else {
            command.arg("--port");
        }
        command.arg(self.port.to_string());
        command.arg("--dir").arg(self.folder.path());
        if has("--cluster-enabled") {
            command.arg("--cluster-port").arg(self.bus.to_string());
        }
        if !has("--sentinel") {
            command.args(["--save", "", "--appendonly", "no"]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("redis-server: see scripts/setup");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let is_ready = |line: String| {
            line.contains("eady to accept connections") || line.contains("Sentinel ID is")
        };
        if beside_the_others(|| lines.by_ref().map_while(Result::ok).any(is_ready)) {
            // Read on, lest it write into a closed pipe.
            std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
            return Some(child);
        }
        let _ = child.wait();
        None
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Blocks, and lets the other tasks of the test go on where they have more than this thread.
fn beside_the_others<T>(run: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(run),
        _ => run(),
    }
}

/// Settings of a gateway that uses the Redis at an address.
pub fn settings_of(address: SocketAddr) -> String {
    format!("engine.type = \"redis\"\nengine.redis.address = \"{address}\"\n")
}
