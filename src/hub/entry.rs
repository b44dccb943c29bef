//! One subscription in the hub: decides, for each event of the channel, what its connection gets.
//!
//! Pure but for the outbox it appends to: (event, time) in, messages and at most one signal out.

use std::mem;
use std::sync::Arc;

use compact_str::CompactString;

use super::SubscriptionKey;
use super::broadcast::{Encodings, Event, Form};
use super::connections::Connection;
use super::delay::WriteDelay;
use super::signal::Signal;
use crate::channel::Channel;
use crate::protocol::codes::Disconnect;
use crate::protocol::filter::Filter;
use crate::protocol::publication::Publication;

/// How many events may wait while a subscription is being made. Past it the subscription counts as
/// having lost its position; twice the default of `client.recovery_max_publication_limit` and more
/// than arrive in the milliseconds it takes, few enough that a flood stays small.
const MAX_BUFFERED: usize = 1_024;

/// What a subscriber asked for and was granted; fixed for the subscription's life.
#[derive(Clone, Debug, Default)]
pub struct Delivery {
    /// Every publication must follow its predecessor, or the subscription is told so.
    pub positioned: bool,
    /// Joins and leaves are delivered.
    pub join_leave: bool,
    /// Patches were negotiated.
    pub delta: bool,
    /// Pushes carry the channel's number instead of its name.
    pub compact: bool,
    /// Only publications whose tags match are delivered.
    pub filter: Option<Arc<Filter>>,
    /// Milliseconds a publication may be on its way to a positioned subscriber; 0 for any time.
    pub max_lag_ms: u32,
    /// Writes may wait for each other.
    pub write_delay: Option<Arc<WriteDelay>>,
}

/// Where live delivery starts.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The last publication that the client has, or the stream's top.
    pub position: Position,
    /// The client holds the data of the publication at `position`, so a patch may follow.
    pub holds_base: bool,
}

/// An offset in an epoch. An empty epoch is not known yet and takes the first that comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub offset: u64,
    pub epoch: CompactString,
}

/// A subscription's delivery state.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: SubscriptionKey,
    pub connection: Arc<Connection>,
    delivery: Delivery,
    phase: Phase,
    position: Position,
    /// Unix milliseconds at which the position was last known to be right.
    confirmed_ms: i64,
    holds_base: bool,
}

#[derive(Debug)]
enum Phase {
    /// The reply to the subscribe command is not queued yet: events wait here.
    Buffering(Vec<Event>),
    /// It is fed with the past, and what is published is not for it yet.
    CatchingUp,
    Live,
    /// A publication is missing. Nothing more is delivered; the session was told.
    Lost,
}

impl Entry {
    pub fn buffering(
        key: SubscriptionKey,
        connection: Arc<Connection>,
        delivery: Delivery,
    ) -> Self {
        Self {
            key,
            connection,
            delivery,
            phase: Phase::Buffering(Vec::new()),
            position: Position::default(),
            confirmed_ms: 0,
            holds_base: false,
        }
    }

    /// Starts delivery at `start`, beginning with what was buffered.
    pub fn go_live(&mut self, channel: &Channel, channel_id: i64, start: Start, now_ms: i64) {
        self.position = start.position;
        self.holds_base = start.holds_base;
        self.confirmed_ms = now_ms;
        let waiting = match mem::replace(&mut self.phase, Phase::Live) {
            Phase::Buffering(waiting) => waiting,
            Phase::Live => return,
            // Somebody is still reading for it.
            Phase::CatchingUp => {
                self.phase = Phase::CatchingUp;
                return;
            }
            // What was read for it came into doubt before it was here.
            Phase::Lost => return self.lose(channel),
        };
        if waiting.len() >= MAX_BUFFERED {
            self.lose(channel);
        }
        for event in &waiting {
            let mut encodings = Encodings::new(channel, channel_id, event);
            self.offer(channel, event, &mut encodings, now_ms);
        }
    }

    /// Delivers, buffers or skips an event.
    pub fn offer(
        &mut self,
        channel: &Channel,
        event: &Event,
        encodings: &mut Encodings<'_>,
        now_ms: i64,
    ) {
        match &mut self.phase {
            Phase::Lost => {}
            Phase::CatchingUp => match event {
                // What has no place in the stream is not read later.
                Event::Publication { publication, .. } if publication.offset == 0 => {
                    self.deliver(publication, encodings);
                }
                Event::Publication { .. } => {}
                Event::Join(_) | Event::Leave(_) if self.delivery.join_leave => {
                    self.queue(encodings, Form::Plain);
                }
                Event::Join(_) | Event::Leave(_) => {}
            },
            Phase::Buffering(waiting) => {
                if waiting.len() < MAX_BUFFERED {
                    waiting.push(event.clone());
                }
            }
            Phase::Live => match event {
                Event::Publication { publication, epoch, .. } => {
                    match self.admit(publication, epoch, now_ms) {
                        Verdict::Deliver => self.deliver(publication, encodings),
                        Verdict::Skip => {}
                        Verdict::Gap => self.lose(channel),
                    }
                }
                Event::Join(_) | Event::Leave(_) if self.delivery.join_leave => {
                    self.queue(encodings, Form::Plain);
                }
                Event::Join(_) | Event::Leave(_) => {}
            },
        }
    }

