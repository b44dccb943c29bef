//! The same promise on real threads: publishers, subscribers and the presence tick at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use bytes::Bytes;

use super::wire::Wire;
use super::{NOW, Pace, finish, gateway};
use crate::node::{Node, Payload, Publish};
use crate::protocol::command::{Command, ConnectRequest, SubscribeRequest, UnsubscribeRequest};
use crate::protocol::frame::Codec;
use crate::protocol::publication::{Publication, StreamPosition};
use crate::time::Clock;

const CHANNEL: &str = "stream:race";
const PUBLISHERS: usize = 2;
const SUBSCRIBERS: usize = 3;
const PUBLICATIONS: usize = 5_000;

/// A client that goes and comes, and keeps count of where it is in the stream.
struct Racer {
    node: Arc<Node>,
    codec: Codec,
    position: Option<StreamPosition>,
    received: BTreeMap<u64, Bytes>,
    recovered: usize,
}

impl Racer {
    /// Connects, subscribes, listens for a while and leaves, one way or the other.
    fn round(&mut self, turn: usize) {
        let mut wire = Wire::open(&self.node, self.codec, "racer");
        let known = self.position.clone();
        let connect =
            Command { id: 1, connect: Some(ConnectRequest::default()), ..Command::default() };
        let subscribe = SubscribeRequest {
            channel: CHANNEL.into(),
            recover: known.is_some(),
            offset: known.as_ref().map_or(0, |known| known.offset),
            epoch: known.map(|known| known.epoch).unwrap_or_default(),
            ..SubscribeRequest::default()
        };
        let subscribe = Command { id: 2, subscribe: Some(subscribe), ..Command::default() };
        wire.send(vec![connect, subscribe]);
        let mut live = false;
        for _ in 0..turn % 40 + 2 {
            wire.step();
            self.read(&mut wire, &mut live);
            thread::yield_now();
        }
        assert!(live, "memory answers at once");
        if turn.is_multiple_of(3) {
            let request = UnsubscribeRequest { channel: CHANNEL.into() };
            wire.send(vec![Command { id: 3, unsubscribe: Some(request), ..Command::default() }]);
            wire.settle();
            self.read(&mut wire, &mut live);
            assert!(!live);
        }
        assert_eq!(wire.closing, None);
        finish(wire.end(3_000));
    }

    fn read(&mut self, wire: &mut Wire, live: &mut bool) {
        while let Some(reply) = wire.inbox.pop_front() {
            assert_eq!(reply.error, None);
            if let Some(result) = reply.subscribe {
                *live = true;
                self.recovered += usize::from(result.recovered);
                assert!(result.recovered || result.publications.is_empty());
                let position = StreamPosition { offset: result.offset, epoch: result.epoch };
                let before = self.position.replace(position);
                assert!(!result.recovered || before == self.position, "it goes on where it was");
                result.publications.into_iter().for_each(|one| self.take(one));
            } else if reply.unsubscribe.is_some() {
                *live = false;
            } else if let Some(push) = reply.push {
                assert!(*live, "nothing before the reply, nothing behind the end: {push:?}");
                assert_eq!(push.unsubscribe, None, "nothing was lost");
                self.take(push.publication.unwrap());
            }
        }
    }

    fn take(&mut self, publication: Publication) {
        let position = self.position.as_mut().unwrap();
        assert_eq!(publication.offset, position.offset + 1, "no gap, no double");
        position.offset = publication.offset;
        self.received.insert(publication.offset, publication.data);
    }
}

fn publish_all(node: &Node, publisher: usize) -> BTreeMap<u64, Bytes> {
    let publish = |n| {
        let data = Bytes::from(format!(r#"{{"publisher":{publisher},"n":{n}}}"#));
        let payload = Payload::check(node.channel(CHANNEL).unwrap(), data.clone()).unwrap();
        let published = finish(node.publish(CHANNEL, payload, Publish::default())).unwrap();
        if n % 8 == 0 {
            thread::yield_now();
        }
        (published.offset, data)
    };
    (0..PUBLICATIONS).map(publish).collect()
}

#[test]
fn nothing_is_lost_doubled_or_reordered_on_real_threads() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let clock = Clock::manual(NOW);
    let node = gateway(Pace::AtOnce, &clock, |_| {});
    let start = Barrier::new(PUBLISHERS + SUBSCRIBERS + 1);
    let publishing = AtomicUsize::new(PUBLISHERS);
    let (truth, racers) = thread::scope(|scope| {
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (node, start, publishing) = (&node, &start, &publishing);
                scope.spawn(move || {
                    start.wait();
                    let published = publish_all(node, publisher);
                    publishing.fetch_sub(1, Ordering::SeqCst);
                    published
                })
            })
            .collect();
        let racers: Vec<_> = (0..SUBSCRIBERS)
            .map(|index| {
                let (node, start, publishing) = (Arc::clone(&node), &start, &publishing);
                let handle = runtime.handle().clone();
                scope.spawn(move || {
                    let _inside = handle.enter();
                    let codec = if index % 2 == 0 { Codec::Json } else { Codec::Protobuf };
                    let received = BTreeMap::new();
                    let mut racer = Racer { node, codec, position: None, received, recovered: 0 };
                    start.wait();
                    for turn in index.. {
                        racer.round(turn);
                        if publishing.load(Ordering::SeqCst) == 0 {
                            break;
                        }
                    }
                    racer.round(1);
                    racer
                })
            })
            .collect();
        start.wait();
        while publishing.load(Ordering::SeqCst) > 0 {
            clock.advance(Duration::from_millis(50));
            node.wheel.turn(clock.now());
            node.broker.sweep();
            thread::yield_now();
        }
        let truth: BTreeMap<_, _> =
            publishers.into_iter().flat_map(|publisher| publisher.join().unwrap()).collect();
        let racers: Vec<_> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        (truth, racers)
    });
    assert_eq!(truth.len(), PUBLISHERS * PUBLICATIONS);
    for racer in &racers {
        assert!(racer.received.iter().all(|(offset, data)| truth.get(offset) == Some(data)));
        assert_eq!(racer.position.as_ref().unwrap().offset, truth.len() as u64);
        assert!(racer.recovered > 0 && !racer.received.is_empty());
    }
    // Presence ticks that are still under way take back what they may have renewed.
    drop(runtime);
    assert!(finish(node.presence.get(CHANNEL)).unwrap().is_empty());
    assert_eq!((node.hub.subscriptions(), node.hub.channel_count()), (0, 0));
    assert!(node.hub.connections.is_empty());
}
