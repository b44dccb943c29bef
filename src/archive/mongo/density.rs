//! Where a channel ends, and which of its offsets were never stored.

use super::layout::{Chapter, Shelf, first_offset, mask, signed};
use super::looks::Looks;
use super::seek;
use super::walk::Walk;
use crate::archive::{Chain, End, Epoch, MessageId, Span, StoreError, Tail};

/// Where a channel ends.
pub async fn tail(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Option<Tail>, StoreError> {
    let Some(newest) = chapters.last() else { return Ok(None) };
    let (top, last_id) = seek::end(looks, channel, chapters).await?;
    let offset = top.and_then(|top| top.top()).unwrap_or(0) as u64;
    let last_id = MessageId::of(last_id as u64)
        .ok_or_else(|| StoreError::Damaged("an id below zero".into()))?;
    Ok(Some(Tail { epoch: newest.name.as_str().into(), offset, last_id }))
}

/// The epochs of a channel.
pub async fn chain(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Chain, StoreError> {
    let tops = seek::tops(looks, channel, chapters).await?;
    let epochs = chapters.iter().zip(tops).map(|(chapter, top)| {
        let last = top.and_then(|top| top.top()).unwrap_or(0) as u64;
        let first = if last == 0 { 0 } else { chapter.first as u64 };
        let end = chapter.sealed.map_or(End::Open, |sealed| End::SealedAt(sealed as u64));
        Epoch { name: chapter.name.as_str().into(), first, last, end }
    });
    Ok(Chain(epochs.collect()))
}

/// Ranges of a span that were never stored.
pub async fn holes(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
    span: &Span,
    limit: usize,
) -> Result<Vec<(u64, u64)>, StoreError> {
    if span.is_empty() {
        return Ok(Vec::new());
    }
    let mut holes = Holes { reached: span.after, found: Vec::new(), limit };
    if let Some(place) = chapters.iter().position(|chapter| chapter.name == *span.epoch) {
        let shelf = Shelf::new(channel, place);
        let (low, high) = chapters[place].offsets();
        let (from, to) = (low.max(signed(span.after).saturating_add(1)), signed(span.through));
        let mut walk = Walk::new(looks, &shelf, (from, to.min(high)));
        while !holes.is_full()
            && let Some(headers) = walk.next().await?
        {
            for header in &headers {
                let wanted = mask(header.number, from, to);
                holes.take(first_offset(header.number), header.stored & wanted);
            }
        }
    }
    holes.end(span.through);
    Ok(holes.found)
}

/// Holes, found while what is stored passes by in order.
struct Holes {
    /// Up to here everything is known.
    reached: u64,
    found: Vec<(u64, u64)>,
    limit: usize,
}

impl Holes {
    fn is_full(&self) -> bool {
        self.found.len() >= self.limit
    }

    /// Takes the bits of a bucket that begins at `first`.
    fn take(&mut self, first: i64, mut bits: u64) {
        while bits != 0 {
            let start = bits.trailing_zeros();
            let count = (bits >> start).trailing_ones();
            let run = first as u64 + u64::from(start);
            if run > self.reached + 1 && !self.is_full() {
                self.found.push((self.reached + 1, run - 1));
            }
            self.reached = self.reached.max(run + u64::from(count) - 1);
            bits = match start + count {
                64.. => 0,
                behind => bits >> behind << behind,
            };
        }
    }

    fn end(&mut self, through: u64) {
        if self.reached < through && !self.is_full() {
            self.found.push((self.reached + 1, through));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::layout::bucket_of;
    use super::*;

    proptest! {
        #[test]
        fn holes_are_what_is_not_stored(stored: BTreeSet<u8>, after in 0..40_u64) {
            let mut holes = Holes { reached: after, found: Vec::new(), limit: usize::MAX };
            for bucket in 0..4_i64 {
                let bits = stored.iter().map(|offset| i64::from(*offset));
                let bits = bits.filter(|offset| *offset > after as i64 && bucket_of(*offset) == bucket);
                let bits = bits.fold(0, |bits, offset| bits | mask(bucket, offset, offset));
                holes.take(first_offset(bucket), bits);
            }
            holes.end(255);
            let found: BTreeSet<u64> = holes.found.iter().flat_map(|(a, b)| *a..=*b).collect();
            let expected = (after + 1..=255).filter(|at| !stored.contains(&(*at as u8)));
            prop_assert_eq!(found, expected.collect::<BTreeSet<_>>());
        }
    }
}
