//! The plan of the local topology: which processes there are, and how each is started. Pure.
//!
//! Each has a twin in docker-compose.yml with the same name, the same files and the same variables;
//! only their values differ, since there every process has an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::archive::ArchivePlan;
use super::process::Recipe;
use crate::drill::secret::Hidden;

/// The name under which gateways know the master's address in the plan without Sentinel.
const LOCALHOST: &str = "127.0.0.1";
/// How soon the sentinels give up the master, in milliseconds: drills should not wait for what the file
/// grants a busy cluster.
const DOWN_AFTER: &str = "1000";

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Of each Redis; the first is the first master.
    pub redis: Vec<SocketAddr>,
    /// Under which each Redis is known to others: the same, or that of the link in front of it.
    pub announced: Vec<SocketAddr>,
    /// Where the nodes of a cluster speak to each other, in the same order; none without a cluster. What
    /// Redis would take, 10,000 ports further on, the system may have given to an outgoing connection.
    pub buses: Vec<SocketAddr>,
    /// None where there is one Redis alone; or several, which are a cluster then.
    pub sentinels: Vec<SocketAddr>,
    pub gateways: Vec<GatewayAddresses>,
    pub balancer: Option<BalancerAddresses>,
}

/// The ports of one gateway.
#[derive(Clone, Copy, Debug)]
pub struct GatewayAddresses {
    pub clients: SocketAddr,
    pub internal: SocketAddr,
    pub agent: SocketAddr,
}

/// The ports of HAProxy.
#[derive(Clone, Copy, Debug)]
pub struct BalancerAddresses {
    pub clients: SocketAddr,
    pub api: SocketAddr,
    pub stats: SocketAddr,
}

/// What nobody else should know.
#[derive(Clone, Debug)]
pub struct Secrets {
    pub redis: Hidden,
    pub sentinel: Hidden,
    pub token: Hidden,
    pub api: Hidden,
}

/// All that recipes are made from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub addresses: Addresses,
    pub secrets: Secrets,
    /// Holds the files, and a folder for each process.
    pub folder: PathBuf,
    /// The gateway's program.
    pub gateway: PathBuf,
    /// Further options of every Redis, such as `["--appendonly", "no"]`.
    pub redis_options: Vec<String>,
    /// None where nothing is archived.
    pub archive: Option<ArchivePlan>,
}

impl Addresses {
    /// Whether Redis is a cluster.
    pub fn is_clustered(&self) -> bool {
        self.sentinels.is_empty() && self.redis.len() > 1
    }
}

impl Plan {
    /// All processes in the order in which they start.
    pub fn recipes(&self) -> Vec<Recipe> {
        let mut all: Vec<_> = (0..self.addresses.redis.len()).map(|at| self.redis(at)).collect();
        all.extend((0..self.addresses.sentinels.len()).map(|at| self.sentinel(at)));
        all.extend(self.database());
        all.extend((0..self.addresses.gateways.len()).map(|at| self.gateway(at)));
        all.extend(self.history());
        all.extend(self.balancer());
        all
    }

    /// A Redis; the first begins as the master.
    pub fn redis(&self, at: usize) -> Recipe {
        let is_replica = at > 0 && !self.addresses.is_clustered();
        let role = if is_replica { "replica" } else { "master" };
        let mut args = vec![role.to_owned()];
        args.extend(self.redis_options.iter().cloned());
        if let Some(bus) = self.addresses.buses.get(at) {
            args.extend(["--cluster-port".to_owned(), bus.port().to_string()]);
        }
        let (listens, announced) = (self.addresses.redis[at], self.addresses.announced[at]);
        let mut environment = vec![
            ("PORT", listens.port().to_string()),
            ("BIND", LOCALHOST.to_owned()),
            ("ANNOUNCE_HOST", announced.ip().to_string()),
            ("ANNOUNCE_PORT", announced.port().to_string()),
        ];
        if is_replica {
            environment.extend(self.first_master());
        }
        environment.push(("REDIS_PASSWORD", self.secrets.redis.expose().to_owned()));
        self.started(format!("redis-{}", at + 1), args, environment)
    }

    fn sentinel(&self, at: usize) -> Recipe {
        let args = ["sentinel", "--sentinel", "down-after-milliseconds", "main", DOWN_AFTER];
        let address = self.addresses.sentinels[at];
        let mut environment = vec![
            ("PORT", address.port().to_string()),
            ("BIND", LOCALHOST.to_owned()),
            ("ANNOUNCE_HOST", address.ip().to_string()),
            ("ANNOUNCE_PORT", address.port().to_string()),
        ];
        environment.extend(self.first_master());
        environment.push(("REDIS_PASSWORD", self.secrets.redis.expose().to_owned()));
        environment.push(("SENTINEL_PASSWORD", self.secrets.sentinel.expose().to_owned()));
        let args = args.map(str::to_owned).to_vec();
        self.started(format!("sentinel-{}", at + 1), args, environment)
    }

