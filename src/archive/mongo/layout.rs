//! What is stored where: documents, their keys, and the arithmetic of buckets. Pure.
//!
//! | Collection | `_id` | Holds |
//! |---|---|---|
//! | `channels` | the name | `epochs`, the oldest first, each with where it lies and where it ends |
//! | `buckets` | hash of the name, place of the epoch, number | the messages of 64 offsets |
//! | `large_messages` | hash of the name, place, offset, message id | bodies that no bucket has room for |
//! | `store` | `history` | format, and the first epoch of every channel |
//!
//! A bucket's number is the offset divided by 64, so everybody knows where a message belongs without
//! asking. Which offsets were ever stored stands in the bucket as one bit each, written by the same
//! update as the message: there is no moment at which the two differ, and a replay finds its bit set.
//! A deleted message leaves its bit behind.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use compact_str::CompactString;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, RawBsonRef, RawDocument, doc};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use crate::archive::{Message, MessageId, StoreError};
use crate::protocol::publication::Publication;

pub const CHANNELS: &str = "channels";
pub const BUCKETS: &str = "buckets";
pub const LARGE: &str = "large_messages";
pub const STORE: &str = "store";

/// Offsets of a bucket: one bit each in a number of 64 bits, and a quarter of a block that recovering
/// clients share. A bucket of messages of 100 bytes is a document of 8 KB.
pub const BUCKET: u64 = 64;

/// A longer body gets a document of its own, so that a bucket stays below 1 MiB (a document may have
/// 16 MiB).
pub const INLINE: usize = 16 * 1024;

/// The longest body: what fits a document of MongoDB with room for its key.
pub const LARGEST: usize = 15 * 1024 * 1024;

/// What a key has of a channel's name.
const HASH_BYTES: usize = 16;

/// What stands in front of a body: its id.
const ID_BYTES: usize = 8;

/// A channel, as `channels` has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChannelDocument {
    #[serde(rename = "_id")]
    pub name: String,
    /// The oldest first; one never leaves its place.
    #[serde(default)]
    pub epochs: Vec<Chapter>,
}

/// An epoch of a channel. `low` and `high` enclose its buckets at any time: they are widened before a
/// bucket is written. So every search has both bounds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chapter {
    pub name: String,
    /// The lowest offset that was ever stored in it.
    pub first: i64,
    /// The lowest bucket.
    pub low: i64,
    /// The highest bucket.
    pub high: i64,
    /// Where it was sealed.
    #[serde(default)]
    pub sealed: Option<i64>,
    /// The highest offset that expired; 0 for none.
    #[serde(default)]
    pub expired: i64,
    /// Raised before and after messages are deleted.
    #[serde(default)]
    pub deletions: i64,
    /// What was counted last.
    #[serde(default)]
    pub counted: Option<Counted>,
}

/// How many messages the lower buckets of an epoch have, none of which can get another one. Holds while
/// the epoch begins where it did, and nothing expires or is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The highest bucket counted.
    pub through: i64,
    pub messages: i64,
    pub first: i64,
    pub expired: i64,
    pub deletions: i64,
}

/// Where the buckets of one epoch of a channel stand.
#[derive(Clone, Debug)]
pub struct Shelf {
    hash: [u8; HASH_BYTES],
    pub place: i32,
}

/// A bucket without its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub place: i32,
    pub number: i64,
    /// Offsets that were ever stored, the lowest in the lowest bit.
    pub stored: u64,
    /// Those of them that were deleted.
    pub deleted: u64,
    /// Those whose body has a document of its own.
    pub large: u64,
    /// The highest id that it ever had.
    pub last_id: i64,
}

/// A bucket.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    pub header: Header,
    /// In order of their offsets.
    pub slots: Vec<Slot>,
}

/// A message in its bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub number: u32,
    pub id: i64,
    /// Its id and the publication as protobuf; only the id if the body is elsewhere.
    pub bytes: Vec<u8>,
}

impl Chapter {
    /// What was counted, if it still holds.
    pub fn counted(&self) -> Option<Counted> {
        let version = (self.first, self.expired, self.deletions);
        self.counted.filter(|one| (one.first, one.expired, one.deletions) == version)
    }

    /// Offsets that can be there: behind what expired, within the buckets.
    pub fn offsets(&self) -> (i64, i64) {
        let bottom = first_offset(self.low).max(1).max(self.expired.saturating_add(1));
        (bottom, last_offset(self.high))
    }
}

impl Shelf {
    pub fn new(channel: &str, place: usize) -> Self {
        Self { hash: hash(channel), place: i32::try_from(place).unwrap_or(i32::MAX) }
    }

    /// The key of a bucket: bytes that compare as hash, place and number do, none of them negative. The
    /// hash comes first, so that channels spread over the shards whatever they are called.
    pub fn id(&self, bucket: i64) -> Binary {
        binary([&self.hash[..], &self.place.to_be_bytes(), &bucket.to_be_bytes()].concat())
    }

