//! The HTTP surface: keys, statuses, bodies.

use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::api::testing;
use crate::config::ChannelConfig;

const KEY: &str = "swordfish";

/// A caller on a connection of its own to an API that asks for [`KEY`].
struct Caller(SendRequest<Full<Bytes>>);

struct Answered {
    status: u16,
    content_type: String,
    body: String,
}

impl Caller {
    async fn new() -> Self {
        Self::of(false).await.0
    }

    async fn of(errors_as_status: bool) -> (Self, Arc<Node>) {
        let node = testing::node(&ChannelConfig::default());
        let key = Some(Secret::new(KEY));
        let api = Arc::new(HttpApi::new(Arc::clone(&node), key, errors_as_status));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.expect("accept");
            let answer = service_fn(move |request: Request<Incoming>| {
                let api = Arc::clone(&api);
                async move {
                    let path = request.uri().path().to_owned();
                    let method = path.trim_start_matches("/api").trim_start_matches('/');
                    Ok::<_, std::convert::Infallible>(api.handle(request, method).await)
                }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).await;
        });
        let socket = TcpStream::connect(address).await.expect("connect");
        let (sender, connection) = handshake(TokioIo::new(socket)).await.expect("handshake");
        tokio::spawn(connection);
        (Self(sender), node)
    }

    async fn send(&mut self, request: hyper::http::request::Builder, body: &str) -> Answered {
        self.0.ready().await.expect("keep-alive");
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("request");
        let answer = self.0.send_request(request).await.expect("answer");
        let content_type = answer.headers().get(CONTENT_TYPE).cloned();
        Answered {
            status: answer.status().as_u16(),
            content_type: content_type
                .map(|value| value.to_str().expect("ascii").to_owned())
                .unwrap_or_default(),
            body: {
                let body = answer.into_body().collect().await.expect("body").to_bytes();
                String::from_utf8(body.to_vec()).expect("text")
            },
        }
    }

    async fn post(&mut self, path: &str, body: &str) -> Answered {
        self.send(Request::post(path).header("X-API-Key", KEY), body).await
    }
}

