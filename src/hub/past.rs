//! Subscriptions that are brought up to the present page by page. What is published meanwhile is not
//! kept for them: they read it in its turn.

use std::sync::Arc;

use super::broadcast::{Encodings, Event, Form};
use super::entry::Delivery;
use super::{Hub, Message, Reserved};
use crate::protocol::frame::Codec;
use crate::protocol::publication::Publication;

impl Hub {
    /// Queues the messages that come `first` and, in the place of what is published, leaves the
    /// subscription to be fed with what lies between.
    pub fn catch_up(&self, reserved: &Reserved, first: impl IntoIterator<Item = Message>) {
        self.with_entry(reserved, |entry| {
            first.into_iter().for_each(|message| entry.connection.outbox.push(message));
            entry.catch_up(&reserved.channel);
        });
    }

    /// Queues publications of the past, in order. False if the subscription is gone, or is not one
    /// that catches up.
    pub fn feed(&self, reserved: &Reserved, past: Vec<Message>) -> bool {
        let fed = self.with_entry(reserved, |entry| {
            let feeds = entry.is_catching_up();
            if feeds {
                past.into_iter().for_each(|message| entry.connection.outbox.push(message));
            }
            feeds
        });
        fed.unwrap_or(false)
    }

    /// From here on keeps what is published: the present is near. False as for [`Hub::feed`].
    pub fn hold(&self, reserved: &Reserved) -> bool {
        self.with_entry(reserved, |entry| entry.hold()).unwrap_or(false)
    }

    /// The present was not as near: what was kept is dropped, and read in its turn.
    pub fn release(&self, reserved: &Reserved) {
        self.with_entry(reserved, |entry| entry.catch_up(&reserved.channel));
    }

    /// The message of a past publication for a subscriber; none if its filter holds it back.
    ///
    /// # Errors
    /// The payload does not fit the codec.
    pub fn encode_past(
        &self,
        reserved: &Reserved,
        codec: Codec,
        delivery: &Delivery,
        publication: &Arc<Publication>,
        epoch: &str,
    ) -> Result<Option<Message>, UnfitPayload> {
        if delivery.filter.as_ref().is_some_and(|filter| !filter.matches(&publication.tags)) {
            return Ok(None);
        }
        let event = Event::Publication {
            publication: Arc::clone(publication),
            previous: None,
            epoch: epoch.into(),
        };
        let mut encodings = Encodings::new(&reserved.channel, reserved.id, &event);
        let form = if delivery.delta { Form::Whole } else { Form::Plain };
        let message = encodings.get(codec, delivery.compact, form);
        encodings.count(&self.metrics);
        message.map(Some).ok_or(UnfitPayload)
    }
}

/// A payload that a client's codec cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnfitPayload;
