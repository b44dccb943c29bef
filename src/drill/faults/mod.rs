//! What each drill does to the cluster.
//!
//! To add a drill: a variant of [`Name`] with its limits, a function here that breaks something,
//! waits for what is to follow and looks at what the log of messages does not show, a line in
//! [`play`], a row in docs/drills.md.

mod cluster;
mod database;
mod edge;
mod failovers;
mod mixed;
mod outages;
mod wires;

use super::DrillError;
use super::options::Name;
use super::stage::Stage;

/// Plays one drill on a cluster that is at work.
///
/// # Errors
/// What did not become as it should, so that there is nothing to judge.
pub async fn play(name: Name, stage: &mut Stage) -> Result<(), DrillError> {
    match name {
        Name::All | Name::Cluster => Ok(()),
        Name::RedisFailover => failovers::redis_failover(stage).await,
        Name::RedisHang => failovers::redis_hang(stage).await,
        Name::PlannedFailover => failovers::planned_failover(stage).await,
        Name::SentinelKill => failovers::sentinel_kill(stage).await,
        Name::Partition => wires::partition(stage).await,
        Name::ReplicationCut => wires::replication_cut(stage).await,
        Name::RedisOutage => outages::redis_outage(stage).await,
        Name::RedisEmpty | Name::LoneRedisEmpty => outages::redis_empty(stage).await,
        Name::RedisOldSnapshot | Name::LoneRedisOldSnapshot => {
            outages::redis_old_snapshot(stage).await
        }
        Name::ClusterFailover => cluster::cluster_failover(stage).await,
        Name::NodeKill => edge::node_kill(stage).await,
        Name::MongoFailover => database::mongo_failover(stage).await,
        Name::Mixed => mixed::mixed(stage).await,
        Name::MixedFailover => mixed::mixed_failover(stage).await,
        Name::HaproxyReload => edge::haproxy_reload(stage).await,
        Name::RollingRestart => edge::rolling_restart(stage).await,
    }
}
