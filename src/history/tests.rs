//! What only a store shows that changes while it is asked, or that lacks what is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{Forget, HistoryService, Parts, Settle, WaitsSince};
use crate::api::access::Access;
use crate::archive::faulty::{Call, Faulty};
use crate::archive::{
    EmbeddedSettings, EmbeddedStore, Message, MessageId, Record, SharedStore, StoreError,
};
use crate::auth::{TokenSettings, TokenVerifier};
use crate::channel::Namespaces;
use crate::config::ChannelConfig;
use crate::node::Rules;
use crate::protocol::publication::Publication;
use crate::time::Clock;
use crate::transport::origin::AllowedOrigins;

fn record(offset: u64) -> Record {
    let publication = Publication { offset, data: "{}".into(), ..Publication::default() };
    let id = MessageId::first_at(offset as i64);
    let message = Message { id, epoch: "e".into(), publication: Arc::new(publication) };
    Record { channel: "a".into(), message }
}

/// A service of a store that lacks nothing.
fn service(store: SharedStore) -> HistoryService {
    service_behind(store, None)
}

fn service_behind(store: SharedStore, waits_since: Option<WaitsSince>) -> HistoryService {
    let mut channels = ChannelConfig::default();
    channels.without_namespace.history_archive = true;
    let rules = Arc::new(Rules {
        channels: Namespaces::new(&channels).expect("valid namespaces"),
        connection_tokens: TokenVerifier::new(TokenSettings::default()).expect("no keys"),
        subscription_tokens: None,
    });
    let (settle, forget): (Settle, Forget) =
        (Arc::new(|_| async { Ok(()) }.boxed()), Arc::new(|_, _| async { Ok(()) }.boxed()));
    HistoryService::new(Parts {
        store,
        rules: Arc::new(move || Arc::clone(&rules)),
        access: Access::new(None),
        waits_since,
        settle,
        forget,
        origins: AllowedOrigins::new::<&str>(&[]).expect("no patterns"),
        clock: Clock::manual(0),
        insecure: false,
        prefix: String::new(),
    })
}

fn file(folder: &TempDir) -> SharedStore {
    let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
    Arc::new(EmbeddedStore::open(&settings, "e".into()).expect("opens"))
}

async fn text(service: &HistoryService, path: &str) -> String {
    let request = Request::get(path).body(axum::body::Body::empty()).expect("a request");
    let answer = service.answer(request).await.into_body().collect().await;
    String::from_utf8(answer.expect("a body").to_bytes().to_vec()).expect("text")
}

async fn ask(service: &HistoryService, path: &str) -> Value {
    serde_json::from_str(&text(service, path).await).expect("JSON")
}

