//! What a subscription gets in its states, and what the hub keeps of it.

use std::task::{Context, Poll, Waker};

use uuid::Uuid;

use super::*;
use crate::protocol::codes::Disconnect;
use crate::protocol::frame::Codec;
use crate::protocol::reply::{Push, Reply};

const POSITIONED: Delivery = Delivery {
    positioned: true,
    join_leave: false,
    delta: false,
    compact: false,
    filter: None,
    max_lag_ms: 0,
    write_delay: None,
};

struct Subscriber {
    connection: Arc<Connection>,
    reserved: Reserved,
}

fn subscribe(hub: &Hub, delivery: Delivery) -> Subscriber {
    let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(1 << 20));
    let reserved = hub.subscribe(&Channel::from("news"), &connection, delivery);
    Subscriber { connection, reserved }
}

fn at(offset: u64) -> Start {
    Start { position: Position { offset, epoch: "e".into() }, holds_base: false }
}

fn publish(hub: &Hub, offset: u64, data: &'static str) {
    let data = Bytes::from_static(data.as_bytes());
    let publication = Publication { offset, data, ..Publication::default() };
    hub.publish("news", &Arc::new(publication), None, "e", 0);
}

impl Subscriber {
    fn drain(&self) -> Drained {
        let mut cx = Context::from_waker(Waker::noop());
        match self.connection.outbox.poll_drain(&mut cx, Wanted::ALL) {
            Poll::Ready(drained) => drained,
            Poll::Pending => Drained::default(),
        }
    }

    fn pushes(&self) -> Vec<Push> {
        let replies = self.drain().messages.into_iter().flat_map(|message| {
            let payload = Bytes::copy_from_slice(message.payload());
            Codec::Json.replies(payload).collect::<Result<Vec<Reply>, _>>().unwrap()
        });
        replies.filter_map(|reply| reply.push).collect()
    }

    fn offsets(&self) -> Vec<u64> {
        self.pushes().into_iter().filter_map(|push| Some(push.publication?.offset)).collect()
    }

    fn has_lost(&self) -> bool {
        matches!(self.drain().signals.as_slice(), [Signal::PositionLost { .. }])
    }
}

#[test]
fn what_comes_before_the_reply_waits_for_it() {
    let hub = Hub::default();
    let subscriber = subscribe(&hub, POSITIONED);
    publish(&hub, 3, "3");
    publish(&hub, 4, "4");
    assert!(subscriber.drain().messages.is_empty());
    hub.go_live(&subscriber.reserved, at(3), Some(Message::new(Codec::Json, b"reply")), 0);
    let messages = subscriber.drain().messages;
    assert_eq!(messages.len(), 2, "the reply and 4: 3 is in what was read");
    assert_eq!(messages[0].payload(), b"reply");
}

#[test]
fn a_positioned_subscription_skips_what_it_has_and_stops_at_a_gap() {
    let hub = Hub::default();
    let subscriber = subscribe(&hub, POSITIONED);
    hub.go_live(&subscriber.reserved, at(5), None, 0);
    for offset in [4, 5, 6] {
        publish(&hub, offset, "1");
    }
    assert_eq!(subscriber.offsets(), [6]);
    publish(&hub, 8, "1");
    publish(&hub, 7, "1");
    assert!(subscriber.has_lost());
    assert_eq!(hub.position(&Channel::from("news"), subscriber.reserved.key), None);
}

#[test]
fn a_buffer_that_overflows_counts_as_a_loss() {
    let hub = Hub::default();
    let subscriber = subscribe(&hub, POSITIONED);
    (1..=3_000).for_each(|offset| publish(&hub, offset, "1"));
    hub.go_live(&subscriber.reserved, at(0), None, 0);
    assert!(subscriber.has_lost());
}

