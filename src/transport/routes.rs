//! From a request to its handler.
//!
//! To add an endpoint: register it in the composition root with [`Routes::add`], on the routes of
//! the port it belongs to.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use crate::telemetry::metrics::Metrics;

/// The longest a request body may take to arrive; as Centrifugo's fixed read timeout.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(30);

/// The pattern that requests outside all routes count under.
const NO_ROUTE: &str = "unknown";

/// The body of a response.
pub enum Body {
    Whole(Full<Bytes>),
    /// As it is made; an error ends the connection, so that nobody takes a part for the whole.
    Parts(BoxStream<'static, Result<Bytes, io::Error>>),
}

/// Answers the requests of one route.
pub type Handler =
    Arc<dyn Fn(Request<Incoming>, Peer) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address, as far as trusted proxies tell it: otherwise that of whoever connected.
    /// The port is 0 if it is not known.
    pub addr: SocketAddr,
    /// Whether this server ended TLS on it.
    pub tls: bool,
}

/// The routes of one port.
#[derive(Default)]
pub struct Routes {
    routes: Vec<Route>,
    metrics: Option<Arc<Metrics>>,
}

/// Two routes with one pattern and a method in common, or a pattern that cannot match.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("two endpoints would answer {method} {pattern}: give one another handler_prefix")]
    Taken { method: Method, pattern: String },
    #[error("path {0:?} does not begin with a slash")]
    NoSlash(String),
}

/// Why a request body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("request body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("request body did not arrive in time")]
    Timeout,
    #[error("request body ended early")]
    Broken,
}

struct Route {
    pattern: String,
    methods: Vec<Method>,
    handler: Handler,
}

enum Found<'a> {
    Route(&'a Route),
    /// The path has routes, but none for the method; these are allowed.
    Methods(Vec<&'a Method>),
    Nothing,
}

/// Wraps an async function into a [`Handler`].
pub fn handler<F, A, B>(answer: F) -> Handler
where
    F: Fn(Request<Incoming>, Peer) -> A + Send + Sync + 'static,
    A: Future<Output = Response<B>> + Send + 'static,
    B: Into<Body>,
{
    Arc::new(move |request, peer| {
        let answer = answer(request, peer);
        Box::pin(async { answer.await.map(Into::into) })
    })
}

impl From<Full<Bytes>> for Body {
    fn from(whole: Full<Bytes>) -> Self {
        Self::Whole(whole)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole(_) => "Whole",
            Self::Parts(_) => "Parts",
        })
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(whole) => Pin::new(whole).poll_frame(cx).map_err(|never| match never {}),
            Self::Parts(parts) => {
                parts.as_mut().poll_next(cx).map(|part| part.map(|part| part.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Parts(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Parts(_) => SizeHint::default(),
        }
    }
}

impl Routes {
    /// No routes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts every answer in `node_incoming_http_requests_total`
    /// (`prometheus.instrument_http_handlers`).
    pub fn count_requests(&mut self, metrics: Arc<Metrics>) {
        self.metrics = Some(metrics);
    }

    /// Registers a handler. A pattern is a path, or ends in `/*` and stands for every path below
    /// it. An exact pattern wins over others, a longer one over a shorter one. HEAD is answered
    /// wherever GET is.
    ///
    /// # Errors
    /// A pattern that has a handler for one of the methods, or does not begin with a slash.
    pub fn add(
        &mut self,
        methods: &[Method],
        pattern: &str,
        handler: Handler,
    ) -> Result<(), RouteError> {
        if !pattern.starts_with('/') {
            return Err(RouteError::NoSlash(pattern.to_owned()));
        }
        let mut methods = methods.to_vec();
        if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
            methods.push(Method::HEAD);
        }
        for route in self.routes.iter().filter(|route| route.pattern == pattern) {
            if let Some(method) = methods.iter().find(|method| route.methods.contains(method)) {
                let (method, pattern) = (method.clone(), pattern.to_owned());
                return Err(RouteError::Taken { method, pattern });
            }
        }
        self.routes.push(Route { pattern: pattern.to_owned(), methods, handler });
        // The most specific first; the sort is stable and there are a dozen routes.
        self.routes.sort_by_key(|route| {
            (route.pattern.ends_with("/*"), std::cmp::Reverse(route.pattern.len()))
        });
        Ok(())
    }

    /// The registered patterns, the most specific first.
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.routes.iter().map(|route| route.pattern.as_str())
    }

    /// Answers a request: by its handler, or 404, or 405 with `Allow`.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let method = request.method().clone();
        let (pattern, response) = match self.find(&method, request.uri().path()) {
            Found::Route(route) => (&*route.pattern, (route.handler)(request, peer).await),
            Found::Methods(allowed) => (NO_ROUTE, method_not_allowed(&allowed)),
            Found::Nothing => (NO_ROUTE, text(StatusCode::NOT_FOUND, "not found\n")),
        };
        if let Some(metrics) = &self.metrics {
            metrics.node.http_requests.count(pattern, &method, response.status());
        }
        response
    }

    fn find(&self, method: &Method, path: &str) -> Found<'_> {
        let mut allowed = Vec::new();
        for route in self.routes.iter().filter(|route| route.matches(path)) {
            if route.methods.contains(method) {
                return Found::Route(route);
            }
            for method in &route.methods {
                if !allowed.contains(&method) {
                    allowed.push(method);
                }
            }
        }
        if allowed.is_empty() { Found::Nothing } else { Found::Methods(allowed) }
    }
}