fn offsets(page: &Value) -> Vec<u64> {
    let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
    messages.iter().filter_map(|message| message["offset"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_from_the_position_of_a_page_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = file(&folder);
    store.append((1..=3).map(record).collect()).await.expect("stored");
    let (busy, last) = (Arc::clone(&store), AtomicU64::new(3));
    // Before everything that is read, another message comes.
    let publish = move |call, _: &str| -> Option<StoreError> {
        if matches!(call, Call::Page | Call::Tail) {
            let next = record(last.fetch_add(1, Ordering::Relaxed) + 1);
            block_in_place(|| Handle::current().block_on(busy.append(vec![next]))).err()
        } else {
            None
        }
    };
    let service = service(Arc::new(Faulty::new(store, publish)));
    for path in ["/v1/channels/a/messages", "/v1/channels/a/messages/around/3145728"] {
        let page = ask(&service, path).await;
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
        let position = page["position"]["offset"].as_u64().expect("an offset");
        assert!(messages[0]["offset"].as_u64() >= Some(position), "{path}: {page}");
    }
}

/// A message each ten seconds. 11 to 15 are in the hands of a consumer that is late.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shown_above_a_hole_that_may_still_be_filled() {
    const FIRST_LATE: i64 = 110_000;
    const NOTHING_WAITS: i64 = i64::MAX;
    let folder = tempfile::tempdir().expect("a folder");
    let store = file(&folder);
    let at = |offset: u64| {
        let mut record = record(offset);
        record.message.id = MessageId::first_at(offset as i64 * 10_000);
        record
    };
    // 4 was never archived, and never will be.
    let first = (1..=20).filter(|offset| *offset != 4 && !(11..=15).contains(offset));
    store.append(first.map(at).collect()).await.expect("stored");
    let oldest = Arc::new(AtomicI64::new(FIRST_LATE));
    let asked = Arc::clone(&oldest);
    let waits_since: WaitsSince = Arc::new(move |_| {
        let since = asked.load(Ordering::Relaxed);
        async move { (since != NOTHING_WAITS).then_some(since) }.boxed()
    });
    let service = service_behind(Arc::clone(&store), Some(waits_since));
    let messages = "/v1/channels/a/messages";
    let below: Vec<u64> = (1..=10).filter(|offset| *offset != 4).collect();
    let newest: Vec<u64> = below.iter().rev().copied().collect();

    let page = ask(&service, messages).await;
    assert_eq!((offsets(&page), page["position"]["offset"].as_u64()), (newest, Some(10)));
    let oldest_first = ask(&service, &format!("{messages}?order=oldest")).await;
    assert_eq!((offsets(&oldest_first), &oldest_first["next_cursor"]), (below, &Value::Null));
    for above in ["after_offset=12", "after_time=160000", "before_offset=19&after_offset=10"] {
        let page = ask(&service, &format!("{messages}?{above}")).await;
        assert!(offsets(&page).is_empty(), "{above}: {page}");
    }
    let before = ask(&service, &format!("{messages}?before_offset=18&limit=2")).await;
    assert_eq!(offsets(&before), [10, 9]);
    let id = MessageId::first_at(170_000);
    let around = ask(&service, &format!("{messages}/around/{id}?limit=4")).await;
    assert_eq!(offsets(&around), [10, 9, 8]);
    assert_eq!(text(&service, "/v1/channels/a/export").await.lines().count(), 9);
    let channel = ask(&service, "/v1/channels/a").await;
    assert_eq!(
        (&channel["last"]["offset"], &channel["position"]["offset"]),
        (&10.into(), &10.into())
    );

    store.append((11..=15).map(at).collect()).await.expect("stored");
    let cursor = page["prev_cursor"].as_str().expect("a cursor");
    let since = ask(&service, &format!("{messages}?cursor={cursor}")).await;
    assert_eq!(offsets(&since), (11..=20).rev().collect::<Vec<_>>(), "whoever waits misses none");
    assert_eq!(since["position"]["offset"], 20);

    // A hole is one for good once everything has left that was published before what is above it.
    store.append((23..=24).map(at).collect()).await.expect("stored");
    for (waits_since, top) in [(230_500, 20), (231_500, 24), (NOTHING_WAITS, 24)] {
        oldest.store(waits_since, Ordering::Relaxed);
        let page = ask(&service, &format!("{messages}?limit=3")).await;
        assert_eq!(offsets(&page)[0], top, "{waits_since}");
        assert_eq!(page["position"]["offset"], top, "{waits_since}");
        let lines = text(&service, "/v1/channels/a/export").await.lines().count();
        assert_eq!(lines as u64, if top == 20 { 19 } else { 21 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_which_much_has_expired_is_shown_though_something_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = file(&folder);
    store.append((1..=5).map(record).collect()).await.expect("stored");
    store.expire("a", MessageId::first_at(6), 10).await.expect("dropped");
    store.append(vec![record(6), record(7)]).await.expect("stored");
    let service = service_behind(store, Some(Arc::new(|_| async { Some(0) }.boxed())));
    assert_eq!(offsets(&ask(&service, "/v1/channels/a/messages").await), [7, 6]);
}
