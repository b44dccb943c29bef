//! What goes over PUB/SUB: publications with their place in the stream, joins and leaves.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use compact_str::CompactString;
use prost::Message;

use crate::protocol::publication::{ClientInfo, Publication};

const JOIN: &[u8] = b"__j__";
const LEAVE: &[u8] = b"__l__";
const POSITIONED: &[u8] = b"__p1:";
const WITH_PREVIOUS: &[u8] = b"__d1:";

/// A message taken apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    Publication {
        publication: Arc<Publication>,
        /// The data of the publication before it, if patches against that are allowed.
        previous: Option<Bytes>,
        /// Empty without a place in the stream.
        epoch: CompactString,
    },
    Join(ClientInfo),
    Leave(ClientInfo),
}

impl Incoming {
    /// Reads a message; `None` if it is none.
    pub fn decode(message: &Bytes) -> Option<Self> {
        if let Some(info) = behind(message, JOIN) {
            return ClientInfo::decode(info).ok().map(Self::Join);
        }
        if let Some(info) = behind(message, LEAVE) {
            return ClientInfo::decode(info).ok().map(Self::Leave);
        }
        if let Some(rest) = behind(message, POSITIONED) {
            let (offset, rest) = number_before_colon(&rest)?;
            let end = rest.windows(2).position(|pair| pair == b"__")?;
            let epoch = text(rest.get(..end)?)?;
            return publication(rest.slice(end + 2..), offset, epoch, None);
        }
        if let Some(rest) = behind(message, WITH_PREVIOUS) {
            let (offset, rest) = number_before_colon(&rest)?;
            let end = rest.iter().position(|byte| *byte == b':')?;
            let epoch = text(rest.get(..end)?)?;
            let (previous, rest) = counted(&rest.slice(end + 1..))?;
            let (last, rest) = counted(&behind(&rest, b":")?)?;
            let previous = match previous.is_empty() {
                true => None,
                false => Some(Publication::decode(previous).ok()?.data),
            };
            return rest.is_empty().then(|| publication(last, offset, epoch, previous))?;
        }
        publication(message.clone(), 0, CompactString::default(), None)
    }

    /// A client's coming, as a message.
    pub fn join(info: &ClientInfo) -> Bytes {
        marked(JOIN, info)
    }

    /// A client's going, as a message.
    pub fn leave(info: &ClientInfo) -> Bytes {
        marked(LEAVE, info)
    }
}

fn publication(
    encoded: Bytes,
    offset: u64,
    epoch: CompactString,
    previous: Option<Bytes>,
) -> Option<Incoming> {
    let mut publication = Publication::decode(encoded).ok()?;
    if publication.offset == 0 {
        publication.offset = offset;
    }
    // Between nodes it only says that patches are allowed.
    publication.delta = false;
    Some(Incoming::Publication { publication: Arc::new(publication), previous, epoch })
}

fn marked(mark: &[u8], info: &ClientInfo) -> Bytes {
    let mut message = BytesMut::with_capacity(mark.len() + info.encoded_len());
    message.extend_from_slice(mark);
    message.extend_from_slice(&info.encode_to_vec());
    message.freeze()
}

fn behind(bytes: &Bytes, mark: &[u8]) -> Option<Bytes> {
    bytes.starts_with(mark).then(|| bytes.slice(mark.len()..))
}

fn number_before_colon(bytes: &Bytes) -> Option<(u64, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b':')?;
    let number = std::str::from_utf8(bytes.get(..end)?).ok()?.parse().ok()?;
    Some((number, bytes.slice(end + 1..)))
}

/// Takes `<length>:<so many bytes>` off the front.
fn counted(bytes: &Bytes) -> Option<(Bytes, Bytes)> {
    let (length, rest) = number_before_colon(bytes)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= rest.len())?;
    Some((rest.slice(..length), rest.slice(length..)))
}

fn text(bytes: &[u8]) -> Option<CompactString> {
    CompactString::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(data: &[u8]) -> Vec<u8> {
        Publication { data: Bytes::copy_from_slice(data), ..Publication::default() }.encode_to_vec()
    }

    fn message(parts: &[&[u8]]) -> Option<Incoming> {
        Incoming::decode(&Bytes::from(parts.concat()))
    }

    fn expected(
        data: &[u8],
        offset: u64,
        epoch: &str,
        previous: Option<&[u8]>,
    ) -> Option<Incoming> {
        let data = Bytes::copy_from_slice(data);
        Some(Incoming::Publication {
            publication: Arc::new(Publication { data, offset, ..Publication::default() }),
            previous: previous.map(Bytes::copy_from_slice),
            epoch: epoch.into(),
        })
    }

    #[test]
    fn a_publication_outside_of_streams_is_bare() {
        assert_eq!(message(&[&encoded(b"x")]), expected(b"x", 0, "", None));
    }

    #[test]
    fn joins_and_leaves_are_marked() {
        let info = ClientInfo { user: "u".into(), client: "c".into(), ..ClientInfo::default() };
        assert_eq!(Incoming::decode(&Incoming::join(&info)), Some(Incoming::Join(info.clone())));
        assert_eq!(Incoming::decode(&Incoming::leave(&info)), Some(Incoming::Leave(info)));
    }

    #[test]
    fn the_first_of_a_stream_has_nothing_before_it() {
        let last = encoded(b"x");
        let length = format!("{}", last.len());
        let parts: [&[u8]; 4] = [b"__d1:1:e:0::", length.as_bytes(), b":", &last];
        assert_eq!(message(&parts), expected(b"x", 1, "e", None));
    }

    #[test]
    fn what_is_cut_or_longer_than_it_says_is_none() {
        let whole = [&b"__d1:1:e:0::3:"[..], &encoded(b"x")].concat();
        assert!(Incoming::decode(&Bytes::from(whole.clone())).is_some());
        for end in 2..whole.len() {
            assert!(message(&[&whole[..end]]).is_none(), "{end}");
        }
        assert!(message(&[&whole, b"x"]).is_none());
        for text in ["__p1:1:e", "__p1:x:e__", "__p1:1__", "__d1:1:e:9:x:1:x", "__x__"] {
            assert!(message(&[text.as_bytes()]).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_place_in_the_stream_is_read(
            data in proptest::collection::vec(any::<u8>(), 0..40),
            before in proptest::collection::vec(any::<u8>(), 1..40),
            offset in 1..u64::MAX,
            epoch in "[a-zA-Z]{1,8}",
        ) {
            let (last, previous) = (encoded(&data), encoded(&before));
            let head = format!("__p1:{offset}:{epoch}__");
            prop_assert_eq!(message(&[head.as_bytes(), &last]), expected(&data, offset, &epoch, None));
            let head = format!("__d1:{offset}:{epoch}:{}:", previous.len());
            let middle = format!(":{}:", last.len());
            let parts = [head.as_bytes(), &previous, middle.as_bytes(), &last];
            prop_assert_eq!(message(&parts), expected(&data, offset, &epoch, Some(&before)));
        }

        #[test]
        fn no_message_breaks_the_reader(
            mark in "(__[pdjl](1:)?)?[0-9:_]{0,20}",
            rest in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = message(&[mark.as_bytes(), &rest]);
        }
    }
}
