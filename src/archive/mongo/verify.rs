//! The walk through a channel that proves what its documents say.

use super::density;
use super::layout::{
    Bucket, Chapter, Header, Shelf, bucket_of, first_offset, mask, positions, slot_of,
};
use super::looks::{Looks, WHOLE};
use super::seek;
use super::walk::Walk;
use crate::archive::{Order, Span, StoreError, Verdict};

/// Holes that are listed one by one.
const LISTED: usize = 1_000;

/// The highest bucket there can be.
const HIGHEST: i64 = i64::MAX / 64;

/// Walks a channel.
pub async fn verify(
    looks: &Looks,
    channel: &str,
    chapters: &[Chapter],
) -> Result<Verdict, StoreError> {
    let mut verdict = Verdict::default();
    let mut highest = -1;
    let tops = seek::tops(looks, channel, chapters).await?;
    for (place, (chapter, top)) in chapters.iter().zip(tops).enumerate() {
        let shelf = Shelf::new(channel, place);
        check_bounds(looks, &shelf, chapter, &mut verdict).await?;
        let Some(last) = top.and_then(|top| top.top()) else { continue };
        let first = chapter.first.max(chapter.expired.saturating_add(1));
        let (after, through) = ((first - 1) as u64, last as u64);
        let span = Span { epoch: chapter.name.as_str().into(), after, through };
        let holes = density::holes(looks, channel, chapters, &span, LISTED).await?;
        verdict.holes.extend(holes.into_iter().map(|(a, b)| (span.epoch.clone(), a, b)));
        let mut walk = Walk::new(looks, &shelf, chapter.offsets());
        while let Some(headers) = walk.next().await? {
            for part in headers.chunk_by(|a, b| b.number / WHOLE == a.number / WHOLE) {
                let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
                for bucket in looks.buckets(&shelf, first.number, last.number).await? {
                    check(looks, &shelf, chapter, &bucket, &mut highest, &mut verdict).await?;
                }
            }
        }
    }
    Ok(verdict)
}

/// Nothing lies outside of where the epoch says that its buckets are.
async fn check_bounds(
    looks: &Looks,
    shelf: &Shelf,
    chapter: &Chapter,
    verdict: &mut Verdict,
) -> Result<(), StoreError> {
    let below = (bucket_of(chapter.expired.saturating_add(1)), chapter.low - 1);
    for (from, to) in [below, (chapter.high + 1, HIGHEST)] {
        if from > to {
            continue;
        }
        let stray = looks.present(shelf, (from, to), Order::OldestFirst, 1).await?.pop();
        if let Some(stray) = stray.filter(|stray| stray.stored != 0) {
            let first = first_offset(stray.number);
            verdict
                .faults
                .push(format!("what is stored from offset {first} on is never looked for"));
        }
    }
    Ok(())
}

async fn check(
    looks: &Looks,
    shelf: &Shelf,
    chapter: &Chapter,
    bucket: &Bucket,
    highest: &mut i64,
    verdict: &mut Verdict,
) -> Result<(), StoreError> {
    let Header { number, stored, deleted, last_id, .. } = bucket.header;
    let kept = mask(number, chapter.expired.saturating_add(1), i64::MAX);
    let there = bucket.slots.iter().fold(0_u64, |bits, slot| bits | 1 << slot.number);
    let at = |bit: u32| first_offset(number) + i64::from(bit);
    for bit in positions(bucket.header.living() & kept & !there) {
        verdict.faults.push(format!("offset {} is said to be stored and is not there", at(bit)));
    }
    for bit in positions(there & kept & !bucket.header.living()) {
        verdict.faults.push(format!("offset {} is there and should not be", at(bit)));
    }
    for bit in positions(deleted & kept & !stored) {
        verdict.faults.push(format!("offset {} was deleted and never stored", at(bit)));
    }
    let living: Vec<_> = bucket.living().collect();
    for (offset, slot) in living.iter().filter(|(offset, _)| kept >> slot_of(*offset) & 1 == 1) {
        if slot.id <= *highest {
            verdict.faults.push(format!("the id at offset {offset} does not rise"));
        }
        if slot.id > last_id {
            verdict.faults.push(format!("the id at offset {offset} is above the highest known"));
        }
        if bucket.is_large(slot) {
            let body = looks.bodies(&[shelf.large_id(*offset, slot.id)]).await?;
            if body.iter().all(Option::is_none) {
                verdict.faults.push(format!("the message at offset {offset} has lost its body"));
            }
        }
        *highest = slot.id.max(*highest);
        verdict.messages += 1;
    }
    verdict.deleted += u64::from((deleted & stored & kept).count_ones());
    Ok(())
}
