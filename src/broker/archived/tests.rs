//! Restoring the streams of a batch from a store that fails.

use tempfile::TempDir;

use super::*;
use crate::archive::faulty::{Call, Faulty};
use crate::archive::{EmbeddedSettings, EmbeddedStore};
use crate::broker::{Archiving as Asked, Limits};
use crate::hub::Hub;

struct Stage {
    archiver: Archiver,
    store: Arc<Faulty>,
    _folder: TempDir,
}

fn stage(fault: impl Fn(Call, &str) -> Option<StoreError> + Send + Sync + 'static) -> Stage {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
    let store = EmbeddedStore::open(&settings, "e1".into()).expect("opens");
    let store = Arc::new(Faulty::new(Arc::new(store), fault));
    let clock = Clock::manual(0);
    let limits = Limits {
        backlog: 1_000,
        recovery_publications: 1_000,
        recovery_bytes: 1 << 20,
        recovery_age: Duration::ZERO,
        cache: 1 << 20,
        ack_timeout: Duration::ZERO,
    };
    let shared = Arc::clone(&store) as SharedStore;
    let hub = Arc::new(Hub::new(clock.clone(), Arc::default()));
    let archiver = Archiver {
        streams: Arc::new(MemoryBroker::new(hub, clock.clone())),
        archive: Arc::new(Archive::new(shared, clock.clone(), limits, Arc::default())),
        clock,
        health: Arc::default(),
    };
    Stage { archiver, store, _folder: folder }
}

/// Has a publication in each of forty channels archived at once; how many are, and what became of the
/// others.
async fn archive_forty(stage: &Stage, overflow: Overflow) -> (usize, Vec<BrokerError>) {
    let history = HistoryOptions {
        size: 10,
        ttl: Duration::from_secs(60),
        meta_ttl: Duration::from_secs(60),
    };
    let archive = Some(Asked { overflow, until_stored: false });
    let options = PublishOptions { history: Some(history), archive, ..PublishOptions::default() };
    let (mut batch, mut answers) = (Vec::new(), Vec::new());
    for number in 0..40 {
        let (answer, answered) = oneshot::channel();
        let channel = format!("channel-{number}").into();
        let publication = Publication { data: "{}".into(), ..Publication::default() };
        batch.push(Waiting { channel, publication, options: options.clone(), answer });
        answers.push(answered);
    }
    assert!(stage.archiver.archive(batch).await.is_empty());
    let (mut published, mut refused) = (0, Vec::new());
    for answer in answers {
        match answer.await.expect("an answer") {
            Ok(_) => published += 1,
            Err(error) => refused.push(error),
        }
    }
    (published, refused)
}

#[tokio::test]
async fn a_store_that_is_away_is_waited_for_once_and_that_is_told() {
    for overflow in [Overflow::Fail, Overflow::Drop] {
        let away =
            |call, _: &str| (call == Call::Tail).then(|| StoreError::Unavailable("away".into()));
        let stage = stage(away);
        let (published, refused) = archive_forty(&stage, overflow).await;
        assert_eq!((published, refused), (0, vec![BrokerError::ArchiveUnavailable; 40]));
        assert_eq!(stage.store.asked(Call::Tail).len(), RESTORED_AT_ONCE, "at the same time");
        assert_eq!(stage.archiver.archive.metrics.history.refused.get(), 40);
        let health = String::from_utf8_lossy(&stage.archiver.health.delivery().body).into_owned();
        assert!(health.contains("away"), "{health}");
    }
}

#[tokio::test]
async fn what_is_damaged_of_one_channel_keeps_no_other_from_being_restored() {
    let damaged = |call, channel: &str| {
        let is_it = call == Call::Tail && channel == "channel-7";
        is_it.then(|| StoreError::Damaged("a key".into()))
    };
    let stage = stage(damaged);
    let (published, refused) = archive_forty(&stage, Overflow::Fail).await;
    assert_eq!((published, refused), (39, vec![BrokerError::ArchiveUnavailable]));
    assert_eq!(stage.store.asked(Call::Tail).len(), 40);
    assert_eq!(stage.archiver.archive.metrics.history.refused.get(), 1);
}
