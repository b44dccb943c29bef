//! An HAProxy of the test's own with the repository's configuration, and nodes for it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bobolink::client::Endpoint;
use bobolink::drill::topology::process::free_address;
use tempfile::TempDir;

use crate::support::{SOON, Server, eventually, get};

pub const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/haproxy/haproxy.cfg");

/// Times that ports are chosen anew, should somebody else have taken one.
const TRIES: usize = 5;

/// A running HAProxy before two nodes, killed when it is dropped.
pub struct Balancer {
    child: Child,
    folder: TempDir,
    ports: [u16; 3],
}

/// The ports of a node, which it keeps over restarts.
#[derive(Clone, Copy, Debug)]
pub struct NodePorts {
    pub clients: u16,
    pub internal: u16,
    pub agent: u16,
}

/// A server as the statistics have it.
#[derive(Clone, Debug)]
pub struct Row(HashMap<String, String>);

impl Balancer {
    /// Starts one for the nodes, with more variables such as `CONNECTIONS_PER_ADDRESS`, and waits
    /// until it listens.
    pub async fn start(nodes: &[NodePorts; 2], variables: &[(&str, &str)]) -> Self {
        Self::start_on(&text(), nodes, variables).await
    }

    /// The same behind another balancer, which speaks the PROXY protocol.
    pub async fn start_behind_another(nodes: &[NodePorts; 2], variables: &[(&str, &str)]) -> Self {
        let (text, line) = (text(), "    bind \"${LISTEN_CLIENTS-:8080}\"\n");
        assert_eq!(text.matches(line).count(), 1, "the line for clients");
        let accepting = format!("{} accept-proxy\n", line.trim_end());
        Self::start_on(&text.replace(line, &accepting), nodes, variables).await
    }

    async fn start_on(config: &str, nodes: &[NodePorts; 2], variables: &[(&str, &str)]) -> Self {
        for _ in 0..TRIES {
            if let Some(balancer) = Self::try_start(config, nodes, variables).await {
                return balancer;
            }
        }
        panic!("haproxy does not start");
    }

    async fn try_start(
        config: &str,
        nodes: &[NodePorts; 2],
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("haproxy.cfg");
        fs::write(&path, config).expect("a file");
        let ports = [free_port(), free_port(), free_port()];
        let mut command = haproxy(nodes, ports, &folder);
        command.args(["-db", "-f"]).arg(&path).envs(variables.iter().copied());
        let log = File::create(folder.path().join("log")).expect("a file");
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let mut balancer = Self { child: command.spawn().expect("haproxy"), folder, ports };
        let address = SocketAddr::from(([127, 0, 0, 1], ports[2]));
        let mut is_up = false;
        eventually("haproxy listens or ends", SOON, async || {
            is_up = tokio::net::TcpStream::connect(address).await.is_ok();
            is_up || balancer.child.try_wait().expect("a child").is_some()
        })
        .await;
        is_up.then_some(balancer)
    }

