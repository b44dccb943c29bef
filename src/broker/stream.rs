//! One channel's stream: pure, with time as an argument. The model of what every broker does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use compact_str::CompactString;

use super::late::Detached;
use super::{BrokerError, HistoryOptions};
use crate::archive::MessageId;
use crate::protocol::publication::{Publication, StreamPosition};

/// Publications of one channel with consecutive offsets, and what outlives them: epoch and top.
#[derive(Debug)]
pub struct Stream {
    epoch: CompactString,
    top: u64,
    seen: SeenVersion,
    /// Whether an archive has every publication of it.
    archived: Option<Archived>,
    publications: VecDeque<Arc<Publication>>,
    /// When the publications go.
    expires: Instant,
    /// When epoch and top go.
    meta_expires: Instant,
}

/// What a stream knows of the archive that it is kept in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Archived {
    /// The highest id that its channel has; none before the first publication.
    pub last_id: Option<MessageId>,
    /// The archive has nothing of the current epoch: a publication that it could not take began it.
    pub detached: Option<Detached>,
}

/// The highest version that a stream has taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenVersion {
    version: u64,
    epoch: CompactString,
}

/// Where a stream ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamTop {
    /// Of the last publication; 0 if there was none yet.
    pub offset: u64,
    pub epoch: CompactString,
}

/// Which part of a stream to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// At most so many; `None` for all, 0 for only the top.
    pub limit: Option<usize>,
    /// Start behind this position (before it, in reverse).
    pub since: Option<StreamPosition>,
    /// From the newest to the oldest.
    pub reverse: bool,
}

/// Publications of a stream and, read in the same instant, its top.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub publications: Vec<Arc<Publication>>,
    pub top: StreamTop,
}

impl Stream {
    /// A stream without publications.
    pub fn new(epoch: CompactString, now: Instant, meta_ttl: Duration) -> Self {
        Self {
            epoch,
            top: 0,
            seen: SeenVersion::default(),
            archived: None,
            publications: VecDeque::new(),
            expires: now,
            meta_expires: now + meta_ttl,
        }
    }

    pub fn top(&self) -> StreamTop {
        StreamTop { offset: self.top, epoch: self.epoch.clone() }
    }

    /// A stream that goes on where the archive ends, with what is left of its newest publications.
    pub fn restored(
        top: StreamTop,
        archived: Archived,
        publications: VecDeque<Arc<Publication>>,
        expires: Instant,
        meta_expires: Instant,
    ) -> Self {
        Self {
            epoch: top.epoch,
            top: top.offset,
            seen: SeenVersion::default(),
            archived: Some(archived),
            publications,
            expires,
            meta_expires,
        }
    }

    pub fn archived(&self) -> Option<Archived> {
        self.archived
    }

    /// Notes what the archive knows of the publication that was just appended.
    pub fn note_archived(&mut self, archived: Archived) {
        self.archived = Some(archived);
    }

    /// Goes on under another epoch: from here on something is missing in the archive.
    pub fn begin_epoch(&mut self, epoch: CompactString) {
        self.epoch = epoch;
    }

    /// What it has from this offset on, in order.
    pub fn kept_since(&self, first: u64) -> Vec<Arc<Publication>> {
        let start = self.publications.partition_point(|publication| publication.offset < first);
        self.publications.range(start..).cloned().collect()
    }

    /// Takes out the publications with these offsets. Their places stay empty.
    pub fn erase(&mut self, first: u64, last: u64) {
        self.publications.retain(|kept| !(first..=last).contains(&kept.offset));
    }

    /// Whether `version` was seen already, or a higher one; otherwise notes it.
    pub fn is_stale_version(&mut self, version: u64, version_epoch: &str) -> bool {
        self.seen.is_stale(version, version_epoch)
    }

    /// The highest version seen.
    pub fn seen_version(&self) -> SeenVersion {
        self.seen.clone()
    }

    /// Appends, giving the publication its offset. Returns it with the one before it, if kept.
    pub fn append(
        &mut self,
        mut publication: Publication,
        options: &HistoryOptions,
        now: Instant,
    ) -> (Arc<Publication>, Option<Arc<Publication>>) {
        self.expire(now);
        self.top += 1;
        publication.offset = self.top;
        let publication = Arc::new(publication);
        let previous = self.publications.back().cloned();
        self.publications.push_back(Arc::clone(&publication));
        while self.publications.len() > options.size {
            self.publications.pop_front();
        }
        self.expires = now + options.ttl;
        self.meta_expires = now + options.meta_ttl;
        (publication, previous)
    }

    /// Reads a part. A position of another epoch is refused.
    pub fn read(
        &mut self,
        range: &Range,
        now: Instant,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.expire(now);
        self.meta_expires = now + meta_ttl;
        let since = range.since.as_ref();
        if since.is_some_and(|since| !since.epoch.is_empty() && *since.epoch != *self.epoch) {
            return Err(BrokerError::UnrecoverablePosition);
        }
        let limit = range.limit.unwrap_or(usize::MAX);
        let publications = match (range.reverse, since) {
            (false, None) => self.publications.iter().take(limit).cloned().collect(),
            (false, Some(since)) => {
                let first = self.index_behind(since.offset);
                self.publications.range(first..).take(limit).cloned().collect()
            }
            (true, None) => self.publications.iter().rev().take(limit).cloned().collect(),
            (true, Some(since)) if since.offset == 0 => {
                return Err(BrokerError::BadRequest("nothing lies before offset 0"));
            }
            (true, Some(since)) => {
                let end = self.index_behind(since.offset - 1);
                self.publications.range(..end).rev().take(limit).cloned().collect()
            }
        };
        Ok(History { publications, top: self.top() })
    }

