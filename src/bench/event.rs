//! What the engine tells of its connections.

use bytes::Bytes;

use super::payload::Mark;
use crate::protocol::reply::{Push, Reply};

/// The number of a connection in the engine. When the connection is gone, another may get it.
pub type Peer = usize;

/// Something that happened on a connection.
#[derive(Clone, Debug)]
pub enum Event {
    /// A publication of the run came.
    Published(Delivery),
    /// The connection is open and all its subscriptions are made, so many nanoseconds after it began
    /// to connect.
    Ready { peer: Peer, took_ns: u64 },
    /// The server took what was published with the command of this id.
    Acknowledged { peer: Peer, id: u32 },
    /// The server answered connect or a subscription of the first frame with this message, which is
    /// no error. Decoding it takes longer than reading it, and can wait.
    Made { peer: Peer, message: Bytes },
    /// Any other reply.
    Replied { peer: Peer, reply: Box<Reply>, at_ns: u64 },
    /// Anything else that the server sent of itself.
    Pushed { peer: Peer, push: Box<Push> },
    /// The server API answered a request, with this body if it was no error.
    Answered { peer: Peer, outcome: Result<Vec<u8>, String>, at_ns: u64 },
    /// The connection is gone, and not because it was asked to be.
    Closed { peer: Peer, why: String },
}

impl Event {
    /// The connection that it happened on.
    pub fn peer(&self) -> Peer {
        match self {
            Self::Published(delivery) => delivery.peer,
            Self::Ready { peer, .. }
            | Self::Acknowledged { peer, .. }
            | Self::Made { peer, .. }
            | Self::Replied { peer, .. }
            | Self::Pushed { peer, .. }
            | Self::Answered { peer, .. }
            | Self::Closed { peer, .. } => *peer,
        }
    }
}

/// One publication on its arrival at one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub peer: Peer,
    /// Number of the channel that it came from, where the engine was asked to
    /// [read it](super::engine::Engine::read_channels) and the name is one of the run.
    pub channel: Option<u32>,
    pub mark: Mark,
    /// Position in the channel's stream, 0 without history.
    pub offset: u64,
    /// When it was read, in nanoseconds of the engine's clock.
    pub at_ns: u64,
}

/// What was read since the engine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// WebSocket frames with publications of the run in them.
    pub frames: u64,
    /// Publications of the run.
    pub publications: u64,
    /// Replies to commands behind the first frame of a connection.
    pub replies: u64,
    /// Answers of the server API.
    pub answers: u64,
    pub pings: u64,
}

impl Counters {
    /// What was read since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            frames: self.frames - before.frames,
            publications: self.publications - before.publications,
            replies: self.replies - before.replies,
            answers: self.answers - before.answers,
            pings: self.pings - before.pings,
        }
    }
}
