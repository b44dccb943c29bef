//! Retention: what is older than its namespace keeps is dropped, a little at a time.
//!
//! A round goes over the channels in the order of their names, page by page, with a pause after each
//! page of channels and of messages, so that it never takes the store from those who wait for it.
//! Where the store fails, the round waits and goes on at the same place; a channel in which it finds
//! something damaged is left out until the next round. Any number of processes may
//! do this for one store: what the other has dropped is not there any more.

use std::sync::Arc;
use std::time::Duration;

use super::{MAX_READ, MessageId, MessageStore, SharedStore, StoreError};
use crate::telemetry::metrics::Metrics;
use crate::time::{Clock, jittered};

/// Names that are read at once.
const CHANNELS: usize = 200;

/// Messages that are dropped at once.
const MESSAGES: usize = MAX_READ;

/// Left to others between two pages.
const PAUSE: Duration = Duration::from_millis(10);

/// Before a store that failed is asked again; doubled with each failure up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Drops messages whose time is over.
pub struct Retention {
    store: SharedStore,
    clock: Clock,
    metrics: Arc<Metrics>,
    terms: InForce,
    interval: Duration,
}

/// For how long messages are kept.
pub struct Terms {
    /// What the names of channels begin with whose messages expire; those of others may, too.
    pub prefixes: Vec<String>,
    /// How long the messages of a channel are kept; none for ever.
    pub of: KeptFor,
}

/// Tells of a channel how long its messages are kept.
pub type KeptFor = Box<dyn Fn(&str) -> Option<Duration> + Send + Sync>;

/// Gives the terms in force, asked before each round.
pub type InForce = Box<dyn Fn() -> Terms + Send + Sync>;

