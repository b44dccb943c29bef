//! What a recovering subscriber missed, on its way to the client.
//!
//! After an outage thousands of clients come back from the same position at once and miss the same
//! publications. A thread remembers the list that it encoded last.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;

use crate::channel::Channel;
use crate::protocol::EncodeError;
use crate::protocol::frame::{Codec, EncodedPublications};
use crate::protocol::publication::Publication;
use crate::protocol::reply::{Reply, SubscribeResult};

/// Bytes of payloads in the largest list that a thread remembers.
const MAX_REMEMBERED: usize = 1_024 * 1_024;

/// Publications of the past for one subscriber, oldest first.
#[derive(Debug)]
pub enum Missed {
    /// As everybody gets them.
    Whole(Vec<Arc<Publication>>),
    /// The first whole, the others as patches.
    Patches(Vec<Publication>),
}

impl Default for Missed {
    fn default() -> Self {
        Self::Whole(Vec::new())
    }
}

impl Missed {
    /// For a message in which they are one part among others.
    pub fn into_publications(self, channel: &str) -> Vec<Publication> {
        match self {
            Self::Whole(publications) => shown(&publications, channel),
            Self::Patches(publications) => publications,
        }
    }

    /// The reply to the subscribe command `id`, with `result`, which has none of them yet.
    ///
    /// # Errors
    /// JSON: if a payload in it is not valid JSON.
    pub fn encode_reply(
        self,
        codec: Codec,
        id: u32,
        channel: &Channel,
        result: SubscribeResult,
    ) -> Result<Bytes, EncodeError> {
        match self {
            Self::Whole(publications) if is_worth_remembering(&publications) => REMEMBERED
                .with_borrow_mut(|last| {
                    if !last.is(codec, channel, &publications) {
                        *last = Remembered::new(codec, channel, publications)?;
                    }
                    last.encoded.encode_subscribed(id, &result)
                }),
            missed => {
                let publications = missed.into_publications(channel);
                let subscribe = Some(SubscribeResult { publications, ..result });
                codec.encode_reply(&Reply { id, subscribe, ..Reply::default() })
            }
        }
    }
}

/// A list, encoded.
struct Remembered {
    channel: Channel,
    publications: Vec<Arc<Publication>>,
    encoded: EncodedPublications,
}

impl Remembered {
    fn new(
        codec: Codec,
        channel: &Channel,
        publications: Vec<Arc<Publication>>,
    ) -> Result<Self, EncodeError> {
        let encoded = codec.encode_publications(&shown(&publications, channel))?;
        Ok(Self { channel: channel.clone(), publications, encoded })
    }

    fn is(&self, codec: Codec, channel: &Channel, publications: &[Arc<Publication>]) -> bool {
        self.encoded.codec() == codec
            && self.publications.len() == publications.len()
            && self.channel == *channel
            && self
                .publications
                .iter()
                .zip(publications)
                .all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

thread_local! {
    static REMEMBERED: RefCell<Remembered> = RefCell::new(Remembered {
        channel: Channel::from(""),
        publications: Vec::new(),
        encoded: EncodedPublications::Protobuf(Bytes::new()),
    });
}

/// A thread keeps the list until the next one, so it must not be large.
fn is_worth_remembering(publications: &[Arc<Publication>]) -> bool {
    let bytes: usize = publications.iter().map(|publication| publication.data.len()).sum();
    !publications.is_empty() && bytes <= MAX_REMEMBERED
}

fn shown(publications: &[Arc<Publication>], channel: &str) -> Vec<Publication> {
    publications.iter().map(|publication| publication.for_client_history(channel)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publications(texts: &[&'static str]) -> Vec<Arc<Publication>> {
        let publication = |(index, text): (usize, &&'static str)| {
            let data = Bytes::from_static(text.as_bytes());
            Arc::new(Publication { offset: index as u64 + 1, data, ..Publication::default() })
        };
        texts.iter().enumerate().map(publication).collect()
    }

    fn reply(codec: Codec, channel: &str, missed: &[Arc<Publication>]) -> Reply {
        let result = SubscribeResult { recovered: true, offset: 7, ..SubscribeResult::default() };
        let missed = Missed::Whole(missed.to_vec());
        let bytes =
            missed.encode_reply(codec, 3, &Channel::from(channel), result).expect("encodes");
        codec.replies(bytes).next().expect("one").expect("decodes")
    }

    #[test]
    fn each_client_gets_its_own_list_whatever_was_encoded_before() {
        let (one, two) = (publications(&["1", "2"]), publications(&["3", "4"]));
        for codec in [Codec::Json, Codec::Protobuf] {
            for (channel, missed) in [
                ("a", &one[..]),
                ("a", &one),
                ("a", &two),
                ("a", &two[..1]),
                ("a", &[]),
                ("b", &one),
            ] {
                let reply = reply(codec, channel, missed);
                let result = reply.subscribe.expect("a result");
                assert_eq!((reply.id, result.offset, result.recovered), (3, 7, true));
                assert_eq!(result.publications, shown(missed, channel));
            }
        }
    }

    #[test]
    fn a_payload_that_does_not_fit_the_codec_spoils_nothing_for_the_next() {
        let (bad, good) = (publications(&["not json"]), publications(&["1"]));
        assert_eq!(reply(Codec::Protobuf, "a", &bad).subscribe.expect("one").publications.len(), 1);
        let result = SubscribeResult::default();
        let refused = Missed::Whole(bad).encode_reply(Codec::Json, 1, &Channel::from("a"), result);
        assert_eq!(refused, Err(EncodeError));
        assert_eq!(reply(Codec::Json, "a", &good).subscribe.expect("one").publications.len(), 1);
    }
}
