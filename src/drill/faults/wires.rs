//! Wires are cut, or go dead.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;

use super::failovers::{everybody_is_told, start_again};
use crate::client::Error;
use crate::drill::DrillError;
use crate::drill::event::{Event, Outcome, Record};
use crate::drill::link::{Fate, Whose};
use crate::drill::stage::Stage;
use crate::protocol::command::SubscribeRequest;

/// For how long wires stay as they are.
const DAMAGED: Duration = Duration::from_secs(4);
/// For how long a master goes on that nobody follows.
const FORKED: Duration = Duration::from_millis(1_500);
/// Publications of the forked stream before the fork, and beyond it on the former master.
const BEFORE_FORK: u64 = 11;
const BEYOND_FORK: u64 = 2;
/// From there on every position is tried.
const LOWEST_RESUMED: u64 = BEFORE_FORK - 1;

/// One gateway loses Redis, first without a word and then with one; Redis itself is well.
pub async fn partition(stage: &mut Stage) -> Result<(), DrillError> {
    stage.fault();
    for fate in [Fate::Dead, Fate::Cut] {
        let began = stage.journal.now();
        for link in links(stage) {
            link.damage(Whose::Gateway("gateway-1".to_owned()), fate);
        }
        let is_felt = async || refusals(stage, began) > 0;
        stage.until("the gateway notices that Redis is away", is_felt).await?;
        sleep(DAMAGED).await;
        links(stage).for_each(|link| link.mend());
        stage.whole().await?;
    }
    stage.calm().await
}

/// The master goes on for a moment with nobody to copy it, and what it acknowledges then is lost.
pub async fn replication_cut(stage: &mut Stage) -> Result<(), DrillError> {
    let channel = format!("{}fork", stage.entrance.prefix);
    let epoch = publish(stage, &channel, BEFORE_FORK).await?.1;
    let master = stage.master().await?;
    let followers = (0..stage.topology.redis.len()).filter(|node| *node != master);
    for follower in followers {
        let has_all = async || stage.top_on(follower, &channel).await.ok() == Some(BEFORE_FORK);
        stage.until("the replicas have the stream", has_all).await?;
    }
    let began = stage.journal.now();
    stage.fault();
    links(stage).for_each(|link| link.damage(Whose::Replicas, Fate::Dead));
    let (acknowledged, _) = publish(stage, &channel, BEYOND_FORK).await?;
    // Long enough for every writer to publish what will be lost, and shorter than
    // min-replicas-max-lag, from which on nothing is acknowledged.
    sleep(FORKED).await;
    stage.topology.redis[master].process.kill();
    // Replicas of the next master are to reach it.
    links(stage).for_each(|link| link.mend());
    let successor = stage.promotion(master).await?;

    let top = stage.top_on(successor, &channel).await?;
    let is_lost = top < acknowledged;
    let found = format!("acknowledged up to {acknowledged}, there up to {top}");
    stage.checks.that("the new master lacks acknowledged publications", is_lost, found);
    everybody_is_told(stage, began).await?;
    stage.whole().await?;
    while publish(stage, &channel, 1).await?.0 <= acknowledged {}
    for offset in LOWEST_RESUMED..=acknowledged + 1 {
        resume(stage, &channel, offset, &epoch).await?;
    }
    start_again(stage, master)?;
    stage.follows(master).await?;
    stage.calm().await
}

/// Resumes a client from a position of before, which must not be called recovered.
async fn resume(
    stage: &mut Stage,
    channel: &str,
    offset: u64,
    epoch: &str,
) -> Result<(), DrillError> {
    let request = SubscribeRequest {
        channel: channel.to_owned(),
        recover: true,
        offset,
        epoch: epoch.to_owned(),
        ..SubscribeRequest::default()
    };
    let resumed = async {
        let mut client = stage.client("resumed").await?;
        Ok::<_, Error>(client.subscribe_with(request).await?.recovered)
    };
    let recovered = resumed.await.map_err(DrillError::Client)?;
    let what = format!("a client that resumes from {offset} is not called recovered");
    stage.checks.that(&what, !recovered, "it is");
    Ok(())
}

/// Publishes until so many more are acknowledged; the offset and the epoch of the last.
async fn publish(stage: &Stage, channel: &str, count: u64) -> Result<(u64, String), DrillError> {
    let (mut acknowledged, mut last) = (0, (0, String::new()));
    let publishing = async || {
        let params = json!({"channel": channel, "data": {"fork": acknowledged}});
        if let Ok(result) = stage.call("publish", &params).await {
            let offset = result["offset"].as_u64().unwrap_or_default();
            last = (offset, result["epoch"].as_str().unwrap_or_default().to_owned());
            acknowledged += 1;
        }
        acknowledged >= count
    };
    stage.until("publications are acknowledged", publishing).await?;
    Ok(last)
}

fn links(stage: &Stage) -> impl Iterator<Item = &crate::drill::link::Link> {
    stage.topology.redis.iter().filter_map(|node| node.link.as_ref())
}

/// Publications that were refused since.
pub fn refusals(stage: &Stage, since: Duration) -> usize {
    let mut count = 0;
    stage.journal.look(|Record { at, event }| {
        let is_refused =
            matches!(event, Event::Answered { outcome: Outcome::Refused | Outcome::Unknown, .. });
        count += usize::from(is_refused && *at >= since);
    });
    count
}
