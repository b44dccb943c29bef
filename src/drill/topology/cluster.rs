//! A Redis Cluster among the local processes: three masters, and a replica of each.

use std::net::SocketAddr;

use super::{RedisNode, Topology, TopologyError};
use crate::drill::redis::{AskError, Redis};

/// The first nodes begin as masters; each has its replica so many places behind it.
pub const MASTERS: usize = 3;
/// How many nodes there are.
pub const NODES: usize = 2 * MASTERS;
/// What makes a cluster of them. Nodes that are silent for 5 s are taken for dead, which is longer than a
/// busy machine keeps one that is well, and the others go on without the slots of one that is.
pub const OPTIONS: &[&str] = &[
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "5000",
    "--cluster-require-full-coverage",
    "no",
    "--cluster-allow-replica-migration",
    "no",
];
const SLOTS: usize = 16_384;

impl Topology {
    /// Makes a cluster of the nodes that were started; they speak to each other at `buses`.
    ///
    /// # Errors
    /// Names the node that does not become what it should.
    pub(super) async fn join_cluster(&mut self, buses: &[SocketAddr]) -> Result<(), TopologyError> {
        let first = self.redis.first().map(|node| node.redis.address);
        let (Some(first), Some(bus)) = (first, buses.first()) else { return Ok(()) };
        let [host, port] = [first.ip().to_string(), first.port().to_string()];
        let bus = bus.port().to_string();
        for (at, node) in self.redis.iter_mut().enumerate() {
            node.ready(async |redis| redis.is_master_of(0).await).await?;
            let ask = async |words: &[&str]| node.redis.ask(words).await;
            ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await?;
            if at < MASTERS {
                let [from, to] = [first_slot(at), first_slot(at + 1) - 1].map(|s| s.to_string());
                ask(&["CLUSTER", "ADDSLOTSRANGE", &from, &to]).await?;
            }
            if at > 0 {
                ask(&["CLUSTER", "MEET", &host, &port, &bus]).await?;
            }
        }
        for node in &mut self.redis {
            node.ready(knows_all).await?;
        }
        for at in 0..MASTERS {
            let id = self.redis[at].redis.text(&["CLUSTER", "MYID"]).await?;
            self.redis[at + MASTERS].redis.ask(&["CLUSTER", "REPLICATE", &id]).await?;
        }
        for (at, node) in self.redis.iter_mut().enumerate() {
            node.ready(async |redis| {
                let knows = lines(redis, "NODES", "slave ").await.is_ok_and(|own| own == MASTERS);
                knows && (at < MASTERS || redis.is_following().await)
            })
            .await?;
        }
        Ok(())
    }
}

/// The master that a channel begins at, by its place among the nodes.
///
/// # Errors
/// If the node does not answer.
pub async fn master_of(node: &RedisNode, channel: &str) -> Result<usize, AskError> {
    let slot = node.redis.text(&["CLUSTER", "KEYSLOT", &format!("{{{channel}}}")]).await?;
    let slot: usize = slot.parse().unwrap_or_default();
    Ok((0..MASTERS).rfind(|at| slot >= first_slot(*at)).unwrap_or_default())
}

fn first_slot(master: usize) -> usize {
    master * SLOTS / MASTERS
}

async fn knows_all(redis: &Redis) -> bool {
    let Ok(info) = redis.text(&["CLUSTER", "INFO"]).await else { return false };
    let known = format!("cluster_known_nodes:{NODES}");
    let has = |wanted: &str| info.lines().any(|line| line == wanted);
    has("cluster_state:ok")
        && has("cluster_slots_ok:16384")
        && has(&known)
        && lines(redis, "NODES", "handshake").await.is_ok_and(|count| count == 0)
}

/// How many lines of an answer hold a text.
async fn lines(redis: &Redis, about: &str, text: &str) -> Result<usize, AskError> {
    let told = redis.text(&["CLUSTER", about]).await?;
    Ok(told.lines().filter(|line| line.contains(text)).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_masters_have_all_slots() {
        assert_eq!((first_slot(0), first_slot(MASTERS)), (0, SLOTS));
        assert_eq!(first_slot(1), 5_461);
    }
}
