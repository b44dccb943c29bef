//! The local topology: the processes of docker-compose.yml on this machine, started from the same
//! files and stopped by their numbers.
//!
//! [`plan`] says which processes there are and how each is started, [`archive`] what keeps the history,
//! [`files`] what they are started from, [`process`] holds one of them.

pub mod archive;
pub mod cluster;
pub mod files;
pub mod foreign;
pub mod plan;
pub mod process;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use self::archive::{ArchivePlan, Database, HistoryNode};
use self::files::{FileError, Folder};
use self::plan::{Addresses, BalancerAddresses, GatewayAddresses, Plan, Secrets};
use self::process::{Process, ProcessError, free_address};
use super::api::{Api, CallError, Place, PlaceError};
use super::link::Link;
use super::redis::{AskError, Redis};
use super::secret::Hidden;
use crate::time::random_letters;

/// The longest that a process may take to be as it should. Generous: the machine may be busy.
pub const START: Duration = Duration::from_secs(60);
/// The longest that a process may take to stop when it is asked to.
const STOP: Duration = Duration::from_secs(45);
/// Where our gateways say that they take connections, and where Centrifugo's do.
const HEALTH: &str = "/health/ready";
const FOREIGN_HEALTH: &str = "/health";
/// Nodes of Centrifugo.
const FOREIGN: usize = 2;
/// History services, where channels are archived.
const HISTORY: usize = 2;
/// Letters of each secret: drills are for one machine and a few minutes.
const SECRET_LETTERS: usize = 24;

/// What a topology is made of.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Three Redis and three sentinels, or one Redis alone.
    pub has_sentinels: bool,
    /// In the place of both a Redis Cluster.
    pub is_clustered: bool,
    /// Everybody reaches Redis through wires that can be cut.
    pub has_links: bool,
    /// Whether HAProxy stands before the gateways.
    pub has_balancer: bool,
    /// Redis keeps snapshots that it is asked for, in the place of everything.
    pub keeps_snapshots: bool,
    pub gateways: usize,
    /// The gateway's program, if not the one that runs.
    pub program: Option<PathBuf>,
    /// Centrifugo's program, if two of its nodes are to be there.
    pub centrifugo: Option<PathBuf>,
    /// The program with a MongoDB replica set, if channels are to be archived there.
    pub replica_set: Option<PathBuf>,
    /// Publications that may wait for it, if not as many as usual.
    pub backlog: Option<u64>,
    /// Where the files are, if not in the binary.
    pub files: Option<PathBuf>,
    /// Leaves logs and data behind.
    pub is_kept: bool,
}

/// The running processes. All end when it is dropped.
#[derive(Debug)]
pub struct Topology {
    pub redis: Vec<RedisNode>,
    pub sentinels: Vec<RedisNode>,
    pub gateways: Vec<Gateway>,
    /// Centrifugo's.
    pub foreign: Vec<Gateway>,
    pub database: Option<Database>,
    pub history: Vec<HistoryNode>,
    pub balancer: Option<Balancer>,
    pub secrets: Secrets,
    /// After everything that writes into it.
    folder: Folder,
}

/// A Redis or a Sentinel.
#[derive(Debug)]
pub struct RedisNode {
    pub process: Process,
    pub redis: Redis,
    /// The wires in front of it, if there are any.
    pub link: Option<Link>,
    /// Under which it is known to others.
    pub announced: SocketAddr,
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway {
    pub process: Process,
    pub addresses: GatewayAddresses,
    /// The path that answers 200 when it takes connections.
    health: &'static str,
}

/// HAProxy.
#[derive(Debug)]
pub struct Balancer {
    pub process: Process,
    pub addresses: BalancerAddresses,
}

/// Why the topology does not stand.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("cannot listen for the wires: {0}")]
    Link(std::io::Error),
    #[error("there is no replica set")]
    NoDatabase,
    #[error("the script's port of the replica set: {0}")]
    Script(std::io::Error),
    #[error("the path of this program is not known: {0}")]
    Program(std::io::Error),
    #[error("{0} does not become so within {1:?}")]
    Never(&'static str, Duration),
}

impl Topology {
    /// Starts everything and waits until all of it is ready.
    ///
    /// # Errors
    /// Names what does not start, with the end of its log.
    pub async fn start(shape: &Shape) -> Result<Self, TopologyError> {
        let folder = Folder::new(shape.files.as_deref(), shape.is_kept)?;
        let plan = plan(shape, folder.path(""))?;
        let secrets = plan.secrets.clone();
        let mut topology = Self {
            redis: Vec::new(),
            sentinels: Vec::new(),
            gateways: Vec::new(),
            foreign: Vec::new(),
            database: None,
            history: Vec::new(),
            balancer: None,
            secrets,
            folder,
        };
        topology.start_redis(&plan).await?;
        topology.start_sentinels(&plan).await?;
        topology.database = Database::start(&plan).await?;
        for (at, addresses) in plan.addresses.gateways.iter().enumerate() {
            let process = Process::start(plan.gateway(at))?;
            topology.gateways.push(Gateway { process, addresses: *addresses, health: HEALTH });
        }
        if let Some(program) = &shape.centrifugo {
            topology.start_foreign(&plan, program)?;
        }
        for gateway in topology.gateways.iter_mut().chain(&mut topology.foreign) {
            gateway.ready().await?;
        }
        topology.start_history(&plan).await?;
        topology.start_balancer(&plan).await?;
        Ok(topology)
    }

