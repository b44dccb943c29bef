//! How many messages a channel has.

use super::layout::{Chapter, Shelf, mask};
use super::looks::Looks;
use super::walk::Walk;
use crate::archive::StoreError;

/// Messages that can be read, over all epochs.
pub async fn count(looks: &Looks, channel: &str, chapters: &[Chapter]) -> Result<u64, StoreError> {
    let mut count = 0;
    for (place, chapter) in chapters.iter().enumerate() {
        let (from, to) = chapter.offsets();
        let shelf = Shelf::new(channel, place);
        let mut walk = Walk::new(looks, &shelf, (from, to));
        while let Some(headers) = walk.next().await? {
            let living =
                headers.iter().map(|header| header.living() & mask(header.number, from, to));
            count += living.map(|bits| u64::from(bits.count_ones())).sum::<u64>();
        }
    }
    Ok(count)
}
