//! Wakes connections when something of theirs is due.
//!
//! One wheel serves all connections of a node, so that an idle connection holds no timer of its own:
//! pings, pong timeouts, presence ticks and expiry of a connection share one entry, the earliest.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connections::Connection;

/// How far apart two turns of the wheel are, hence how late a deadline may be noticed.
pub const TURN: Duration = Duration::from_millis(50);

/// Deadlines of many connections, in slots of [`TURN`].
pub struct Wheel {
    origin: Instant,
    slots: Mutex<BTreeMap<u64, Vec<Weak<Connection>>>>,
}

impl Wheel {
    /// A wheel whose slots are counted from `origin`.
    pub fn new(origin: Instant) -> Self {
        Self { origin, slots: Mutex::default() }
    }

    /// Rings `connection` within a turn after `at`.
    pub fn schedule(&self, at: Instant, connection: &Arc<Connection>) {
        let slot = self.slot(at) + 1;
        self.slots.lock().entry(slot).or_default().push(Arc::downgrade(connection));
    }

    /// Rings every connection whose time has come by `now`.
    pub fn turn(&self, now: Instant) {
        let due = {
            let mut slots = self.slots.lock();
            let later = slots.split_off(&(self.slot(now) + 1));
            std::mem::replace(&mut *slots, later)
        };
        ring(due.into_values().flatten());
    }

    /// Rings every connection that waits for a deadline, for news that concerns them all. Their
    /// deadlines stay.
    pub fn ring_all(&self) {
        let all: Vec<_> = self.slots.lock().values().flatten().cloned().collect();
        ring(all);
    }

    fn slot(&self, at: Instant) -> u64 {
        (at.saturating_duration_since(self.origin).as_millis() / TURN.as_millis()) as u64
    }
}

fn ring(connections: impl IntoIterator<Item = Weak<Connection>>) {
    for connection in connections {
        if let Some(connection) = connection.upgrade() {
            connection.outbox.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use uuid::Uuid;

    use super::super::outbox::{Outbox, Wanted};
    use super::*;
    use crate::protocol::frame::Codec;
    use crate::time::Clock;

    #[test]
    fn a_connection_is_rung_after_its_deadline_and_not_before() {
        let clock = Clock::manual(0);
        let wheel = Wheel::new(clock.now());
        let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(1_024));
        wheel.schedule(clock.now() + Duration::from_secs(1), &connection);
        let rung = |connection: &Connection| {
            let mut cx = Context::from_waker(Waker::noop());
            connection.outbox.poll_drain(&mut cx, Wanted::ALL).is_ready()
        };

        clock.advance(Duration::from_millis(999));
        wheel.turn(clock.now());
        assert!(!rung(&connection));

        clock.advance(Duration::from_millis(1) + TURN);
        wheel.turn(clock.now());
        assert!(rung(&connection));

        wheel.turn(clock.now());
        assert!(!rung(&connection));
    }

    #[test]
    fn ringing_all_keeps_the_deadlines() {
        let clock = Clock::manual(0);
        let wheel = Wheel::new(clock.now());
        let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(1_024));
        wheel.schedule(clock.now() + Duration::from_secs(1), &connection);
        let rung = || {
            let mut cx = Context::from_waker(Waker::noop());
            connection.outbox.poll_drain(&mut cx, Wanted::ALL).is_ready()
        };
        wheel.ring_all();
        assert!(rung() && !rung());
        clock.advance(Duration::from_secs(1) + TURN);
        wheel.turn(clock.now());
        assert!(rung());
    }
}