    async fn start_redis(&mut self, plan: &Plan) -> Result<(), TopologyError> {
        let Addresses { redis, announced, .. } = &plan.addresses;
        for (at, (address, announced)) in redis.iter().zip(announced).enumerate() {
            let link = match address == announced {
                true => None,
                false => Some(Link::open(*announced, *address).await.map_err(TopologyError::Link)?),
            };
            let process = Process::start(plan.redis(at))?;
            let password = Some(plan.secrets.redis.clone());
            let redis = Redis { address: *address, password };
            self.redis.push(RedisNode { process, redis, link, announced: *announced });
        }
        if plan.addresses.is_clustered() {
            return self.join_cluster(&plan.addresses.buses).await;
        }
        // Replicas first: what a sentinel does not see at its first look it sees only 10 s later.
        let replicas = self.redis.len() - 1;
        let Some(master) = self.redis.first_mut() else { return Ok(()) };
        master.ready(async |redis| redis.is_master_of(replicas).await).await?;
        for replica in self.redis.iter_mut().skip(1) {
            replica.ready(async |redis| redis.is_following().await).await?;
        }
        Ok(())
    }

    async fn start_sentinels(&mut self, plan: &Plan) -> Result<(), TopologyError> {
        let sentinels = plan.addresses.sentinels.iter().enumerate();
        for ((_, address), recipe) in
            sentinels.zip(plan.recipes().into_iter().skip(self.redis.len()))
        {
            let process = Process::start(recipe)?;
            let redis = Redis { address: *address, password: Some(plan.secrets.sentinel.clone()) };
            self.sentinels.push(RedisNode { process, redis, link: None, announced: *address });
        }
        let (others, replicas) = (self.sentinels.len().saturating_sub(1), self.redis.len() - 1);
        for sentinel in &mut self.sentinels {
            sentinel.ready(async |redis| redis.knows(others, replicas).await).await?;
        }
        Ok(())
    }

    fn start_foreign(&mut self, plan: &Plan, program: &Path) -> Result<(), TopologyError> {
        for number in 1..=FOREIGN {
            let (clients, internal, agent) = (free_address()?, free_address()?, free_address()?);
            let addresses = GatewayAddresses { clients, internal, agent };
            let name = format!("centrifugo-{number}");
            let settings = foreign::settings(plan, &name, &addresses).to_string();
            self.folder.write(&foreign::file_of(&name), &settings)?;
            let process = Process::start(foreign::recipe(program, self.folder.path(""), name))?;
            self.foreign.push(Gateway { process, addresses, health: FOREIGN_HEALTH });
        }
        Ok(())
    }

    async fn start_history(&mut self, plan: &Plan) -> Result<(), TopologyError> {
        let addresses = plan.archive.iter().flat_map(|archive| &archive.services);
        for (recipe, address) in plan.history().into_iter().zip(addresses) {
            self.history.push(HistoryNode::start(recipe, *address)?);
        }
        for node in &mut self.history {
            node.ready().await?;
        }
        Ok(())
    }

    async fn start_balancer(&mut self, plan: &Plan) -> Result<(), TopologyError> {
        let (Some(recipe), Some(addresses)) = (plan.balancer(), plan.addresses.balancer) else {
            return Ok(());
        };
        let mut balancer = Balancer { process: Process::start(recipe)?, addresses };
        balancer.ready(self.gateways.len()).await?;
        self.balancer = Some(balancer);
        Ok(())
    }

