//! What each method does, on a node with the memory broker.

use std::time::Duration;

use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::api::{BatchRequest, Method, Outcome, Request, testing};
use crate::auth::OptionOverride;
use crate::config::{ChannelConfig, ChannelOptions, Namespace};
use crate::hub::{Connection, Delivery, Drained, Outbox, Signal, Wanted};
use crate::node::Node;
use crate::protocol::frame::Codec;
use crate::protocol::publication::ClientInfo;
use crate::telemetry::metrics::labels::{ApiFailure, ApiProtocol};

/// Namespaces `log` with history, `room` with presence, and `map`; and channels without namespace.
fn api() -> Api {
    let namespace = |name: &str, options| Namespace { name: name.to_owned(), options };
    let history_ttl = Duration::from_secs(60);
    let log = ChannelOptions { history_size: 10, history_ttl, ..ChannelOptions::default() };
    let room = ChannelOptions { presence: true, ..ChannelOptions::default() };
    let map =
        ChannelOptions { subscription_type: SubscriptionType::Map, ..ChannelOptions::default() };
    let channels = ChannelConfig {
        namespaces: vec![namespace("log", log), namespace("room", room), namespace("map", map)],
        ..ChannelConfig::default()
    };
    Api::new(testing::node(&channels), ApiProtocol::Http)
}

fn request(method: Method, json: &str) -> Request {
    method.read(json.as_bytes()).expect(json)
}

/// The answer as HTTP callers see it.
async fn call(api: &Api, method: Method, json: &str) -> String {
    let text = match api.call(request(method, json)).await {
        Ok(outcome) => api.result_json(&outcome).expect("payloads are JSON"),
        Err(error) => serde_json::to_vec(&error).expect("json"),
    };
    String::from_utf8(text).expect("text")
}

async fn code(api: &Api, method: Method, json: &str) -> u32 {
    api.call(request(method, json)).await.map_or_else(|error| error.code.code, |_| 0)
}

async fn history(api: &Api, json: &str) -> HistoryResult {
    match api.call(request(Method::History, json)).await {
        Ok(Outcome::History(result)) => result,
        other => panic!("{other:?}"),
    }
}

fn connect(node: &Node, user: &str) -> Arc<Connection> {
    let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(65_536));
    connection.authenticate(user);
    node.hub.connections.add(&connection, 0).expect("no limit");
    connection
}

fn drained(connection: &Connection) -> Drained {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match connection.outbox.poll_drain(&mut cx, Wanted::ALL) {
        std::task::Poll::Ready(drained) => drained,
        std::task::Poll::Pending => Drained::default(),
    }
}

/// Calls while `connection` acts on the only signal that it gets.
async fn signalled(api: &Api, connection: &Connection, call: Request) -> Signal {
    let acts = std::future::poll_fn(|cx| connection.outbox.poll_drain(cx, Wanted::ALL));
    let (outcome, mut drained) = tokio::join!(api.call(call), async {
        let drained = timeout(Duration::from_secs(60), acts).await.expect("a signal");
        // The call waits for this drop.
        Drained { signals: drained.signals.into_iter().map(without_done).collect(), ..drained }
    });
    outcome.expect("success");
    assert_eq!(drained.signals.len(), 1);
    drained.signals.remove(0)
}

fn without_done(signal: Signal) -> Signal {
    let (nobody, _) = crate::hub::Done::channel();
    match signal {
        Signal::Subscribe(mut subscribe) => {
            subscribe.done = nobody;
            Signal::Subscribe(subscribe)
        }
        Signal::Unsubscribe { channel, code, .. } => {
            Signal::Unsubscribe { channel, code, done: nobody }
        }
        Signal::Refresh { expire_at, info, .. } => {
            Signal::Refresh { expire_at, info, done: nobody }
        }
        lost @ Signal::PositionLost { .. } => lost,
    }
}

