//! Whatever message is encoded is decoded as the same message, in both codecs, and no bytes at all
//! can bring a decoder down.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use rand::RngExt;

use super::command::*;
use super::filter::FilterNode;
use super::frame::Codec;
use super::publication::*;
use super::reply::*;

/// Draws a message. A trait of our own: the messages have more fields than strategies for tuples.
trait Sample: Sized {
    fn sample(rng: &mut TestRng) -> Self;
}

fn any_message<M: Sample + std::fmt::Debug>() -> impl Strategy<Value = M> {
    Just(()).prop_perturb(|(), mut rng| M::sample(&mut rng))
}

macro_rules! sample {
    ($($message:ident { $($field:ident),* })*) => {
        $(impl Sample for $message {
            fn sample(_rng: &mut TestRng) -> Self {
                Self { $($field: Sample::sample(_rng)),* }
            }
        })*
    };
}

// No `..` anywhere: a field that is missing here does not compile.
sample! {
    Command {
        id, connect, subscribe, unsubscribe, publish, presence, presence_stats, history, ping,
        send, rpc, refresh, sub_refresh
    }
    ConnectRequest { token, data, subs, name, version, headers, flag, dict, profile }
    SubscribeRequest {
        channel, token, recover, epoch, offset, data, positioned, recoverable, join_leave,
        delta, tf, flag, kind, phase, cursor, limit, asc
    }
    UnsubscribeRequest { channel }
    PublishRequest { channel, data, kind, key, removed, idempotency_key }
    PresenceRequest { channel }
    PresenceStatsRequest { channel }
    HistoryRequest { channel, limit, since, reverse }
    PingRequest {}
    SendRequest { data }
    RpcRequest { data, method }
    RefreshRequest { token }
    SubRefreshRequest { channel, token, kind, track, untrack }
    TrackBatch { signature, items }
    KeyedItem { key, version }
    Reply {
        id, error, push, connect, subscribe, unsubscribe, publish, presence, presence_stats,
        history, ping, rpc, refresh, sub_refresh
    }
    Error { code, message, temporary }
    Push {
        id, channel, publication, join, leave, unsubscribe, message, subscribe, connect,
        disconnect, refresh
    }
    Join { info }
    Leave { info }
    Unsubscribe { code, reason }
    Subscribe { recoverable, epoch, offset, positioned, data }
    Message { data }
    Connect { client, version, data, subs, expires, ttl, ping, pong, session, node, time }
    Disconnect { code, reason, reconnect }
    Refresh { expires, ttl }
    ConnectResult {
        client, version, expires, ttl, data, subs, ping, pong, session, node, time, flag, dict,
        publish_idempotency_ttl
    }
    Dictionary { id, data, data_b64 }
    SubscribeResult {
        expires, ttl, recoverable, epoch, publications, recovered, offset, positioned, data,
        was_recovering, delta, id, kind, phase, cursor, state, publish_debounce
    }
    UnsubscribeResult {}
    PublishResult {}
    PresenceResult { presence }
    PresenceStatsResult { num_clients, num_users }
    HistoryResult { publications, epoch, offset }
    PingResult {}
    RpcResult { data }
    RefreshResult { client, version, expires, ttl }
    SubRefreshResult { expires, ttl, items }
    ClientInfo { user, client, conn_info, chan_info }
    StreamPosition { offset, epoch }
    FilterNode { op, key, cmp, val, vals, nodes }
}

impl Sample for ServerSideSub {
    /// In JSON these are the entries of an object: every channel once, in order.
    fn sample(rng: &mut TestRng) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let channel = format!("{:010}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { channel, result: Some(Sample::sample(rng)) }
    }
}

impl Sample for Publication {
    fn sample(rng: &mut TestRng) -> Self {
        Self {
            data: Sample::sample(rng),
            info: Sample::sample(rng),
            offset: Sample::sample(rng),
            tags: Sample::sample(rng),
            delta: Sample::sample(rng),
            time: Sample::sample(rng),
            channel: Sample::sample(rng),
            key: Sample::sample(rng),
            removed: Sample::sample(rng),
            score: Sample::sample(rng),
            epoch: Sample::sample(rng),
            // Between broker and nodes only, and those speak Protobuf; tested below.
            prev_data: Bytes::new(),
            version: Sample::sample(rng),
        }
    }
}

macro_rules! sample_numbers {
    ($($number:ty)*) => {
        $(impl Sample for $number {
            fn sample(rng: &mut TestRng) -> Self {
                pick(rng, &[0, 1, 127, 128, <$number>::MAX, <$number>::MIN])
            }
        })*
    };
}

sample_numbers! { u32 u64 i32 i64 }

impl Sample for bool {
    fn sample(rng: &mut TestRng) -> Self {
        pick(rng, &[false, true])
    }
}

impl Sample for String {
    fn sample(rng: &mut TestRng) -> Self {
        pick(rng, &["", "", "news", "a\"b\\c\n\u{0}", "<&>\u{2028}", "\u{1f600}\u{e9}"]).to_owned()
    }
}

