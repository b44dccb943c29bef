//! Complaints in the log that are no flood.

use std::time::{Duration, Instant};

use super::dial::ConnectionError;
use super::options::Place;
use super::shard::Shard;

/// How often the log repeats what is wrong still.
pub(super) const REMIND_EVERY: Duration = Duration::from_secs(10);

/// Says what is wrong: when it is something new, and from time to time.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    last: String,
    since: Option<Instant>,
}

impl Complaint {
    /// What keeps us from connecting.
    pub fn about(&mut self, shard: &Shard, place: &Place, error: &ConnectionError) {
        let text = error.to_string();
        if matches!(error, ConnectionError::Evicts(_)) {
            shard.is_unfit(format!("{place}: {text}"));
        }
        if self.is_news(shard.clock().now(), &text) {
            tracing::warn!(shard = shard.number(), %place, %error, "cannot use Redis, trying on");
        }
    }

    /// Whether this is to be said now.
    pub fn is_news(&mut self, now: Instant, text: &str) -> bool {
        let is_due =
            self.since.is_none_or(|since| now.saturating_duration_since(since) >= REMIND_EVERY);
        let is_news = is_due || text != self.last;
        if is_news {
            (self.last, self.since) = (text.to_owned(), Some(now));
        }
        is_news
    }

    /// Nothing is wrong any more; whether something was.
    pub fn is_over(&mut self) -> bool {
        std::mem::take(self).since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    #[test]
    fn what_is_new_is_said_at_once_and_what_is_not_from_time_to_time() {
        let start = Clock::manual(0).now();
        let mut complaint = Complaint::default();
        let mut is_news =
            |seconds, text: &str| complaint.is_news(start + Duration::from_secs(seconds), text);
        assert!(is_news(0, "refused"));
        assert!(!is_news(9, "refused"));
        assert!(is_news(9, "wrong password"), "another reason");
        assert!(!is_news(18, "wrong password"));
        assert!(is_news(19, "wrong password"));
        assert!(complaint.is_over());
        assert!(!complaint.is_over(), "that was said");
        assert!(complaint.is_news(start, "refused"));
    }
}
