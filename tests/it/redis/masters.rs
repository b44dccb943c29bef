//! A cluster of the test's own.

use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use tokio::sync::Mutex;

use super::group::Security;
use super::outages::FAILOVER;
use super::process::RedisServer;
use crate::support::{SOON, eventually};

/// How many slots there are.
const SLOTS: usize = 16_384;
/// A node that is silent for so many milliseconds is taken for dead: longer than a busy machine keeps one
/// that is well. No test waits for it, since replicas take over when the test says so
/// ([`TestCluster::hand_over`], [`TestCluster::take_over`]) and never by themselves.
const NODE_TIMEOUT_MS: &str = "10000";
/// Redis gives a planned failover up after 5 s; then it is asked for anew.
const PLANNED: Duration = Duration::from_secs(6);

/// Masters with the slots in equal parts, and behind them as many replicas, or none.
pub struct TestCluster {
    pub nodes: Vec<RedisServer>,
    masters: usize,
}

/// What the scenarios of the contract share while one of them runs.
static SHARED: LazyLock<Mutex<Weak<TestCluster>>> = LazyLock::new(Mutex::default);

impl TestCluster {
    /// Three masters that others may use as well.
    pub async fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(cluster) = shared.upgrade() {
            return cluster;
        }
        let cluster = Arc::new(Self::start(0).await);
        *shared = Arc::downgrade(&cluster);
        cluster
    }

    /// Three masters, each with so many replicas: none or one.
    pub async fn start(replicas: usize) -> Self {
        Self::start_with(replicas, &Security::default()).await
    }

    /// The same, with certificates.
    pub async fn start_with(replicas: usize, security: &Security) -> Self {
        let masters = 3;
        let is_secure = if security.certificate.is_some() { "yes" } else { "no" };
        let nodes = (0..masters * (1 + replicas)).map(|_| {
            let options = [
                "--tls-cluster",
                is_secure,
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                NODE_TIMEOUT_MS,
                "--cluster-require-full-coverage",
                "no",
                "--cluster-allow-replica-migration",
                "no",
                "--cluster-replica-no-failover",
                "yes",
                "--repl-diskless-sync-delay",
                "0",
            ];
            RedisServer::start_with(&[&options[..], &security.options()].concat())
        });
        let cluster = Self { nodes: nodes.collect(), masters };
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < masters {
                let bound = |index: usize| index * SLOTS / masters;
                let (first, last) = (bound(index), bound(index + 1) - 1);
                let range = [first, last].map(|slot| slot.to_string());
                assert_eq!(node.ask(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]), "OK");
            }
            if index > 0 {
                node.meet(&cluster.nodes[0]);
            }
        }
        cluster.know_each_other().await;
        for (index, replica) in cluster.nodes.iter().enumerate().skip(masters) {
            let master = cluster.id(index - masters);
            assert_eq!(replica.ask(&["CLUSTER", "REPLICATE", &master]), "OK");
        }
        for node in &cluster.nodes {
            eventually("every node knows who follows whom", SOON, async || {
                let nodes = node.cli(&["CLUSTER", "NODES"]);
                // Id and address, then what it is.
                let is_replica = |line: &&String| {
                    line.split(' ').nth(2).is_some_and(|flags| flags.contains("slave"))
                };
                nodes.iter().filter(is_replica).count() == masters * replicas
            })
            .await;
        }
        for replica in &cluster.nodes[masters..] {
            eventually("the replica follows", SOON, async || {
                let info = replica.cli(&["INFO", "replication"]);
                info.iter().any(|line| line == "master_link_status:up")
            })
            .await;
        }
        cluster
    }

    async fn know_each_other(&self) {
        for node in &self.nodes {
            eventually("the nodes know each other", SOON, async || {
                let info = node.cli(&["CLUSTER", "INFO"]);
                let known = format!("cluster_known_nodes:{}", self.nodes.len());
                let has = |line: &str| info.iter().any(|own| own == line);
                let nodes = node.cli(&["CLUSTER", "NODES"]);
                has("cluster_state:ok")
                    && has("cluster_slots_ok:16384")
                    && has(&known)
                    && nodes.iter().all(|line| !line.contains("handshake"))
            })
            .await;
        }
    }

    /// The addresses of all nodes, with commas.
    pub fn addresses(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(|node| node.address().to_string()).collect();
        addresses.join(",")
    }

    /// The slot of a channel.
    pub fn slot(&self, channel: &str) -> usize {
        let slot = self.nodes[0].ask(&["CLUSTER", "KEYSLOT", &format!("{{{channel}}}")]);
        slot.parse().expect("a slot")
    }

    /// The number of the master that a channel began at.
    pub fn master_of(&self, channel: &str) -> usize {
        let slot = self.slot(channel);
        (0..self.masters).rfind(|index| slot >= index * SLOTS / self.masters).expect("a master")
    }

    /// A channel, named with `start`, that begins at this master.
    pub fn channel_at(&self, master: usize, start: &str) -> String {
        let names = (0..).map(|number| format!("{start}{number}"));
        names.into_iter().find(|name| self.master_of(name) == master).expect("a channel")
    }

    /// What the cluster calls a node.
    pub fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"])
    }

    /// A replica takes its master's place as an administrator plans it: that one waits until the
    /// replica has all that it has itself.
    pub async fn hand_over(&self, replica: usize) {
        let node = &self.nodes[replica];
        let is_master = async || node.ask(&["ROLE"]) == "master";
        let handing_over = async {
            loop {
                // Refused where the last one has come to its end after all.
                node.ask(&["CLUSTER", "FAILOVER"]);
                let waiting = eventually("it is the master", FAILOVER, is_master);
                if tokio::time::timeout(PLANNED, waiting).await.is_ok() {
                    return;
                }
            }
        };
        let done = tokio::time::timeout(FAILOVER, handing_over).await;
        done.expect("the planned failover is done in time");
    }

    /// A replica takes its master's place with what it has, whatever became of that one: what the other
    /// masters would agree on when they miss it.
    pub async fn take_over(&self, replica: usize) {
        let node = &self.nodes[replica];
        assert_eq!(node.ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]), "OK");
        eventually("it is the master", SOON, async || node.ask(&["ROLE"]) == "master").await;
    }

    /// Moves a slot, key by key with a pause between, while which some are here and some there.
    pub async fn move_slot(&self, slot: usize, from: usize, to: usize, pause: Duration) {
        let slot = slot.to_string();
        let (source, target) = (&self.nodes[from], &self.nodes[to]);
        let ids = [self.id(from), self.id(to)];
        assert_eq!(target.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]), "OK");
        assert_eq!(source.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]), "OK");
        loop {
            tokio::time::sleep(pause).await;
            let keys = source.cli(&["CLUSTER", "GETKEYSINSLOT", &slot, "1"]);
            let Some(key) = keys.first().filter(|key| !key.is_empty()) else { break };
            let port = target.address().port().to_string();
            let moved = source.ask(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
            assert!(["OK", "NOKEY"].contains(&moved.as_str()), "{moved}");
        }
        for node in [target, source] {
            assert_eq!(node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[1]]), "OK");
        }
    }
}
