//! What may stand in a query, and what is said where it may not.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};

use super::Parts;
use super::problem::Problem;
use crate::archive::{MessageId, Order};

/// Messages of a page, unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;
/// Most messages or channels of a page.
const MAX_LIMIT: usize = 100;

/// What all handlers share.
pub type Service = State<Arc<Parts>>;

/// Wrapped, so that a refusal of the query is ours to word.
pub type Asked<T> = Result<Query<T>, QueryRejection>;

/// How many messages or channels a page has.
pub fn limit(text: Option<&str>) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let number = text.parse().ok().filter(|number| (1..=MAX_LIMIT).contains(number));
    number.ok_or_else(|| Problem::bad("limit", format!("must be from 1 to {MAX_LIMIT}")))
}

/// The order of a listing.
pub fn order(text: Option<&str>) -> Result<Order, Problem> {
    match text {
        None | Some("newest") => Ok(Order::NewestFirst),
        Some("oldest") => Ok(Order::OldestFirst),
        Some(_) => Err(Problem::bad("order", "must be newest or oldest")),
    }
}

/// The id of a message.
pub fn message_id(text: &str, field: &'static str) -> Result<MessageId, Problem> {
    text.parse().map_err(|_| Problem::bad(field, "must be a message id: a number below 2^63"))
}

/// An offset.
pub fn whole(text: &str, field: &'static str) -> Result<u64, Problem> {
    text.parse().map_err(|_| Problem::bad(field, "must be an offset: a number from 0"))
}