impl Sample for Bytes {
    fn sample(rng: &mut TestRng) -> Self {
        const PAYLOADS: [&str; 9] =
            ["", "null", "0", "-1.50e+3", "\"\\n\\u00e9\"", "{}", "[]", "{ \"a\":[1, 2] }", "true"];
        Bytes::from_static(pick(rng, &PAYLOADS).as_bytes())
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(rng: &mut TestRng) -> Self {
        bool::sample(rng).then(|| T::sample(rng))
    }
}

impl<T: Sample> Sample for Box<T> {
    fn sample(rng: &mut TestRng) -> Self {
        Box::new(T::sample(rng))
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(rng: &mut TestRng) -> Self {
        // Less than one on average, so that filters, which contain filters, come to an end.
        (0..pick(rng, &[0, 0, 1, 2])).map(|_| T::sample(rng)).collect()
    }
}

impl<T: Sample> Sample for BTreeMap<String, T> {
    fn sample(rng: &mut TestRng) -> Self {
        (0..pick(rng, &[0, 1, 2])).map(|_| (String::sample(rng), T::sample(rng))).collect()
    }
}

fn pick<T: Copy>(rng: &mut TestRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}

proptest! {
    #[test]
    fn commands_survive_both_codecs(command in any_message::<Command>()) {
        for codec in [Codec::Json, Codec::Protobuf] {
            let frame = codec.encode_command(&command).expect("encodes");
            let decoded: Vec<_> = codec.commands(frame).collect();
            prop_assert_eq!(decoded, [Ok(command.clone())]);
        }
    }

    #[test]
    fn replies_survive_both_codecs(reply in any_message::<Reply>()) {
        for codec in [Codec::Json, Codec::Protobuf] {
            let frame = codec.encode_reply(&reply).expect("encodes");
            prop_assert!(codec == Codec::Protobuf || !frame.contains(&b'\n'));
            let decoded: Vec<_> = codec.replies(frame).collect();
            prop_assert_eq!(decoded, [Ok(reply.clone())]);
        }
    }

    #[test]
    fn pushes_are_replies_with_nothing_else(push in any_message::<Push>()) {
        let reply = Reply { push: Some(push.clone()), ..Default::default() };
        for codec in [Codec::Json, Codec::Protobuf] {
            prop_assert_eq!(codec.encode_push(&push), codec.encode_reply(&reply));
        }
    }

    #[test]
    fn publications_are_pushes_with_nothing_else(
        publication in any_message::<Publication>(),
        channel in ".{0,200}",
    ) {
        let push = Push {
            channel: channel.clone(),
            publication: Some(publication.clone()),
            ..Default::default()
        };
        for codec in [Codec::Json, Codec::Protobuf] {
            let message = codec.encode_publication(&channel, &publication);
            prop_assert_eq!(message, codec.encode_push(&push));
        }
    }

    #[test]
    fn results_with_publications_encoded_before_are_results(
        id in any::<u32>(),
        result in any_message::<SubscribeResult>(),
        publications in proptest::collection::vec(any_message::<Publication>(), 1..5),
    ) {
        let result = SubscribeResult { publications: Vec::new(), ..result };
        let whole = SubscribeResult { publications: publications.clone(), ..result.clone() };
        let reply = Reply { id, subscribe: Some(whole), ..Default::default() };
        for codec in [Codec::Json, Codec::Protobuf] {
            let encoded = codec.encode_publications(&publications).expect("encodes");
            let message = encoded.encode_subscribed(id, &result).expect("encodes");
            let decoded: Vec<_> = codec.replies(message).collect();
            prop_assert_eq!(decoded, [Ok(reply.clone())]);
        }
    }

    #[test]
    fn frames_are_read_back_whole(replies in proptest::collection::vec(any_message::<Reply>(), 1..5)) {
        for codec in [Codec::Json, Codec::Protobuf] {
            let messages: Vec<_> =
                replies.iter().map(|reply| codec.encode_reply(reply).expect("encodes")).collect();
            let decoded: Result<Vec<_>, _> = codec.replies(codec.join(&messages)).collect();
            prop_assert_eq!(decoded.as_ref(), Ok(&replies));
        }
    }
}

#[test]
fn the_previous_data_stays_between_broker_and_nodes() {
    let publication =
        Publication { prev_data: Bytes::from_static(b"{\"secret\":1}"), ..Default::default() };
    let json = Codec::Json.encode_publication("c", &publication).expect("encodes");
    assert_eq!(json, r#"{"push":{"channel":"c","pub":{}}}"#);

    let bytes = prost::Message::encode_to_vec(&publication);
    assert_eq!(super::protobuf::decode(&bytes), Ok(publication.clone()));

    for view in [
        publication.for_client_live("c"),
        publication.for_client_history("c"),
        publication.for_client_delta("c", Bytes::new(), true),
    ] {
        assert!(view.prev_data.is_empty());
    }
}
