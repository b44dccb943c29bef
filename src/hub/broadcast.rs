//! One event of a channel, encoded once for each variant that a subscriber needs.

use std::sync::Arc;

use bytes::Bytes;
use compact_str::CompactString;

use super::message::Message;
use crate::channel::Channel;
use crate::protocol::delta::{self, DeltaForm};
use crate::protocol::frame::Codec;
use crate::protocol::publication::{ClientInfo, Publication};
use crate::protocol::reply::{Join, Leave, Push};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::metrics::labels::{FrameType, MessageType, Transport};

/// Something that happens in a channel. Cheap to clone: everything in it is shared.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Publication {
        publication: Arc<Publication>,
        /// The data of the publication before it, if patches against it are allowed.
        previous: Option<Bytes>,
        epoch: CompactString,
    },
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
}

impl Event {
    pub fn kind(&self) -> MessageType {
        match self {
            Self::Publication { .. } => MessageType::Publication,
            Self::Join(_) => MessageType::Join,
            Self::Leave(_) => MessageType::Leave,
        }
    }

    fn frame_type(&self) -> FrameType {
        match self {
            Self::Publication { .. } => FrameType::PushPublication,
            Self::Join(_) => FrameType::PushJoin,
            Self::Leave(_) => FrameType::PushLeave,
        }
    }
}

/// How the data of a publication is written for a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As it is.
    Plain,
    /// For subscribers that negotiated patches, the data itself.
    Whole,
    /// For subscribers that negotiated patches and hold the base: a patch if that is smaller.
    Patch,
}

const CODECS: usize = 2;
const ADDRESSES: usize = 2;
const FORMS: usize = 3;

/// The event's messages, made when first asked for; `None` inside when it cannot be encoded.
pub(super) struct Encodings<'a> {
    channel: &'a Channel,
    channel_id: i64,
    event: &'a Event,
    made: [Option<Option<Message>>; CODECS * ADDRESSES * FORMS],
    /// Messages handed out, and their bytes.
    messages: u64,
    bytes: u64,
    /// Subscribers whose filter held the event back.
    pub filtered: u64,
}

impl<'a> Encodings<'a> {
    pub fn new(channel: &'a Channel, channel_id: i64, event: &'a Event) -> Self {
        Self {
            channel,
            channel_id,
            event,
            made: Default::default(),
            messages: 0,
            bytes: 0,
            filtered: 0,
        }
    }

    /// The message for subscribers of one kind; `None` if the payload does not fit the codec.
    pub fn get(&mut self, codec: Codec, compact: bool, form: Form) -> Option<Message> {
        let message = self.shared(codec, compact, form)?;
        self.messages += 1;
        self.bytes += message.payload().len() as u64;
        Some(message)
    }

    /// Adds what was handed out to the node's metrics.
    pub fn count(&self, metrics: &Metrics) {
        let sent = (Transport::Websocket, self.event.frame_type());
        metrics.transport.messages_sent.with(sent).inc_by(self.messages);
        metrics.transport.messages_sent_size.with(sent).inc_by(self.bytes);
        metrics.node.tags_filter_dropped.inc_by(self.filtered);
    }

    fn shared(&mut self, codec: Codec, compact: bool, form: Form) -> Option<Message> {
        let codec_index = match codec {
            Codec::Json => 0,
            Codec::Protobuf => 1,
        };
        let form_index = match form {
            Form::Plain => 0,
            Form::Whole => 1,
            Form::Patch => 2,
        };
        let slot = (codec_index * ADDRESSES + usize::from(compact)) * FORMS + form_index;
        if let Some(made) = self.made.get(slot).and_then(Option::as_ref) {
            return made.clone();
        }
        let message = self.encode(codec, compact, form).map(|text| Message::new(codec, &text));
        if let Some(place) = self.made.get_mut(slot) {
            *place = Some(message.clone());
        }
        message
    }

    fn encode(&self, codec: Codec, compact: bool, form: Form) -> Option<Bytes> {
        let mut push = Push::default();
        match self.event {
            Event::Publication { publication, previous, epoch } => {
                let previous = previous.as_deref();
                let seen = self.seen(codec, publication, previous, epoch, form)?;
                if !compact {
                    return codec.encode_publication(self.channel, &seen).ok();
                }
                push.publication = Some(seen);
            }
            Event::Join(info) => push.join = Some(Join { info: Some(ClientInfo::clone(info)) }),
            Event::Leave(info) => push.leave = Some(Leave { info: Some(ClientInfo::clone(info)) }),
        }
        if compact {
            push.id = self.channel_id;
        } else {
            push.channel = self.channel.to_string();
        }
        codec.encode_push(&push).ok()
    }

    /// What a subscriber sees of a live publication.
    fn seen(
        &self,
        codec: Codec,
        publication: &Publication,
        previous: Option<&[u8]>,
        epoch: &str,
        form: Form,
    ) -> Option<Publication> {
        let base = match form {
            Form::Plain => {
                let seen = publication.for_client_live(self.channel);
                let epoch = if publication.offset == 1 { epoch } else { "" };
                return Some(Publication { epoch: epoch.to_owned(), ..seen });
            }
            Form::Whole => None,
            Form::Patch => previous,
        };
        let DeltaForm { data, delta } = delta::encode_for(codec, base, &publication.data).ok()?;
        Some(publication.for_client_delta(self.channel, data, delta))
    }
}
