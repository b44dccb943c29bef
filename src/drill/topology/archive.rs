//! The archive of the local topology: a MongoDB replica set, and the history services on it.
//!
//! In docker-compose.yml the set is three services; here it is one process that has three members, or
//! three `mongod`: the example `replica_set`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::plan::Plan;
use super::process::{Process, ProcessError, Recipe};
use super::{START, TopologyError};
use crate::drill::api::{Api, Place, PlaceError};

/// What the replica set is called; docker-compose.yml says the same.
const SET: &str = "main";

/// How long the replica set may take to stop where all of it ends at once: five seconds.
const LOOKS: u32 = 250;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where the archive is.
#[derive(Clone, Debug)]
pub struct ArchivePlan {
    /// The program with the replica set.
    pub program: PathBuf,
    pub members: [SocketAddr; 3],
    /// Where the replica set takes its script.
    pub control: SocketAddr,
    /// Of each history service.
    pub services: Vec<SocketAddr>,
    /// Entries that may wait for the store; none for what is usual.
    pub backlog: Option<u64>,
}

/// The running replica set.
#[derive(Debug)]
pub struct Database {
    pub process: Process,
    pub members: [SocketAddr; 3],
    pub control: SocketAddr,
}

/// A history service.
#[derive(Debug)]
pub struct HistoryNode {
    pub process: Process,
    pub address: SocketAddr,
}

impl ArchivePlan {
    /// Where drivers find the replica set.
    pub fn uri(&self) -> String {
        let members = self.members.map(|member| member.to_string());
        format!("mongodb://{}/?replicaSet={SET}", members.join(","))
    }
}

impl Plan {
    /// The replica set, if there is an archive.
    pub fn database(&self) -> Option<Recipe> {
        let archive = self.archive.as_ref()?;
        let name = "mongo".to_owned();
        let folder = self.folder.join(&name);
        let members = archive.members.map(|member| member.to_string()).join(",");
        let control = archive.control.to_string();
        let data = folder.display().to_string();
        let args = ["--members", &members, "--control", &control, "--folder", &data];
        let args = args.map(str::to_owned).to_vec();
        let program = archive.program.clone();
        Some(Recipe { name, program, args, environment: Vec::new(), folder })
    }

    /// The history services.
    pub fn history(&self) -> Vec<Recipe> {
        let services = self.archive.iter().flat_map(|archive| &archive.services);
        (1..).zip(services).map(|(number, address)| self.history_node(number, *address)).collect()
    }

    fn history_node(&self, number: usize, address: SocketAddr) -> Recipe {
        let name = format!("history-{number}");
        let config = self.folder.join("sentinel/gateway.toml");
        let args = vec!["history".to_owned(), "-c".to_owned(), config.display().to_string()];
        let mut environment = vec![
            ("BOBOLINK_NODE_NAME", name.clone()),
            ("BOBOLINK_HISTORY_ADDRESS", address.ip().to_string()),
            ("BOBOLINK_HISTORY_PORT", address.port().to_string()),
            ("BOBOLINK_HTTP_SERVER_INTERNAL_PORT", address.port().to_string()),
            ("BOBOLINK_HTTP_SERVER_PROXY_PROTOCOL", "false".to_owned()),
            ("BOBOLINK_HISTORY_INGEST_NAME", name.clone()),
            ("BOBOLINK_ENGINE_REDIS_CLIENT_NAME", name.clone()),
        ];
        environment.extend(self.redis_and_keys());
        environment.extend(self.archived());
        let folder = self.folder.join(&name);
        Recipe { name, program: self.gateway.clone(), args, environment, folder }
    }

    /// What gateways and history services are told of the archive, if there is one.
    pub fn archived(&self) -> Vec<(&'static str, String)> {
        let Some(archive) = &self.archive else { return Vec::new() };
        let mut told = vec![
            ("BOBOLINK_HISTORY_STORE", "mongo".to_owned()),
            ("BOBOLINK_HISTORY_MONGO_URI", archive.uri()),
            ("BOBOLINK_CHANNEL_NAMESPACES_CHAT_HISTORY_ARCHIVE", "true".to_owned()),
        ];
        let backlog =
            archive.backlog.map(|entries| ("BOBOLINK_HISTORY_BACKLOG", entries.to_string()));
        told.extend(backlog);
        told
    }
}

impl Database {
    /// Starts it and waits until it takes scripts, which it does when there is a primary.
    ///
    /// # Errors
    /// If it ends, or is not in time.
    pub async fn start(plan: &Plan) -> Result<Option<Self>, TopologyError> {
        let (Some(recipe), Some(archive)) = (plan.database(), &plan.archive) else {
            return Ok(None);
        };
        let mut process = Process::start(recipe)?;
        let listens = async || TcpStream::connect(archive.control).await.is_ok();
        process.ready(START, listens).await?;
        Ok(Some(Self { process, members: archive.members, control: archive.control }))
    }

    /// Goes on in the script; `ok`, or why it is not done.
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn act(&self, line: &str) -> io::Result<String> {
        let asking = async {
            let (reader, mut writer) = TcpStream::connect(self.control).await?.into_split();
            writer.write_all(format!("{line}\n").as_bytes()).await?;
            let answer = BufReader::new(reader).lines().next_line().await?;
            Ok(answer.unwrap_or_default())
        };
        timeout(START, asking).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

impl HistoryNode {
    /// Starts one.
    ///
    /// # Errors
    /// If the program is not there.
    pub fn start(recipe: Recipe, address: SocketAddr) -> Result<Self, ProcessError> {
        Ok(Self { process: Process::start(recipe)?, address })
    }

    /// Waits until it answers readers.
    ///
    /// # Errors
    /// If it ends, or does not in time.
    pub async fn ready(&mut self) -> Result<(), TopologyError> {
        let mut api = self.api()?;
        let ready = async || api.status("/health/ready").await == Ok(200);
        Ok(self.process.ready(START, ready).await?)
    }

    /// Asks it.
    ///
    /// # Errors
    /// None that can be; the address is its own.
    pub fn api(&self) -> Result<Api, PlaceError> {
        Ok(Api::new(Place::new(&format!("http://{}", self.address))?, None))
    }
}

impl Drop for Database {
    /// Killed, it would leave its servers behind: they are processes of their own.
    fn drop(&mut self) {
        self.process.signal(Signal::TERM);
        for _ in 0..LOOKS {
            if !self.process.is_alive() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
