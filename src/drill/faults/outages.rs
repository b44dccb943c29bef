//! All of Redis goes away, or comes back without what it had.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::failovers::{everybody_is_told, start_again};
use super::wires::refusals;
use crate::client::{Client, Error};
use crate::drill::DrillError;
use crate::drill::stage::Stage;
use crate::drill::topology::TopologyError;
use crate::protocol::codes::ErrorCode;

/// For how long all of Redis is away.
const OUTAGE: Duration = Duration::from_secs(20);
/// What the sentinels wait for where they are not to interfere, in milliseconds.
const NEVER: &str = "600000";

/// Master, replicas and sentinels are killed, and started again on what they had.
pub async fn redis_outage(stage: &mut Stage) -> Result<(), DrillError> {
    let began = stage.journal.now();
    stage.fault();
    let topology = &mut stage.topology;
    let all = topology.sentinels.iter_mut().chain(&mut topology.redis);
    all.for_each(|node| node.process.kill());
    stage.until("publications are refused", async || refusals(stage, began) > 0).await?;
    publishing_is_refused_for_now(stage).await;
    health_tells(stage).await;
    sleep(OUTAGE.saturating_sub(stage.journal.now().saturating_sub(began))).await;

    let (replicas, others) = (stage.topology.redis.len() - 1, stage.topology.sentinels.len() - 1);
    let topology = &mut stage.topology;
    for node in topology.redis.iter_mut().chain(&mut topology.sentinels) {
        node.process.start_again().map_err(TopologyError::Process)?;
    }
    let is_back = async || match stage.topology.master().await {
        Some(master) => stage.topology.redis[master].redis.is_master_of(replicas).await,
        None => false,
    };
    stage.until("Redis is back with its replicas", is_back).await?;
    let sentinel = stage.topology.sentinels[0].redis.clone();
    stage.until("the sentinels are back", async || sentinel.knows(others, replicas).await).await?;
    stage.whole().await?;
    everybody_is_present(stage).await?;
    stage.calm().await
}

/// The master is killed and at once started again with nothing.
pub async fn redis_empty(stage: &mut Stage) -> Result<(), DrillError> {
    forget(stage, async |_| Ok(())).await
}

/// The master is killed and at once started again with a snapshot of some seconds ago.
pub async fn redis_old_snapshot(stage: &mut Stage) -> Result<(), DrillError> {
    let master = stage.master().await?;
    let saved = stage.topology.redis[master].redis.ask(&["SAVE"]).await;
    saved.map_err(TopologyError::Ask)?;
    let snapshot = stage.topology.redis[master].process.folder().join("dump.rdb");
    let kept = fs::read(&snapshot).map_err(DrillError::Snapshot)?;
    stage.calm().await?;
    forget(stage, async |stage| {
        let folder = stage.topology.redis[master].process.folder();
        fs::write(folder.join("dump.rdb"), &kept).map_err(DrillError::Snapshot)
    })
    .await
}

/// The master is killed, loses what it has, is given what `restore` gives it, and starts again.
async fn forget(
    stage: &mut Stage,
    restore: impl AsyncFn(&Stage) -> Result<(), DrillError>,
) -> Result<(), DrillError> {
    // A master that is back so soon is not missed by sentinels, unless the machine is slow.
    hold_sentinels(stage, NEVER).await?;
    let channel = stage.entrance.channel(0);
    let master = stage.master().await?;
    let acknowledged = stage.top_on(master, &channel).await?;
    let began = stage.journal.now();
    stage.fault();
    stage.topology.redis[master].process.kill();
    let folder = stage.topology.redis[master].process.folder().to_owned();
    let _ = fs::remove_dir_all(folder.join("appendonlydir"));
    let _ = fs::remove_file(folder.join("dump.rdb"));
    restore(stage).await?;
    let restored = start_and_look(stage, master, &channel).await?;
    let found = format!("had {acknowledged}, has {restored}");
    let lacks = restored < acknowledged;
    stage.checks.that("the master lacks acknowledged publications", lacks, found);
    everybody_is_told(stage, began).await?;
    stage.whole().await?;
    hold_sentinels(stage, "1000").await?;
    stage.calm().await
}

/// Starts a Redis and looks what it has, as soon as it says.
async fn start_and_look(stage: &mut Stage, node: usize, channel: &str) -> Result<u64, DrillError> {
    start_again(stage, node)?;
    let mut top = None;
    let says = async || {
        top = stage.top_on(node, channel).await.ok();
        top.is_some()
    };
    stage.until("the restarted Redis answers", says).await?;
    Ok(top.unwrap_or_default())
}

async fn hold_sentinels(stage: &Stage, down_after: &str) -> Result<(), DrillError> {
    for sentinel in &stage.topology.sentinels {
        let question = ["SENTINEL", "SET", "main", "down-after-milliseconds", down_after];
        sentinel.redis.ask(&question).await.map_err(TopologyError::Ask)?;
    }
    Ok(())
}

/// A client that comes now is let in, and told that publishing may work later.
async fn publishing_is_refused_for_now(stage: &mut Stage) {
    let client = stage.client("latecomer").await;
    let (let_in, told) = match client {
        Ok(mut client) => (true, refusal(&mut client, &stage.entrance.channel(0)).await),
        Err(error) => (false, error.to_string()),
    };
    stage.checks.that("a new connection is accepted while Redis is away", let_in, &told);
    let what = "a client's publish fails with a temporary error while Redis is away";
    stage.checks.that(what, told == TEMPORARY, told);
}

/// Alarms go off, and load balancers go on sending clients: no other node would be better.
async fn health_tells(stage: &mut Stage) {
    if stage.health("/health/delivery").await.is_empty() {
        return;
    }
    let is_red = async || stage.health("/health/delivery").await.iter().all(|found| *found == 503);
    let outcome = stage.until("every gateway says that nothing is delivered", is_red).await;
    let found = format!("{:?}", stage.health("/health/delivery").await);
    let what = "every gateway says that nothing is delivered while Redis is away";
    stage.checks.that(what, outcome.is_ok(), found);
    let found = stage.health("/health/ready").await;
    let is_green = found.iter().all(|found| *found == 200);
    stage.checks.that("every gateway stays ready for clients", is_green, format!("{found:?}"));
}

const TEMPORARY: &str = "temporary";

async fn refusal(client: &mut Client, channel: &str) -> String {
    match client.publish(channel, "{}").await {
        Err(Error::Refused(error)) if error.temporary && error.code == ErrorCode::INTERNAL.code => {
            TEMPORARY.to_owned()
        }
        Err(error) => error.to_string(),
        Ok(()) => "it was published".to_owned(),
    }
}

/// Waits until all readers that stay are in the presence of their channels.
async fn everybody_is_present(stage: &mut Stage) -> Result<(), DrillError> {
    let crowd = stage.journal.crowd();
    let is_whole = async || {
        let mut present = BTreeSet::new();
        for channel in 0..crowd.channels {
            let params = json!({"channel": stage.entrance.channel(channel)});
            let Ok(result) = stage.call("presence", &params).await else { return false };
            let clients = result["presence"].as_object().into_iter().flatten();
            let user = |(_, info): (_, &serde_json::Value)| Some(info["user"].as_str()?.to_owned());
            present.extend(clients.filter_map(user));
        }
        (0..crowd.readers).all(|reader| present.contains(&format!("reader-{reader}")))
    };
    stage.until("every reader is in its channel's presence again", is_whole).await?;
    stage.checks.that("every reader is in its channel's presence again", true, "");
    Ok(())
}
