//! The epochs of a channel, and which positions lead from one into the next. Pure.

use compact_str::CompactString;

use crate::protocol::publication::StreamPosition;

/// A stretch of a channel in which offsets count on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub name: CompactString,
    /// The lowest offset that was ever stored in it, also when that has expired; 0 while it has none.
    pub first: u64,
    /// The highest offset that was ever stored in it; 0 while it has none.
    pub last: u64,
    pub end: End,
}

/// What is known of the end of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Something acknowledged may lie beyond what is stored.
    Open,
    /// Nothing acknowledged lies beyond this offset.
    SealedAt(u64),
}

/// Offsets of one epoch, above `after` and up to `through`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    pub epoch: CompactString,
    pub after: u64,
    pub through: u64,
}

/// All epochs of a channel, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub Vec<Epoch>);

impl Chain {
    /// Everything that lies between a client's position and `top`, which belongs to the channel's
    /// current epoch. None if the position is of no epoch that the channel had, of one whose end is
    /// not known, or beyond the end.
    ///
    /// A position is a claim: the empty epoch matches nothing here.
    pub fn path(&self, from: &StreamPosition, top: &StreamPosition) -> Option<Vec<Span>> {
        if from.epoch.is_empty() {
            return None;
        }
        if from.epoch == top.epoch {
            let (after, through) = (from.offset, top.offset);
            return (after <= through)
                .then(|| vec![Span { epoch: top.epoch.as_str().into(), after, through }]);
        }
        let place = |name: &str| self.0.iter().position(|epoch| epoch.name == name);
        let (start, end) = (place(&from.epoch)?, place(&top.epoch)?);
        let mut spans = Vec::new();
        for (index, epoch) in self.0.iter().enumerate().take(end + 1).skip(start) {
            let after = if index == start { from.offset } else { epoch.first.saturating_sub(1) };
            let through = match epoch.end {
                _ if index == end => top.offset,
                End::SealedAt(sealed) => sealed,
                End::Open => return None,
            };
            if after > through {
                // Beyond the end of its epoch, or an epoch in which nothing came.
                if index == start {
                    return None;
                }
                continue;
            }
            spans.push(Span { epoch: epoch.name.clone(), after, through });
        }
        // From the newest to an older one there is no way.
        (start < end).then_some(spans)
    }
}

impl Span {
    /// How many offsets it has.
    pub fn len(&self) -> u64 {
        self.through.saturating_sub(self.after)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: &str, offset: u64) -> StreamPosition {
        StreamPosition { offset, epoch: epoch.into() }
    }

    fn chain() -> Chain {
        let epoch = |name: &str, first, last, end| Epoch { name: name.into(), first, last, end };
        Chain(vec![
            epoch("open", 1, 4, End::Open),
            epoch("sealed", 5, 9, End::SealedAt(9)),
            epoch("now", 8, 20, End::Open),
        ])
    }

    fn spans(from: (&str, u64), to: (&str, u64)) -> Option<Vec<(String, u64, u64)>> {
        let path = chain().path(&at(from.0, from.1), &at(to.0, to.1))?;
        Some(path.into_iter().map(|s| (s.epoch.to_string(), s.after, s.through)).collect())
    }

    #[test]
    fn within_the_current_epoch_everything_up_to_the_top_is_the_way() {
        assert_eq!(spans(("now", 8), ("now", 20)), Some(vec![("now".into(), 8, 20)]));
        assert_eq!(spans(("now", 20), ("now", 20)), Some(vec![("now".into(), 20, 20)]));
        assert_eq!(spans(("now", 21), ("now", 20)), None, "beyond the top");
    }

    #[test]
    fn a_sealed_epoch_leads_into_the_next() {
        let expected = vec![("sealed".into(), 6, 9), ("now".into(), 7, 20)];
        assert_eq!(spans(("sealed", 6), ("now", 20)), Some(expected));
        assert_eq!(spans(("sealed", 10), ("now", 20)), None, "beyond the seal");
    }

    #[test]
    fn an_open_epoch_never_leads_anywhere() {
        assert_eq!(spans(("open", 4), ("now", 20)), None);
    }

    #[test]
    fn unknown_and_empty_epochs_match_nothing() {
        assert_eq!(spans(("other", 1), ("now", 20)), None);
        assert_eq!(spans(("", 1), ("now", 20)), None);
        assert_eq!(spans(("now", 10), ("sealed", 9)), None, "backwards");
        assert_eq!(spans(("sealed", 6), ("unstored", 20)), None);
    }
}