    /// Goes on in the script of the replica set; `ok`, or why it is not done.
    ///
    /// # Errors
    /// There is none, or it does not answer.
    pub async fn act(&self, line: &str) -> Result<String, TopologyError> {
        let database = self.database.as_ref().ok_or(TopologyError::NoDatabase)?;
        database.act(line).await.map_err(TopologyError::Script)
    }

    /// Which Redis is the master, by what it says itself.
    pub async fn master(&self) -> Option<usize> {
        for (at, node) in self.redis.iter().enumerate() {
            if node.redis.is_master_of(0).await {
                return Some(at);
            }
        }
        None
    }

    /// Where clients connect: HAProxy, or each gateway.
    pub fn client_addresses(&self) -> Vec<String> {
        match &self.balancer {
            Some(balancer) => vec![websocket(balancer.addresses.clients)],
            None => self.gateways.iter().map(Gateway::client_address).collect(),
        }
    }

    /// Where the server API is: behind HAProxy, or at each gateway.
    pub fn api_addresses(&self) -> Vec<String> {
        match &self.balancer {
            Some(balancer) => vec![format!("http://{}/api", balancer.addresses.api)],
            None => self.gateways.iter().map(Gateway::api_address).collect(),
        }
    }

    /// Stops everything in good order: those who use something before what they use.
    ///
    /// # Errors
    /// The first that does not stop in time; it is killed.
    pub async fn stop(mut self) -> Result<(), TopologyError> {
        let mut outcome = Ok(());
        let balancer = self.balancer.as_mut().map(|balancer| &mut balancer.process);
        let gateways =
            self.gateways.iter_mut().chain(&mut self.foreign).map(|gateway| &mut gateway.process);
        let history = self.history.iter_mut().map(|node| &mut node.process);
        let database = self.database.as_mut().map(|database| &mut database.process);
        let redis = self.sentinels.iter_mut().chain(&mut self.redis);
        let all: Vec<_> = balancer
            .into_iter()
            .chain(gateways)
            .chain(history)
            .chain(database)
            .chain(redis.map(|node| &mut node.process))
            .collect();
        for process in all {
            // What is stopped cannot hear that it should end.
            process.signal(Signal::CONT);
            outcome = outcome.and(process.stop(STOP).await);
        }
        Ok(outcome?)
    }

    /// What each process is called and where it is to be reached.
    pub fn places(&self) -> Vec<(String, String)> {
        let mut places = Vec::new();
        for node in self.redis.iter().chain(&self.sentinels) {
            places.push((node.process.name().to_owned(), node.redis.address.to_string()));
        }
        if let Some(Database { process, members, control }) = &self.database {
            let [first, second, third] = members;
            let text = format!("{first}, {second}, {third}, script {control}");
            places.push((process.name().to_owned(), text));
        }
        for node in &self.history {
            places.push((node.process.name().to_owned(), node.address.to_string()));
        }
        for gateway in &self.gateways {
            let GatewayAddresses { clients, internal, .. } = gateway.addresses;
            let text = format!("{clients}, internal {internal}");
            places.push((gateway.process.name().to_owned(), text));
        }
        if let Some(balancer) = &self.balancer {
            let BalancerAddresses { clients, api, stats } = balancer.addresses;
            let text = format!("{clients}, server API {api}, statistics http://{stats}/stats");
            places.push((balancer.process.name().to_owned(), text));
        }
        places
    }

    /// Where logs and data are.
    pub fn folder(&self) -> PathBuf {
        self.folder.path("")
    }
}

impl RedisNode {
    /// Waits until it is as it should be.
    ///
    /// # Errors
    /// If it ends, or is not in time.
    pub async fn ready(
        &mut self,
        is_ready: impl AsyncFn(&Redis) -> bool,
    ) -> Result<(), TopologyError> {
        let redis = &self.redis;
        Ok(self.process.ready(START, async || is_ready(redis).await).await?)
    }
}

impl Gateway {
    /// Waits until it takes connections.
    ///
    /// # Errors
    /// If it ends, or is not in time.
    pub async fn ready(&mut self) -> Result<(), TopologyError> {
        let (mut api, health) = (self.internal()?, self.health);
        Ok(self.process.ready(START, async || api.status(health).await == Ok(200)).await?)
    }

