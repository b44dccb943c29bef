//! What went wrong with a request, as its sender is told.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use utoipa::ToSchema;

use crate::archive::StoreError;

/// An error answer. `code` is for programs and never changes its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// One of `bad_request`, `unauthorized`, `permission_denied`, `not_archived`, `unknown_channel`,
    /// `not_found`, `method_not_allowed`, `unavailable`, `internal`.
    pub code: &'static str,
    /// The code in words.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong here, and what is allowed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The parameter that is at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
}

/// Seconds after which a store that is away may be asked again.
const RETRY: HeaderValue = HeaderValue::from_static("1");

impl Problem {
    fn new(code: &'static str, title: &'static str, status: StatusCode) -> Self {
        Self { code, title, status: status.as_u16(), detail: String::new(), field: None }
    }

    fn saying(self, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// `field` is not what it has to be.
    pub fn bad(field: &'static str, detail: impl Into<String>) -> Self {
        let problem = Self::new("bad_request", "Bad request", StatusCode::BAD_REQUEST);
        Self { field: Some(field.into()), ..problem.saying(detail) }
    }

    /// What was asked cannot be meant.
    pub fn bad_query(detail: impl Into<String>) -> Self {
        Self::new("bad_request", "Bad request", StatusCode::BAD_REQUEST).saying(detail)
    }

    /// The query is not read: a parameter is unknown or comes twice. The parser's words have its name
    /// in backticks, before those that are known.
    pub fn unread_query(words: &str) -> Self {
        let detail = words.rsplit_once("query string: ").map_or(words, |(_, what)| what);
        let field = detail.split('`').nth(1).map(|name| Cow::Owned(name.to_owned()));
        Self { field, ..Self::bad_query(detail) }
    }

    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new("unauthorized", "Unauthorized", StatusCode::UNAUTHORIZED).saying(detail)
    }

    pub fn denied(detail: impl Into<String>) -> Self {
        Self::new("permission_denied", "Permission denied", StatusCode::FORBIDDEN).saying(detail)
    }

    pub fn foreign_origin() -> Self {
        Self::denied("client.allowed_origins does not name the page's origin")
    }

    pub fn unknown_channel() -> Self {
        Self::new("unknown_channel", "Unknown channel", StatusCode::NOT_FOUND)
            .saying("the channel's namespace is not configured")
    }

    pub fn not_archived() -> Self {
        Self::new("not_archived", "Not archived", StatusCode::NOT_FOUND)
            .saying("the channel's namespace does not have history_archive")
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new("not_found", "Not found", StatusCode::NOT_FOUND).saying(detail)
    }

    /// Publications still wait to be stored.
    pub fn not_settled() -> Self {
        Self::new("unavailable", "Unavailable", StatusCode::SERVICE_UNAVAILABLE)
            .saying("nothing was deleted: publications still wait to be stored, try again")
    }

    /// Deleted messages may still be in a stream.
    pub fn copies_left() -> Self {
        Self::new("unavailable", "Unavailable", StatusCode::SERVICE_UNAVAILABLE)
            .saying("deleted, but the stream at hand may have it still: delete the range once more")
    }

    pub fn method_not_allowed() -> Self {
        Self::new("method_not_allowed", "Method not allowed", StatusCode::METHOD_NOT_ALLOWED)
            .saying("the path takes other methods; see openapi.json")
    }

    pub fn response(self) -> Response {
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        let status = StatusCode::from_u16(self.status);
        *response.status_mut() = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, RETRY);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the history service could not read its store");
        match error {
            StoreError::BadRequest(what) => Self::bad_query(what),
            StoreError::Damaged(_) => {
                Self::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR)
            }
            StoreError::Full
            | StoreError::Busy
            | StoreError::Unavailable(_)
            | StoreError::Unknown => {
                Self::new("unavailable", "Unavailable", StatusCode::SERVICE_UNAVAILABLE)
                    .saying("the store does not answer now, try again")
            }
        }
    }
}
