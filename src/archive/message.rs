//! A stored message, and its id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;

use crate::protocol::publication::Publication;

/// Low bits of an id: room for a million messages of one channel in one millisecond. The 43 above
/// hold milliseconds up to the year 2248, and the sign stays free.
const COUNTER_BITS: u32 = 20;

/// The highest id: databases know signed numbers.
const MAX_ID: u64 = i64::MAX as u64;

/// Names a message in its channel. Rises with epoch and offset; the high bits are the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(u64);

/// A text that is no id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message id, which is a whole number below 2^63")]
pub struct NotAnId;

/// A message in a channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: MessageId,
    pub epoch: CompactString,
    /// With its offset, and the time of its id.
    pub publication: Arc<Publication>,
}

/// A message and the channel that it goes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub channel: Arc<str>,
    pub message: Message,
}

impl MessageId {
    /// The id of the message that follows `last` in its channel and is published at `unix_ms`. Equal
    /// on every replay, and rising though the clock may step back.
    pub fn next(last: Option<Self>, unix_ms: i64) -> Self {
        let by_time = Self::first_at(unix_ms);
        let by_order = last.map_or(Self(0), |last| Self((last.0 + 1).min(MAX_ID)));
        by_time.max(by_order)
    }

    /// The lowest id of a millisecond.
    pub fn first_at(unix_ms: i64) -> Self {
        let millis = u64::try_from(unix_ms).unwrap_or(0).min(MAX_ID >> COUNTER_BITS);
        Self(millis << COUNTER_BITS)
    }

    /// The id of a number; none above the highest.
    pub fn of(number: u64) -> Option<Self> {
        (number <= MAX_ID).then_some(Self(number))
    }

    pub fn number(self) -> u64 {
        self.0
    }

    /// Unix milliseconds at which the message was published, or some later ones if its channel was
    /// very busy or the clock stepped back.
    pub fn time(self) -> i64 {
        (self.0 >> COUNTER_BITS) as i64
    }
}

impl Message {
    pub fn offset(&self) -> u64 {
        self.publication.offset
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for MessageId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().ok().and_then(Self::of).ok_or(NotAnId)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_id_holds_the_time_and_rises_when_the_clock_does_not() {
        let first = MessageId::next(None, 1_800_000_000_000);
        assert_eq!(first.time(), 1_800_000_000_000);
        let second = MessageId::next(Some(first), 1_800_000_000_000);
        let third = MessageId::next(Some(second), 1_700_000_000_000);
        assert!(first < second && second < third);
        assert_eq!(third.time(), first.time());
    }

    #[test]
    fn only_numbers_that_a_database_holds_are_ids() {
        assert_eq!("12".parse(), Ok(MessageId(12)));
        assert_eq!("9223372036854775807".parse(), Ok(MessageId(MAX_ID)));
        for text in ["", "x", "-1", "9223372036854775808", "1.5"] {
            assert!(text.parse::<MessageId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn ids_rise_whatever_the_clock_does(times in proptest::collection::vec(any::<i64>(), 1..50)) {
            let mut last = None;
            for time in times {
                let next = MessageId::next(last, time);
                prop_assert!(last.is_none_or(|last| next > last || next.number() == MAX_ID));
                last = Some(next);
            }
        }
    }
}
