//! Reading a channel in pages.

use compact_str::CompactString;

use super::message::{Message, MessageId};

/// Which messages to read. Both anchors are exclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageQuery {
    /// Only what lies behind this.
    pub after: Option<Anchor>,
    /// Only what lies before this.
    pub before: Option<Anchor>,
    pub order: Order,
    /// At most so many, and never more than [`MAX_READ`](super::MAX_READ).
    pub limit: usize,
}

/// A place in a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    Id(MessageId),
    /// In one epoch or, without a name, the newest.
    Offset {
        epoch: Option<CompactString>,
        offset: u64,
    },
    /// Unix milliseconds.
    Time(i64),
}

/// From where to where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Messages in the order that was asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub messages: Vec<Message>,
    /// There are more in the direction of the order.
    pub more: bool,
    /// The message right before the oldest of the page, if it is there and of the same epoch.
    pub prev: Option<MessageId>,
}

/// What there is of a channel, as of one moment: nothing in it lies beyond `offset`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Messages that can be read.
    pub count: u64,
    pub first: Option<Message>,
    pub last: Option<Message>,
    /// The message right before the last, if it is there and of the same epoch.
    pub prev: Option<MessageId>,
    /// The newest epoch and the highest offset in it.
    pub epoch: CompactString,
    pub offset: u64,
}