/// Drops all messages that a channel has now, as if their time was over.
///
/// # Errors
/// The store failed; some of them may be gone.
pub async fn drop_all(store: &dyn MessageStore, channel: &str) -> Result<(), StoreError> {
    let Some(tail) = store.tail(channel).await? else { return Ok(()) };
    let behind = tail.last_id.number().saturating_add(1);
    let before = MessageId::of(behind).unwrap_or(tail.last_id);
    while store.expire(channel, before, MESSAGES).await? == MESSAGES as u64 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

impl Retention {
    /// Begins a round when `interval` has passed since the last one.
    pub fn new(
        store: SharedStore,
        clock: Clock,
        metrics: Arc<Metrics>,
        terms: InForce,
        interval: Duration,
    ) -> Self {
        Self { store, clock, metrics, terms, interval }
    }

    /// Round after round, for ever.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(jittered(self.interval)).await;
            self.round().await;
        }
    }

    async fn round(&self) {
        let terms = (self.terms)();
        for prefix in &terms.prefixes {
            let mut after: Option<String> = None;
            loop {
                let Some(names) = self.channels(prefix, after.as_deref()).await else { break };
                for name in &names {
                    if let Some(kept) = (terms.of)(name) {
                        self.drop_expired(name, kept).await;
                    }
                }
                if names.len() < CHANNELS {
                    break;
                }
                after = names.last().cloned();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// The next channels; none if they cannot be listed.
    async fn channels(&self, prefix: &str, after: Option<&str>) -> Option<Vec<String>> {
        let mut waits = Waits::default();
        loop {
            match self.store.channels(prefix, after, CHANNELS).await {
                Ok(names) => return Some(names),
                Err(error) if error.may_pass() => waits.out(&error).await,
                Err(error) => {
                    self.metrics.history.expiry_failures.inc();
                    tracing::error!(%error, prefix, after, "channels whose messages expire cannot be listed");
                    return None;
                }
            }
        }
    }

    async fn drop_expired(&self, channel: &str, kept: Duration) {
        let oldest = self.clock.unix_millis().saturating_sub(kept.as_millis() as i64);
        let before = MessageId::first_at(oldest);
        let mut waits = Waits::default();
        loop {
            match self.store.expire(channel, before, MESSAGES).await {
                Ok(gone) => {
                    self.metrics.history.expired.inc_by(gone);
                    if gone < MESSAGES as u64 {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) if error.may_pass() => waits.out(&error).await,
                // It will be so tomorrow, and the other channels are not to wait for it.
                Err(error) => {
                    self.metrics.history.expiry_failures.inc();
                    tracing::error!(%error, channel, "a channel's expired messages cannot be dropped");
                    return;
                }
            }
        }
    }
}

/// Waits for a store that failed, longer each time.
struct Waits(Duration);

impl Default for Waits {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Waits {
    async fn out(&mut self, error: &StoreError) {
        tracing::warn!(%error, "messages that have expired cannot be dropped yet");
        tokio::time::sleep(jittered(self.0)).await;
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::faulty::{Call, Faulty};
    use crate::archive::{EmbeddedSettings, EmbeddedStore, Message, Record, Span, Summary};
    use crate::protocol::publication::Publication;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// A message for each minute of the first hours.
    fn records(channel: &str, count: u64) -> Vec<Record> {
        let record = |offset: u64| {
            let publication = Publication { offset, data: "{}".into(), ..Publication::default() };
            let id = MessageId::first_at(offset as i64 * 60_000);
            let message = Message { id, epoch: "e".into(), publication: Arc::new(publication) };
            Record { channel: channel.into(), message }
        };
        (1..=count).map(record).collect()
    }

    /// A round over the channels of `brief:`, hours after their last message.
    async fn round_over(store: SharedStore) -> Arc<Metrics> {
        let metrics = Arc::new(Metrics::default());
        let terms = || Terms { prefixes: vec!["brief:".into()], of: Box::new(|_| Some(HOUR)) };
        let clock = Clock::manual(100 * 3_600_000);
        let counted = Arc::clone(&metrics);
        let retention = Retention::new(store, clock, counted, Box::new(terms), HOUR);
        retention.round().await;
        metrics
    }

    async fn with_channels(folder: &tempfile::TempDir, names: &[&str]) -> SharedStore {
        let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "e".into()).expect("opens");
        for name in names {
            store.append(records(name, 3)).await.expect("stored");
        }
        Arc::new(store)
    }

    #[tokio::test]
    async fn a_damaged_channel_is_left_out_and_the_others_are_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = with_channels(&folder, &["brief:a", "brief:b", "brief:c"]).await;
        let fault = |call, channel: &str| match (call, channel) {
            (Call::Expire, "brief:a") => Some(StoreError::Damaged("a key".into())),
            (Call::Expire, "brief:b") => Some(StoreError::BadRequest("never")),
            _ => None,
        };
        let faulty = Arc::new(Faulty::new(store, fault));
        let round = round_over(Arc::clone(&faulty) as SharedStore);
        let metrics = tokio::time::timeout(Duration::from_secs(60), round).await;
        let metrics = metrics.expect("the round ends");
        assert_eq!(faulty.asked(Call::Expire), ["brief:a", "brief:b", "brief:c"], "each once");
        let counted = &metrics.history;
        assert_eq!((counted.expired.get(), counted.expiry_failures.get()), (3, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_for_at_the_same_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = with_channels(&folder, &["brief:a"]).await;
        let failures = std::sync::atomic::AtomicU32::new(0);
        let fault = move |call, _: &str| {
            let is_away = call != Call::Other
                && failures.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 4 != 3;
            is_away.then(|| StoreError::Unavailable("away".into()))
        };
        let metrics = round_over(Arc::new(Faulty::new(store, fault))).await;
        let counted = &metrics.history;
        assert_eq!((counted.expired.get(), counted.expiry_failures.get()), (3, 0));
    }

    async fn summary(store: &SharedStore, channel: &str) -> Summary {
        store.summary(channel).await.expect("an answer").expect("a summary")
    }

    #[tokio::test]
    async fn a_round_drops_what_is_too_old_in_every_channel_of_the_namespace_and_in_no_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "e".into()).expect("opens");
        // More channels than one page, and more messages in one of them than one page.
        let brief: Vec<_> = (0..CHANNELS + 5).map(|n| format!("brief:{n}")).collect();
        for name in &brief {
            store.append(records(name, 3)).await.expect("stored");
        }
        store.append(records("brief:many", 2_700)).await.expect("stored");
        store.append(records("kept:a", 120)).await.expect("stored");
        let store: SharedStore = Arc::new(store);
        let clock = Clock::manual(0);
        let terms = || Terms {
            prefixes: vec!["brief:".into()],
            of: Box::new(|channel| channel.starts_with("brief:").then_some(HOUR)),
        };
        let metrics = Arc::new(Metrics::default());
        let retention = Retention::new(
            Arc::clone(&store),
            clock.clone(),
            Arc::clone(&metrics),
            Box::new(terms),
            HOUR,
        );
        clock.advance(HOUR);
        retention.round().await;
        assert_eq!(metrics.history.expired.get(), 0, "nothing is too old yet");
        clock.advance(Duration::from_secs(2_600 * 60));
        retention.round().await;
        for name in &brief {
            assert_eq!(summary(&store, name).await.count, 0, "{name}");
        }
        let many = summary(&store, "brief:many").await;
        assert_eq!((many.count, many.offset), (101, 2_700));
        assert_eq!(many.first.expect("a message").offset(), 2_600, "a message of the very moment");
        assert_eq!(metrics.history.expired.get(), 3 * brief.len() as u64 + 2_599);
        assert_eq!(summary(&store, "kept:a").await.count, 120);
        let span = Span { epoch: "e".into(), after: 2_598, through: 2_700 };
        assert_eq!(store.holes("brief:many", &span, 9).await, Ok(vec![(2_599, 2_599)]));
    }
}
