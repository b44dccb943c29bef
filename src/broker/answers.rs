//! Answers to publishes with an idempotency key, kept for a repeat: what the memory broker remembers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ahash::HashMap;

use super::{KeyOwner, PublishOptions, Published};

/// Channel, user (empty for the server API) and idempotency key.
type AnswerKey = (Box<str>, Box<str>, Box<str>);

/// A stripe's share of the answers.
#[derive(Default)]
pub struct Answers {
    known: HashMap<AnswerKey, Published>,
    /// The oldest first; each has one time to live, so the order is that of expiry.
    of_api: VecDeque<(Instant, AnswerKey)>,
    of_users: VecDeque<(Instant, AnswerKey)>,
}

/// How many answers to clients all stripes together may keep: keys are made up by clients, and live
/// for a day.
pub struct UserAnswers {
    limit: usize,
    kept: AtomicUsize,
}

impl UserAnswers {
    pub fn new(limit: usize) -> Self {
        Self { limit, kept: AtomicUsize::new(0) }
    }
}

impl Answers {
    /// The answer that a publish with the same key got, if it has not expired.
    pub fn find(&self, channel: &str, options: &PublishOptions) -> Option<&Published> {
        (!self.known.is_empty() && !options.idempotency_key.is_empty())
            .then(|| self.known.get(&key_of(channel, options)))
            .flatten()
    }

    /// Keeps an answer, if the publish had a key. Past the limit of answers to clients, this stripe's
    /// oldest goes.
    pub fn keep(
        &mut self,
        channel: &str,
        options: &PublishOptions,
        published: &Published,
        now: Instant,
        users: &UserAnswers,
    ) {
        if options.idempotency_key.is_empty() {
            return;
        }
        let key = key_of(channel, options);
        let entry = (now + options.idempotency_owner.ttl(), key.clone());
        match options.idempotency_owner {
            KeyOwner::Api => self.of_api.push_back(entry),
            KeyOwner::User { .. } => {
                if users.kept.fetch_add(1, Ordering::Relaxed) >= users.limit {
                    self.forget_oldest_of_users(users);
                }
                self.of_users.push_back(entry);
            }
        }
        self.known.insert(key, published.clone());
    }

    /// Drops what has expired.
    pub fn expire(&mut self, now: Instant, users: &UserAnswers) {
        while self.of_api.front().is_some_and(|(expires, _)| *expires <= now) {
            if let Some((_, key)) = self.of_api.pop_front() {
                self.known.remove(&key);
            }
        }
        while self.of_users.front().is_some_and(|(expires, _)| *expires <= now) {
            self.forget_oldest_of_users(users);
        }
    }

    fn forget_oldest_of_users(&mut self, users: &UserAnswers) {
        if let Some((_, key)) = self.of_users.pop_front() {
            self.known.remove(&key);
            users.kept.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn key_of(channel: &str, options: &PublishOptions) -> AnswerKey {
    let user = options.idempotency_owner.user();
    (channel.into(), user.into(), options.idempotency_key.as_str().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn options(user: &str, key: &str) -> PublishOptions {
        let ttl = Duration::from_secs(60);
        let idempotency_owner =
            if user.is_empty() { KeyOwner::Api } else { KeyOwner::User { id: user.into(), ttl } };
        PublishOptions {
            idempotency_key: key.into(),
            idempotency_owner,
            ..PublishOptions::default()
        }
    }

    fn published(offset: u64) -> Published {
        Published { offset, ..Published::default() }
    }

    #[test]
    fn an_answer_is_found_by_its_owner_and_until_it_expires() {
        let now = crate::time::Clock::manual(0).now();
        let (mut answers, users) = (Answers::default(), UserAnswers::new(10));
        answers.keep("a", &options("", "k"), &published(1), now, &users);
        answers.keep("a", &options("ada", "k"), &published(2), now, &users);
        let offset = |answers: &Answers, channel: &str, user: &str| {
            answers.find(channel, &options(user, "k")).map(|answer| answer.offset)
        };
        assert_eq!(offset(&answers, "a", ""), Some(1));
        assert_eq!(offset(&answers, "a", "ada"), Some(2));
        assert_eq!(offset(&answers, "a", "bob"), None);
        assert_eq!(offset(&answers, "b", "ada"), None);
        answers.expire(now + Duration::from_secs(59), &users);
        assert_eq!(offset(&answers, "a", "ada"), Some(2));
        answers.expire(now + Duration::from_secs(60), &users);
        assert_eq!(offset(&answers, "a", "ada"), None);
        assert_eq!(offset(&answers, "a", ""), Some(1), "answers to the API live longer");
        assert_eq!(users.kept.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn clients_cannot_make_it_grow_without_bound_nor_push_out_answers_to_the_api() {
        let now = crate::time::Clock::manual(0).now();
        let (mut answers, users) = (Answers::default(), UserAnswers::new(3));
        answers.keep("a", &options("", "api"), &published(1), now, &users);
        for n in 0..100 {
            answers.keep("a", &options("ada", &n.to_string()), &published(n), now, &users);
        }
        assert_eq!(answers.known.len(), 4);
        assert!(answers.find("a", &options("", "api")).is_some());
        assert!(answers.find("a", &options("ada", "99")).is_some());
        assert!(answers.find("a", &options("ada", "96")).is_none());
        assert_eq!(users.kept.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_publish_without_a_key_leaves_nothing() {
        let now = crate::time::Clock::manual(0).now();
        let (mut answers, users) = (Answers::default(), UserAnswers::new(3));
        answers.keep("a", &options("ada", ""), &published(1), now, &users);
        assert!(answers.find("a", &options("ada", "")).is_none());
        assert!(answers.known.is_empty() && answers.of_users.is_empty());
    }
}
