//! What calls of the server API and fresh tokens do to connections that stand.

use bobolink::client::{Client, Error};
use bobolink::protocol::command::{Command, RefreshRequest};
use hyper::Method;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::{SECRET, SOON, Server};

const KEY: &str = "an-api-key";

const RECOVERABLE: &str = "
http_api.key = \"an-api-key\"
[[channel.namespaces]]
name = \"chat\"
history_size = 10
history_ttl = \"60s\"
force_recovery = true
";

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_made_with_recover_since_brings_what_was_missed_in_order() {
    let server = Server::start(RECOVERABLE).await;
    for number in 1..=3 {
        let publication = json!({ "channel": "chat:a", "data": { "number": number } });
        call(&server, "publish", &publication).await;
    }
    let mut client = server.connected("ann").await;
    let subscribe = json!({ "user": "ann", "channel": "chat:a", "recover_since": { "offset": 1 } });
    call(&server, "subscribe", &subscribe).await;
    call(&server, "publish", &json!({ "channel": "chat:a", "data": {} })).await;

    let push = client.push(SOON).await.expect("the subscription");
    let subscribed = push.subscribe.expect("it comes first");
    assert!(subscribed.recoverable);
    assert_eq!(subscribed.offset, 1, "the client counts on from where it was");
    for offset in 2..=4 {
        let (channel, publication) = client.publication(SOON).await.expect("a publication");
        assert_eq!((channel.as_str(), publication.offset), ("chat:a", offset));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_names_an_unknown_namespace_is_an_error_and_no_reconnect() {
    let server = Server::start(RECOVERABLE).await;
    let mut client = server.connected("ann").await;
    let refused = refresh(&mut client, &json!({ "sub": "ann", "channels": ["nowhere:a"] })).await;
    assert_eq!(refused.expect("a reply").map(|error| error.code), Some(102));
    let changed = refresh(&mut client, &json!({ "sub": "ann", "channels": ["chat:a"] })).await;
    assert!(matches!(changed, Err(Error::Closed(close)) if close.code == Some(3010)));
}

async fn refresh(
    client: &mut Client,
    claims: &Value,
) -> Result<Option<bobolink::protocol::reply::Error>, Error> {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), claims, &key).expect("a token");
    let refresh = Some(RefreshRequest { token });
    Ok(client.request(Command { refresh, ..Command::default() }).await?.error)
}

async fn call(server: &Server, method: &str, request: &Value) {
    let (path, body) = (format!("/api/{method}"), request.to_string());
    let headers = [("x-api-key", KEY)];
    let answer = crate::support::http(server.address(), Method::POST, &path, &headers, &body).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert!(answer.body.contains("\"result\""), "{}", answer.body);
}
