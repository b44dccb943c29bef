//! What a consumer needs of the streams that it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use super::entry::{Delivered, EntryId, Poison, Ticket};
use crate::protocol::publication::Publication;
use crate::redis::CallError;

/// Archive streams, as one member of their consumer group sees them: in Redis, or in a test's memory.
pub trait Queue: Send {
    /// Up to about `count` entries that are now in this consumer's hands. Waits no longer than
    /// `patience` if there are none.
    fn next(
        &mut self,
        count: usize,
        patience: Duration,
    ) -> impl Future<Output = Result<Vec<Delivered>, CallError>> + Send;

    /// Lets entries leave their streams, and tells that they are stored.
    fn done(&mut self, tickets: &[Ticket]) -> impl Future<Output = Result<(), CallError>> + Send;

    /// The first entries of streams, if they were in somebody else's hands for too long.
    fn abandoned(
        &mut self,
        streams: &[u16],
    ) -> impl Future<Output = Result<Vec<Delivered>, CallError>> + Send;

    /// The first entry that is in each of these streams; streams that cannot be asked are left out.
    fn heads(
        &mut self,
        streams: &[u16],
    ) -> impl Future<Output = Result<BTreeMap<u16, Option<EntryId>>, CallError>> + Send;

    /// Publications that a channel's own stream has at these offsets (ends included), at most
    /// `limit`; none unless it is still in this epoch and cannot have lost anything of it.
    fn at_hand(
        &mut self,
        channel: &str,
        epoch: &str,
        offsets: (u64, u64),
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Publication>, CallError>> + Send;

    /// Puts an entry that cannot be stored aside, for people to look at. It does not leave its stream
    /// by this.
    fn bury(
        &mut self,
        entry: &Delivered,
        why: Poison,
    ) -> impl Future<Output = Result<(), CallError>> + Send;
}
