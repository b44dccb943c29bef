//! Recovery and history, one trap a test.

use std::time::Duration;

use super::client::red;
use super::wire::Wire;
use super::{
    NOW, Pace, finish, forgetful_gateway, gateway, publish, publish_with, recovering, tagged, to,
};
use crate::broker::Suppressed;
use crate::channel::Channel;
use crate::node::{Publish, Selection, UserSubscribe};
use crate::protocol::codes::{Disconnect, ErrorCode, UnsubscribeCode};
use crate::protocol::command::{
    Command, FLAG_REJECT_UNRECOVERED, HistoryRequest, SubscribeRequest,
};
use crate::protocol::frame::Codec;
use crate::protocol::publication::{Publication, StreamPosition};
use crate::time::Clock;

fn offsets(publications: &[Publication]) -> Vec<u64> {
    publications.iter().map(|publication| publication.offset).collect()
}

#[tokio::test]
async fn what_is_recovered_counts_up_from_the_offset_that_was_asked_for() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    (1..=5).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let fresh = wire.subscribe(to("stream:a")).unwrap();
    assert_eq!((fresh.offset, fresh.recovered, fresh.was_recovering), (5, false, false));
    wire.unsubscribe("stream:a");
    let recovered = wire.subscribe(recovering("stream:a", &fresh, 2)).unwrap();
    assert_eq!((recovered.offset, recovered.recovered, recovered.was_recovering), (2, true, true));
    assert_eq!(offsets(&recovered.publications), [3, 4, 5]);
}

#[tokio::test]
async fn what_is_not_recovered_comes_without_publications_and_at_the_top() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    (1..=12).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let fresh = wire.subscribe(to("stream:a")).unwrap();
    wire.unsubscribe("stream:a");
    let result = wire.subscribe(recovering("stream:a", &fresh, 3)).unwrap();
    assert_eq!((result.offset, result.recovered, result.was_recovering), (12, false, true));
    assert!(result.publications.is_empty());
}

#[tokio::test]
async fn more_than_the_recovery_limit_is_not_recovered_in_part() {
    let limit = |client: &mut crate::config::Client| client.recovery_max_publication_limit = 3;
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), limit);
    (1..=5).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let fresh = wire.subscribe(to("stream:a")).unwrap();
    for (since, recovered) in [(1, false), (2, true)] {
        wire.unsubscribe("stream:a");
        let result = wire.subscribe(recovering("stream:a", &fresh, since)).unwrap();
        assert_eq!(result.recovered, recovered);
        assert_eq!(result.publications.len(), if recovered { 3 } else { 0 });
    }
}

#[tokio::test]
async fn error_112_is_only_for_those_who_ask_for_it() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    publish(&node, "stream:a", "1");
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let elsewhere = SubscribeRequest { epoch: "elsewhere".into(), recover: true, ..to("stream:a") };
    let strict = SubscribeRequest { flag: FLAG_REJECT_UNRECOVERED, ..elsewhere.clone() };
    let refused = wire.subscribe(strict).unwrap_err();
    assert_eq!(refused, ErrorCode::UNRECOVERABLE_POSITION.code);
    assert!(!wire.subscribe(elsewhere).unwrap().recovered);
}

#[tokio::test]
async fn an_empty_epoch_of_the_client_matches_any() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    (1..=2).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let request = SubscribeRequest { recover: true, offset: 1, ..to("stream:a") };
    let result = wire.subscribe(request).unwrap();
    assert!(result.recovered && !result.epoch.is_empty());
    assert_eq!(offsets(&result.publications), [2]);
}

#[tokio::test]
async fn the_first_publication_of_a_stream_says_its_epoch_and_no_other_does() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let epoch = wire.subscribe(to("stream:a")).unwrap().epoch;
    (1..=2).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let epochs: Vec<_> = wire.publications().into_iter().map(|one| one.epoch).collect();
    assert_eq!(epochs, [epoch, String::new()]);
}

#[tokio::test]
async fn what_a_filter_holds_back_moves_the_position_on() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(SubscribeRequest { tf: Some(red()), ..to("stream:a") }).unwrap();
    for color in ["red", "blue", "blue", "red"] {
        publish_with(&node, "stream:a", "1", tagged("color", color));
    }
    assert_eq!(offsets(&wire.publications()), [1, 4]);
}

