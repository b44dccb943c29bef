//! What happens in a drill, as the writers and readers saw it.

use std::time::Duration;

/// A writer, counted from 0.
pub type Writer = u32;
/// A reader, counted from 0.
pub type Reader = u32;
/// What a writer counts its publications with, from 1.
pub type Number = u32;

/// Something that happened, and when: the time since the drill began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub at: Duration,
    pub event: Event,
}

/// One thing that happened. Of one reader, and of one writer, they come in the order of their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A publication goes out. A writer sends the next one when it has an answer to this, and
    /// never sends one twice.
    Sent { writer: Writer, number: Number },
    /// What became of it.
    Answered { writer: Writer, number: Number, outcome: Outcome },
    /// A reader asks for its channel.
    Asked { reader: Reader },
    /// It is subscribed. What it missed follows as [`Event::Got`].
    Joined { reader: Reader, start: Start },
    /// A publication came to a reader.
    Got { reader: Reader, writer: Writer, number: Number },
    /// The reader goes away because it wants to.
    Left { reader: Reader },
    /// It begins to come back from that.
    Returning { reader: Reader },
    /// The gateway ended the subscription, so that the reader asks again.
    Voided { reader: Reader },
    /// The connection ended though the reader wanted it.
    Dropped { reader: Reader },
    /// An attempt to connect, or to subscribe, did not succeed.
    Failed { reader: Reader },
    /// The fault is there.
    Fault,
    /// Another Redis has become the master.
    Promoted,
}

/// The answer to a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Acknowledged,
    /// An error came in the place of it, or it was never sent.
    Refused,
    /// There was no answer.
    Unknown,
}

/// What the gateway said to a reader that subscribed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The reader had no position yet.
    Fresh,
    /// "recovered: true": nothing since the reader's position is missing.
    Recovered,
    /// "recovered: false": something may be missing.
    Told,
}

impl Event {
    /// The reader that it is about.
    pub fn reader(&self) -> Option<Reader> {
        match *self {
            Self::Asked { reader }
            | Self::Joined { reader, .. }
            | Self::Got { reader, .. }
            | Self::Left { reader }
            | Self::Returning { reader }
            | Self::Voided { reader }
            | Self::Dropped { reader }
            | Self::Failed { reader } => Some(reader),
            Self::Sent { .. } | Self::Answered { .. } | Self::Fault | Self::Promoted => None,
        }
    }
}
