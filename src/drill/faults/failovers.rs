//! Another Redis becomes the master.

use std::time::Duration;

use rustix::process::Signal;

use crate::drill::DrillError;
use crate::drill::event::{Event, Start};
use crate::drill::stage::Stage;
use crate::drill::topology::TopologyError;

/// The master is killed, and comes back as a replica.
pub async fn redis_failover(stage: &mut Stage) -> Result<(), DrillError> {
    let master = stage.master().await?;
    let began = stage.journal.now();
    stage.fault();
    stage.topology.redis[master].process.kill();
    stage.promotion(master).await?;
    everybody_is_told(stage, began).await?;
    stage.whole().await?;
    start_again(stage, master)?;
    stage.follows(master).await?;
    stage.calm().await
}

/// The master stops answering, is replaced, and then goes on as if nothing had been.
pub async fn redis_hang(stage: &mut Stage) -> Result<(), DrillError> {
    let master = stage.master().await?;
    let began = stage.journal.now();
    stage.fault();
    stage.topology.redis[master].process.signal(Signal::STOP);
    let promoted = stage.promotion(master).await;
    if promoted.is_err() {
        stage.topology.redis[master].process.signal(Signal::CONT);
    }
    promoted?;
    everybody_is_told(stage, began).await?;
    stage.whole().await?;
    stage.topology.redis[master].process.signal(Signal::CONT);
    // A master still, until the sentinels tell it otherwise.
    stage.follows(master).await?;
    stage.calm().await
}

/// An administrator moves the master.
pub async fn planned_failover(stage: &mut Stage) -> Result<(), DrillError> {
    let master = stage.master().await?;
    let began = stage.journal.now();
    stage.fault();
    let [_, second, ..] = stage.topology.sentinels.as_slice() else {
        return Err(DrillError::NoMaster);
    };
    second.redis.ask(&["SENTINEL", "FAILOVER", "main"]).await.map_err(TopologyError::Ask)?;
    stage.promotion(master).await?;
    everybody_is_told(stage, began).await?;
    stage.whole().await?;
    stage.follows(master).await?;
    stage.calm().await
}

/// A sentinel is killed, which nobody may notice. It comes back; then the one that gateways name first
/// hangs, and the master is killed.
pub async fn sentinel_kill(stage: &mut Stage) -> Result<(), DrillError> {
    let began = stage.journal.now();
    let third = stage.topology.sentinels.len() - 1;
    stage.topology.sentinels[third].process.kill();
    stage.calm().await?;
    let felt = stage.readers_with(began, |event| {
        matches!(event, Event::Voided { .. } | Event::Dropped { .. } | Event::Failed { .. })
    });
    stage.checks.that("no reader notices that a sentinel is gone", felt == 0, felt);
    stage.topology.sentinels[third].process.start_again().map_err(TopologyError::Process)?;
    let back = stage.topology.sentinels[third].redis.clone();
    let (others, replicas) = (third, stage.topology.redis.len() - 1);
    stage.until("the sentinel is back", async || back.knows(others, replicas).await).await?;

    stage.topology.sentinels[0].process.signal(Signal::STOP);
    let outcome = redis_failover(stage).await;
    stage.topology.sentinels[0].process.signal(Signal::CONT);
    outcome
}

/// Waits until every reader was told since `since` that it may lack something.
pub async fn everybody_is_told(stage: &mut Stage, since: Duration) -> Result<(), DrillError> {
    let readers = stage.journal.crowd().readers as usize;
    let told = || {
        stage.readers_with(since, |event| matches!(event, Event::Joined { start: Start::Told, .. }))
    };
    let outcome =
        stage.until("every reader is told of the failover", async || told() == readers).await;
    let told = told();
    stage.checks.that("every reader is told that it may lack something", told == readers, told);
    // What they were not told shows in the verdict, which is better than no verdict.
    match outcome {
        Err(DrillError::Topology(TopologyError::Never(..))) => Ok(()),
        other => other,
    }
}

/// Starts a Redis again on what it left behind.
pub fn start_again(stage: &mut Stage, node: usize) -> Result<(), DrillError> {
    Ok(stage.topology.redis[node].process.start_again().map_err(TopologyError::Process)?)
}
