//! What is looked at all the time while a database is broken: how much waits to be stored, and what the
//! history services answer to readers.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::DrillError;
use super::api::{Api, CallError, Place};
use super::crew::EntranceError;
use super::kept::{Answer, Answers, Away, Kept, Queue, Stored, Waiting};
use super::redis::{AskError, Redis};
use super::stage::Stage;
use super::topology::TopologyError;
use super::topology::archive::HistoryNode;
use super::writer::Payload;
use crate::time::Clock;

/// The queue for the store, under the usual prefix of keys.
const QUEUE: &str = "centrifugo.archive.stream";
/// Between two looks at the queue, and two questions to each service.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What has waited for less is being stored.
pub const LIVE: Duration = Duration::from_secs(1);
/// The longest for an answer of a service; it answers within `history.mongo.read_timeout`.
const PAGE: Duration = Duration::from_secs(6);

/// Looks until it is dropped.
pub struct Lookout {
    seen: Arc<Mutex<Seen>>,
    redis: Redis,
    clock: Clock,
    /// The history services.
    services: Vec<Place>,
    pub away: Option<Away>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    queue: Queue,
    answers: Answers,
}

impl Lookout {
    /// Begins to look.
    ///
    /// # Errors
    /// If there is no Redis to look at.
    pub async fn start(stage: &Stage) -> Result<Self, DrillError> {
        let redis = stage.topology.redis[stage.master().await?].redis.clone();
        let place = |node: &HistoryNode| Place::new(&format!("http://{}", node.address));
        let services: Result<Vec<_>, _> = stage.topology.history.iter().map(place).collect();
        let services = services.map_err(EntranceError::Place)?;
        let channels = (0..stage.journal.crowd().channels).map(|at| stage.entrance.channel(at));
        let channels: Vec<_> = channels.collect();
        let (seen, clock) = (Arc::default(), stage.clock.clone());
        let queue = watch_queue(redis.clone(), clock.clone(), Arc::clone(&seen));
        let mut tasks = vec![AbortOnDropHandle::new(tokio::spawn(queue))];
        for place in &services {
            let api = Api::new(place.clone(), stage.entrance.api_key.clone());
            let reading = read(api, channels.clone(), clock.clone(), Arc::clone(&seen));
            tasks.push(AbortOnDropHandle::new(tokio::spawn(reading)));
        }
        Ok(Self { seen, redis, clock, services, away: None, _tasks: tasks })
    }

    /// What waits now.
    ///
    /// # Errors
    /// If Redis does not say.
    pub async fn waiting(&self) -> Result<Waiting, DrillError> {
        Ok(waiting(&self.redis, &self.clock).await.map_err(TopologyError::Ask)?)
    }

    /// How often readers were asked to come again so far.
    pub fn come_again(&self) -> u64 {
        self.seen.lock().answers.come_again
    }

    /// Reads everything that is stored, and judges it, when nothing waits any more; waits for that for
    /// `patience`.
    ///
    /// # Errors
    /// If something waits still, or cannot be read.
    pub async fn kept(self, stage: &Stage, patience: Duration) -> Result<Kept, DrillError> {
        let what = "nothing waits to be stored";
        let is_empty = async || self.waiting().await.is_ok_and(|waiting| waiting.entries == 0);
        stage.until_within(patience, what, is_empty).await?;
        let Some(place) = self.services.first() else { return Err(DrillError::NoReplicaSet) };
        let mut api = Api::new(place.clone(), stage.entrance.api_key.clone());
        let mut channels = Vec::new();
        for channel in 0..stage.journal.crowd().channels {
            let messages = all_of(&mut api, &stage.entrance.channel(channel)).await;
            channels.push(messages.map_err(DrillError::Archive)?);
        }
        let mut records = Vec::new();
        stage.journal.look(|record| records.push(*record));
        let seen = self.seen.lock();
        let (queue, answers) = (seen.queue, seen.answers.clone());
        Ok(Kept { queue, answers, away: self.away, ..Kept::of(&records, &channels) })
    }
}

/// When to look. What was late is not made up for: that would be a rush after each slow answer.
fn looks() -> Interval {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

async fn watch_queue(redis: Redis, clock: Clock, seen: Arc<Mutex<Seen>>) {
    let mut looks = looks();
    loop {
        looks.tick().await;
        if let Ok(waiting) = waiting(&redis, &clock).await {
            seen.lock().queue.take(waiting);
        }
    }
}

/// Entries have the time of Redis in their ids, which is this machine's.
async fn waiting(redis: &Redis, clock: &Clock) -> Result<Waiting, AskError> {
    let entries = redis.ask(&["XLEN", QUEUE]).await?.number().unwrap_or_default();
    let first = redis.ask(&["XRANGE", QUEUE, "-", "+", "COUNT", "1"]).await?;
    let id = first.list().and_then(|all| all.first()?.list()?.first()?.str());
    let since = id.and_then(|id| id.split_once('-')?.0.parse::<i64>().ok());
    let lag = since.map_or(0, |since| clock.unix_millis().saturating_sub(since));
    Ok(Waiting { entries, lag: Duration::from_millis(lag.max(0).unsigned_abs()) })
}

/// Reads the newest page of one channel after the other.
async fn read(mut api: Api, channels: Vec<String>, clock: Clock, seen: Arc<Mutex<Seen>>) {
    let mut looks = looks();
    for channel in channels.iter().cycle() {
        looks.tick().await;
        let asked = clock.now();
        let path = format!("/history/v1/channels/{channel}/messages");
        let answer = match timeout(PAGE, api.answer(&path)).await {
            Ok(Ok(answer)) if answer.status == 200 => Answer::Page,
            Ok(Ok(answer)) if answer.status == 503 && answer.retry_after => Answer::ComeAgain,
            Ok(Ok(answer)) => Answer::Failed(format!("status {}", answer.status)),
            Ok(Err(error)) => Answer::Failed(error.to_string()),
            Err(_) => Answer::Failed(format!("no answer within {PAGE:?}")),
        };
        let took = clock.now().saturating_duration_since(asked);
        seen.lock().answers.take(answer, took);
    }
}

/// All messages of a channel, the oldest first.
async fn all_of(api: &mut Api, channel: &str) -> Result<Vec<Stored>, CallError> {
    let first = format!("/history/v1/channels/{channel}/messages?order=oldest&limit=100");
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = api.answer(&format!("{first}{cursor}")).await?;
        let mut page: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let Some(messages) = page["messages"].as_array_mut().filter(|_| answer.status == 200)
        else {
            let message = "as status of HTTP".to_owned();
            return Err(CallError::Refused { code: answer.status.into(), message });
        };
        for message in messages {
            let data = message["data"].take();
            let Ok(Payload { writer, number }) = serde_json::from_value(data) else { continue };
            let offset = message["offset"].as_u64().unwrap_or_default();
            let epoch = message["epoch"].as_str().unwrap_or_default().to_owned();
            all.push(Stored { epoch, offset, writer, number });
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(all),
        }
    }
}