#[tokio::test]
async fn a_buffer_of_nothing_but_filtered_publications_is_no_gap() {
    let node = gateway(Pace::Yielding, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let filtered = SubscribeRequest { tf: Some(red()), ..to("stream:a") };
    let id = wire.ask(Command { subscribe: Some(filtered), ..Command::default() });
    // Between the place in the hub and the reply.
    while node.hub.subscribers("stream:a") == 0 {
        wire.step();
    }
    for _ in 0..3 {
        publish_with(&node, "stream:a", "1", tagged("color", "blue"));
        wire.step();
    }
    wire.settle();
    assert!(wire.inbox.iter().any(|reply| reply.id == id && reply.subscribe.is_some()));
    publish_with(&node, "stream:a", "1", tagged("color", "red"));
    assert_eq!(offsets(&wire.publications()), [4]);
    assert_eq!(wire.closing, None);
}

#[tokio::test]
async fn what_goes_out_leaves_what_is_kept_as_it_was() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut plain = Wire::connected(&node, Codec::Json, "ann");
    let mut patched = Wire::connected(&node, Codec::Json, "bob");
    plain.subscribe(to("stream:a")).unwrap();
    patched.subscribe(SubscribeRequest { delta: "fossil".into(), ..to("stream:a") }).unwrap();
    let data = [
        r#"{"a": "the same, the same, the same, 1"}"#,
        r#"{"a": "the same, the same, the same, 2"}"#,
    ];
    data.iter().for_each(|data| drop(publish(&node, "stream:a", data)));
    assert_eq!(patched.publications().len(), 2);
    assert_eq!(plain.publications().len(), 2);
    let history = HistoryRequest { channel: "stream:a".into(), limit: -1, ..Default::default() };
    let reply = patched.call(Command { history: Some(history), ..Command::default() });
    let kept = reply.history.unwrap().publications;
    assert_eq!(kept.iter().map(|one| &one.data[..]).collect::<Vec<_>>(), data.map(str::as_bytes));
    assert!(kept.iter().all(|one| !one.delta && one.epoch.is_empty()));
}

#[tokio::test]
async fn history_in_reverse_is_exclusive_and_has_nothing_before_zero() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    (1..=5).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let mut read = |since: Option<u64>, epoch: &str| {
        let since = since.map(|offset| StreamPosition { offset, epoch: epoch.into() });
        let channel = "stream:a".into();
        let history = HistoryRequest { channel, limit: 2, since, reverse: true };
        let reply = wire.call(Command { history: Some(history), ..Command::default() });
        match reply.error {
            None => Ok(offsets(&reply.history.unwrap().publications)),
            Some(error) => Err(error.code),
        }
    };
    assert_eq!(read(None, ""), Ok(vec![5, 4]));
    assert_eq!(read(Some(5), ""), Ok(vec![4, 3]));
    assert_eq!(read(Some(1), ""), Ok(vec![]));
    assert_eq!(read(Some(0), ""), Err(ErrorCode::BAD_REQUEST.code));
    assert_eq!(read(Some(2), "elsewhere"), Err(ErrorCode::UNRECOVERABLE_POSITION.code));
}

#[tokio::test]
async fn removed_history_keeps_epoch_and_offset_and_cannot_be_recovered_from() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let first = publish(&node, "stream:a", "1");
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let before = wire.subscribe(to("stream:a")).unwrap();
    finish(node.remove_history("stream:a")).unwrap();
    let second = publish(&node, "stream:a", "2");
    assert_eq!((second.offset, &second.epoch), (2, &first.epoch));
    assert_eq!(offsets(&wire.publications()), [2], "who is subscribed notices nothing");
    wire.unsubscribe("stream:a");
    finish(node.remove_history("stream:a")).unwrap();
    assert!(!wire.subscribe(recovering("stream:a", &before, 1)).unwrap().recovered);
}

#[tokio::test]
async fn a_stream_that_expired_behind_a_higher_top_is_not_recovered() {
    let clock = Clock::manual(NOW);
    let node = gateway(Pace::AtOnce, &clock, |_| {});
    (1..=3).for_each(|n| drop(publish(&node, "stream:a", &n.to_string())));
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let before = wire.subscribe(to("stream:a")).unwrap();
    clock.advance(Duration::from_secs(60));
    for (since, recovered) in [(2, false), (3, true)] {
        wire.unsubscribe("stream:a");
        let result = wire.subscribe(recovering("stream:a", &before, since)).unwrap();
        assert_eq!((result.recovered, result.offset), (recovered, 3));
    }
}