    /// The keys of buckets from one to another, both included.
    pub fn ids(&self, from: i64, to: i64) -> Vec<Binary> {
        (from..=to).map(|bucket| self.id(bucket)).collect()
    }

    /// Finds the buckets from one to another, both included.
    pub fn between(&self, from: i64, to: i64) -> Document {
        doc! { "_id": { "$gte": self.id(from), "$lte": self.id(to) } }
    }

    /// The key of a large body. The message's id is in it, so what was never referred to is never
    /// taken for another message.
    pub fn large_id(&self, offset: i64, message: i64) -> Binary {
        let numbers = [offset.to_be_bytes(), message.to_be_bytes()].concat();
        binary([&self.hash[..], &self.place.to_be_bytes(), &numbers].concat())
    }
}

impl Header {
    /// Reads a bucket's document, or what [`header_fields`] leaves of it.
    pub fn read(document: &RawDocument) -> Result<Self, StoreError> {
        let id = document.get_binary("_id").map_err(|error| damaged(&error))?.bytes;
        let behind = id.get(HASH_BYTES..).and_then(<[u8]>::split_first_chunk);
        let (place, rest) = behind.ok_or_else(|| broken("a key"))?;
        let bucket = <[u8; 8]>::try_from(rest).map_err(|error| damaged(&error))?;
        Ok(Self {
            place: i32::from_be_bytes(*place),
            number: i64::from_be_bytes(bucket),
            stored: number(document, "stored")? as u64,
            deleted: number(document, "deleted")? as u64,
            large: number(document, "large")? as u64,
            last_id: number(document, "last_id")?,
        })
    }

    /// Offsets that can be read.
    pub fn living(&self) -> u64 {
        self.stored & !self.deleted
    }

    /// The highest offset that was ever stored in it.
    pub fn top(&self) -> Option<i64> {
        let bit = self.stored.checked_ilog2()?;
        Some(first_offset(self.number) + i64::from(bit))
    }
}

impl Bucket {
    /// Reads a bucket's document.
    pub fn read(document: &RawDocument) -> Result<Self, StoreError> {
        let header = Header::read(document)?;
        let mut slots = Vec::new();
        if let Some(messages) = document.get("messages").map_err(|error| damaged(&error))? {
            let messages = messages.as_document().ok_or_else(|| broken("messages"))?;
            for element in messages {
                let (key, value) = element.map_err(|error| damaged(&error))?;
                slots.push(Slot::read(key.as_str(), value)?);
            }
        }
        slots.sort_unstable_by_key(|slot| slot.number);
        Ok(Self { header, slots })
    }

    /// Its messages that can be read, with their offsets, the lowest first.
    pub fn living(&self) -> impl DoubleEndedIterator<Item = (i64, &Slot)> {
        let (living, first) = (self.header.living(), first_offset(self.header.number));
        let is_living = move |slot: &&Slot| living >> slot.number & 1 == 1;
        self.slots.iter().filter(is_living).map(move |slot| (first + i64::from(slot.number), slot))
    }

    /// Whether the body of a slot has a document of its own.
    pub fn is_large(&self, slot: &Slot) -> bool {
        self.header.large >> slot.number & 1 == 1
    }
}

impl Slot {
    fn read(key: &str, value: RawBsonRef<'_>) -> Result<Self, StoreError> {
        let number = key.parse().ok().filter(|number| u64::from(*number) < BUCKET);
        let number = number.ok_or_else(|| broken("a slot's name"))?;
        let RawBsonRef::Binary(binary) = value else { return Err(broken("a message")) };
        let id = binary.bytes.first_chunk::<ID_BYTES>().ok_or_else(|| broken("a message"))?;
        Ok(Self { number, id: i64::from_be_bytes(*id), bytes: binary.bytes.to_vec() })
    }

    /// The message at an offset; `body` is its body if that is elsewhere.
    pub fn message(
        &self,
        epoch: &CompactString,
        offset: i64,
        body: Option<&[u8]>,
    ) -> Result<Message, StoreError> {
        let id = u64::try_from(self.id).ok().and_then(MessageId::of);
        let id = id.ok_or_else(|| broken("a message's id"))?;
        let body = body.unwrap_or_else(|| self.bytes.get(ID_BYTES..).unwrap_or_default());
        let stored = Publication::decode(body).map_err(|error| damaged(&error))?;
        let publication = Publication { offset: offset as u64, time: id.time(), ..stored };
        Ok(Message { id, epoch: epoch.clone(), publication: Arc::new(publication) })
    }
}

/// What a slot holds of a message, and its body if that needs a document of its own. Offset and time
/// follow from where it stands and from its id.
pub fn pack(message: &Message) -> (Vec<u8>, Option<Vec<u8>>) {
    let stored = Publication { offset: 0, time: 0, ..Publication::clone(&message.publication) };
    let mut bytes = Vec::with_capacity(ID_BYTES + stored.encoded_len());
    bytes.extend_from_slice(&message.id.number().to_be_bytes());
    let body = stored.encode_to_vec();
    if body.len() > INLINE {
        return (bytes, Some(body));
    }
    bytes.extend_from_slice(&body);
    (bytes, None)
}

