//! One process of the local topology: started, signalled and ended by its number.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::timeout;

use crate::drill::looks;

/// The ports that are tried: below those that the system takes for outgoing connections, which could
/// otherwise take the port of a server that is down for a moment. They come in blocks, and who
/// has the first of a block has all of it, so that drills at the same time do not choose the same ones.
/// What starts servers below `tests/thirdparty` shares them in the same way.
const FIRST_PORT: u16 = 20_000;
const BLOCK: u16 = 200;
const BLOCKS: u16 = 60;
/// Lines of a log that an error shows.
const SHOWN_LINES: usize = 12;

/// How to start a program, again and again.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What it is called in messages and in the name of its log.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    /// Where it runs and keeps its log.
    pub folder: PathBuf,
}

/// A running program; killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    recipe: Recipe,
    child: Option<Child>,
}

/// A program that does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("cannot start {name} ({program}): {source}", program = .program.display())]
    Start { name: String, program: PathBuf, source: io::Error },
    #[error("{0} ended by itself; the end of its log:\n{1}")]
    Ended(String, String),
    #[error("{0} is not ready within {1:?}; the end of its log:\n{2}")]
    NotReady(String, Duration, String),
    #[error("{0} does not stop within {1:?}")]
    DoesNotStop(String, Duration),
    #[error("no port is free from {FIRST_PORT} on")]
    NoPort,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// If the program is not there or its log cannot be written.
    pub fn start(recipe: Recipe) -> Result<Self, ProcessError> {
        let mut process = Self { recipe, child: None };
        process.start_again()?;
        Ok(process)
    }

    /// Starts it again after it ended, with what it left behind.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_again(&mut self) -> Result<(), ProcessError> {
        self.kill();
        let recipe = &self.recipe;
        let failed = |source| ProcessError::Start {
            name: recipe.name.clone(),
            program: recipe.program.clone(),
            source,
        };
        fs::create_dir_all(&recipe.folder).map_err(failed)?;
        let log = File::options().create(true).append(true).open(recipe.log()).map_err(failed)?;
        let errors = log.try_clone().map_err(failed)?;
        let mut command = Command::new(&recipe.program);
        // Settings of whoever runs the drill are none of the topology's.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("BOBOLINK_") || text.starts_with("CENTRIFUGO_") {
                command.env_remove(&name);
            }
        }
        command.args(&recipe.args).current_dir(&recipe.folder);
        command.envs(recipe.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        // A Ctrl-C is for the drill alone, which then stops what it has started.
        command.process_group(0);
        self.child = Some(command.spawn().map_err(failed)?);
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    pub fn folder(&self) -> &Path {
        &self.recipe.folder
    }

    /// Changes how it is started the next time.
    pub fn recipe_mut(&mut self) -> &mut Recipe {
        &mut self.recipe
    }

    /// Sends a signal; a process that is gone takes none.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill_process(Pid::from_child(child), signal);
        }
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        let ended = self.child.as_mut().map(Child::try_wait);
        !matches!(ended, None | Some(Ok(Some(_)) | Err(_)))
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    /// If it does not in time.
    pub async fn stop(&mut self, within: Duration) -> Result<(), ProcessError> {
        self.signal(Signal::TERM);
        let mut looks = looks(Duration::from_millis(20));
        let gone = async {
            while self.is_alive() {
                looks.tick().await;
            }
        };
        let in_time = timeout(within, gone).await.is_ok();
        self.kill();
        if in_time {
            Ok(())
        } else {
            Err(ProcessError::DoesNotStop(self.recipe.name.clone(), within))
        }
    }

    /// Waits until it is as it should be.
    ///
    /// # Errors
    /// If it ends, or is not in time.
    pub async fn ready(
        &mut self,
        within: Duration,
        mut is_ready: impl AsyncFnMut() -> bool,
    ) -> Result<(), ProcessError> {
        let mut looks = looks(Duration::from_millis(50));
        let waiting = async {
            loop {
                looks.tick().await;
                if !self.is_alive() {
                    return Err(ProcessError::Ended(self.recipe.name.clone(), self.log_end()));
                }
                if is_ready().await {
                    return Ok(());
                }
            }
        };
        match timeout(within, waiting).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ProcessError::NotReady(self.recipe.name.clone(), within, self.log_end())),
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = fs::read(self.recipe.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Recipe {
    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }
}