impl Route {
    fn matches(&self, path: &str) -> bool {
        match self.pattern.strip_suffix('*') {
            Some(folder) if folder.ends_with('/') => {
                path.len() > folder.len() && path.starts_with(folder)
            }
            _ => path == self.pattern,
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.patterns()).finish()
    }
}

/// Reads a body of at most `limit` bytes that arrives within `timeout`.
///
/// # Errors
/// See [`BodyError`]; [`BodyError::response`] is what to answer.
pub async fn read_body<B>(body: B, limit: usize, timeout: Duration) -> Result<Bytes, BodyError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // A declared length tells before a single byte is read.
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge(limit));
    }
    match tokio::time::timeout(timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge(limit)),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::Timeout),
    }
}

impl BodyError {
    /// 413, 408 or 400, with the error as text.
    pub fn response(self) -> Response<Body> {
        let status = match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        };
        text(status, format!("{self}\n"))
    }
}

/// A response without a body.
pub fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::default()));
    *response.status_mut() = status;
    response
}

/// A plain text response.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", body)
}

/// A response that is JSON already.
pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    with_type(status, "application/json", body)
}

/// A response of a content type.
pub fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(body.into())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn method_not_allowed(allowed: &[&Method]) -> Response<Body> {
    let names: Vec<_> = allowed.iter().map(|method| method.as_str()).collect();
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
        response.headers_mut().insert(ALLOW, names);
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    fn nothing() -> Handler {
        handler(|_, _| async { empty(StatusCode::OK) })
    }

    fn routes() -> Routes {
        let mut routes = Routes::new();
        for (method, pattern) in [
            (Method::POST, "/api/*"),
            (Method::POST, "/api"),
            (Method::GET, "/connection/websocket"),
            (Method::GET, "/api/docs"),
            (Method::GET, "/*"),
        ] {
            routes.add(&[method], pattern, nothing()).expect("route");
        }
        routes
    }

    fn found(routes: &Routes, method: &Method, path: &str) -> String {
        match routes.find(method, path) {
            Found::Route(route) => route.pattern.clone(),
            Found::Methods(allowed) => format!("{allowed:?}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_most_specific_route_of_a_method_answers() {
        let routes = routes();
        for (method, path, pattern) in [
            (Method::POST, "/api", "/api"),
            (Method::POST, "/api/publish", "/api/*"),
            (Method::POST, "/api/a/b", "/api/*"),
            (Method::GET, "/api/docs", "/api/docs"),
            (Method::HEAD, "/api/docs", "/api/docs"),
            (Method::POST, "/api/docs", "/api/*"),
            (Method::GET, "/api/other", "/*"),
            (Method::GET, "/connection/websocket", "/connection/websocket"),
            (Method::GET, "/connection/websocket/", "/*"),
            (Method::GET, "/", "nothing"),
            (Method::POST, "/connection/websocket", "[GET, HEAD]"),
            (Method::DELETE, "/apiary", "[GET, HEAD]"),
            (Method::GET, "*", "nothing"),
            (Method::GET, "", "nothing"),
        ] {
            assert_eq!(found(&routes, &method, path), pattern, "{method} {path}");
        }
    }

    #[test]
    fn two_handlers_for_one_request_are_refused() {
        let mut routes = routes();
        let error = routes.add(&[Method::GET], "/api/docs", nothing()).expect_err("taken");
        let expected = "two endpoints would answer GET /api/docs: give one another handler_prefix";
        assert_eq!(error.to_string(), expected);
        routes.add(&[Method::PUT], "/api/docs", nothing()).expect("another method");
        let error = routes.add(&[Method::GET], "health", nothing()).expect_err("slash");
        assert_eq!(error, RouteError::NoSlash("health".to_owned()));
    }

    #[test]
    fn a_refused_method_names_the_allowed_ones() {
        let response = method_not_allowed(&[&Method::POST, &Method::OPTIONS]);
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "POST, OPTIONS");
    }

    #[tokio::test]
    async fn bodies_are_read_up_to_their_limit_and_not_past_it() {
        let read = |size: usize| {
            read_body(Full::new(Bytes::from(vec![b'x'; size])), 10, BODY_READ_TIMEOUT)
        };
        assert_eq!(read(10).await.expect("body").len(), 10);
        assert_eq!(read(11).await, Err(BodyError::TooLarge(10)));
        assert_eq!(BodyError::TooLarge(10).response().status().as_u16(), 413);

        // Without a declared length the limit is seen while reading an endless body.
        let endless = futures_util::stream::repeat_with(|| {
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"xxx")))
        });
        let read = read_body(StreamBody::new(endless), 10, BODY_READ_TIMEOUT);
        assert_eq!(Box::pin(read).await, Err(BodyError::TooLarge(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_times_out() {
        let silent = futures_util::stream::pending::<Result<Frame<Bytes>, std::io::Error>>();
        let read = read_body(StreamBody::new(silent), 10, BODY_READ_TIMEOUT);
        assert_eq!(Box::pin(read).await, Err(BodyError::Timeout));
        assert_eq!(BodyError::Timeout.response().status().as_u16(), 408);
    }
}
