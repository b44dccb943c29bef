//! From facts and the time to an answer. Pure.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::json;

use super::facts::{Facts, Fault, What};
use super::{Limits, Phase, Report};
use crate::time::rfc3339;

/// What is known of the node.
#[derive(Debug)]
pub(super) struct Node<'a> {
    pub phase: Phase,
    /// The administrator wishes for no new connections.
    pub turns_away: bool,
    pub ways: Vec<&'a Facts>,
    /// What is wrong with the archive, and since when.
    pub archive: Vec<(Instant, String)>,
}

/// An answer that is not text yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    is_good: bool,
    word: &'static str,
    reason: &'static str,
    faults: Vec<Fault>,
    archive: Vec<(Instant, String)>,
}

const STARTING: &str = "not all parts of the node are up yet";
const DRAINING: &str = "the node is stopping and takes no connections";
const TURNED_AWAY: &str = "an administrator asked for no new connections";
const CUT_OFF: &str = "what this node publishes does not arrive, while canaries of other nodes do";
const BROKEN: &str = "what is published does not arrive";
const NOT_ARCHIVED: &str = "what is published arrives, but not in the archive";
const TOLERATED: &str =
    "what is published does not arrive; on other nodes it may be the same, so clients stay here";

/// Whether load balancers should send connections here. Broken delivery counts at once if other
/// nodes do better, and otherwise only after the grace.
pub(super) fn ready(node: &Node<'_>, now: Instant, limits: &Limits) -> Status {
    let faults = node.faults(now, limits);
    let is_past_grace = |fault: &Fault| now.saturating_duration_since(fault.since) > limits.grace;
    let (is_good, word, reason) = match node.phase {
        Phase::Starting => (false, "starting", STARTING),
        Phase::Draining => (false, "draining", DRAINING),
        Phase::Ready if node.turns_away => (false, "draining", TURNED_AWAY),
        Phase::Ready if faults.iter().any(|fault| fault.is_own) => (false, "cut off", CUT_OFF),
        Phase::Ready if faults.iter().any(is_past_grace) => (false, "broken", BROKEN),
        Phase::Ready if !faults.is_empty() => (true, "ready", TOLERATED),
        Phase::Ready => (true, "ready", ""),
    };
    // Other nodes have the same archive, and clients nothing to gain there.
    Status { is_good, word, reason, faults, archive: Vec::new() }
}

/// Whether what is published arrives.
pub(super) fn delivery(node: &Node<'_>, now: Instant, limits: &Limits) -> Status {
    let faults = node.faults(now, limits);
    let (is_good, word, reason) = match node.phase {
        Phase::Starting => (false, "starting", STARTING),
        Phase::Ready | Phase::Draining if !faults.is_empty() => (false, "broken", BROKEN),
        Phase::Ready | Phase::Draining if !node.archive.is_empty() => {
            (false, "not archived", NOT_ARCHIVED)
        }
        Phase::Ready | Phase::Draining => (true, "works", ""),
    };
    Status { is_good, word, reason, faults, archive: node.archive.clone() }
}

impl Node<'_> {
    fn faults(&self, now: Instant, limits: &Limits) -> Vec<Fault> {
        self.ways.iter().filter_map(|facts| facts.fault(now, limits)).collect()
    }
}

impl Status {
    /// Puts it into words; `unix` is the wall time of `now`.
    pub fn report(&self, now: Instant, unix: Duration) -> Report {
        let mut body = json!({ "status": self.word });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if !self.faults.is_empty() || !self.archive.is_empty() {
            let ways = self.faults.iter().map(|fault| entry(fault, now, unix));
            let archive = self.archive.iter().map(|fault| archive_entry(fault, now, unix));
            body["faults"] = ways.chain(archive).collect();
        }
        let status = if self.is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        Report { status, body: Bytes::from(body.to_string()) }
    }
}

fn entry(fault: &Fault, now: Instant, unix: Duration) -> serde_json::Value {
    let lasts = now.saturating_duration_since(fault.since);
    json!({
        "shard": fault.shard,
        "since": rfc3339(unix.saturating_sub(lasts).as_secs()),
        "seconds": lasts.as_secs(),
        "this_node_only": fault.is_own,
        "reason": fault.what.to_string(),
    })
}