    /// Drops the publications; epoch and top stay.
    pub fn clear(&mut self) {
        self.publications = VecDeque::new();
    }

    /// Drops what has expired; `true` if nothing at all is left of the stream.
    pub fn expire(&mut self, now: Instant) -> bool {
        if now >= self.expires && !self.publications.is_empty() {
            self.clear();
        }
        now >= self.meta_expires && self.publications.is_empty()
    }

    /// The index of the first publication with an offset above `offset`.
    fn index_behind(&self, offset: u64) -> usize {
        self.publications.partition_point(|publication| publication.offset <= offset)
    }
}

impl SeenVersion {
    /// Whether `version` was seen already, or a higher one; otherwise notes it.
    pub fn is_stale(&mut self, version: u64, epoch: &str) -> bool {
        if version == 0 {
            return false;
        }
        let comparable = epoch.is_empty() || epoch == self.epoch;
        if comparable && self.version >= version {
            return true;
        }
        self.version = version;
        self.epoch = epoch.into();
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const OPTIONS: HistoryOptions = HistoryOptions {
        size: 3,
        ttl: Duration::from_secs(10),
        meta_ttl: Duration::from_secs(100),
    };

    fn stream_of(count: u64) -> (Stream, Clock) {
        let clock = Clock::manual(0);
        let mut stream = Stream::new("epoch".into(), clock.now(), OPTIONS.meta_ttl);
        for _ in 0..count {
            stream.append(Publication::default(), &OPTIONS, clock.now());
        }
        (stream, clock)
    }

    fn offsets(stream: &mut Stream, clock: &Clock, range: Range) -> Vec<u64> {
        let history = stream.read(&range, clock.now(), OPTIONS.meta_ttl).unwrap();
        history.publications.iter().map(|p| p.offset).collect()
    }

    fn since(offset: u64) -> Option<StreamPosition> {
        Some(StreamPosition { offset, epoch: "epoch".into() })
    }

    #[test]
    fn offsets_start_at_one_and_only_the_last_are_kept() {
        let (mut stream, clock) = stream_of(5);
        assert_eq!(offsets(&mut stream, &clock, Range::default()), [3, 4, 5]);
        assert_eq!(stream.top().offset, 5);
    }

    #[test]
    fn since_is_exclusive_in_both_directions() {
        let (mut stream, clock) = stream_of(5);
        let forward = Range { since: since(3), ..Range::default() };
        assert_eq!(offsets(&mut stream, &clock, forward), [4, 5]);
        let back = Range { since: since(5), reverse: true, ..Range::default() };
        assert_eq!(offsets(&mut stream, &clock, back), [4, 3]);
    }

    #[test]
    fn a_position_older_than_the_stream_reads_from_its_first() {
        let (mut stream, clock) = stream_of(5);
        let range = Range { since: since(1), limit: Some(2), ..Range::default() };
        assert_eq!(offsets(&mut stream, &clock, range), [3, 4]);
    }

    #[test]
    fn reverse_without_a_position_starts_at_the_top_and_before_zero_is_refused() {
        let (mut stream, clock) = stream_of(5);
        let from_top = Range { limit: Some(2), reverse: true, ..Range::default() };
        assert_eq!(offsets(&mut stream, &clock, from_top), [5, 4]);
        let before_zero = Range { since: since(0), reverse: true, ..Range::default() };
        assert!(matches!(
            stream.read(&before_zero, clock.now(), OPTIONS.meta_ttl),
            Err(BrokerError::BadRequest(_))
        ));
    }

    #[test]
    fn another_epoch_is_refused_and_an_empty_one_matches() {
        let (mut stream, clock) = stream_of(2);
        let foreign = StreamPosition { offset: 1, epoch: "other".into() };
        let range = Range { since: Some(foreign), ..Range::default() };
        assert_eq!(
            stream.read(&range, clock.now(), OPTIONS.meta_ttl).unwrap_err(),
            BrokerError::UnrecoverablePosition
        );
        let unnamed = StreamPosition { offset: 1, epoch: String::new() };
        let range = Range { since: Some(unnamed), ..Range::default() };
        assert_eq!(offsets(&mut stream, &clock, range), [2]);
    }

    #[test]
    fn publications_expire_together_and_the_top_stays_until_the_meta_goes() {
        let (mut stream, clock) = stream_of(2);
        clock.advance(Duration::from_secs(10));
        assert!(!stream.expire(clock.now()));
        assert!(offsets(&mut stream, &clock, Range::default()).is_empty());
        assert_eq!(stream.top().offset, 2);
        // The read just now renewed the meta.
        clock.advance(Duration::from_secs(99));
        assert!(!stream.expire(clock.now()));
        clock.advance(Duration::from_secs(1));
        assert!(stream.expire(clock.now()));
    }

    #[test]
    fn a_version_counts_within_its_epoch() {
        let (mut stream, _) = stream_of(0);
        assert!(!stream.is_stale_version(2, "a"));
        assert!(stream.is_stale_version(2, "a"));
        assert!(stream.is_stale_version(1, ""));
        assert!(!stream.is_stale_version(1, "b"));
        assert!(!stream.is_stale_version(0, ""));
    }

    #[test]
    fn clearing_keeps_epoch_and_offset() {
        let (mut stream, clock) = stream_of(2);
        stream.clear();
        let (next, previous) = stream.append(Publication::default(), &OPTIONS, clock.now());
        assert_eq!((next.offset, previous), (3, None));
    }
}
