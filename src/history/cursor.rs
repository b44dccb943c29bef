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
        fn no_text_breaks_the_decoder(text in ".{0,30}|[A-Za-z0-9_-]{14}") {
            Cursor::decode(&text);
        }
    }
}
