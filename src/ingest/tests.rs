//! Consumers against Redis in memory and a real store: whatever happens on the way, the archive ends
//! up with what was appended.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::consumer::{Bounds, Consumer, Halt};
use super::entry::Poison;
use super::model::{CLAIM_AFTER, Cut, ModelQueue, World};
use crate::archive::{EmbeddedSettings, EmbeddedStore, SharedStore, Span};
use crate::protocol::publication::Publication;
use crate::telemetry::metrics::Metrics;

/// Turns that are enough for everything that a test publishes.
const ENOUGH: usize = 200;

/// Entries of a consumer that may wait.
const WAITING: usize = 4;

/// What may happen.
#[derive(Clone, Debug)]
enum Event {
    /// One of our nodes publishes, and says which offset it appended before or does not.
    Own(u8, bool),
    /// Software that does not append publishes.
    Foreign(u8),
    Fence(u8),
    Trim(u8),
    /// A consumer takes a turn, perhaps its last under this life.
    Turn(u8, Option<Cut>),
    /// A consumer begins anew under another name.
    Moved(u8),
    /// It takes so long that entries may be claimed.
    Wait,
}

fn event() -> impl Strategy<Value = Event> {
    let channel = 0..3_u8;
    let cut = (0..8_u8, any::<bool>()).prop_map(|(after, late)| Cut { after, late });
    prop_oneof![
        6 => (channel.clone(), any::<bool>()).prop_map(|(c, names)| Event::Own(c, names)),
        2 => channel.clone().prop_map(Event::Foreign),
        1 => channel.clone().prop_map(Event::Fence),
        1 => channel.prop_map(Event::Trim),
        10 => (0..2_u8, proptest::option::of(cut)).prop_map(|(c, cut)| Event::Turn(c, cut)),
        1 => (0..2_u8).prop_map(Event::Moved),
        1 => Just(Event::Wait),
    ]
}

