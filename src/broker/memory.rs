//! The broker of a single node: streams in this process, delivery straight into the hub.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::{HashMap, RandomState};
use compact_str::CompactString;
use parking_lot::Mutex;

use super::answers::{Answers, UserAnswers};
use super::stream::{Archived, SeenVersion};
use super::{
    BrokerError, History, PublishOptions, Published, Range, Stream, StreamTop, Suppressed,
};
use crate::hub::Hub;
use crate::protocol::publication::{ClientInfo, Publication};
use crate::time::{Clock, random_letters};

/// A stripe's lock is held while a publication goes out, so that all subscribers see the order of
/// the stream; with this many, a large fan-out rarely holds up another channel.
const STRIPES: usize = 1_024;

/// Stripes looked at in one sweep: every stripe's turn comes about every 16 sweeps.
const STRIPES_PER_SWEEP: usize = STRIPES / 16;

/// Letters of an epoch, as Centrifugo's: 52^8 makes a repeat after a restart a matter of luck that
/// nobody has.
const EPOCH_LETTERS: usize = 8;

/// Idempotency keys of clients, if nothing else is said: some 200 MB when all are used.
pub const USER_KEYS: usize = 1_000_000;

/// See the [module](self).
pub struct MemoryBroker {
    hub: Arc<Hub>,
    clock: Clock,
    hasher: RandomState,
    stripes: Box<[Mutex<Stripe>]>,
    next_sweep: AtomicUsize,
    user_answers: UserAnswers,
}

/// Where an archived stream stands before a publication.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub top: StreamTop,
    pub archived: Archived,
    pub seen: SeenVersion,
}

struct Stripe {
    /// The epoch of every channel here that has no stream: so a channel that was only ever read
    /// costs nothing, however many names clients make up. It changes when a stream is dropped,
    /// lest the channel begins again at offset 1 in an epoch that it had before.
    untouched: CompactString,
    streams: HashMap<Box<str>, Stream>,
    answers: Answers,
}

impl MemoryBroker {
    /// A broker that delivers to `hub` and remembers [`USER_KEYS`] idempotency keys of clients.
    pub fn new(hub: Arc<Hub>, clock: Clock) -> Self {
        Self {
            hub,
            clock,
            hasher: RandomState::new(),
            stripes: (0..STRIPES).map(|_| Mutex::new(Stripe::new())).collect(),
            next_sweep: AtomicUsize::new(0),
            user_answers: UserAnswers::new(USER_KEYS),
        }
    }

    /// The same broker, with another bound of the idempotency keys of clients that it remembers.
    pub fn with_user_keys(self, limit: usize) -> Self {
        Self { user_answers: UserAnswers::new(limit), ..self }
    }

    pub(super) fn publish(
        &self,
        channel: &str,
        mut publication: Publication,
        options: &PublishOptions,
    ) -> Published {
        let now = self.clock.now();
        let now_ms = self.clock.unix_millis();
        publication.time = now_ms;
        let mut stripe = self.stripe(channel).lock();
        stripe.answers.expire(now, &self.user_answers);
        if let Some(answer) = stripe.answers.find(channel, options) {
            return Published { suppressed: Some(Suppressed::Idempotency), ..answer.clone() };
        }
        let published = match &options.history {
            None => {
                self.hub.publish(channel, &Arc::new(publication), None, "", now_ms);
                Published::default()
            }
            Some(history) => {
                let stream = stripe.stream(channel, now, history.meta_ttl);
                if stream.is_stale_version(options.version, &options.version_epoch) {
                    let top = stream.top();
                    return Published {
                        offset: top.offset,
                        epoch: top.epoch,
                        suppressed: Some(Suppressed::Version),
                    };
                }
                let (publication, previous) = stream.append(publication, history, now);
                let previous = previous.as_ref().filter(|_| options.delta).map(|p| &p.data);
                let epoch = stream.top().epoch;
                self.hub.publish(channel, &publication, previous, &epoch, now_ms);
                Published { offset: publication.offset, epoch, suppressed: None }
            }
        };
        stripe.answers.keep(channel, options, &published, now, &self.user_answers);
        published
    }

    pub(super) fn publish_join(&self, channel: &str, info: &ClientInfo) {
        let _in_order = self.stripe(channel).lock();
        self.hub.join(channel, info, self.clock.unix_millis());
    }

    pub(super) fn publish_leave(&self, channel: &str, info: &ClientInfo) {
        let _in_order = self.stripe(channel).lock();
        self.hub.leave(channel, info, self.clock.unix_millis());
    }

    pub(super) fn history(
        &self,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        match stripe.living(channel, now) {
            Some(stream) => stream.read(range, now, meta_ttl),
            None => Stream::new(stripe.untouched.clone(), now, meta_ttl).read(range, now, meta_ttl),
        }
    }

    pub(super) fn remove_history(&self, channel: &str) {
        if let Some(stream) = self.stripe(channel).lock().streams.get_mut(channel) {
            stream.clear();
        }
    }