#[tokio::test]
async fn reading_alone_makes_an_epoch_and_keeps_it_alive() {
    let clock = Clock::manual(NOW);
    let node = forgetful_gateway(&clock);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let epoch = wire.subscribe(to("brief:a")).unwrap().epoch;
    assert!(!epoch.is_empty());
    assert_eq!(publish(&node, "brief:a", "1").epoch, epoch);
    for _ in 0..4 {
        // The meta would be gone after 10 s without a reader.
        clock.advance(Duration::from_secs(8));
        wire.unsubscribe("brief:a");
        assert_eq!(wire.subscribe(to("brief:a")).unwrap().epoch, epoch);
    }
    clock.advance(Duration::from_secs(10));
    wire.unsubscribe("brief:a");
    assert_ne!(wire.subscribe(to("brief:a")).unwrap().epoch, epoch);
}

#[tokio::test]
async fn positions_are_checked_in_channels_without_presence_too() {
    let clock = Clock::manual(NOW);
    let node = forgetful_gateway(&clock);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    assert!(!node.channel("brief:a").unwrap().options.presence);
    publish(&node, "brief:a", "1");
    wire.subscribe(to("brief:a")).unwrap();
    // The stream is forgotten, and no publication tells.
    clock.advance(Duration::from_secs(11));
    node.wheel.turn(clock.now());
    wire.settle();
    tokio::task::yield_now().await;
    let told = wire.pushes().remove(0).unsubscribe.unwrap();
    assert_eq!(told.code, UnsubscribeCode::INSUFFICIENT_STATE.code);
}

#[tokio::test]
async fn the_cache_gives_the_latest_and_offset_zero_is_never_up_to_date() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let nothing = SubscribeRequest { recover: true, ..to("cache:a") };
    assert!(!wire.subscribe(nothing.clone()).unwrap().recovered, "there is no state yet");
    (1..=5).for_each(|n| drop(publish(&node, "cache:a", &n.to_string())));
    wire.unsubscribe("cache:a");
    let result = wire.subscribe(nothing).unwrap();
    assert!(result.recovered);
    assert_eq!(offsets(&result.publications), [5]);
    wire.unsubscribe("cache:a");
    let up_to_date = wire.subscribe(recovering("cache:a", &result, 5)).unwrap();
    assert!(up_to_date.recovered && up_to_date.publications.is_empty());
}

#[tokio::test]
async fn the_cache_gives_the_latest_that_passes_the_filter() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    for color in ["red", "red", "blue"] {
        publish_with(&node, "cache:a", "1", tagged("color", color));
    }
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let request = SubscribeRequest { recover: true, tf: Some(red()), ..to("cache:a") };
    let result = wire.subscribe(request).unwrap();
    assert!(result.recovered);
    assert_eq!(offsets(&result.publications), [2]);
}

#[tokio::test]
async fn a_suppressed_publish_is_a_success_and_reaches_nobody() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(to("stream:a")).unwrap();
    let keyed = Publish { idempotency_key: "k".into(), ..Publish::default() };
    let first = publish_with(&node, "stream:a", "1", keyed.clone());
    publish_with(&node, "stream:a", "2", Publish { version: 7, ..Publish::default() });
    let again = publish_with(&node, "stream:a", "3", keyed);
    assert_eq!((again.offset, &again.epoch), (1, &first.epoch), "the answer of the first");
    assert_eq!(again.suppressed, Some(Suppressed::Idempotency));
    let stale = publish_with(&node, "stream:a", "4", Publish { version: 6, ..Publish::default() });
    assert_eq!((stale.offset, stale.suppressed), (2, Some(Suppressed::Version)));
    assert_eq!(offsets(&wire.publications()), [1, 2]);
}

#[tokio::test]
async fn a_loss_ends_a_subscription_of_the_client_and_a_connection_with_one_of_the_server() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let before = wire.subscribe(to("stream:a")).unwrap();
    publish(&node, "stream:a", "1");
    let lose = |channel: &str, epoch: &str| {
        let publication = Publication { offset: 9, data: "9".into(), ..Publication::default() };
        node.hub.publish(channel, &publication.into(), None, epoch, 0);
    };
    lose("stream:a", &before.epoch);
    let pushes = wire.pushes();
    assert_eq!(pushes[0].publication.as_ref().unwrap().offset, 1);
    assert_eq!(pushes[1].unsubscribe.as_ref().unwrap().code, 2500);
    let again = wire.subscribe(recovering("stream:a", &before, 1)).unwrap();
    assert!(again.recovered, "with the last position it goes on");

    let ann = Selection { user: "ann".into(), ..Selection::default() };
    let subscribe = UserSubscribe::default();
    let channel = Channel::from("stream:b");
    let call = node.subscribe_user(ann, channel, subscribe);
    let (_, pushes) = tokio::join!(call, async { wire.pushes() });
    lose("stream:b", &pushes[0].subscribe.as_ref().unwrap().epoch);
    wire.settle();
    assert_eq!(wire.closing, Some(Disconnect::INSUFFICIENT_STATE));
}
