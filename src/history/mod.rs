//! Reading the archive over HTTP: for backends with the API key, and for users with their tokens.
//!
//! [`HistoryService`] answers what comes in below a prefix, in the gateway or in a process of its own.
//! To add an endpoint: a handler in [`rest`] or [`removal`] with its `utoipa::path`, its line in [`rest::routes`] and
//! in the list of [`openapi`].

mod access;
mod answer;
mod asked;
mod cursor;
mod export;
mod gzip;
mod openapi;
mod place;
mod problem;
mod removal;
mod rest;
mod shapes;
mod shown;

use std::sync::Arc;

use axum::body::Body as AxumBody;
use axum::extract::Request as AxumRequest;
use bytes::Bytes;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, Full};
use hyper::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue, VARY};
use hyper::{Method, Request, Response, StatusCode};
use tower_service::Service;

use self::problem::Problem;
use crate::api::access::Access;
use crate::archive::{Deleted, SharedStore};
use crate::node::Rules;
use crate::time::Clock;
use crate::transport::origin::{AllowedOrigins, add_cors, add_preflight};
use crate::transport::routes::{Body, empty};

/// What the service is made of.
#[derive(Clone)]
pub struct Parts {
    pub store: SharedStore,
    /// The channel rules and tokens in force.
    pub rules: InForce,
    /// What backends must show.
    pub access: Access,
    /// Asked for how late the store may be, where something brings into it what waits in a queue.
    pub waits_since: Option<WaitsSince>,
    /// Waited for before a deletion.
    pub settle: Settle,
    /// Told of every deletion, to take it out of copies.
    pub forget: Forget,
    pub origins: AllowedOrigins,
    pub clock: Clock,
    /// `client.insecure`: every user may everything.
    pub insecure: bool,
    /// Where the service is, such as `/history`.
    pub prefix: String,
}

/// Gives the rules in force.
pub type InForce = Arc<dyn Fn() -> Arc<Rules> + Send + Sync>;

/// Called with a channel: since when something waits that may be stored below what is stored already,
/// in unix milliseconds; none if nothing waits.
pub type WaitsSince = Arc<dyn Fn(&str) -> BoxFuture<'static, Option<i64>> + Send + Sync>;

/// Called with a channel and what was deleted in it; fails if there may be copies left.
pub type Forget =
    Arc<dyn Fn(&str, &Deleted) -> BoxFuture<'static, Result<(), CopiesLeft>> + Send + Sync>;

/// Called with a channel before anything is deleted in it: waits until what was published until then
/// is stored, since it would come in behind the deletion; fails if that takes too long.
pub type Settle = Arc<dyn Fn(&str) -> BoxFuture<'static, Result<(), NotSettled>> + Send + Sync>;

/// Publications still wait to be stored. Nothing was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSettled;

/// A deleted message may still be in a stream. Deleting once more is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiesLeft;

/// See the [module](self).
pub struct HistoryService {
    router: axum::Router,
    origins: AllowedOrigins,
}

/// The methods that are answered, some of them by saying that no path takes them.
pub const METHODS: [Method; 6] =
    [Method::GET, Method::DELETE, Method::OPTIONS, Method::POST, Method::PUT, Method::PATCH];

impl HistoryService {
    pub fn new(parts: Parts) -> Self {
        let origins = parts.origins.clone();
        let prefix = parts.prefix.trim_end_matches('/').to_owned();
        let routes = rest::routes(Arc::new(parts));
        let router = match prefix.is_empty() {
            true => routes,
            false => axum::Router::new().nest(&prefix, routes).fallback(rest::nothing),
        };
        Self { router, origins }
    }

    /// Answers a request for the prefix or below it.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let headers = request.headers().clone();
        if !self.origins.allow(&headers) {
            return convert(Problem::foreign_origin().response(), &headers).await;
        }
        let mut response = if request.method() == Method::OPTIONS {
            preflight(&headers)
        } else {
            let request: AxumRequest = request.map(AxumBody::new);
            // Cannot fail: a router answers every request, as its error type says.
            let answered = self.router.clone().call(request).await;
            let response = answered.unwrap_or_else(|never| match never {});
            convert(response, &headers).await
        };
        if response.status() != StatusCode::NO_CONTENT {
            add_cors(&headers, response.headers_mut());
        }
        response
    }
}

fn preflight(headers: &HeaderMap) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    add_preflight(headers, response.headers_mut());
    let methods = HeaderValue::from_static("GET, DELETE, OPTIONS");
    response.headers_mut().insert(hyper::header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    response
}

/// A response as the listeners send it: compressed where the client takes that and it is worth it.
async fn convert(response: Response<AxumBody>, request: &HeaderMap) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let takes_gzip = gzip::accepted(request.get_all(ACCEPT_ENCODING));
    head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    if head.extensions.get::<export::Streamed>().is_some() {
        let parts = body.into_data_stream();
        let parts = TryStreamExt::map_err(parts, std::io::Error::other);
        let parts: futures_util::stream::BoxStream<'static, _> = match takes_gzip {
            true => {
                gzip::mark(&mut head.headers);
                Box::pin(gzip::compress_parts(parts))
            }
            false => Box::pin(parts),
        };
        return Response::from_parts(head, Body::Parts(parts));
    }
    let whole = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let whole = match takes_gzip && gzip::is_worth_it(&whole) {
        true => {
            gzip::mark(&mut head.headers);
            gzip::compress(&whole)
        }
        false => whole,
    };
    Response::from_parts(head, Body::Whole(Full::new(whole)))
}

#[cfg(test)]
mod tests;