/// A world, its archive, and two consumers.
struct Stage {
    world: Arc<Mutex<World>>,
    store: SharedStore,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    consumers: Vec<(Consumer, ModelQueue)>,
    _folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        // Memory, so that no test waits for a disk.
        let shared = Path::new("/dev/shm");
        let folder =
            if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
        let folder = folder.expect("a folder");
        let settings = EmbeddedSettings { path: folder.path().join("h.db"), cache: 1 << 20 };
        let store = EmbeddedStore::open(&settings, "first".into()).expect("opens");
        let world = Arc::new(Mutex::new(World::new()));
        let mut stage = Self {
            world,
            store: Arc::new(store),
            metrics: Arc::default(),
            stop: CancellationToken::new(),
            consumers: Vec::new(),
            _folder: folder,
        };
        stage.consumers = ["a", "b"].map(|name| stage.consumer(name)).into();
        stage
    }

    /// Both consumers have looked for entries of their own and for abandoned ones.
    async fn reading_on() -> Self {
        let mut stage = Self::new();
        for turn in 0..4 {
            stage.turn(turn % 2, None).await;
        }
        stage
    }

    fn consumer(&self, name: &str) -> (Consumer, ModelQueue) {
        let (store, metrics) = (Arc::clone(&self.store), Arc::clone(&self.metrics));
        let (clock, bounds) =
            (self.world.lock().clock.clone(), Bounds { count: 3, bytes: 400, waiting: WAITING });
        let consumer = Consumer::new(store, clock, metrics, bounds, self.stop.clone());
        (consumer, ModelQueue::new(&self.world, name))
    }

    /// One turn, after which the consumer is as new if it was cut off in it.
    async fn turn(&mut self, index: usize, cut: Option<Cut>) {
        let (consumer, queue) = &mut self.consumers[index];
        queue.cut = cut;
        let is_cut = Arc::clone(&queue.is_cut);
        let ended = tokio::select! {
            done = consumer.turn(queue) => Some(done),
            () = is_cut.notified() => None,
        };
        match ended {
            Some(done) => {
                done.expect("it works");
                queue.cut = None;
            }
            None => {
                let name = queue.name.clone();
                self.consumers[index] = self.consumer(&name);
            }
        }
    }

    async fn happen(&mut self, event: Event) {
        let name = |channel: u8| "x".repeat(usize::from(channel) + 1);
        match event {
            Event::Own(channel, names) => self.world.lock().publish(&name(channel), true, names),
            Event::Foreign(channel) => self.world.lock().publish(&name(channel), false, false),
            Event::Fence(channel) => self.world.lock().fence(&name(channel)),
            Event::Trim(channel) => self.world.lock().trim(&name(channel)),
            Event::Turn(index, cut) => self.turn(usize::from(index), cut).await,
            Event::Moved(index) => {
                let name = format!("{}'", self.consumers[usize::from(index)].1.name);
                self.consumers[usize::from(index)] = self.consumer(&name);
            }
            Event::Wait => self.world.lock().clock.advance(CLAIM_AFTER),
        }
    }

    /// Takes turns until nothing waits.
    async fn drain(&mut self) {
        for round in 0..ENOUGH {
            if self.world.lock().streams.iter().all(|stream| stream.is_empty()) {
                return;
            }
            self.world.lock().clock.advance(CLAIM_AFTER / 4);
            self.turn(round % 2, None).await;
        }
        panic!("entries are left: {:?}", self.world.lock().streams);
    }

    async fn stored(&self, channel: &str, epoch: &str, offset: u64) -> Option<Arc<Publication>> {
        let span = Span { epoch: epoch.into(), after: offset - 1, through: offset };
        let found = self.store.range(channel, &span).await.expect("an answer");
        found.first().map(|message| Arc::clone(&message.publication))
    }

    /// The archive has all that was appended, and nothing that was not published.
    async fn check(&self) -> Result<(), TestCaseError> {
        let channels: Vec<_> = {
            let world = self.world.lock();
            world.channels.iter().map(|(name, c)| (name.clone(), c.published.clone())).collect()
        };
        for (name, published) in channels {
            let mut count = 0;
            for one in &published {
                let stored = self.stored(&name, &one.epoch, one.offset).await;
                count += u64::from(stored.is_some());
                if let Some(stored) = &stored {
                    prop_assert_eq!(&stored.data, &one.data, "{:?}", one);
                }
                let same =
                    |other: &&super::model::Published| other.is_own && other.epoch == one.epoch;
                let is_between = published.iter().filter(same).any(|o| o.offset < one.offset)
                    && published.iter().filter(same).any(|o| o.offset > one.offset);
                let must_be = one.is_own || is_between && !one.may_be_gone;
                prop_assert!(stored.is_some() || !must_be, "{:?} is missing", one);
                prop_assert!(stored.is_none() || one.is_own || is_between, "{:?} came in", one);
            }
            let verdict = self.store.verify(&name).await.expect("a verdict");
            prop_assert_eq!(&verdict.faults, &Vec::<String>::new());
            prop_assert_eq!(verdict.messages, count, "{} has more than was published", name);
        }
        Ok(())
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_archive_gets_what_was_appended_whatever_happens_to_consumers(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        run(async {
            let mut stage = Stage::new();
            for event in events {
                stage.happen(event).await;
            }
            stage.drain().await;
            stage.check().await
        })?;
    }
}

#[test]
fn an_epoch_waits_for_an_older_one_that_somebody_else_has_in_hand() {
    run(async {
        let mut stage = Stage::reading_on().await;
        stage.world.lock().publish("x", true, false);
        stage.turn(1, Some(Cut { after: 0, late: true })).await;
        stage.world.lock().fence("x");
        stage.world.lock().publish("x", true, false);
        for _ in 0..6 {
            stage.turn(0, None).await;
        }
        assert_eq!(stage.metrics.history.stored.get(), 0, "it begins no epoch yet");
        stage.drain().await;
        let chain = stage.store.chain("x").await.expect("an answer").0;
        let epochs: Vec<_> = chain.iter().map(|epoch| epoch.name.as_str()).collect();
        assert_eq!(epochs, ["e0", "e1"]);
        stage.check().await.expect("whole");
    });
}

