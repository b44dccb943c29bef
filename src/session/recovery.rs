//! What a recovering subscriber gets: pure functions over what the stream held.

use std::sync::Arc;

use crate::broker::{History, StreamTop};
use crate::protocol::filter::Filter;
use crate::protocol::publication::{Publication, StreamPosition};

/// The outcome of a recovery.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Nothing between the client's position and the stream's top is missing.
    pub recovered: bool,
    /// What the client missed, oldest first, already filtered.
    pub publications: Vec<Arc<Publication>>,
}

/// Stream mode: `history` is everything since `asked`, up to the recovery limit.
///
/// A gap anywhere, at the beginning (trimmed), in the middle (deleted), at the end (over the limit) or
/// in the whole (expired) makes it a failure: a part is never passed off as the whole.
pub fn from_stream(asked: &StreamPosition, history: History, filter: Option<&Filter>) -> Recovery {
    let History { publications, top } = history;
    // Each is above `asked` and up to the top, and none is there twice: their number is the proof.
    let is_whole = top.offset.checked_sub(asked.offset) == Some(publications.len() as u64);
    if !(same_epoch(asked, &top) && is_whole) {
        return Recovery::default();
    }
    Recovery { recovered: true, publications: passing(publications, filter).collect() }
}

/// Cache mode: the newest publication is the state, whatever was missed before it. `newest` is read
/// backwards from the top: one publication, or with a filter as many as may be looked through.
pub fn from_cache(asked: &StreamPosition, newest: History, filter: Option<&Filter>) -> Recovery {
    let History { publications, top } = newest;
    let is_whole = publications.first().is_some_and(|latest| latest.offset == top.offset);
    let has_it = asked.offset > 0 && asked.offset == top.offset && asked.epoch == *top.epoch;
    if !is_whole && !has_it {
        return Recovery::default();
    }
    let latest = if has_it { None } else { passing(publications, filter).next() };
    Recovery { recovered: true, publications: latest.into_iter().collect() }
}

fn same_epoch(asked: &StreamPosition, top: &StreamTop) -> bool {
    asked.epoch.is_empty() || asked.epoch == *top.epoch
}

fn passing(
    publications: Vec<Arc<Publication>>,
    filter: Option<&Filter>,
) -> impl Iterator<Item = Arc<Publication>> {
    publications.into_iter().filter(move |p| filter.is_none_or(|filter| filter.matches(&p.tags)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(offsets: impl IntoIterator<Item = u64>, top: u64) -> History {
        let publication = |offset| Arc::new(Publication { offset, ..Publication::default() });
        History {
            publications: offsets.into_iter().map(publication).collect(),
            top: StreamTop { offset: top, epoch: "e".into() },
        }
    }

    fn at(offset: u64) -> StreamPosition {
        StreamPosition { offset, epoch: "e".into() }
    }

    fn offsets(recovery: &Recovery) -> Option<Vec<u64>> {
        recovery.recovered.then(|| recovery.publications.iter().map(|p| p.offset).collect())
    }

    #[test]
    fn everything_since_the_position_is_recovered() {
        assert_eq!(offsets(&from_stream(&at(2), history(3..=5, 5), None)), Some(vec![3, 4, 5]));
        assert_eq!(offsets(&from_stream(&at(5), history([], 5), None)), Some(vec![]));
    }

    #[test]
    fn a_trimmed_beginning_is_not_recovered() {
        assert_eq!(offsets(&from_stream(&at(1), history(3..=5, 5), None)), None);
    }

    #[test]
    fn a_gap_in_the_middle_is_not_recovered() {
        assert_eq!(offsets(&from_stream(&at(2), history([3, 5], 5), None)), None);
    }

    #[test]
    fn a_part_under_the_limit_is_not_recovered() {
        assert_eq!(offsets(&from_stream(&at(2), history(3..=4, 5), None)), None);
    }

    #[test]
    fn an_expired_stream_with_a_higher_top_is_not_recovered() {
        assert_eq!(offsets(&from_stream(&at(2), history([], 5), None)), None);
    }

    #[test]
    fn an_empty_epoch_matches_and_another_does_not() {
        let unnamed = StreamPosition { offset: 2, epoch: String::new() };
        assert_eq!(offsets(&from_stream(&unnamed, history(3..=3, 3), None)), Some(vec![3]));
        let foreign = StreamPosition { offset: 2, epoch: "x".into() };
        assert_eq!(offsets(&from_stream(&foreign, history(3..=3, 3), None)), None);
    }

    #[test]
    fn a_position_at_the_end_of_numbers_is_no_overflow() {
        assert_eq!(offsets(&from_stream(&at(u64::MAX), history(3..=3, 3), None)), None);
    }

    #[test]
    fn the_cache_gives_exactly_the_latest() {
        assert_eq!(offsets(&from_cache(&at(2), history([5, 4], 5), None)), Some(vec![5]));
        assert_eq!(offsets(&from_cache(&at(5), history([5], 5), None)), Some(vec![]));
        assert_eq!(offsets(&from_cache(&at(5), history([], 5), None)), Some(vec![]));
        assert_eq!(offsets(&from_cache(&at(3), history([], 5), None)), None);
    }

    #[test]
    fn offset_zero_never_counts_as_having_the_cache() {
        assert_eq!(offsets(&from_cache(&at(0), history([], 0), None)), None);
    }
}