#[test]
fn an_empty_epoch_takes_the_first_that_comes_and_another_is_a_loss() {
    let hub = Hub::default();
    let subscriber = subscribe(&hub, POSITIONED);
    hub.go_live(&subscriber.reserved, Start::default(), None, 0);
    publish(&hub, 1, "1");
    let first = subscriber.pushes().remove(0).publication.unwrap();
    assert_eq!(first.epoch, "e", "the first publication of a stream says which it is");
    let publication = Publication { offset: 2, data: "2".into(), ..Publication::default() };
    hub.publish("news", &Arc::new(publication), None, "other", 0);
    assert!(subscriber.has_lost());
}

#[test]
fn a_publication_that_is_late_is_a_loss_if_lateness_is_limited() {
    let hub = Hub::default();
    let subscriber = subscribe(&hub, Delivery { max_lag_ms: 1_000, ..POSITIONED });
    hub.go_live(&subscriber.reserved, at(0), None, 0);
    for (offset, now_ms) in [(1, 6_000), (2, 6_001)] {
        let publication =
            Publication { offset, time: 5_000, data: "1".into(), ..Publication::default() };
        hub.publish("news", &Arc::new(publication), None, "e", now_ms);
    }
    let drained = subscriber.drain();
    assert_eq!((drained.messages.len(), drained.signals.len()), (1, 1));
}

#[test]
fn data_that_is_not_json_closes_json_clients_alone() {
    let hub = Hub::default();
    let json = subscribe(&hub, POSITIONED);
    let outbox = Outbox::new(1 << 20);
    let protobuf = Connection::new(Uuid::new_v4(), Codec::Protobuf, outbox);
    let reserved = hub.subscribe(&Channel::from("news"), &protobuf, POSITIONED);
    let last = subscribe(&hub, POSITIONED);
    for reserved in [&json.reserved, &reserved, &last.reserved] {
        hub.go_live(reserved, at(0), None, 0);
    }
    publish(&hub, 1, "not json");
    assert_eq!(json.drain().closing, Some(Disconnect::INAPPROPRIATE_PROTOCOL));
    assert_eq!(last.drain().closing, Some(Disconnect::INAPPROPRIATE_PROTOCOL));
    assert!(!protobuf.outbox.is_closing());
    assert_eq!(protobuf.outbox.take_messages().len(), 1);
}

#[test]
fn a_key_never_means_a_later_subscription_in_the_same_place() {
    let hub = Hub::default();
    let channel = Channel::from("news");
    let other = subscribe(&hub, POSITIONED);
    let first = subscribe(&hub, POSITIONED);
    assert!(!hub.unsubscribe(&channel, first.reserved.key));
    let second = subscribe(&hub, POSITIONED);
    assert_ne!(first.reserved.key, second.reserved.key);

    hub.go_live(&first.reserved, at(7), Some(Message::new(Codec::Json, b"for the first")), 0);
    assert!(second.drain().messages.is_empty(), "nobody gets the reply of somebody else");
    hub.unsubscribe(&channel, first.reserved.key);
    assert_eq!(hub.subscribers("news"), 2);
    hub.go_live(&second.reserved, at(0), None, 0);
    publish(&hub, 1, "1");
    assert_eq!(second.offsets(), [1]);
    drop(other);
}

#[test]
fn the_last_one_leaves_nothing_behind() {
    let hub = Hub::default();
    let channel = Channel::from("news");
    let (a, b) = (subscribe(&hub, POSITIONED), subscribe(&hub, POSITIONED));
    assert!(!hub.unsubscribe(&channel, a.reserved.key));
    assert!(!hub.unsubscribe(&channel, a.reserved.key), "once is enough");
    assert!(hub.unsubscribe(&channel, b.reserved.key));
    assert_eq!((hub.subscriptions(), hub.channel_count()), (0, 0));
    assert_eq!(Arc::strong_count(&a.connection), 1);
}

#[test]
fn a_subscription_of_the_hub_stays_small() {
    // Key, connection, what was granted, position with its epoch in place, buffer, write delay.
    let is = size_of::<Entry>();
    assert!(is <= 112, "an entry has {is} bytes");
}
