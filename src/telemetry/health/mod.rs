//! Whether the process lives, whether it should be sent connections, and whether what is published
//! arrives.
//!
//! Three questions of three askers, and three answers: a supervisor of processes asks
//! [`Health::live`], a load balancer [`Health::ready`], an alarm [`Health::delivery`]. They must not
//! be one, since a load balancer that heeds an alarm takes all nodes out at once when Redis fails
//! over, and sends every client away for nothing.
//!
//! What is known of the way of publications is kept in [`facts`], which canaries bring; what follows
//! from it is decided in [`verdict`], without a clock of its own.

mod archiving;
mod facts;
mod queue;
mod verdict;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use parking_lot::Mutex;
use slab::Slab;

use self::archiving::Archive;
pub use self::archiving::Archiving;
use self::facts::Facts;
use self::queue::QueueFacts;
pub use self::queue::{Queue, QueueLimits};
use self::verdict::{Node, Status, delivery, ready};
use crate::config;
use crate::time::Clock;

/// What the process is about. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Not all parts are up yet.
    Starting,
    /// Connections are welcome.
    Ready,
    /// Stopping: connections are being sent elsewhere.
    Draining,
}

/// How closely delivery is watched, and how patient the answers are: the section `health`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From one canary to the next, at most.
    pub interval: Duration,
    /// Delivery counts as broken when no canary has arrived for so long.
    pub timeout: Duration,
    /// Load balancers learn of broken delivery only after this.
    pub grace: Duration,
    /// `/health` tells of delivery.
    pub strict: bool,
}

/// What is known of the process, shared by those who learn it and the probes that ask.
#[derive(Debug)]
pub struct Health {
    phase: AtomicU8,
    turns_away: AtomicBool,
    clock: Clock,
    limits: Limits,
    ways: Mutex<Slab<Facts>>,
    archive: Mutex<Archive>,
    queues: Mutex<Slab<QueueFacts>>,
}

/// The way of publications over one shard of Redis, from the moment that it is watched until this is
/// dropped. Its methods are told what happens there.
#[derive(Debug)]
pub struct Way {
    health: Arc<Health>,
    key: usize,
}

/// The answer to a probe: a status and a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Limits {
    pub fn of(config: &config::health::Health) -> Self {
        Self {
            interval: config.canary_interval,
            timeout: config.canary_timeout,
            grace: config.lb_grace,
            strict: config.strict,
        }
    }

    /// How long something must go on before it is acted upon: early enough that a repair can be done
    /// before it is an alarm.
    pub fn patience(&self) -> Duration {
        self.timeout / 2
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(&config::health::Health::default())
    }
}

impl Default for Health {
    /// Of a process that is starting, by the machine's clock.
    fn default() -> Self {
        Self::new(Clock::real(), Limits::default())
    }
}

