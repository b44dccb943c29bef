//! Walking over the buckets of an epoch, the lowest first.

use super::layout::{Header, Shelf, bucket_of};
use super::looks::{HEADERS, Looks};
use crate::archive::{Order, StoreError};

/// Buckets without their messages, [`HEADERS`] at a time; gaps of any size take one look.
pub struct Walk<'a> {
    looks: &'a Looks,
    shelf: &'a Shelf,
    at: i64,
    last: i64,
}

impl<'a> Walk<'a> {
    /// Over the buckets of the offsets from one to another, both included.
    pub fn new(looks: &'a Looks, shelf: &'a Shelf, (from, to): (i64, i64)) -> Self {
        Self { looks, shelf, at: bucket_of(from), last: bucket_of(to) }
    }

    /// The next ones; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Header>>, StoreError> {
        while self.at <= self.last {
            let headers = self.looks.headers(self.shelf, self.at, self.last).await?;
            self.at = self.at.saturating_add(HEADERS);
            if !headers.is_empty() {
                return Ok(Some(headers));
            }
            let rest = (self.at, self.last);
            if rest.0 <= rest.1 {
                let next = self.looks.present(self.shelf, rest, Order::OldestFirst, 1).await?.pop();
                let Some(next) = next else { break };
                self.at = next.number;
            }
        }
        Ok(None)
    }
}