/// The fields of a [`Header`].
pub fn header_fields() -> Document {
    doc! { "stored": 1, "deleted": 1, "large": 1, "last_id": 1 }
}

pub fn binary(bytes: Vec<u8>) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes }
}

/// The bucket of an offset.
pub fn bucket_of(offset: i64) -> i64 {
    offset.div_euclid(BUCKET as i64)
}

/// The place of an offset in its bucket.
pub fn slot_of(offset: i64) -> u32 {
    offset.rem_euclid(BUCKET as i64) as u32
}

pub fn first_offset(bucket: i64) -> i64 {
    bucket.saturating_mul(BUCKET as i64)
}

pub fn last_offset(bucket: i64) -> i64 {
    first_offset(bucket).saturating_add(BUCKET as i64 - 1)
}

/// The bits of a bucket that stand for offsets from one to another, both included.
pub fn mask(bucket: i64, from: i64, to: i64) -> u64 {
    let (low, high) = (from.max(first_offset(bucket)), to.min(last_offset(bucket)));
    if low > high {
        return 0;
    }
    let above = u64::MAX << slot_of(low);
    above & (u64::MAX >> (BUCKET as u32 - 1 - slot_of(high)))
}

/// The numbers of the bits that are set, the lowest first.
pub fn positions(bits: u64) -> impl Iterator<Item = u32> {
    (0..BUCKET as u32).filter(move |number| bits >> number & 1 == 1)
}

/// Offsets of clients may be any; beyond what a database counts to there is nothing.
pub fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub fn damaged(error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged(error.to_string())
}

pub fn broken(what: &str) -> StoreError {
    StoreError::Damaged(format!("{what} in a bucket is not what it has to be"))
}

/// A whole number, 0 where there is none.
fn number(document: &RawDocument, key: &str) -> Result<i64, StoreError> {
    match document.get(key).map_err(|error| damaged(&error))? {
        None => Ok(0),
        Some(RawBsonRef::Int64(number)) => Ok(number),
        Some(RawBsonRef::Int32(number)) => Ok(number.into()),
        Some(_) => Err(broken(key)),
    }
}

/// The first bytes of the name's SHA-256: part of every key, so it must never change. That two of ten
/// billion names share them has a chance of 1 in 10^18.
fn hash(channel: &str) -> [u8; HASH_BYTES] {
    let digest = digest(&SHA256, channel.as_bytes());
    digest.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_channels_never_change() {
        let id = Shelf::new("chat:42", 1).id(7);
        let hash = 0x55995e1856d884372e5ded3b46f2e11b_u128;
        let expected = [&hash.to_be_bytes()[..], &[0, 0, 0, 1], &[0, 0, 0, 0, 0, 0, 0, 7]].concat();
        assert_eq!(id.bytes, expected);
    }

    #[test]
    fn keys_are_in_the_order_of_places_and_buckets() {
        let keys = [(0, 0), (0, 1), (0, 255), (0, 256), (0, i64::MAX / 64), (1, 0), (256, 3)];
        let keys = keys.map(|(place, bucket)| Shelf::new("a", place).id(bucket).bytes);
        assert!(keys.is_sorted() && keys.iter().all(|key| key.len() == keys[0].len()));
    }

    #[test]
    fn a_mask_has_the_bits_of_its_offsets() {
        assert_eq!(mask(0, 0, 63), u64::MAX);
        assert_eq!(mask(1, 64, 64), 1);
        assert_eq!(mask(1, 0, 127), u64::MAX);
        assert_eq!(mask(1, 127, i64::MAX), 1 << 63);
        assert_eq!(mask(1, 0, 63), 0);
        assert_eq!(mask(1, 128, 500), 0);
        assert_eq!(positions(0b101 | 1 << 63).collect::<Vec<_>>(), [0, 2, 63]);
    }

    proptest! {
        #[test]
        fn every_offset_has_one_bit_in_one_bucket(offset in 0..i64::MAX) {
            let bucket = bucket_of(offset);
            prop_assert_eq!(first_offset(bucket) + i64::from(slot_of(offset)), offset);
            prop_assert_eq!(mask(bucket, offset, offset), 1 << slot_of(offset));
            prop_assert!(first_offset(bucket) <= offset && offset <= last_offset(bucket));
        }

        #[test]
        fn a_mask_is_what_counting_gives(from in 0..200_i64, to in 0..200_i64, bucket in 0..4_i64) {
            let counted = (first_offset(bucket)..=last_offset(bucket))
                .filter(|offset| (from..=to).contains(offset))
                .fold(0, |bits, offset| bits | 1 << slot_of(offset));
            prop_assert_eq!(mask(bucket, from, to), counted);
        }
    }
}