impl Health {
    /// A process that is starting.
    pub fn new(clock: Clock, limits: Limits) -> Self {
        Self {
            phase: AtomicU8::default(),
            turns_away: AtomicBool::default(),
            clock,
            limits,
            ways: Mutex::default(),
            archive: Mutex::default(),
            queues: Mutex::default(),
        }
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Enters a phase; a phase already left is not entered again.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Release);
    }

    /// Whether the administrator wishes for no new connections; may be taken back.
    pub fn turn_away(&self, wish: bool) {
        self.turns_away.store(wish, Ordering::Release);
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    /// Watches the way over a shard with so many PUB/SUB connections. It counts as broken until
    /// each of them has heard a canary.
    pub fn watch(self: &Arc<Self>, shard: usize, connections: usize) -> Way {
        let facts = Facts::new(shard, connections, self.clock.now());
        let key = self.ways.lock().insert(facts);
        Way { health: Arc::clone(self), key }
    }

    /// Something happened to publications that were to be archived.
    pub fn archiving(&self, what: Archiving) {
        self.archive.lock().learn(what, self.clock.now());
    }

    /// `/health`: what Centrifugo answers there, or, with `health.strict`, [`Health::delivery`].
    pub fn plain(&self) -> Report {
        if self.limits.strict { self.delivery() } else { self.live() }
    }

    /// `/health/live`: the process answers, so it lives.
    pub fn live(&self) -> Report {
        Report { status: StatusCode::OK, body: Bytes::from_static(b"{}") }
    }

    /// `/health/ready`: 503 and the reason unless connections are welcome.
    pub fn ready(&self) -> Report {
        self.report(ready)
    }

    /// `/health/delivery`: 503 and the reason unless what is published arrives, also in the archive.
    pub fn delivery(&self) -> Report {
        self.report(delivery)
    }

    fn report(&self, decide: fn(&Node<'_>, Instant, &Limits) -> Status) -> Report {
        let (now, unix) = (self.clock.now(), self.clock.unix());
        let ways = self.ways.lock();
        let mut archive = self.archive.lock().faults(now);
        let queues = self.queues.lock();
        archive.extend(queues.iter().flat_map(|(_, facts)| facts.faults()));
        let node = Node {
            phase: self.phase(),
            turns_away: self.turns_away.load(Ordering::Acquire),
            ways: ways.iter().map(|(_, facts)| facts).collect(),
            archive,
        };
        decide(&node, now, &self.limits).report(now, unix)
    }
}

impl Way {
    /// A PUB/SUB connection has heard an own canary that was sent at that time.
    pub fn heard_own(&self, connection: usize, sent: Instant) {
        self.learn(|facts| facts.heard_own(connection, sent));
    }

    /// A canary of another node was heard.
    pub fn heard_other(&self) {
        let (now, patience) = (self.health.clock.now(), self.health.limits.patience());
        self.learn(|facts| facts.heard_other(now, patience));
    }

    /// Redis has answered a canary: it is kept, or what the matter is.
    pub fn answered(&self, objection: Option<&str>) {
        let now = self.health.clock.now();
        self.learn(|facts| facts.answered(objection, now));
    }

    /// There are connections.
    pub fn connected(&self) {
        self.learn(Facts::connected);
    }

    /// There are none, and why.
    pub fn lost(&self, reason: &dyn std::fmt::Display) {
        self.learn(|facts| facts.lost(reason.to_string()));
    }

    fn learn(&self, what: impl FnOnce(&mut Facts)) {
        if let Some(facts) = self.health.ways.lock().get_mut(self.key) {
            what(facts);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.health.ways.lock().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn readiness_follows_the_phase_and_liveness_does_not() {
        let health = Health::default();
        let table = [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)];
        for (phase, status) in table {
            health.enter(phase);
            assert_eq!(health.ready().status.as_u16(), status, "{phase:?}");
            assert!(serde_json::from_slice::<Value>(&health.ready().body).is_ok());
            assert_eq!(health.live().status, StatusCode::OK);
            assert_eq!(health.live().body, "{}");
        }
    }

    #[test]
    fn a_wish_for_no_connections_can_be_taken_back() {
        let health = Health::default();
        health.enter(Phase::Ready);
        for (wish, status) in [(true, 503), (false, 200)] {
            health.turn_away(wish);
            assert_eq!(health.ready().status.as_u16(), status);
            assert_eq!(health.delivery().status, StatusCode::OK, "those who are here are served");
        }
    }

    #[test]
    fn a_draining_node_never_becomes_ready_again() {
        let health = Health::default();
        health.enter(Phase::Draining);
        health.enter(Phase::Ready);
        assert_eq!(health.phase(), Phase::Draining);
    }

    #[test]
    fn a_node_that_needs_no_redis_delivers_as_soon_as_it_is_ready() {
        let health = Health::default();
        assert_eq!(health.delivery().status, StatusCode::SERVICE_UNAVAILABLE);
        health.enter(Phase::Ready);
        assert_eq!(health.delivery().body, r#"{"status":"works"}"#);
    }

    #[test]
    fn what_the_archive_lacks_is_told_to_alarms_and_not_to_load_balancers() {
        let health = Health::default();
        health.enter(Phase::Ready);
        health.archiving(Archiving::Dropped);
        assert_eq!(health.ready().status, StatusCode::OK);
        let report = health.delivery();
        assert_eq!(report.status, StatusCode::SERVICE_UNAVAILABLE);
        let body: Value = serde_json::from_slice(&report.body).expect("JSON");
        assert_eq!(body["status"], "not archived");
        assert_eq!(body["faults"][0]["reason"], "publications are delivered and missing");
        health.archiving(Archiving::Stored);
        assert_eq!(health.delivery().status, StatusCode::SERVICE_UNAVAILABLE, "for a while");
    }

    #[test]
    fn a_queue_that_is_too_long_is_told_while_it_is_watched() {
        let health = Arc::new(Health::default());
        health.enter(Phase::Ready);
        let limits = QueueLimits { entries: 3, lag: Duration::from_secs(1) };
        let queue = health.watch_queue(0, limits);
        queue.measured(3, Duration::ZERO);
        assert_eq!(health.ready().status, StatusCode::OK);
        assert_eq!(health.delivery().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(queue);
        assert_eq!(health.delivery().status, StatusCode::OK);
    }

    #[test]
    fn plain_health_is_centrifugos_unless_it_is_strict() {
        let limits = Limits { strict: true, ..Limits::default() };
        let (plain, strict) = (Health::default(), Health::new(Clock::real(), limits));
        assert_eq!(plain.plain().body, "{}");
        assert_eq!(strict.plain().status, StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_way_that_is_watched_no_more_breaks_nothing() {
        let health = Arc::new(Health::default());
        health.enter(Phase::Ready);
        let way = health.watch(0, 2);
        assert_eq!(health.delivery().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(way);
        assert_eq!(health.delivery().status, StatusCode::OK);
    }
}
