//! Fan-out, subscriptions and the memory broker: what a publication costs on one node.
//!
//! `cargo bench --bench hub`. Outboxes are drained between the samples, outside of what is timed.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bobolink::broker::{HistoryOptions, MemoryBroker, PublishOptions};
use bobolink::channel::Channel;
use bobolink::hub::{Connection, Delivery, Hub, Outbox, Position, Start, Wanted};
use bobolink::protocol::frame::Codec;
use bobolink::protocol::publication::Publication;
use bobolink::time::Clock;
use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use uuid::Uuid;

const CHANNEL: &str = "news:bench";
const CROWDS: [usize; 4] = [1, 100, 1_000, 10_000];
/// More than one sample leaves in an outbox.
const OUTBOX_BYTES: usize = 1 << 20;

fn main() {
    divan::main();
}

/// A channel with subscribers.
struct Crowd {
    hub: Hub,
    connections: Vec<Arc<Connection>>,
    offset: u64,
}

impl Crowd {
    fn new(size: usize, codecs: &[Codec], delta: bool) -> Self {
        let hub = Hub::default();
        let channel = Channel::from(CHANNEL);
        let connections: Vec<_> =
            codecs.iter().cycle().take(size).map(|codec| connection(*codec)).collect();
        for connection in &connections {
            let delivery = Delivery { positioned: true, delta, ..Delivery::default() };
            let reserved = hub.subscribe(&channel, connection, delivery);
            hub.go_live(&reserved, start(), None, 0);
        }
        let mut crowd = Self { hub, connections, offset: 0 };
        // The first is whole for all; the ones that are timed may be patches.
        crowd.publish(delta);
        crowd.drain();
        crowd
    }

    fn publish(&mut self, delta: bool) -> usize {
        let previous = delta.then(|| payload(self.offset));
        self.offset += 1;
        let data = payload(self.offset);
        let publication = Publication { offset: self.offset, data, ..Publication::default() };
        self.hub.publish(CHANNEL, &Arc::new(publication), previous.as_ref(), "epoch", 0)
    }

    fn drain(&self) {
        self.connections.iter().for_each(|connection| drain(connection));
    }
}

fn connection(codec: Codec) -> Arc<Connection> {
    Connection::new(Uuid::new_v4(), codec, Outbox::new(OUTBOX_BYTES))
}

fn start() -> Start {
    Start { position: Position { offset: 0, epoch: "epoch".into() }, holds_base: false }
}

fn payload(n: u64) -> Bytes {
    Bytes::from(format!(r#"{{"sequence":{n},"text":"{}"}}"#, "a line of text ".repeat(8)))
}

fn drain(connection: &Connection) {
    let mut cx = Context::from_waker(Waker::noop());
    let drained = connection.outbox.poll_drain(&mut cx, Wanted::ALL);
    drop(divan::black_box(drained));
    assert!(!connection.outbox.is_closing(), "a full outbox would make it look cheap");
}

fn broadcast(bencher: Bencher<'_, '_>, size: usize, codecs: &[Codec], delta: bool) {
    let crowd = std::cell::RefCell::new(Crowd::new(size, codecs, delta));
    bencher
        .counter(ItemsCount::new(size))
        .with_inputs(|| crowd.borrow().drain())
        .bench_local_values(|()| crowd.borrow_mut().publish(delta));
}

#[divan::bench(args = CROWDS, sample_size = 16)]
fn broadcast_json(bencher: Bencher<'_, '_>, size: usize) {
    broadcast(bencher, size, &[Codec::Json], false);
}

#[divan::bench(args = CROWDS, sample_size = 16)]
fn broadcast_json_and_protobuf(bencher: Bencher<'_, '_>, size: usize) {
    broadcast(bencher, size, &[Codec::Json, Codec::Protobuf], false);
}

#[divan::bench(args = CROWDS, sample_size = 16)]
fn broadcast_delta(bencher: Bencher<'_, '_>, size: usize) {
    broadcast(bencher, size, &[Codec::Json], true);
}

#[divan::bench(args = CROWDS, sample_size = 16)]
fn subscribe_and_unsubscribe(bencher: Bencher<'_, '_>, size: usize) {
    let crowd = Crowd::new(size, &[Codec::Json], false);
    let (channel, newcomer) = (Channel::from(CHANNEL), connection(Codec::Json));
    bencher.bench_local(|| {
        let reserved = crowd.hub.subscribe(&channel, &newcomer, Delivery::default());
        crowd.hub.go_live(&reserved, start(), None, 0);
        crowd.hub.unsubscribe(&channel, reserved.key)
    });
}

#[divan::bench(args = [0, 1, 100], sample_size = 16)]
fn publish_with_history(bencher: Bencher<'_, '_>, size: usize) {
    let crowd = Crowd::new(0, &[Codec::Json], false);
    let hub = Arc::new(crowd.hub);
    let channel = Channel::from(CHANNEL);
    let connections: Vec<_> = (0..size).map(|_| connection(Codec::Json)).collect();
    for connection in &connections {
        let reserved = hub.subscribe(&channel, connection, Delivery::default());
        hub.go_live(&reserved, start(), None, 0);
    }
    let broker = bobolink::broker::Broker::Memory(MemoryBroker::new(hub, Clock::real()));
    let history = HistoryOptions {
        size: 100,
        ttl: Duration::from_secs(60),
        meta_ttl: Duration::from_secs(3_600),
    };
    let options = PublishOptions { history: Some(history), ..PublishOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let Ok(runtime) = runtime else { return };
    bencher
        .with_inputs(|| {
            connections.iter().for_each(|connection| drain(connection));
            Publication { data: payload(7), ..Publication::default() }
        })
        .bench_local_values(|publication| {
            runtime.block_on(broker.publish(CHANNEL, publication, &options))
        });
}