    /// Asks it on its internal port.
    ///
    /// # Errors
    /// None that can be; the address is its own.
    pub fn internal(&self) -> Result<Api, PlaceError> {
        Ok(Api::new(Place::new(&format!("http://{}", self.addresses.internal))?, None))
    }

    /// Where clients connect if nothing stands before it.
    pub fn client_address(&self) -> String {
        websocket(self.addresses.clients)
    }

    /// Where its server API is.
    pub fn api_address(&self) -> String {
        format!("http://{}/api", self.addresses.internal)
    }
}

impl Balancer {
    /// Waits until it has all gateways for both clients and calls.
    ///
    /// # Errors
    /// If it ends, or has not in time.
    pub async fn ready(&mut self, gateways: usize) -> Result<(), TopologyError> {
        let mut stats = self.stats()?;
        let within = START;
        let ready = async || servers_up(&mut stats).await.is_ok_and(|up| up >= 2 * gateways);
        Ok(self.process.ready(within, ready).await?)
    }

    fn stats(&self) -> Result<Api, PlaceError> {
        Ok(Api::new(Place::new(&format!("http://{}", self.addresses.stats))?, None))
    }
}

fn websocket(address: SocketAddr) -> String {
    format!("ws://{address}/connection/websocket")
}

/// How many servers HAProxy counts as up, in all backends.
async fn servers_up(stats: &mut Api) -> Result<usize, CallError> {
    let page = stats.page("/metrics").await?;
    let is_up = |line: &&str| {
        line.starts_with("haproxy_server_status{")
            && line.contains("state=\"UP\"")
            && line.ends_with(" 1")
    };
    Ok(page.lines().filter(is_up).count())
}

fn plan(shape: &Shape, folder: PathBuf) -> Result<Plan, TopologyError> {
    let several =
        |count: usize| (0..count).map(|_| free_address()).collect::<Result<Vec<_>, ProcessError>>();
    let redis = several(match (shape.is_clustered, shape.has_sentinels) {
        (true, _) => cluster::NODES,
        (false, true) => 3,
        (false, false) => 1,
    })?;
    let announced = if shape.has_links { several(redis.len())? } else { redis.clone() };
    let buses = several(if shape.is_clustered { redis.len() } else { 0 })?;
    let sentinels = several(if shape.has_sentinels { 3 } else { 0 })?;
    let mut gateways = Vec::new();
    for _ in 0..shape.gateways {
        let (clients, internal, agent) = (free_address()?, free_address()?, free_address()?);
        gateways.push(GatewayAddresses { clients, internal, agent });
    }
    let balancer = match shape.has_balancer {
        true => {
            let (clients, api, stats) = (free_address()?, free_address()?, free_address()?);
            Some(BalancerAddresses { clients, api, stats })
        }
        false => None,
    };
    let archive = match &shape.replica_set {
        None => None,
        Some(program) => Some(ArchivePlan {
            program: std::path::absolute(program).map_err(TopologyError::Program)?,
            members: [free_address()?, free_address()?, free_address()?],
            control: free_address()?,
            services: several(HISTORY)?,
            backlog: shape.backlog,
        }),
    };
    let mut redis_options = Vec::new();
    let mut option = |words: &[&str]| redis_options.extend(words.iter().map(|w| (*w).to_owned()));
    if shape.keeps_snapshots {
        option(&["--appendonly", "no"]);
    }
    if shape.is_clustered {
        option(cluster::OPTIONS);
    }
    if !shape.has_sentinels {
        // Alone there is no replica to wait for, and in a cluster not always.
        option(&["--min-replicas-to-write", "0"]);
    }
    let secret = || Hidden::from(random_letters(SECRET_LETTERS).to_string());
    Ok(Plan {
        addresses: Addresses { redis, announced, buses, sentinels, gateways, balancer },
        secrets: Secrets { redis: secret(), sentinel: secret(), token: secret(), api: secret() },
        folder,
        gateway: match &shape.program {
            Some(program) => std::path::absolute(program),
            None => std::env::current_exe(),
        }
        .map_err(TopologyError::Program)?,
        redis_options,
        archive,
    })
}

/// Whether a program is there to be started.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
        || Path::new("/usr/sbin").join(program).is_file()
}