#[test]
fn the_first_entry_of_a_channel_waits_for_nobody() {
    run(async {
        let mut stage = Stage::reading_on().await;
        stage.world.lock().publish("x", true, true);
        stage.turn(1, Some(Cut { after: 0, late: true })).await;
        stage.world.lock().publish("xxx", true, true);
        stage.turn(0, None).await;
        assert_eq!(stage.metrics.history.stored.get(), 1);
        stage.drain().await;
        stage.check().await.expect("whole");
    });
}

#[test]
fn who_can_hold_no_more_takes_over_what_it_waits_for() {
    run(async {
        let mut stage = Stage::reading_on().await;
        stage.world.lock().publish("x", true, false);
        stage.turn(1, Some(Cut { after: 0, late: true })).await;
        // As many as it may have wait for that one, and this consumer's look for abandoned entries is
        // over for now.
        stage.world.lock().clock.advance(CLAIM_AFTER - CLAIM_AFTER / 100);
        stage.turn(0, None).await;
        stage.turn(0, None).await;
        stage.world.lock().fence("x");
        for _ in 0..WAITING + 3 {
            stage.world.lock().publish("x", true, false);
            stage.turn(0, None).await;
        }
        stage.world.lock().clock.advance(CLAIM_AFTER / 50);
        for _ in 0..2 * WAITING {
            stage.turn(0, None).await;
        }
        assert!(stage.world.lock().streams.iter().all(|stream| stream.is_empty()));
        stage.check().await.expect("whole");
    });
}

#[test]
fn what_others_published_is_filled_in_once_all_below_is_stored() {
    run(async {
        let mut stage = Stage::reading_on().await;
        stage.world.lock().publish("x", true, false);
        stage.turn(0, None).await;
        // Another consumer has offset 2 in hand while this one sees 4.
        stage.world.lock().publish("x", true, false);
        stage.turn(1, Some(Cut { after: 0, late: true })).await;
        stage.world.lock().publish("x", false, false);
        stage.world.lock().publish("x", true, false);
        for _ in 0..6 {
            stage.turn(0, None).await;
        }
        assert_eq!(stage.metrics.history.filled.get(), 0, "2 is neither stored nor missing");
        stage.drain().await;
        assert_eq!(stage.metrics.history.filled.get(), 1);
        assert_eq!(stage.metrics.history.holes.get(), 0);
        stage.check().await.expect("whole");
    });
}

#[test]
fn what_nobody_has_any_more_is_counted_as_a_hole() {
    run(async {
        let mut stage = Stage::new();
        stage.world.lock().publish("x", true, false);
        for _ in 0..3 {
            stage.world.lock().publish("x", false, false);
        }
        stage.world.lock().trim("x");
        stage.world.lock().publish("x", true, true);
        stage.drain().await;
        let history = &stage.metrics.history;
        assert_eq!((history.filled.get(), history.holes.get()), (2, 1));
        stage.check().await.expect("whole");
    });
}

#[test]
fn an_entry_that_cannot_be_read_is_put_aside_and_holds_nothing_up() {
    run(async {
        let mut stage = Stage::new();
        stage.world.lock().publish("x", true, false);
        let id = stage.world.lock().add(1, vec!["c".into(), "x".into()]);
        stage.world.lock().publish("x", true, false);
        stage.drain().await;
        assert_eq!(stage.world.lock().buried, [(id, Poison::Missing("e"))]);
        assert_eq!(stage.metrics.history.dead_letters.get(), 1);
        assert_eq!(stage.metrics.history.stored.get(), 2);
    });
}

#[test]
fn while_the_store_is_away_nothing_leaves_and_a_stop_is_heard() {
    run(async {
        let mut stage = Stage::new();
        stage.world.lock().publish("x", true, false);
        stage.store.close().await;
        let stop = stage.stop.clone();
        let metrics = Arc::clone(&stage.metrics);
        let (consumer, queue) = &mut stage.consumers[0];
        let consuming = consumer.run(queue);
        let stopping = async {
            while metrics.history.store_failures.get() < 2 {
                tokio::task::yield_now().await;
            }
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(consuming, stopping);
        assert_eq!(ended, Err(Halt::Stopped));
        assert_eq!(stage.world.lock().streams[1].len(), 1);
    });
}
