//! Answers in JSON.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH};
use serde::Serialize;

use super::gzip;
use super::problem::Problem;

pub type Answer = Result<Response, Problem>;

/// The answer, or 304 if the client has this one already.
pub fn fresh(request: &HeaderMap, body: &impl Serialize) -> Answer {
    let text = serde_json::to_vec(body).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let given = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_this = |one: &str| {
        let plain = gzip::plain_tag(one.trim_start_matches("W/"));
        plain == tag || one == "*"
    };
    let mut response = match given.is_some_and(|given| given.split(',').map(str::trim).any(is_this))
    {
        true => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        false => of_text(text),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(ETAG, tag);
    }
    // What one user may read is not for a shared cache.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// A JSON answer.
pub fn json(body: &impl Serialize) -> Response {
    of_text(serde_json::to_vec(body).unwrap_or_default())
}

fn of_text(text: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
