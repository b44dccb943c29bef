//! A store that does not answer while a stream is gone from Redis.

use bobolink::broker::{BrokerError, Overflow, Range};
use bobolink::config::redis::Addresses;
use rusqlite::Connection;

use super::super::process::RedisServer;
use super::{Archiver, archived};

/// Takes a table that every look needs away from the store's file, or gives it back.
fn rename(archiver: &Archiver, from: &str, to: &str) {
    let file = Connection::open(archiver.folder.path().join("history.db")).expect("the file");
    file.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_only_the_store_knows_waits_for_it_and_that_is_told() {
    let redis = RedisServer::start();
    let address = Addresses(vec![redis.address().to_string()]);
    let archiver = Archiver::reaching(1_000, |settings| settings.address = address).await;
    for overflow in [Overflow::Fail, Overflow::Drop] {
        let options = archived(overflow);
        let before = archiver.publish("a", &options).await;
        archiver.publish("here", &options).await;
        archiver.ingest("a").await;
        assert_eq!(redis.ask(&["DEL", "centrifugo.stream.meta.a", "centrifugo.stream.a"]), "2");
        rename(&archiver, "channels", "away");

        let archive = archiver.node.broker.archive().expect("an archive");
        let refused = archive.metrics().history.refused.get();
        let answer = archiver.try_publish("a", &options).await;
        assert_eq!(answer, Err(BrokerError::ArchiveUnavailable), "{overflow:?}");
        assert_eq!(archive.metrics().history.refused.get(), refused + 1);
        let health = archiver.health.delivery();
        let told = String::from_utf8_lossy(&health.body);
        assert!(health.status == 503 && told.contains("the store fails"), "{told}");
        let history = options.history.expect("history");
        let read = archiver.node.broker.archived_history("a", &Range::default(), &history).await;
        assert_eq!(read.err(), Some(BrokerError::ArchiveUnavailable));
        assert_eq!(archive.metrics().history.refused.get(), refused + 1, "a read is no publish");
        // Whoever is in Redis needs nobody else.
        archiver.publish("here", &options).await;

        rename(&archiver, "away", "channels");
        let next = archiver.publish("a", &options).await;
        assert_eq!((next.offset, &next.epoch), (before.offset + 1, &before.epoch));
    }
}
