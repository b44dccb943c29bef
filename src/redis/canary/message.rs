//! What a canary says, as text: `singer:number:microseconds`, and in a cluster `:master` behind it.

use std::fmt;

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Canary<'a> {
    pub singer: &'a str,
    pub number: u64,
    /// Microseconds since the singer's origin.
    pub sent_us: u64,
    /// What the cluster calls the master that it went over; empty where there is only one.
    pub master: &'a str,
}

impl<'a> Canary<'a> {
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(payload).ok()?.split(':');
        let canary = Self {
            singer: parts.next()?,
            number: parts.next()?.parse().ok()?,
            sent_us: parts.next()?.parse().ok()?,
            master: parts.next().unwrap_or_default(),
        };
        parts.next().is_none().then_some(canary)
    }
}

impl fmt::Display for Canary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { singer, number, sent_us, master } = self;
        write!(f, "{singer}:{number}:{sent_us}")?;
        // Nodes that know of no masters understand the short one alone.
        if master.is_empty() { Ok(()) } else { write!(f, ":{master}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_canary_is_none() {
        for text in ["", "a", "a:1", "a:1:2:m:3", "a:x:1", "a:1:-1", "a:1:99999999999999999999999"]
        {
            assert_eq!(Canary::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Canary::parse(&[0xff, 0xfe]), None);
    }

    #[test]
    fn a_canary_is_read_as_it_was_written_with_a_master_and_without() {
        for (master, text) in [("", "a:1:2"), ("m", "a:1:2:m")] {
            let canary = Canary { singer: "a", number: 1, sent_us: 2, master };
            assert_eq!(canary.to_string(), text);
            assert_eq!(Canary::parse(text.as_bytes()), Some(canary));
        }
    }
}