    pub(super) fn sweep(&self) {
        let now = self.clock.now();
        let first = self.next_sweep.fetch_add(STRIPES_PER_SWEEP, Ordering::Relaxed);
        for index in first..first + STRIPES_PER_SWEEP {
            let mut stripe = self.stripes[index % STRIPES].lock();
            stripe.drop_expired(now);
            stripe.answers.expire(now, &self.user_answers);
        }
    }

    /// What the next publication of an archived stream needs to know; none if the stream is not here.
    pub(super) fn draft(&self, channel: &str) -> Option<Draft> {
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        let stream = stripe.living(channel, now)?;
        let archived = stream.archived()?;
        Some(Draft { top: stream.top(), archived, seen: stream.seen_version() })
    }

    /// Takes up a stream from the archive, unless it is here.
    pub(super) fn adopt(&self, channel: &str, stream: Stream) {
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        if stripe.living(channel, now).is_none_or(|here| here.archived().is_none()) {
            stripe.streams.insert(Box::from(channel), stream);
        }
    }

    /// Drops an archived stream: it is to be taken up from the archive again.
    pub(super) fn let_go(&self, channel: &str) {
        let mut stripe = self.stripe(channel).lock();
        if stripe.streams.get(channel).is_some_and(|stream| stream.archived().is_some()) {
            stripe.streams.remove(channel);
        }
    }

    /// The answer to an earlier publish with the same idempotency key.
    pub(super) fn answered(&self, channel: &str, options: &PublishOptions) -> Option<Published> {
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        stripe.answers.expire(now, &self.user_answers);
        let answer = stripe.answers.find(channel, options)?;
        Some(Published { suppressed: Some(Suppressed::Idempotency), ..answer.clone() })
    }

    /// Appends and delivers what the archive has by now, or what goes on without it. None if the
    /// stream does not stand where the publication was meant for.
    pub(super) fn append_archived(
        &self,
        channel: &str,
        publication: Publication,
        options: &PublishOptions,
        place: &StreamTop,
        archived: Archived,
    ) -> Option<Published> {
        let history = options.history.as_ref()?;
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        let stream = stripe.living(channel, now)?;
        if stream.top().offset + 1 != place.offset {
            return None;
        }
        if stream.top().epoch != place.epoch {
            stream.begin_epoch(place.epoch.clone());
        }
        stream.is_stale_version(options.version, &options.version_epoch);
        let (publication, previous) = stream.append(publication, history, now);
        stream.note_archived(archived);
        let previous = previous.as_ref().filter(|_| options.delta).map(|p| &p.data);
        self.hub.publish(channel, &publication, previous, &place.epoch, self.clock.unix_millis());
        let StreamTop { offset, epoch } = place.clone();
        let published = Published { offset, epoch, suppressed: None };
        stripe.answers.keep(channel, options, &published, now, &self.user_answers);
        Some(published)
    }

    /// What a stream has from this offset on, in order.
    pub(super) fn kept_since(&self, channel: &str, first: u64) -> Vec<Arc<Publication>> {
        let now = self.clock.now();
        let mut stripe = self.stripe(channel).lock();
        stripe.living(channel, now).map(|stream| stream.kept_since(first)).unwrap_or_default()
    }

    /// Takes publications with these offsets out of a stream, if it is of this epoch.
    pub(super) fn erase(&self, channel: &str, epoch: &str, first: u64, last: u64) {
        if let Some(stream) = self.stripe(channel).lock().streams.get_mut(channel)
            && stream.top().epoch == epoch
        {
            stream.erase(first, last);
        }
    }

    fn stripe(&self, channel: &str) -> &Mutex<Stripe> {
        &self.stripes[self.hasher.hash_one(channel) as usize % STRIPES]
    }
}

impl Stripe {
    fn new() -> Self {
        Self {
            untouched: random_letters(EPOCH_LETTERS),
            streams: HashMap::default(),
            answers: Answers::default(),
        }
    }

    /// The channel's stream, unless there is none or its meta has expired.
    fn living(&mut self, channel: &str, now: Instant) -> Option<&mut Stream> {
        if self.streams.get_mut(channel)?.expire(now) {
            self.streams.remove(channel);
            self.untouched = random_letters(EPOCH_LETTERS);
        }
        self.streams.get_mut(channel)
    }

    /// The channel's stream, made if there is none. What an archive has does not go on without it.
    fn stream(&mut self, channel: &str, now: Instant, meta_ttl: Duration) -> &mut Stream {
        if self.living(channel, now).is_some_and(|stream| stream.archived().is_some()) {
            self.streams.remove(channel);
            self.untouched = random_letters(EPOCH_LETTERS);
        }
        let untouched = &self.untouched;
        let fresh = || Stream::new(untouched.clone(), now, meta_ttl);
        self.streams.entry(Box::from(channel)).or_insert_with(fresh)
    }

    fn drop_expired(&mut self, now: Instant) {
        let before = self.streams.len();
        self.streams.retain(|_, stream| !stream.expire(now));
        if self.streams.len() == before {
            return;
        }
        self.untouched = random_letters(EPOCH_LETTERS);
        if self.streams.capacity() > 64 && self.streams.len() < self.streams.capacity() / 4 {
            self.streams.shrink_to(self.streams.len() * 2);
        }
    }
}