    fn first_master(&self) -> [(&'static str, String); 2] {
        let master = self.addresses.announced[0];
        [("MASTER_HOST", master.ip().to_string()), ("MASTER_PORT", master.port().to_string())]
    }

    /// A process that sentinel/start starts.
    fn started(
        &self,
        name: String,
        args: Vec<String>,
        mut environment: Vec<(&'static str, String)>,
    ) -> Recipe {
        let folder = self.folder.join(&name);
        environment.push(("DATA", folder.display().to_string()));
        Recipe { name, program: self.folder.join("sentinel/start"), args, environment, folder }
    }

    /// A gateway.
    pub fn gateway(&self, at: usize) -> Recipe {
        let name = format!("gateway-{}", at + 1);
        let GatewayAddresses { clients, internal, agent } = self.addresses.gateways[at];
        let config = self.folder.join("sentinel/gateway.toml");
        let args = vec!["serve".to_owned(), "-c".to_owned(), config.display().to_string()];
        let mut environment = vec![
            ("BOBOLINK_NODE_NAME", name.clone()),
            ("BOBOLINK_HTTP_SERVER_ADDRESS", clients.ip().to_string()),
            ("BOBOLINK_HTTP_SERVER_PORT", clients.port().to_string()),
            ("BOBOLINK_HTTP_SERVER_INTERNAL_PORT", internal.port().to_string()),
            ("BOBOLINK_HTTP_SERVER_AGENT_PORT", agent.port().to_string()),
            ("BOBOLINK_HTTP_SERVER_TRUSTED_PROXIES", LOCALHOST.to_owned()),
            ("BOBOLINK_ENGINE_REDIS_CLIENT_NAME", name.clone()),
        ];
        environment.extend(self.redis_and_keys());
        environment.extend(self.archived());
        if self.addresses.balancer.is_none() {
            // Clients come directly, and say nothing of a proxy.
            environment.push(("BOBOLINK_HTTP_SERVER_PROXY_PROTOCOL", "false".to_owned()));
        }
        let folder = self.folder.join(&name);
        Recipe { name, program: self.gateway.clone(), args, environment, folder }
    }

    /// What every process of ours is told of Redis, with the keys of clients and backends.
    pub fn redis_and_keys(&self) -> [(&'static str, String); 5] {
        let secret = |hidden: &Hidden| hidden.expose().to_owned();
        [
            self.engine(),
            ("BOBOLINK_ENGINE_REDIS_PASSWORD", secret(&self.secrets.redis)),
            ("BOBOLINK_ENGINE_REDIS_SENTINEL_PASSWORD", secret(&self.secrets.sentinel)),
            ("BOBOLINK_CLIENT_TOKEN_HMAC_SECRET_KEY", secret(&self.secrets.token)),
            ("BOBOLINK_HTTP_API_KEY", secret(&self.secrets.api)),
        ]
    }

    fn engine(&self) -> (&'static str, String) {
        let Addresses { sentinels, announced, .. } = &self.addresses;
        let list = |places: &[SocketAddr]| {
            places.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        match (sentinels.is_empty(), self.addresses.is_clustered()) {
            (false, _) => ("BOBOLINK_ENGINE_REDIS_SENTINEL_ADDRESS", list(sentinels)),
            (true, true) => ("BOBOLINK_ENGINE_REDIS_CLUSTER_ADDRESS", list(announced)),
            (true, false) => ("BOBOLINK_ENGINE_REDIS_ADDRESS", list(announced)),
        }
    }

    /// HAProxy, if there is one.
    pub fn balancer(&self) -> Option<Recipe> {
        let BalancerAddresses { clients, api, stats } = self.addresses.balancer?;
        let folder = self.folder.join("haproxy");
        let config = folder.join("haproxy.cfg");
        let mut environment = vec![
            ("LISTEN_CLIENTS", clients.to_string()),
            ("LISTEN_API", api.to_string()),
            ("LISTEN_STATS", stats.to_string()),
            ("HAPROXY_SOCKET", folder.join("admin.sock").display().to_string()),
            ("MAX_CONNECTIONS", "4000".to_owned()),
            // All clients of a drill come from one address.
            ("CONNECTIONS_PER_ADDRESS", "100000".to_owned()),
        ];
        for (gateway, names) in self.addresses.gateways.iter().zip(GATEWAY_VARIABLES) {
            let GatewayAddresses { clients, internal, agent } = gateway;
            let [host, port, internal_port, agent_port] = *names;
            environment.push((host, clients.ip().to_string()));
            environment.push((port, clients.port().to_string()));
            environment.push((internal_port, internal.port().to_string()));
            environment.push((agent_port, agent.port().to_string()));
        }
        let services = self.archive.iter().flat_map(|archive| archive.services.iter().copied());
        let services = services.chain(std::iter::repeat(NOWHERE));
        for (service, names) in services.zip(HISTORY_VARIABLES) {
            let [host, port] = *names;
            environment.push((host, service.ip().to_string()));
            environment.push((port, service.port().to_string()));
        }
        let args = ["-W", "-db", "-f"].map(str::to_owned).into_iter();
        let args = args.chain([config.display().to_string()]).collect();
        let name = "haproxy".to_owned();
        Some(Recipe { name, program: Path::new("haproxy").to_owned(), args, environment, folder })
    }
}

/// The variables of haproxy/haproxy.cfg for each gateway.
const GATEWAY_VARIABLES: &[[&str; 4]] = &[
    ["GATEWAY_1", "GATEWAY_1_PORT", "GATEWAY_1_INTERNAL_PORT", "GATEWAY_1_AGENT_PORT"],
    ["GATEWAY_2", "GATEWAY_2_PORT", "GATEWAY_2_INTERNAL_PORT", "GATEWAY_2_AGENT_PORT"],
];
/// And for each history service.
const HISTORY_VARIABLES: &[[&str; 2]] =
    &[["HISTORY_1", "HISTORY_1_PORT"], ["HISTORY_2", "HISTORY_2_PORT"]];
/// Where nobody listens: a service that is not there is down for HAProxy, which is no fault.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
