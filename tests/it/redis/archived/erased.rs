//! Messages that were deleted in the archive, and their copies in streams.

use bobolink::archive::Deletion;
use bobolink::broker::Overflow;
use bobolink::config::redis::Addresses;

use super::super::process::RedisServer;
use super::gateway::{connected, serve};
use super::{Archiver, archived};
use crate::support::recovering;

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_leaves_its_stream_and_recovery_passes_it_over() {
    let redis = RedisServer::start();
    let address = Addresses(vec![redis.address().to_string()]);
    let archiver = Archiver::reaching(100, |settings| settings.address = address).await;
    let (channel, options) = ("long:a", archived(Overflow::Fail));
    for _ in 0..12 {
        archiver.publish(channel, &options).await;
    }
    let (_, epoch) = archiver.top(channel, &options).await;
    archiver.ingest(channel).await;
    // In the middle of the stream, and its newest one.
    for (from, to) in [(7, 8), (12, 12)] {
        let what = Deletion::Offsets { epoch: None, from, to };
        let deleted = archiver.store.delete(channel, what).await.expect("deleted");
        archiver.node.broker.forget(channel, &deleted).await.expect("forgotten");
    }
    let left = archiver.since(channel, 0, &epoch, &options).await;
    assert_eq!(left, Ok(vec![3, 4, 5, 6, 9, 10, 11]));
    let address = serve(&archiver.node).await;
    for (from, expected) in
        [(1, vec![2, 3, 4, 5, 6, 9, 10, 11]), (5, vec![6, 9, 10, 11]), (11, vec![])]
    {
        let mut client = connected(address, "ann").await;
        let request = recovering(channel, from, &epoch);
        let made = client.subscribe_with(request).await.expect("subscribed");
        assert!(made.recovered, "from {from}");
        let offsets: Vec<_> = made.publications.iter().map(|p| p.offset).collect();
        assert_eq!(offsets, expected, "from {from}");
    }
    // Of another epoch nothing is taken out.
    let deleted = bobolink::archive::Deleted {
        count: 1,
        epoch: Some("other".into()),
        offsets: Some((1, 100)),
    };
    archiver.node.broker.forget(channel, &deleted).await.expect("nothing to do");
    assert_eq!(archiver.since(channel, 0, &epoch, &options).await.map(|left| left.len()), Ok(7));
    // All of a channel, over several epochs perhaps.
    let deleted = archiver.store.delete(channel, Deletion::Channel).await.expect("deleted");
    let deleted = bobolink::archive::Deleted { epoch: None, ..deleted };
    archiver.node.broker.forget(channel, &deleted).await.expect("forgotten");
    assert_eq!(archiver.since(channel, 0, &epoch, &options).await, Ok(vec![]));
    assert_eq!(archiver.publish(channel, &options).await.offset, 13);
}