fn archive_entry(fault: &(Instant, String), now: Instant, unix: Duration) -> serde_json::Value {
    let (since, reason) = fault;
    let lasts = now.saturating_duration_since(*since);
    json!({
        "part": "archive",
        "since": rfc3339(unix.saturating_sub(lasts).as_secs()),
        "seconds": lasts.as_secs(),
        "reason": reason,
    })
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(reason) => write!(f, "no connection to Redis: {reason}"),
            Self::Unheard => {
                f.write_str("Redis is connected, but no PUB/SUB connection hears canaries")
            }
            Self::Deaf { connection, of } => {
                write!(f, "PUB/SUB connection {connection} of {of} hears no canaries")
            }
            Self::Unkept(reason) => f.write_str(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const LIMITS: Limits = Limits {
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        grace: Duration::from_secs(30),
        strict: false,
    };

    /// What happens to a shard with two PUB/SUB connections, and when, in tenths of a second.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// An own canary is heard by all.
        Own(u64),
        /// One that only the first connection hears.
        First(u64),
        /// Other nodes' canaries, every second from and to.
        Others(u64, u64),
        Lost,
        Refused(u64),
        Written(u64),
    }

    use Event::{First, Lost, Others, Own, Refused, Written};

    /// Words and statuses of ready and delivery after these events.
    fn answers(phase: Phase, events: &[Event], tenths: u64) -> (u16, &'static str, u16) {
        let start = Clock::manual(0).now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let mut facts = Facts::new(3, 2, start);
        for event in events {
            match *event {
                Own(time) => (0..2).for_each(|connection| facts.heard_own(connection, at(time))),
                First(time) => facts.heard_own(0, at(time)),
                Others(from, to) => (from..=to)
                    .step_by(10)
                    .for_each(|time| facts.heard_other(at(time), LIMITS.patience())),
                Lost => facts.lost("refused".into()),
                Refused(time) => facts.answered(Some("NOREPLICAS"), at(time)),
                Written(time) => facts.answered(None, at(time)),
            }
        }
        let node = Node { phase, turns_away: false, ways: vec![&facts], archive: vec![] };
        let ready = ready(&node, at(tenths), &LIMITS);
        let delivery = delivery(&node, at(tenths), &LIMITS);
        let code = |status: &Status| status.report(at(tenths), Duration::ZERO).status.as_u16();
        (code(&ready), ready.word, code(&delivery))
    }

    #[test]
    fn each_story_ends_in_its_answers() {
        type Row<'a> = (&'a str, &'a [Event], u64, (u16, &'a str, u16));
        let table: &[Row<'_>] = &[
            ("never heard anything", &[], 1, (200, "ready", 503)),
            ("all is well", &[Own(10)], 20, (200, "ready", 200)),
            ("not late yet", &[Own(10)], 60, (200, "ready", 200)),
            ("late", &[Own(10)], 61, (200, "ready", 503)),
            ("within the grace", &[Own(10)], 310, (200, "ready", 503)),
            ("past the grace", &[Own(10)], 311, (503, "broken", 503)),
            ("heard again", &[Own(10), Own(400)], 410, (200, "ready", 200)),
            ("the way is cut for all", &[Own(10), Others(11, 11), Lost], 100, (200, "ready", 503)),
            ("others do better", &[Own(10), Others(15, 65)], 65, (503, "cut off", 503)),
            (
                "others do better, and then nothing",
                &[Own(10), Others(15, 65)],
                150,
                (503, "cut off", 503),
            ),
            (
                "others did, but one is not late",
                &[Own(10), Others(15, 55)],
                55,
                (200, "ready", 200),
            ),
            ("cut off until now", &[Own(10), Others(15, 65), Own(66)], 66, (200, "ready", 200)),
            (
                "all pause, others come back first",
                &[Own(10), Others(15, 15), Others(215, 216)],
                216,
                (200, "ready", 503),
            ),
            ("one is deaf, nobody else is there", &[Own(10), First(100)], 101, (200, "ready", 503)),
            (
                "one is deaf, others are heard",
                &[Own(10), First(50), Others(15, 95), First(100)],
                101,
                (503, "cut off", 503),
            ),
            ("writes are refused, a moment", &[Own(60), Refused(20)], 60, (200, "ready", 200)),
            ("writes are refused", &[Own(70), Refused(20), Refused(60)], 71, (200, "ready", 503)),
            (
                "writes are refused for long",
                &[Own(330), Refused(20), Refused(300)],
                331,
                (503, "broken", 503),
            ),
            (
                "writes were refused",
                &[Own(100), Refused(20), Written(90)],
                100,
                (200, "ready", 200),
            ),
        ];
        for (story, events, now, expected) in table {
            assert_eq!(answers(Phase::Ready, events, *now), *expected, "{story}");
        }
    }

    #[test]
    fn starting_and_draining_are_not_ready_whatever_is_heard() {
        assert_eq!(answers(Phase::Starting, &[Own(10)], 11), (503, "starting", 503));
        assert_eq!(answers(Phase::Draining, &[Own(10)], 11), (503, "draining", 200));
        assert_eq!(answers(Phase::Draining, &[Own(10)], 99), (503, "draining", 503));
    }

    #[test]
    fn a_report_names_shard_time_and_reason() {
        let start = Clock::manual(0).now();
        let mut facts = Facts::new(3, 2, start);
        facts.lost("Connection refused".into());
        let now = start + Duration::from_secs(40);
        let (phase, ways) = (Phase::Ready, vec![&facts]);
        let node = Node { phase, turns_away: false, ways, archive: vec![] };
        let status = ready(&node, now, &LIMITS);
        let report = status.report(now, Duration::from_secs(100));
        let expected = json!({
            "status": "broken",
            "reason": BROKEN,
            "faults": [{
                "shard": 3,
                "since": "1970-01-01T00:01:00Z",
                "seconds": 40,
                "this_node_only": false,
                "reason": "no connection to Redis: Connection refused",
            }],
        });
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&report.body).expect("JSON"),
            expected
        );
    }
}
