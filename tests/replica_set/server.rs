//! A database server as a process of its own: `mongod`, or what stands in for it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mongodb::bson::doc;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::front::ask;
use super::state::SET;

/// The longest that a server may take to answer; one that is started right after another on the same
/// data sometimes never does, and is started anew.
const START: Duration = Duration::from_secs(40);
const STARTS: usize = 3;
/// The longest that it may take to stop; then it is killed.
const STOP: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lines of its log that an error shows.
const SHOWN_LINES: usize = 12;

/// What there is to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    Mongod(PathBuf),
    /// SecantusDB, in Rust or in Python; both take the same flags.
    StandIn(PathBuf),
}

impl Program {
    /// The program to take: `mongod` where it is installed, else what scripts/setup has installed.
    ///
    /// # Errors
    /// There is none.
    pub fn find() -> io::Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places = std::env::split_paths(&path).map(|folder| folder.join("mongod"));
        match places.find(|place| place.is_file()) {
            Some(path) => Ok(Self::Mongod(path)),
            None => Self::stand_in(),
        }
    }

    /// The stand-in, also where `mongod` is installed.
    ///
    /// # Errors
    /// It is not there.
    pub fn stand_in() -> io::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let target = root.join(target.unwrap_or_else(|| "target".into()));
        let tools = target.join("tools");
        let places = [tools.join("bin/secantusd-rs"), tools.join("secantus/bin/secantusd-py")];
        let found = places.into_iter().find(|place| place.is_file()).map(Self::StandIn);
        found.ok_or_else(|| {
            let text = "no mongod on the PATH and no SecantusDB: run `scripts/setup mongo`";
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }
}

/// A running server; killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    program: Program,
    address: SocketAddr,
    folder: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// Starts a server at `address`, with its data and its log in `folder`.
    ///
    /// # Errors
    /// It does not answer, after several starts.
    pub async fn start(program: Program, folder: &Path, address: SocketAddr) -> io::Result<Self> {
        fs::create_dir_all(folder.join("data"))?;
        let mut server = Self { program, address, folder: folder.to_owned(), child: None };
        server.start_again().await?;
        Ok(server)
    }

    /// Starts it again on what it has, at the same address.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_again(&mut self) -> io::Result<()> {
        for _ in 0..STARTS {
            self.kill();
            self.child = Some(self.command()?.spawn()?);
            if self.answers_in_time().await {
                return Ok(());
            }
        }
        let text =
            format!("{:?} does not answer; the end of its log:\n{}", self.program, self.log());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn command(&self) -> io::Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.join("log"))?;
        let data = self.folder.join("data");
        let mut command = match &self.program {
            Program::Mongod(program) => {
                let mut command = Command::new(program);
                command.args(["--replSet", SET, "--bind_ip", "127.0.0.1", "--dbpath"]).arg(data);
                // Three of them share a machine with everything else.
                command.args(["--wiredTigerCacheSizeGB", "0.25"]);
                command
            }
            Program::StandIn(program) => {
                let mut command = Command::new(program);
                // Without the first, what was acknowledged may be gone after a kill.
                command.args(["--sync-on-commit", "--cache-size", "256M", "--storage-path"]);
                command.arg(data);
                command
            }
        };
        command.args(["--port", &self.address.port().to_string()]);
        let errors = log.try_clone()?;
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        Ok(command)
    }

    async fn answers_in_time(&mut self) -> bool {
        let answering = async {
            while self.is_alive() {
                if ask(self.address, doc! { "hello": 1, "$db": "admin" }).await.is_ok() {
                    return true;
                }
                sleep(LOOK_EVERY).await;
            }
            false
        };
        tokio::time::timeout(START, answering).await.unwrap_or(false)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(&mut self) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), Signal::TERM);
        }
        let ending = async {
            while self.is_alive() {
                sleep(LOOK_EVERY).await;
            }
        };
        let _ = tokio::time::timeout(STOP, ending).await;
        self.kill();
    }

    fn log(&self) -> String {
        let text = fs::read(self.folder.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address of this machine on which nobody listens, below those that the system gives to outgoing
/// connections, which could take it while a server is down for a moment.
///
/// # Errors
/// None is free.
pub fn free_address() -> io::Result<SocketAddr> {
    bobolink::drill::topology::process::free_address().map_err(io::Error::other)
}