#[tokio::test]
async fn results_and_errors_come_with_status_200() {
    let mut caller = Caller::new().await;
    let published = caller.post("/api/publish", r#"{"channel":"a","data":{}}"#).await;
    assert_eq!((published.status, published.body.as_str()), (200, r#"{"result":{}}"#));
    assert_eq!(published.content_type, "application/json");
    let failed = caller.post("/api/publish", r#"{"channel":"no:a","data":{}}"#).await;
    let expected = r#"{"error":{"code":102,"message":"unknown channel"}}"#;
    assert_eq!((failed.status, failed.body.as_str()), (200, expected));
    assert_eq!(failed.content_type, "application/json");
    assert_eq!(caller.post("/api/info", "null").await.status, 200);
}

#[tokio::test]
async fn who_has_not_the_key_is_told_nothing() {
    let mut caller = Caller::new().await;
    for path in ["/api/info", "/api/nothing", "/api", "/api/info?api_key=wrong"] {
        let refused = caller.send(Request::post(path), "{}").await;
        assert_eq!(refused.status, 401, "{path}");
        assert!(refused.body.contains("X-API-Key") && !refused.body.contains(KEY));
    }
    let query = format!("/api/info?api_key={KEY}");
    assert_eq!(caller.send(Request::post(query), "{}").await.status, 200);
    let header = Request::post("/api/info").header("Authorization", format!("apikey {KEY}"));
    assert_eq!(caller.send(header, "{}").await.status, 200);
}

#[tokio::test]
async fn other_verbs_and_methods_do_not_exist() {
    let mut caller = Caller::new().await;
    let got = caller.send(Request::get("/api/info").header("X-API-Key", KEY), "").await;
    assert_eq!(got.status, 405);
    for method in ["nothing", "connections", "map_publish", "shared_poll_publish", "Info", "a/b"] {
        let refused = caller.post(&format!("/api/{method}"), "{}").await;
        assert_eq!(refused.status, 404, "{method}");
        assert!(refused.body.contains("publish, broadcast, "), "{}", refused.body);
    }
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused_with_the_reason() {
    let mut caller = Caller::new().await;
    for (path, body, reason) in [
        ("/api/info", "", "the body is empty"),
        ("/api/info", " \n", "the body is empty"),
        ("/api/batch", "", "the body is empty"),
        ("/api", "", "no command"),
        ("/api/publish", "{\"channel\":", "column 11"),
        ("/api/publish", "{\"channel\":7}", "expected a string at line 1 column 12"),
        ("/api/publish", "{} {}", "trailing characters"),
        ("/api/publish", "[\"a\"]", "array"),
        ("/api/history", "{\"limit\":1e99}", "expected i32"),
        ("/api/batch", "[]", "array"),
        ("/api/batch", "{\"commands\":7}", "a list of at most 10000 commands"),
        ("/api", "{\"id\":1,\"method\":\"info\"", "EOF"),
    ] {
        let refused = caller.post(path, body).await;
        assert_eq!(refused.status, 400, "{path} {body}");
        assert!(refused.body.contains(reason), "{body}: {}", refused.body);
    }
    let in_utf8 = caller.0.send_request(
        Request::post("/api/publish")
            .header("X-API-Key", KEY)
            .body(Full::new(Bytes::from_static(b"{\"channel\":\"\xff\"}")))
            .expect("request"),
    );
    assert_eq!(in_utf8.await.expect("answer").status(), 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let node = testing::node(&ChannelConfig::default());
    let api = HttpApi::new(node, None, false);
    // The body never comes, so an answer means that it was not waited for.
    let declared = Declared { length: MAX_BODY as u64 + 1 };
    let refused = api.handle(Request::post("/").body(declared).expect("request"), "info").await;
    assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);

    let mut caller = Caller::new().await;
    let full = caller.post("/api/info", &format!("{{}}{}", " ".repeat(MAX_BODY - 2))).await;
    assert_eq!(full.status, 200);
}

#[tokio::test]
async fn errors_come_as_statuses_to_who_wants_them() {
    let expected = r#"{"code":102,"message":"unknown channel"}"#;
    let json = r#"{"channel":"no:a","data":{}}"#;
    let mut caller = Caller::new().await;
    let request = Request::post("/api/publish").header("X-API-Key", KEY);
    let failed = caller.send(request.header("X-Centrifugo-Error-Mode", "transport"), json).await;
    assert_eq!((failed.status, failed.body.as_str()), (404, expected));

    let (mut caller, _) = Caller::of(true).await;
    let failed = caller.post("/api/publish", json).await;
    assert_eq!((failed.status, failed.body.as_str()), (404, expected));
    assert_eq!(failed.content_type, "application/json");
    assert_eq!(caller.post("/api/history", r#"{"channel":"a"}"#).await.status, 400);
}

#[tokio::test]
async fn a_batch_has_its_replies_at_the_top() {
    let mut caller = Caller::new().await;
    let json = r#"{"commands":[{"channels":{}},{"connections":{}},null],"parallel":true}"#;
    let answer = caller.post("/api/batch", json).await;
    let expected = concat!(
        r#"{"replies":[{"channels":{"channels":{}}},{"error":{"code":104,"message":"not found"}},"#,
        r#"{"error":{"code":107,"message":"bad request"}}]}"#
    );
    assert_eq!((answer.status, answer.body.as_str()), (200, expected));
}

#[tokio::test]
async fn the_prefix_itself_takes_a_stream_of_commands() {
    let mut caller = Caller::new().await;
    let json = r#"{"id":1,"method":"channels","params":{}} {"id":2,"method":"nothing"}"#;
    for path in ["/api", "/api/"] {
        let answer = caller.post(path, json).await;
        let lines: Vec<_> = answer.body.lines().collect();
        let error = r#"{"id":2,"error":{"code":104,"message":"not found"}}"#;
        assert_eq!(lines, [r#"{"id":1,"result":{"channels":{}}}"#, error]);
        assert_eq!(answer.content_type, "application/json");
    }
}

#[tokio::test]
async fn calls_and_failures_are_counted() {
    let (mut caller, node) = Caller::of(false).await;
    caller.post("/api/publish", r#"{"channel":"no:a","data":{}}"#).await;
    caller.post("/api/publish", "{").await;
    caller.post("/api/nothing", "{}").await;
    let api = &node.metrics.api;
    let durations = api.command_duration.with((ApiProtocol::Http, ApiMethod::Publish));
    assert_eq!(durations.get_sample_count(), 1, "what was not read did not begin");
    for (method, failure) in [
        (ApiMethod::Publish, ApiFailure::UnknownChannel),
        (ApiMethod::Publish, ApiFailure::Unmarshal),
        (ApiMethod::Unknown, ApiFailure::NotFound),
    ] {
        let count = api.command_errors.with((ApiProtocol::Http, method, failure)).get();
        assert_eq!(count, 1, "{failure:?}");
    }
}

/// A body that says how long it is and never comes.
struct Declared {
    length: u64,
}

impl Body for Declared {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}
