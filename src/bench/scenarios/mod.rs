//! A file per scenario.

pub mod idle;
pub mod fanout;
pub mod chat;
pub mod slow;
pub mod publish;
pub mod storm;
pub mod presence;

use crate::protocol::command::SubscribeRequest;

/// A plain subscription to a channel.
fn subscription(channel: String) -> SubscribeRequest {
    SubscribeRequest { channel, ..SubscribeRequest::default() }
}
