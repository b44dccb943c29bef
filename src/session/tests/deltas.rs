//! Delta compression and filters, one trap a test.

use bytes::Bytes;

use super::client::red;
use super::wire::Wire;
use super::{NOW, Pace, gateway, publish, publish_with, recovering, tagged, to};
use crate::node::Publish;
use crate::protocol::codes::ErrorCode;
use crate::protocol::command::SubscribeRequest;
use crate::protocol::delta;
use crate::protocol::filter::FilterNode;
use crate::protocol::frame::Codec;
use crate::protocol::publication::Publication;
use crate::time::Clock;

/// Spaces and order that a JSON library would write otherwise, and enough of it for patches to pay.
const FIRST: &str = r#"{ "z":1,  "a": "the same and the same and the same and the same again" }"#;
const SECOND: &str = r#"{ "z":2,  "a": "the same and the same and the same and the same again" }"#;
const THIRD: &str = r#"{ "z":3,  "a": "the same and the same and the same and the same again" }"#;

fn patched(channel: &str) -> SubscribeRequest {
    SubscribeRequest { delta: "fossil".into(), ..to(channel) }
}

/// What a JSON client makes of it.
fn text(publication: &Publication) -> String {
    serde_json::from_slice(&publication.data).expect("a string, whole or patch")
}

fn apply(base: &str, patch: &[u8]) -> Bytes {
    delta::apply(base.as_bytes(), patch).unwrap().into()
}

#[tokio::test]
async fn with_delta_every_publication_of_a_json_client_is_a_string_of_the_exact_bytes() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    assert!(wire.subscribe(patched("stream:a")).unwrap().delta);
    publish(&node, "stream:a", FIRST);
    publish(&node, "stream:a", SECOND);
    let got = wire.publications();
    assert_eq!((got[0].delta, text(&got[0])), (false, FIRST.to_owned()));
    assert!(got[1].delta);
    assert_eq!(apply(FIRST, text(&got[1]).as_bytes()), SECOND);
}

#[tokio::test]
async fn recovered_publications_start_whole_and_live_ones_follow_as_patches() {
    for codec in [Codec::Json, Codec::Protobuf] {
        let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
        let mut wire = Wire::connected(&node, codec, "ann");
        let before = wire.subscribe(patched("stream:a")).unwrap();
        wire.unsubscribe("stream:a");
        publish(&node, "stream:a", FIRST);
        publish(&node, "stream:a", SECOND);
        let request =
            SubscribeRequest { delta: "fossil".into(), ..recovering("stream:a", &before, 0) };
        let recovered = wire.subscribe(request).unwrap().publications;
        publish(&node, "stream:a", THIRD);
        let live = wire.publications();
        let raw = |publication: &Publication| match codec {
            Codec::Json => Bytes::from(text(publication)),
            Codec::Protobuf => publication.data.clone(),
        };
        assert_eq!((recovered[0].delta, raw(&recovered[0])), (false, Bytes::from(FIRST)));
        assert_eq!(apply(FIRST, &raw(&recovered[1])), SECOND);
        assert!(live[0].delta);
        assert_eq!(apply(SECOND, &raw(&live[0])), THIRD);
    }
}

/// A choice: the client may hold the base, or have its position from elsewhere.
#[tokio::test]
async fn behind_an_empty_recovery_the_first_publication_is_whole() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    publish(&node, "stream:a", FIRST);
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let before = wire.subscribe(patched("stream:a")).unwrap();
    wire.unsubscribe("stream:a");
    let request = SubscribeRequest { delta: "fossil".into(), ..recovering("stream:a", &before, 1) };
    assert!(wire.subscribe(request).unwrap().recovered);
    publish(&node, "stream:a", SECOND);
    publish(&node, "stream:a", THIRD);
    let got = wire.publications();
    assert_eq!((got[0].delta, text(&got[0])), (false, SECOND.to_owned()));
    assert_eq!(apply(SECOND, text(&got[1]).as_bytes()), THIRD);
}

#[tokio::test]
async fn a_publication_outside_the_stream_is_no_base() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    wire.subscribe(patched("stream:a")).unwrap();
    publish(&node, "stream:a", FIRST);
    let outside = Publish { skip_history: true, ..Publish::default() };
    publish_with(&node, "stream:a", SECOND, outside);
    publish(&node, "stream:a", THIRD);
    let got = wire.publications();
    let whole: Vec<_> = got.iter().map(|one| (one.delta, text(one))).collect();
    let expected = [FIRST, SECOND, THIRD].map(|data| (false, data.to_owned()));
    assert_eq!(whole, expected);
}

#[tokio::test]
async fn a_patch_that_saves_nothing_goes_whole_and_unmarked() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Protobuf, "ann");
    wire.subscribe(patched("stream:a")).unwrap();
    ["1", "2"].iter().for_each(|data| drop(publish(&node, "stream:a", data)));
    let got = wire.publications();
    assert!(got.iter().all(|one| !one.delta));
    assert_eq!(got[1].data, "2");
}

#[tokio::test]
async fn who_did_not_ask_for_patches_gets_the_data_as_it_is() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    assert!(!wire.subscribe(to("stream:a")).unwrap().delta);
    [FIRST, SECOND].iter().for_each(|data| drop(publish(&node, "stream:a", data)));
    let got: Vec<_> = wire.publications().into_iter().map(|one| one.data).collect();
    assert_eq!(got, [FIRST, SECOND]);
}

/// A choice: a filtered subscriber lacks the bases, so patches are not negotiated.
#[tokio::test]
async fn a_filter_switches_patches_off() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let request = SubscribeRequest { tf: Some(red()), ..patched("stream:a") };
    assert!(!wire.subscribe(request).unwrap().delta);
    publish_with(&node, "stream:a", FIRST, tagged("color", "red"));
    publish_with(&node, "stream:a", SECOND, tagged("color", "red"));
    let got: Vec<_> = wire.publications().into_iter().map(|one| (one.delta, one.data)).collect();
    assert_eq!(got, [FIRST, SECOND].map(|data| (false, Bytes::from(data))));
}

#[tokio::test]
async fn a_missing_tag_differs_from_every_value_and_a_bad_filter_is_refused() {
    let node = gateway(Pace::AtOnce, &Clock::manual(NOW), |_| {});
    let mut wire = Wire::connected(&node, Codec::Json, "ann");
    let filter = |cmp: &str, val: &str| {
        let (cmp, val) = (cmp.to_owned(), val.to_owned());
        Some(Box::new(FilterNode { key: "color".into(), cmp, val, ..FilterNode::default() }))
    };
    let request = |tf| SubscribeRequest { tf, ..to("stream:a") };
    for bad in [filter("eq", ""), filter("like", "x"), filter("ex", "x")] {
        assert_eq!(wire.subscribe(request(bad)), Err(ErrorCode::BAD_REQUEST.code));
    }
    wire.subscribe(request(filter("neq", "red"))).unwrap();
    publish(&node, "stream:a", "1");
    publish_with(&node, "stream:a", "2", tagged("color", "red"));
    publish_with(&node, "stream:a", "3", tagged("color", "blue"));
    let offsets: Vec<_> = wire.publications().into_iter().map(|one| one.offset).collect();
    assert_eq!(offsets, [1, 3]);
}
