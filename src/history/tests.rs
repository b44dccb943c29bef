//! What only a store shows that changes while it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::Request;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::{Forget, HistoryService, Parts, Settle};
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

fn service(store: SharedStore) -> HistoryService {
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
        settle,
        forget,
        origins: AllowedOrigins::new::<&str>(&[]).expect("no patterns"),
        clock: Clock::manual(0),
        insecure: false,
        prefix: String::new(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_on_from_the_position_of_a_page_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = EmbeddedSettings { path: folder.path().join("history.db"), cache: 1 << 20 };
    let store = EmbeddedStore::open(&settings, "e".into()).expect("opens");
    let store: SharedStore = Arc::new(store);
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
        let request = Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = service.answer(request).await.into_body().collect().await;
        let answer = answer.expect("a body").to_bytes();
        let page: Value = serde_json::from_slice(&answer).expect("JSON");
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
        let position = page["position"]["offset"].as_u64().expect("an offset");
        assert!(messages[0]["offset"].as_u64() >= Some(position), "{path}: {page}");
    }
}