#[tokio::test]
async fn nothing_waits_for_an_archive_that_would_not_get_it() {
    let api = api();
    for ack in ["stored", "soon"] {
        for (method, to) in [
            (Method::Publish, r#""channel":"log:a""#),
            (Method::Broadcast, r#""channels":["log:a"]"#),
        ] {
            let json = format!(r#"{{{to},"data":1,"archive_ack":"{ack}"}}"#);
            let answer = call(&api, method, &json).await;
            assert!(answer.contains(r#""code":107"#), "{answer}");
        }
    }
    let answer = call(&api, Method::Publish, r#"{"channel":"log:a","data":1,"archive_ack":""}"#);
    assert!(answer.await.contains(r#""offset":1"#), "nothing was published before");
}

#[tokio::test]
async fn a_publish_answers_with_its_position_if_there_is_history() {
    let api = api();
    let plain = call(&api, Method::Publish, r#"{"channel":"a","data":{}}"#).await;
    assert_eq!(plain, r#"{"result":{}}"#);
    let first = call(&api, Method::Publish, r#"{"channel":"log:a","data":{}}"#).await;
    assert!(first.starts_with(r#"{"result":{"offset":1,"epoch":""#), "{first}");
    let skipped =
        call(&api, Method::Publish, r#"{"channel":"log:a","data":{},"skip_history":true}"#).await;
    assert_eq!(skipped, r#"{"result":{}}"#);
}

#[tokio::test]
async fn a_channel_must_be_named_and_its_namespace_exist() {
    let api = api();
    for (method, _) in Method::TABLE {
        let (empty, unknown) = match method {
            Method::Publish
            | Method::Subscribe
            | Method::Presence
            | Method::PresenceStats
            | Method::History
            | Method::HistoryRemove => (107, 102),
            Method::Unsubscribe => (0, 102),
            _ => continue,
        };
        let of = |channel| format!(r#"{{"channel":"{channel}","data":{{}}}}"#);
        assert_eq!(code(&api, *method, "{}").await, empty, "{method:?}");
        assert_eq!(code(&api, *method, &of("nowhere:a")).await, unknown, "{method:?}");
    }
}

#[tokio::test]
async fn only_streams_can_be_published_into() {
    let api = api();
    assert_eq!(code(&api, Method::Publish, r#"{"channel":"map:a","data":{}}"#).await, 107);
    let broadcast = r#"{"channels":["map:a"],"data":{}}"#;
    let answer = call(&api, Method::Broadcast, broadcast).await;
    assert!(answer.contains(r#""code":107"#), "{answer}");
}

#[tokio::test]
async fn base64_wins_over_plain_data_and_must_be_whole() {
    let api = api();
    let published =
        code(&api, Method::Publish, r#"{"channel":"log:a","data":1,"b64data":"eyJhIjoxfQ=="}"#);
    assert_eq!(published.await, 0);
    let history = history(&api, r#"{"channel":"log:a","limit":-1}"#).await;
    assert_eq!(history.publications[0].data, r#"{"a":1}"#);
    for (method, json) in [
        (Method::Publish, r#"{"channel":"a","b64data":"eyJhIjoxfQ"}"#),
        (Method::Publish, r#"{"channel":"a","b64data":"%"}"#),
        (Method::Broadcast, r#"{"channels":["a"],"b64data":"_w=="}"#),
        (Method::Subscribe, r#"{"channel":"a","b64data":"x"}"#),
        (Method::Subscribe, r#"{"channel":"a","b64info":"x"}"#),
    ] {
        assert_eq!(code(&api, method, json).await, 107, "{method:?} {json}");
    }
}

#[tokio::test]
async fn each_channel_of_a_broadcast_stands_for_itself() {
    let api = api();
    let channels = r#"["log:a","nowhere:a","","b"]"#;
    let json = format!(r#"{{"channels":{channels},"data":{{}}}}"#);
    let Ok(Outcome::Broadcast(result)) = api.call(request(Method::Broadcast, &json)).await else {
        panic!("no broadcast")
    };
    let codes: Vec<_> = result
        .responses
        .iter()
        .map(|response| match response {
            PublishResponse::Result(result) => result.offset,
            PublishResponse::Error(error) => u64::from(error.code.code),
        })
        .collect();
    assert_eq!(codes, [1, 102, 107, 0]);
    let errors = &api.node.metrics.api.command_errors;
    let label = (ApiProtocol::Http, ApiMethod::BroadcastPublish, ApiFailure::UnknownChannel);
    assert_eq!(errors.with(label).get(), 1);
    assert_eq!(code(&api, Method::Broadcast, r#"{"channels":[],"data":{}}"#).await, 107);
}

#[tokio::test]
async fn history_is_read_by_limit_position_and_direction() {
    let api = api();
    for number in 1..=3 {
        let json = format!(r#"{{"channel":"log:a","data":{number},"tags":{{"n":"{number}"}}}}"#);
        assert_eq!(code(&api, Method::Publish, &json).await, 0);
    }
    let offsets = async |json: &str| {
        let result = history(&api, json).await;
        assert_eq!(result.offset, 3, "the top");
        result.publications.iter().map(|publication| publication.offset).collect::<Vec<_>>()
    };
    assert!(offsets(r#"{"channel":"log:a"}"#).await.is_empty());
    assert_eq!(offsets(r#"{"channel":"log:a","limit":-1}"#).await, [1, 2, 3]);
    assert_eq!(offsets(r#"{"channel":"log:a","limit":2}"#).await, [1, 2]);
    assert_eq!(offsets(r#"{"channel":"log:a","limit":2,"reverse":true}"#).await, [3, 2]);
    assert_eq!(offsets(r#"{"channel":"log:a","limit":-1,"since":{"offset":2}}"#).await, [3]);
    let answer = call(&api, Method::History, r#"{"channel":"log:a","limit":1}"#).await;
    let first = r#"{"result":{"publications":[{"data":1,"offset":1,"tags":{"n":"1"}}],"epoch":""#;
    assert!(answer.starts_with(first), "{answer}");

    let elsewhere = r#"{"channel":"log:a","since":{"offset":1,"epoch":"other"}}"#;
    assert_eq!(code(&api, Method::History, elsewhere).await, 112);
    assert_eq!(code(&api, Method::History, r#"{"channel":"a"}"#).await, 108);

    assert_eq!(code(&api, Method::HistoryRemove, r#"{"channel":"log:a"}"#).await, 0);
    assert!(offsets(r#"{"channel":"log:a","limit":-1}"#).await.is_empty());
    assert_eq!(code(&api, Method::HistoryRemove, r#"{"channel":"a"}"#).await, 108);
}

#[tokio::test]
async fn presence_shows_who_is_there_where_it_is_kept() {
    let api = api();
    for (client, user) in [("1", "alice"), ("2", "alice"), ("3", "")] {
        let info = ClientInfo { client: client.into(), user: user.into(), ..Default::default() };
        api.node.presence.add("room:a", info).await.expect("memory");
    }
    let answer = call(&api, Method::Presence, r#"{"channel":"room:a"}"#).await;
    let expected = concat!(
        r#"{"result":{"presence":{"1":{"user":"alice","client":"1"},"#,
        r#""2":{"user":"alice","client":"2"},"3":{"user":"","client":"3"}}}}"#
    );
    assert_eq!(answer, expected);
    let stats = call(&api, Method::PresenceStats, r#"{"channel":"room:a"}"#).await;
    assert_eq!(stats, r#"{"result":{"num_clients":3,"num_users":2}}"#);
    assert_eq!(code(&api, Method::Presence, r#"{"channel":"a"}"#).await, 108);
    assert_eq!(code(&api, Method::PresenceStats, r#"{"channel":"a"}"#).await, 108);
}

#[tokio::test(start_paused = true)]
async fn a_subscribe_reaches_the_connections_of_the_user() {
    let api = api();
    let alice = connect(&api.node, "alice");
    let anonymous = connect(&api.node, "");
    let json = r#"{"channel":"log:a","user":"alice","expire_at":2000,"b64info":"MQ==","data":[1],
        "recover_since":{"offset":7,"epoch":"e"},"override":{"presence":{"value":true}}}"#;
    let signal = signalled(&api, &alice, request(Method::Subscribe, json)).await;
    let Signal::Subscribe(subscribe) = signal else { panic!("{signal:?}") };
    assert_eq!(&*subscribe.channel, "log:a");
    assert_eq!(subscribe.expire_at, Some(2_000));
    assert_eq!((&subscribe.info[..], &subscribe.data[..]), (&b"1"[..], &b"[1]"[..]));
    assert_eq!(subscribe.recover_since.map(|since| since.offset), Some(7));
    let overrides = OptionOverride {
        presence: Some(true),
        join_leave: Some(false),
        force_push_join_leave: Some(false),
        force_recovery: Some(false),
        force_positioning: Some(false),
    };
    assert_eq!(subscribe.overrides, overrides);
    assert!(drained(&anonymous).signals.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unsubscribe_without_channel_ends_all_of_the_users() {
    let api = api();
    let anonymous = connect(&api.node, "");
    for (json, expected) in [("{}", None), (r#"{"channel":"a"}"#, Some(Channel::from("a")))] {
        let signal = signalled(&api, &anonymous, request(Method::Unsubscribe, json)).await;
        let Signal::Unsubscribe { channel, code, .. } = signal else { panic!("{signal:?}") };
        assert_eq!((channel, code), (expected, UnsubscribeCode::SERVER));
    }
}

#[tokio::test]
async fn a_disconnect_closes_all_but_the_whitelisted() {
    let api = api();
    let (kept, closed) = (connect(&api.node, "alice"), connect(&api.node, "alice"));
    let bob = connect(&api.node, "bob");
    let json = format!(r#"{{"user":"alice","whitelist":["{}"]}}"#, kept.id());
    assert_eq!(call(&api, Method::Disconnect, &json).await, r#"{"result":{}}"#);
    assert_eq!(drained(&closed).closing, Some(Disconnect::FORCE_DISCONNECT));
    assert_eq!(drained(&kept).closing, None);

    let json = r#"{"user":"bob","disconnect":{"code":4321,"reason":"enough"}}"#;
    assert_eq!(code(&api, Method::Disconnect, json).await, 0);
    assert_eq!(drained(&bob).closing, Some(Disconnect::custom(4_321, "enough")));

    for close in ["{}", r#"{"code":2999}"#, r#"{"code":5000}"#] {
        let json = format!(r#"{{"user":"alice","disconnect":{close}}}"#);
        assert_eq!(code(&api, Method::Disconnect, &json).await, 107, "{close}");
    }
    let long = format!(r#"{{"disconnect":{{"code":4000,"reason":"{}"}}}}"#, "x".repeat(124));
    assert_eq!(code(&api, Method::Disconnect, &long).await, 107);
    assert_eq!(drained(&kept).closing, None);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_moves_the_expiry_or_ends_the_connection() {
    let api = api();
    let alice = connect(&api.node, "alice");
    let json = r#"{"user":"alice","expire_at":5000,"info":{"a":1}}"#;
    let signal = signalled(&api, &alice, request(Method::Refresh, json)).await;
    let Signal::Refresh { expire_at, info, .. } = signal else { panic!("{signal:?}") };
    assert_eq!((expire_at, info.as_deref()), (Some(5_000), Some(&br#"{"a":1}"#[..])));
    let signal = signalled(&api, &alice, request(Method::Refresh, r#"{"user":"alice"}"#)).await;
    assert!(matches!(signal, Signal::Refresh { expire_at: None, info: None, .. }), "{signal:?}");

    let expired = r#"{"user":"alice","expired":true}"#;
    assert_eq!(code(&api, Method::Refresh, expired).await, 0);
    assert_eq!(drained(&alice).closing, Some(Disconnect::CONNECTION_EXPIRED));
}

#[tokio::test]
async fn channels_are_found_by_glob_and_nodes_counted() {
    let api = api();
    let alice = connect(&api.node, "alice");
    for channel in ["log:a", "log:b/c", "other"] {
        let channel = Channel::from(channel);
        let pending = api.node.subscribe(&channel, &alice, Delivery::default()).await;
        pending.expect("memory").keep();
    }
    let answer = call(&api, Method::Channels, r#"{"pattern":"log:*"}"#).await;
    let expected =
        r#"{"result":{"channels":{"log:a":{"num_clients":1},"log:b/c":{"num_clients":1}}}}"#;
    assert_eq!(answer, expected);
    assert_eq!(code(&api, Method::Channels, r#"{"pattern":"[a"}"#).await, 107);

    let Ok(Outcome::Info(info)) = api.call(request(Method::Info, "{}")).await else {
        panic!("no info")
    };
    let [node] = &info.nodes[..] else { panic!("{info:?}") };
    assert_eq!((node.name.as_str(), node.num_clients, node.num_subs), ("here", 1, 3));
}

#[tokio::test]
async fn there_are_no_procedures() {
    assert_eq!(code(&api(), Method::Rpc, r#"{"method":"x","params":{"a":1}}"#).await, 104);
}

#[tokio::test]
async fn a_batch_answers_in_order_with_errors_in_their_places() {
    let api = api();
    let json = r#"{"commands":[{"publish":{"channel":"log:a","data":1}},null,{"nothing":{}},
        {"presence_stats":{"channel":"a"}},{"history":{"channel":"log:a"}},{"rpc":{}}]}"#;
    for parallel in [false, true] {
        let batch: BatchRequest = serde_json::from_str(json).expect("batch");
        let replies = api.batch(BatchRequest { parallel, ..batch }).await;
        let codes: Vec<_> = replies
            .iter()
            .map(|reply| reply.as_ref().map_or_else(|e| e.code.code, |_| 0))
            .collect();
        assert_eq!(codes, [0, 107, 104, 108, 0, 104]);
        let Ok(Outcome::History(history)) = &replies[4] else { panic!("{:?}", replies[4]) };
        assert_eq!(history.offset, 1 + u64::from(parallel), "the publish came first");
        let text = String::from_utf8(api.replies_json(&replies)).expect("text");
        assert!(text.starts_with(r#"{"replies":[{"publish":{"offset":"#), "{text}");
        let error = r#"{"error":{"code":107,"message":"bad request"}},{"error":{"code":104,"#;
        assert!(text.contains(error), "{text}");
    }
    assert_eq!(api.replies_json(&[]), b"{}");
}

#[tokio::test]
async fn an_answer_with_a_payload_that_is_no_json_is_an_error_of_ours() {
    let api = api();
    assert_eq!(code(&api, Method::Publish, r#"{"channel":"log:a","b64data":"/w=="}"#).await, 0);
    let read = request(Method::History, r#"{"channel":"log:a","limit":1}"#);
    let outcome = api.call(read).await;
    assert_eq!(
        api.result_json(outcome.as_ref().expect("history")).expect_err("bytes").code.code,
        100
    );
    let text = String::from_utf8(api.replies_json(&[outcome])).expect("text");
    assert_eq!(text, r#"{"replies":[{"error":{"code":100,"message":"internal server error"}}]}"#);
    let label = (ApiProtocol::Http, ApiMethod::History, ApiFailure::Marshal);
    assert_eq!(api.node.metrics.api.command_errors.with(label).get(), 2);
}
