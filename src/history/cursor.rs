//! Cursors: where a page ends, and in which direction the next lies. Opaque to clients.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::archive::{MessageId, Order};

/// A place between two pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub order: Order,
    pub direction: Direction,
    /// The message at the edge of the page that the cursor came with.
    pub edge: MessageId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// On in the order of the listing.
    Next,
    /// Back against it.
    Previous,
}

/// The format, in case a later one looks different.
const VERSION: u8 = 1;

/// A cursor behind a channel of this name, which may have characters that a URL has not.
pub fn encode_name(name: &str) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(name.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// None for a text that is no such cursor.
pub fn decode_name(text: &str) -> Option<String> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, name) = bytes.split_first()?;
    (*version == VERSION).then(|| String::from_utf8(name.to_vec()).ok()).flatten()
}

impl Cursor {
    pub fn encode(self) -> String {
        let order = u8::from(self.order == Order::OldestFirst);
        let direction = u8::from(self.direction == Direction::Previous);
        let mut bytes = vec![VERSION, order << 1 | direction];
        bytes.extend(self.edge.number().to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// None for a text that is none.
    pub fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&[version, flags], edge) = bytes.split_first_chunk()?;
        if version != VERSION || flags > 3 {
            return None;
        }
        Some(Self {
            order: if flags & 2 == 0 { Order::NewestFirst } else { Order::OldestFirst },
            direction: if flags & 1 == 0 { Direction::Next } else { Direction::Previous },
            edge: MessageId::of(u64::from_be_bytes(edge.try_into().ok()?))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(number in 0..i64::MAX as u64, old: bool, back: bool) {
            let cursor = Cursor {
                order: if old { Order::OldestFirst } else { Order::NewestFirst },
                direction: if back { Direction::Previous } else { Direction::Next },
                edge: MessageId::of(number).expect("an id"),
            };
            prop_assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        }

        #[test]
        fn a_name_survives_its_cursor(name in ".{0,40}") {
            prop_assert_eq!(decode_name(&encode_name(&name)), Some(name));
        }

        #[test]
        fn no_text_breaks_the_decoders(text in ".{0,30}|[A-Za-z0-9_-]{14}") {
            Cursor::decode(&text);
            decode_name(&text);
        }
    }
}
