//! The database of the archive loses its primary, and is away altogether for a while. Publishing goes on.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::drill::DrillError;
use crate::drill::kept::Away;
use crate::drill::lookout::{LIVE, Lookout};
use crate::drill::stage::{PATIENCE, Stage};

/// For how long there is no primary.
const HEADLESS: Duration = Duration::from_secs(2);
/// Writes whose answers are lost after they were done.
const LOST_ANSWERS: u32 = 5;
/// What the script's port says of what is done.
const OK: &str = "ok";

/// The primary steps down, is killed, loses answers and is killed with the data in its hands; then all
/// members are gone.
pub async fn mongo_failover(stage: &mut Stage) -> Result<(), DrillError> {
    stage.lookout = Some(Lookout::start(stage).await?);
    stage.fault();
    act(stage, &["no-primary"]).await?;
    sleep(HEADLESS).await;
    act(stage, &["primary 2"]).await?;
    caught_up(stage, PATIENCE).await?;

    act(stage, &["crash"]).await?;
    sleep(HEADLESS).await;
    act(stage, &["primary 3", "up 2"]).await?;
    caught_up(stage, PATIENCE).await?;

    lose_answers(stage).await?;
    act(stage, &["restart", "primary 3"]).await?;
    caught_up(stage, PATIENCE).await?;

    all_away(stage).await?;
    history_is_well(stage).await;
    stage.calm().await
}

/// Answers of writes are lost after they were done, so that the same is written again. Real servers
/// cannot be told to do that.
async fn lose_answers(stage: &mut Stage) -> Result<(), DrillError> {
    match stage.topology.act(&format!("lose {LOST_ANSWERS}")).await? {
        answer if answer == OK => caught_up(stage, PATIENCE).await,
        _ => Ok(()),
    }
}

/// No member is there; then all are, with another primary.
async fn all_away(stage: &mut Stage) -> Result<(), DrillError> {
    let (began, away) = (stage.clock.now(), stage.away);
    let asked_before = stage.lookout()?.come_again();
    act(stage, &["down 1", "down 2", "down 3"]).await?;
    sleep(away).await;
    let asked = stage.lookout()?.come_again() - asked_before;
    let what = "readers are asked to come again while the database is away";
    stage.checks.that(what, asked > 0, format!("{asked} answers of 503"));
    act(stage, &["up 1", "up 2", "up 3", "primary 1"]).await?;
    let back = stage.clock.now();
    let waiting = stage.lookout()?.waiting().await?.entries;
    caught_up(stage, PATIENCE.max(away)).await?;
    let millis =
        |since: Instant, until: Instant| until.saturating_duration_since(since).as_millis() as u64;
    let (away_ms, caught_up_after_ms) = (millis(began, back), millis(back, stage.clock.now()));
    stage.lookout_mut()?.away = Some(Away { away_ms, waiting, caught_up_after_ms });
    Ok(())
}

/// Waits until nothing has waited for longer than it takes to be stored.
async fn caught_up(stage: &mut Stage, within: Duration) -> Result<(), DrillError> {
    let lookout = stage.lookout()?;
    let is_live = async || lookout.waiting().await.is_ok_and(|waiting| waiting.lag < LIVE);
    stage.until_within(within, "what waits is stored", is_live).await?;
    stage.calm().await
}

/// Does what the lines say, each of which must be done.
async fn act(stage: &Stage, lines: &[&str]) -> Result<(), DrillError> {
    for line in lines {
        let answer = stage.topology.act(line).await?;
        if answer != OK {
            return Err(DrillError::Script((*line).to_owned(), answer));
        }
    }
    Ok(())
}

async fn history_is_well(stage: &mut Stage) {
    let path = "/health/delivery";
    let is_green = async || stage.health_of_history(path).await.iter().all(|found| *found == 200);
    let outcome = stage.until("every history service is well", is_green).await;
    let found = format!("{:?}", stage.health_of_history(path).await);
    let what = format!("{path} of every history service is green in the end");
    stage.checks.that(&what, outcome.is_ok(), found);
}
