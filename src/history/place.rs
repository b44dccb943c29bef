//! What the path of a request names: a channel, and a message of it.

use axum::extract::{FromRequestParts, Path};
use hyper::http::request::Parts as Head;
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// The parts of a path that stand in braces in its route. A refusal is worded as every other.
pub struct Place<T>(pub T);

impl<T, S> FromRequestParts<S> for Place<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(head: &mut Head, state: &S) -> Result<Self, Problem> {
        let found = Path::<T>::from_request_parts(head, state).await;
        found
            .map(|Path(found)| Self(found))
            .map_err(|_| Problem::bad("channel", "must be UTF-8, percent-encoded in the path"))
    }
}