    /// Where clients connect.
    pub fn clients(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[0]))
    }

    /// Where the server API is.
    pub fn api(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[1]))
    }

    /// Where statistics and metrics are.
    pub fn stats(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports[2]))
    }

    /// Where clients open their WebSocket.
    pub fn endpoint(&self) -> Endpoint {
        let address = format!("ws://{}/connection/websocket", self.clients());
        Endpoint::new(&address).expect("an address")
    }

    /// What it says of a node now.
    pub async fn server(&self, backend: &str, server: &str) -> Row {
        let table = get(self.stats(), "/stats;csv").await.body;
        let mut lines = table.trim_start_matches("# ").lines();
        let names: Vec<_> = lines.next().expect("a head").split(',').collect();
        let rows = lines.map(|line| Row::of(&names, line));
        let is_it = |row: &Row| row.get("pxname") == backend && row.get("svname") == server;
        rows.into_iter().find(is_it).expect("the server")
    }

    /// Waits until a node has a state such as `UP` or `DRAIN` for both clients and the API.
    pub async fn sees(&self, server: &str, state: &str) {
        let what = format!("haproxy sees {server} {state}");
        eventually(&what, SOON, async || {
            self.server("gateways", server).await.get("status").starts_with(state)
        })
        .await;
    }

    /// Waits until a node gets clients and calls.
    pub async fn uses(&self, server: &str) {
        let what = format!("haproxy uses {server}");
        eventually(&what, SOON, async || {
            let clients = self.server("gateways", server).await;
            let api = self.server("api", server).await;
            // Not `UP 1/2`, which is on its way.
            clients.get("status") == "UP"
                && api.get("status") == "UP"
                && clients.number("weight") > 0
        })
        .await;
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let end = log.lines().rev().take(30).collect::<Vec<_>>();
            let end: Vec<_> = end.into_iter().rev().collect();
            eprintln!("the end of haproxy's log:\n{}", end.join("\n"));
        }
    }
}

impl NodePorts {
    pub fn choose() -> Self {
        Self { clients: free_port(), internal: free_port(), agent: free_port() }
    }

    /// Settings of a node that this HAProxy balances: those that haproxy.cfg asks for.
    pub fn settings(&self) -> String {
        let Self { clients, internal, agent } = self;
        format!(
            "http_server.port = {clients}\n\
             http_server.internal_port = {internal}\n\
             http_server.agent_port = {agent}\n\
             http_server.trusted_proxies = [\"127.0.0.1\"]\n\
             http_server.proxy_protocol = true\n\
             health.enabled = true\n"
        )
    }

    /// Starts the node, and waits until it is ready.
    pub async fn start(&self, settings: &str) -> Server {
        let server = Server::start(&format!("{}{settings}", self.settings())).await;
        eventually("the node is ready", SOON, async || {
            get(self.internal_address(), "/health/ready").await.status == 200
        })
        .await;
        server
    }

    pub fn internal_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.internal))
    }
}

impl Row {
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or(0)
    }

    fn of(names: &[&str], line: &str) -> Self {
        let pairs = names.iter().zip(line.split(','));
        Self(pairs.map(|(name, value)| ((*name).to_owned(), value.to_owned())).collect())
    }
}

/// What [`CONFIG`] holds.
pub fn text() -> String {
    fs::read_to_string(CONFIG).expect("haproxy.cfg")
}

/// The program with the variables of a topology on this machine.
pub fn haproxy(nodes: &[NodePorts; 2], ports: [u16; 3], folder: &TempDir) -> Command {
    let mut command = Command::new("haproxy");
    command.stdin(Stdio::null());
    command.env("HAPROXY_SOCKET", folder.path().join("socket"));
    // A small limit, so that it needs no rights to raise that of file descriptors.
    command.env("MAX_CONNECTIONS", "2000").env("CONNECTIONS_PER_ADDRESS", "100000");
    let names = ["LISTEN_CLIENTS", "LISTEN_API", "LISTEN_STATS"];
    for (name, port) in names.into_iter().zip(ports) {
        command.env(name, format!("127.0.0.1:{port}"));
    }
    for (number, node) in (1..).zip(nodes) {
        command.env(format!("GATEWAY_{number}"), "127.0.0.1");
        // Nobody is there, unless a test says otherwise.
        command.env(format!("HISTORY_{number}"), "127.0.0.1");
        command.env(format!("HISTORY_{number}_PORT"), "1");
        command.env(format!("GATEWAY_{number}_PORT"), node.clients.to_string());
        command.env(format!("GATEWAY_{number}_INTERNAL_PORT"), node.internal.to_string());
        command.env(format!("GATEWAY_{number}_AGENT_PORT"), node.agent.to_string());
    }
    command
}

/// A port that is free, and that the system gives to nobody who asks for any.
fn free_port() -> u16 {
    free_address().expect("a port").port()
}