    /// Leaves what is published to be read, and drops what was kept of it.
    pub fn catch_up(&mut self, channel: &Channel) {
        match mem::replace(&mut self.phase, Phase::CatchingUp) {
            Phase::Buffering(_) | Phase::CatchingUp => {}
            Phase::Live => self.phase = Phase::Live,
            Phase::Lost => self.lose(channel),
        }
    }

    pub fn is_catching_up(&self) -> bool {
        matches!(self.phase, Phase::CatchingUp)
    }

    /// Keeps what is published; false unless it was catching up.
    pub fn hold(&mut self) -> bool {
        let holds = self.is_catching_up();
        if holds {
            self.phase = Phase::Buffering(Vec::new());
        }
        holds
    }

    pub fn position(&self) -> Option<(Position, i64)> {
        let live = self.delivery.positioned && matches!(self.phase, Phase::Live);
        live.then(|| (self.position.clone(), self.confirmed_ms))
    }

    pub fn confirmed(&mut self, now_ms: i64) {
        self.confirmed_ms = now_ms;
    }

    /// Publications may have passed by: the position is to be compared with the stream.
    pub fn doubt(&mut self) {
        self.confirmed_ms = 0;
    }

    /// Whether the position is in doubt.
    pub fn is_doubted(&self) -> bool {
        self.delivery.positioned && matches!(self.phase, Phase::Live) && self.confirmed_ms == 0
    }

    /// Whether something up to `top` is missing.
    pub fn is_behind(&self, top: &Position) -> bool {
        let is_other = !self.position.epoch.is_empty() && self.position.epoch != top.epoch;
        is_other || self.position.offset < top.offset
    }

    /// Ends delivery if it goes by a position. Returns what the session is to be told, unless it knows
    /// already or learns it when it goes live.
    pub fn void(&mut self, channel: &Channel) -> Option<Signal> {
        if !self.delivery.positioned {
            return None;
        }
        let before = mem::replace(&mut self.phase, Phase::Lost);
        if !matches!(before, Phase::Live | Phase::CatchingUp) {
            return None;
        }
        Some(Signal::PositionLost { channel: channel.clone(), key: self.key })
    }

    /// Compares a publication with the position, and moves the position on.
    fn admit(&mut self, publication: &Publication, epoch: &str, now_ms: i64) -> Verdict {
        let offset = publication.offset;
        if offset == 0 {
            return Verdict::Deliver;
        }
        if !self.delivery.positioned {
            // Still counted, since a patch may only follow its own base.
            self.holds_base &= self.position.offset + 1 == offset && self.position.epoch == epoch;
            self.advance(offset, epoch, now_ms);
            return Verdict::Deliver;
        }
        if self.position.epoch.is_empty() {
            self.position.epoch = epoch.into();
        }
        let late = i64::from(self.delivery.max_lag_ms);
        if self.position.epoch != epoch || offset > self.position.offset.saturating_add(1) {
            Verdict::Gap
        } else if offset <= self.position.offset {
            Verdict::Skip
        } else if late > 0 && publication.time > 0 && now_ms - publication.time > late {
            Verdict::Gap
        } else {
            self.advance(offset, epoch, now_ms);
            Verdict::Deliver
        }
    }

    fn advance(&mut self, offset: u64, epoch: &str, now_ms: i64) {
        self.position.offset = offset;
        if self.position.epoch != epoch {
            self.position.epoch = epoch.into();
        }
        self.confirmed_ms = now_ms;
    }

    fn deliver(&mut self, publication: &Publication, encodings: &mut Encodings<'_>) {
        if self.delivery.filter.as_ref().is_some_and(|filter| !filter.matches(&publication.tags)) {
            encodings.filtered += 1;
            return;
        }
        if !self.delivery.delta {
            return self.queue(encodings, Form::Plain);
        }
        let form = if self.holds_base { Form::Patch } else { Form::Whole };
        self.queue(encodings, form);
        // A publication outside the stream replaces the client's base, and no patch is made
        // against it.
        self.holds_base = publication.offset > 0;
    }

    fn queue(&self, encodings: &mut Encodings<'_>, form: Form) {
        match encodings.get(self.connection.codec(), self.delivery.compact, form) {
            Some(message) => match &self.delivery.write_delay {
                Some(delay) => self.connection.outbox.push_delayed(message, delay),
                None => self.connection.outbox.push(message),
            },
            None => self.connection.outbox.close(Disconnect::INAPPROPRIATE_PROTOCOL),
        }
    }

    fn lose(&mut self, channel: &Channel) {
        self.phase = Phase::Lost;
        let key = self.key;
        self.connection.outbox.signal(Signal::PositionLost { channel: channel.clone(), key });
    }
}

enum Verdict {
    Deliver,
    Skip,
    Gap,
}