/// An address of this machine on which nobody listens, and which no other drill will take meanwhile.
///
/// # Errors
/// None is free.
pub fn free_address() -> Result<SocketAddr, ProcessError> {
    static PORTS: Mutex<Ports> = Mutex::new(Ports { claims: Vec::new(), given: 0 });
    PORTS.lock().free_address().ok_or(ProcessError::NoPort)
}

/// The ports that this process has to itself, as long as all who want some ask here.
struct Ports {
    /// The first port of each block of ours, held for as long as the process lives.
    claims: Vec<(u16, TcpListener)>,
    /// How many of the others were looked at.
    given: usize,
}

impl Ports {
    fn free_address(&mut self) -> Option<SocketAddr> {
        let each = usize::from(BLOCK) - 1;
        for _ in 0..each * usize::from(BLOCKS) {
            if self.given == self.claims.len() * each && !self.claim() {
                // Those that were given first may be free again.
                self.given = 0;
            }
            let (first, _) = self.claims.get(self.given / each)?;
            let port = first + 1 + (self.given % each) as u16;
            self.given += 1;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Some(address);
            }
        }
        None
    }

    /// Takes another block, if nobody has it.
    fn claim(&mut self) -> bool {
        // Not all processes begin to look at the same one.
        let start = std::process::id() % u32::from(BLOCKS);
        let blocks = (0..BLOCKS).map(|step| (start as u16 + step) % BLOCKS);
        let claims = blocks.filter_map(|block| {
            let first = FIRST_PORT + block * BLOCK;
            Some((first, TcpListener::bind((Ipv4Addr::LOCALHOST, first)).ok()?))
        });
        let count = self.claims.len();
        self.claims.extend(claims.take(1));
        self.claims.len() > count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> (tempfile::TempDir, Process) {
        let folder = tempfile::tempdir().unwrap();
        let recipe = Recipe {
            name: "shell".to_owned(),
            program: "sh".into(),
            args: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("WORD", "hello".to_owned())],
            folder: folder.path().to_owned(),
        };
        (folder, Process::start(recipe).unwrap())
    }

    #[tokio::test]
    async fn a_program_that_ends_is_told_from_one_that_is_slow() {
        let (_folder, mut quick) = shell("echo $WORD; exit 3");
        let within = Duration::from_secs(20);
        let error = quick.ready(within, async || false).await.unwrap_err().to_string();
        assert!(error.ends_with("log:\nhello"), "{error}");
        let (_folder, mut slow) = shell("exec sleep 60");
        let error = slow.ready(Duration::from_millis(200), async || false).await.unwrap_err();
        assert!(matches!(error, ProcessError::NotReady(..)), "{error}");
        assert!(slow.is_alive());
        slow.stop(within).await.unwrap();
        assert!(!slow.is_alive());
    }

    #[test]
    fn free_addresses_differ_and_are_given_again_only_after_all_others() {
        let mut ports = Ports { claims: Vec::new(), given: 0 };
        let mut another = Ports { claims: Vec::new(), given: 0 };
        let mut seen = std::collections::HashSet::new();
        for _ in 0..usize::from(BLOCK) + 10 {
            assert!(seen.insert(ports.free_address().unwrap()));
            assert!(seen.insert(another.free_address().unwrap()), "each has blocks of its own");
        }
        assert_eq!((ports.claims.len(), another.claims.len()), (2, 2));
    }

    #[test]
    fn a_port_that_somebody_listens_on_is_passed_over() {
        let mut ports = Ports { claims: Vec::new(), given: 0 };
        let first = ports.free_address().unwrap();
        ports.given = 0;
        let _listener = TcpListener::bind(first).unwrap();
        assert_ne!(ports.free_address().unwrap(), first);
    }
}
