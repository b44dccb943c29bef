//! One master of a Redis Cluster is replaced, and the others are not.

use std::time::Duration;

use super::failovers::start_again;
use crate::drill::DrillError;
use crate::drill::event::{Event, Start};
use crate::drill::stage::Stage;
use crate::drill::topology::TopologyError;
use crate::drill::topology::cluster::{MASTERS, master_of};

/// Longer than the 5 s after which Redis gives up a planned failover.
const PLANNED: Duration = Duration::from_secs(6);

/// An administrator puts the replica in its master's place; later that one is killed, and the former
/// master takes over again.
pub async fn cluster_failover(stage: &mut Stage) -> Result<(), DrillError> {
    let mut hit = Vec::new();
    for channel in 0..stage.journal.crowd().channels {
        hit.push(owner(stage, channel).await?);
    }
    let Some(master) = hit.first().copied() else { return Err(DrillError::NoMaster) };
    let hit: Vec<_> = hit.into_iter().map(|owner| owner == master).collect();
    let replica = master + MASTERS;

    let began = stage.journal.now();
    stage.fault();
    plan_promotion(stage, replica).await?;
    those_are_told(stage, began, &hit).await?;
    stage.whole().await?;
    stage.follows(master).await?;
    stage.calm().await?;

    let began = stage.journal.now();
    stage.topology.redis[replica].process.kill();
    promotion(stage, master).await?;
    those_are_told(stage, began, &hit).await?;
    stage.whole().await?;
    start_again(stage, replica)?;
    stage.follows(replica).await?;
    stage.calm().await
}

async fn owner(stage: &Stage, channel: u32) -> Result<usize, DrillError> {
    let node = stage.topology.redis.first().ok_or(DrillError::NoMaster)?;
    let owner = master_of(node, &stage.entrance.channel(channel)).await;
    Ok(owner.map_err(TopologyError::Ask)?)
}

/// Has a replica take its master's place, as an administrator would: Redis gives that up when it takes
/// too long, and then it is asked for again.
async fn plan_promotion(stage: &Stage, replica: usize) -> Result<(), DrillError> {
    let redis = stage.topology.redis[replica].redis.clone();
    let mut asked = None;
    let is_done = async || {
        if redis.is_master_of(0).await {
            return true;
        }
        let now = stage.journal.now();
        if asked.is_none_or(|asked| now.saturating_sub(asked) > PLANNED) {
            let answer = redis.ask(&["CLUSTER", "FAILOVER"]).await;
            asked = answer.is_ok().then_some(now);
        }
        false
    };
    stage.until("the replica has taken the place of its master", is_done).await?;
    stage.journal.note(Event::Promoted);
    Ok(())
}

async fn promotion(stage: &Stage, node: usize) -> Result<(), DrillError> {
    let redis = stage.topology.redis[node].redis.clone();
    stage.until("the replica is the master", async || redis.is_master_of(0).await).await?;
    stage.journal.note(Event::Promoted);
    Ok(())
}

/// Waits until every reader of a channel that was `hit` was told since `since` that it may lack
/// something; nobody else may be.
async fn those_are_told(
    stage: &mut Stage,
    since: Duration,
    hit: &[bool],
) -> Result<(), DrillError> {
    let is_hit = |reader: u32| hit.get(reader as usize % hit.len()).copied().unwrap_or_default();
    let told = |stage: &Stage, is_hit: &dyn Fn(u32) -> bool| {
        stage.readers_with(since, |event| match event {
            Event::Joined { start: Start::Told, reader } => is_hit(*reader),
            _ => false,
        })
    };
    let readers = (0..stage.journal.crowd().readers).filter(|reader| is_hit(*reader)).count();
    let everybody = async || told(stage, &is_hit) == readers;
    let outcome = stage.until("every reader at that master is told", everybody).await;
    let (hit, others) = (told(stage, &is_hit), told(stage, &|reader| !is_hit(reader)));
    let what = "every reader at the replaced master is told that it may lack something";
    stage.checks.that(what, hit == readers, hit);
    stage.checks.that("no reader at another master is told so", others == 0, others);
    match outcome {
        Err(DrillError::Topology(TopologyError::Never(..))) => Ok(()),
        other => other,
    }
}
