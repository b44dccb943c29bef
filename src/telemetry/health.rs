//! Whether the process lives, and whether it should be sent connections.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use hyper::StatusCode;

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

/// The phase of the process, shared by those who set it and the probes that read it.
#[derive(Debug, Default)]
pub struct Health {
    phase: AtomicU8,
    turns_away: AtomicBool,
}

/// The answer to a probe: a status and a JSON body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub status: StatusCode,
    pub body: &'static str,
}

impl Health {
    /// A process that is starting.
    pub fn new() -> Self {
        Self::default()
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

    /// `/health` and `/health/live`: the process answers, so it lives.
    pub fn live(&self) -> Report {
        Report { status: StatusCode::OK, body: "{}" }
    }

    /// `/health/ready`: 503 and the reason unless connections are welcome.
    pub fn ready(&self) -> Report {
        let (status, body) = match self.phase() {
            Phase::Starting => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"starting","reason":"not all parts of the node are up yet"}"#,
            ),
            Phase::Ready if self.turns_away.load(Ordering::Acquire) => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"draining","reason":"an administrator asked for no new connections"}"#,
            ),
            Phase::Ready => (StatusCode::OK, r#"{"status":"ready"}"#),
            Phase::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                r#"{"status":"draining","reason":"the node is stopping and takes no connections"}"#,
            ),
        };
        Report { status, body }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_follows_the_phase_and_liveness_does_not() {
        let health = Health::new();
        let table = [(Phase::Starting, 503), (Phase::Ready, 200), (Phase::Draining, 503)];
        for (phase, status) in table {
            health.enter(phase);
            assert_eq!(health.ready().status.as_u16(), status, "{phase:?}");
            assert!(serde_json::from_str::<serde_json::Value>(health.ready().body).is_ok());
            assert_eq!(health.live(), Report { status: StatusCode::OK, body: "{}" });
        }
    }

    #[test]
    fn a_wish_for_no_connections_can_be_taken_back() {
        let health = Health::new();
        health.enter(Phase::Ready);
        for (wish, status) in [(true, 503), (false, 200)] {
            health.turn_away(wish);
            assert_eq!(health.ready().status.as_u16(), status);
            assert!(serde_json::from_str::<serde_json::Value>(health.ready().body).is_ok());
        }
    }

    #[test]
    fn a_draining_node_never_becomes_ready_again() {
        let health = Health::new();
        health.enter(Phase::Draining);
        health.enter(Phase::Ready);
        assert_eq!(health.phase(), Phase::Draining);
    }
}
