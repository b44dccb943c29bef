//! The gateway as a process of its own, on ports that the system chose.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use bobolink::client::{Client, Endpoint};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;

use super::{SOON, eventually, token};

/// The key that connection tokens are signed with.
pub const SECRET: &str = "a-secret-of-the-integration-tests";

/// Settings with which every user may subscribe to and publish into channels without a namespace.
pub const OPEN: &str = "
channel.without_namespace.allow_subscribe_for_client = true
channel.without_namespace.allow_publish_for_client = true
";

/// Lines of the log that a failed test shows.
const SHOWN_LINES: usize = 40;

/// A running gateway; it is killed when this is dropped.
pub struct Server {
    child: Child,
    folder: TempDir,
    log: Log,
    address: SocketAddr,
}

/// What the gateway has logged so far.
#[derive(Clone)]
pub struct Log(watch::Receiver<Vec<String>>);

impl Server {
    /// Starts a gateway with a token key and `settings`, as lines of TOML, and waits until it
    /// listens.
    pub async fn start(settings: &str) -> Self {
        Self::start_with(settings, &[]).await
    }

    /// Starts a gateway with arguments for the command line as well.
    pub async fn start_with(settings: &str, args: &[&str]) -> Self {
        let mut server = Self::spawn(settings, args);
        server.address = server.address_of("client").await;
        server
    }

    /// Starts another of the program's servers, and waits until its `listener` listens.
    pub async fn start_command(settings: &str, command: &[&str], listener: &str) -> Self {
        let mut server = Self::spawn_command(settings, command, &["-c", "config.toml"]);
        server.address = server.address_of(listener).await;
        server
    }

    /// Starts a gateway that cannot start; how it ended, and what it told on standard error.
    pub async fn fails_to_start(settings: &str, args: &[&str]) -> (ExitStatus, String) {
        let mut server = Self::spawn(settings, args);
        let status = server.ended(SOON).await;
        // The sender is gone when all is read.
        while server.log.0.changed().await.is_ok() {}
        (status, server.log.lines().join("\n"))
    }

    fn spawn(settings: &str, args: &[&str]) -> Self {
        Self::spawn_command(settings, &["-c", "config.toml"], args)
    }

    fn spawn_command(settings: &str, first: &[&str], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        write_settings(folder.path(), settings);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bobolink"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("BOBOLINK_") || name.starts_with("CENTRIFUGO_") {
                command.env_remove(name);
            }
        }
        let stdout = File::create(folder.path().join("stdout")).expect("a file");
        command.args(first).args(args).current_dir(&folder);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the gateway's program");
        let log = Log::of(child.stderr.take().expect("stderr is piped"));
        let unbound = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { child, folder, log, address: unbound }
    }

    /// The address for clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of a listener, from the log.
    pub async fn address_of(&self, listener: &str) -> SocketAddr {
        let line = self
            .log
            .wait_for(|line| line["message"] == "listening" && line["listener"] == listener)
            .await;
        let address = line["address"].as_str().expect("the field address");
        address.parse().expect("an address")
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> Endpoint {
        self.endpoint_with("")
    }

    /// Where clients connect, with a query such as `?format=protobuf`.
    pub fn endpoint_with(&self, query: &str) -> Endpoint {
        let address = format!("ws://{}/connection/websocket{query}", self.address);
        Endpoint::new(&address).expect("an address")
    }

    /// An open WebSocket on which nothing was said yet.
    pub async fn open(&self) -> Client {
        Client::open(&self.endpoint()).await.expect("a WebSocket")
    }

    /// A connection of `user`.
    pub async fn connected(&self, user: &str) -> Client {
        let mut client = self.open().await;
        client.connect(&token(user)).await.expect("connected");
        client
    }

    /// A connection of `user` that is subscribed to `channel`.
    pub async fn subscribed(&self, user: &str, channel: &str) -> Client {
        let mut client = self.connected(user).await;
        client.subscribe(channel).await.expect("subscribed");
        client
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Log {
        &self.log
    }

    /// The working directory of the process.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes the settings anew; they come into force with a reload.
    pub fn write_settings(&self, settings: &str) {
        write_settings(self.folder.path(), settings);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is there");
    }

    /// How the process ended; panics unless it does in time.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", within, async || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        })
        .await;
        status.expect("it ended")
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Bytes of physical memory that the process holds.
    pub fn resident_bytes(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most of it that the process ever held.
    pub fn peak_bytes(&self) -> u64 {
        self.memory("VmHWM:")
    }

    fn memory(&self, which: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("the process is there");
        let line = status.lines().find(|line| line.starts_with(which)).expect("the line");
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        kib.expect("a number of kB") * 1_024
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.log.lines();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("the end of the gateway's log:\n{}", shown.join("\n"));
        }
    }
}

impl Log {
    /// Every line so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// How many lines so far `matches`.
    pub fn count(&self, matches: impl Fn(&Value) -> bool) -> usize {
        self.lines().iter().filter_map(|line| parsed(line)).filter(matches).count()
    }

    /// The first line that `matches`, be it there already or still to come.
    pub async fn wait_for(&self, matches: impl Fn(&Value) -> bool) -> Value {
        let first =
            |lines: &Vec<String>| lines.iter().filter_map(|line| parsed(line)).find(&matches);
        let mut lines = self.0.clone();
        let waiting = lines.wait_for(|lines| first(lines).is_some());
        match tokio::time::timeout(SOON, waiting).await {
            Ok(Ok(lines)) => first(&lines).expect("it was just there"),
            Ok(Err(_)) => panic!("the gateway ended:\n{}", self.lines().join("\n")),
            Err(_) => panic!("not in the log"),
        }
    }

    fn of(stderr: ChildStderr) -> Self {
        let (sender, receiver) = watch::channel(Vec::new());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sender.send_modify(|lines| lines.push(line));
            }
        });
        Self(receiver)
    }
}

/// A line of the log; `None` for a text that is none, such as a panic.
fn parsed(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok()
}

fn write_settings(folder: &Path, settings: &str) {
    // A test that is kept waiting by the machine reads late, and should not be left for it.
    let every = format!(
        "websocket.write_timeout = \"60s\"\n\
         http_server.address = \"127.0.0.1\"\n\
         http_server.port = 0\n\
         client.token.hmac_secret_key = {SECRET:?}\n"
    );
    // What the test says itself is not said here.
    let keys = settings.lines().filter_map(|line| Some(line.split_once('=')?.0.trim()));
    let keys: Vec<_> = keys.collect();
    let mut text = String::new();
    for line in every.lines() {
        if !line.split_once('=').is_some_and(|(key, _)| keys.contains(&key.trim())) {
            text += &format!("{line}\n");
        }
    }
    fs::write(folder.join("config.toml"), text + settings).expect("a file");
}
