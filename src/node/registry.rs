//! Which other nodes there are. Pure: what was heard and the time go in.
//!
//! A node is there from the first that is heard of it until it says that it stops, or is silent for
//! [`SILENT_AFTER`]. Silence counts only while this node could have heard something.

use std::time::{Duration, Instant};

use ahash::HashMap;

use crate::protocol::control::NodeInfo;

/// Between two descriptions that a node sends of itself, less some jitter: Centrifugo's time.
pub(super) const ANNOUNCE_EVERY: Duration = Duration::from_secs(3);
/// A node of which nothing was heard for so long is gone: Centrifugo's time.
const SILENT_AFTER: Duration = Duration::from_secs(7);
/// Between two looks at the registry, so that the dead do not stay in it much longer.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A look that comes so late means that this process stood still, and heard nothing meanwhile.
const STALL: Duration = Duration::from_secs(2);
/// So long after this node began to hear, it has heard of all: everybody has described itself by then.
const MEETING: Duration = Duration::from_millis(3_500);
/// How long a description of a node that has stopped may still be on its way, over another shard.
const STOPPED_FOR: Duration = Duration::from_secs(30);
/// Others at most. Far more than can usefully exchange what every node tells every other.
const MAX_NODES: usize = 4_096;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Registry {
    nodes: HashMap<String, Known>,
    /// Those that said they stop, and when.
    stopped: HashMap<String, Instant>,
    looked: Option<Instant>,
    /// Since when nothing kept this node from hearing others.
    hearing_since: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    info: NodeInfo,
    heard: Instant,
}

/// What a description of a node told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// A node that was not known; it does not know this one either.
    New,
    Known,
    /// It has stopped, or there are too many.
    Ignored,
}

impl Registry {
    /// A node describes itself. Metrics it does not send this time stay as they were.
    pub fn heard(&mut self, mut info: NodeInfo, now: Instant) -> Heard {
        if self.stopped.contains_key(&info.uid) {
            return Heard::Ignored;
        }
        if let Some(known) = self.nodes.get_mut(&info.uid) {
            info.metrics = info.metrics.or_else(|| known.info.metrics.take());
            *known = Known { info, heard: now };
            return Heard::Known;
        }
        if self.nodes.len() >= MAX_NODES {
            return Heard::Ignored;
        }
        self.nodes.insert(info.uid.clone(), Known { info, heard: now });
        Heard::New
    }

    /// A node stops. `true` if it was known.
    pub fn stopped(&mut self, uid: &str, now: Instant) -> bool {
        let was_known = self.nodes.remove(uid).is_some();
        if was_known {
            self.stopped.insert(uid.to_owned(), now);
        }
        was_known
    }

    /// Until now something may have kept this node from hearing others.
    pub fn was_deaf(&mut self, now: Instant) {
        self.hearing_since = Some(now);
    }

    /// From when on no node is missing here that was there before.
    pub fn is_whole_at(&self) -> Option<Instant> {
        Some(self.hearing_since? + MEETING)
    }

    /// Forgets the silent, and returns them. `can_hear`: whether messages of others arrive now.
    pub fn look(&mut self, can_hear: bool, now: Instant) -> Vec<NodeInfo> {
        let since = |then: Instant| now.saturating_duration_since(then);
        let has_stalled = self.looked.replace(now).is_none_or(|looked| since(looked) >= STALL);
        if has_stalled || !can_hear {
            self.was_deaf(now);
        }
        self.stopped.retain(|_, at| since(*at) < STOPPED_FOR);
        let hearing_since = self.hearing_since;
        let is_silent = |known: &Known| {
            let silent_since = hearing_since.map_or(known.heard, |since| since.max(known.heard));
            since(silent_since) >= SILENT_AFTER
        };
        let silent = self.nodes.extract_if(|_, known| is_silent(known));
        silent.map(|(_, known)| known.info).collect()
    }

    /// The other nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values().map(|known| &known.info)
    }

    /// How many other nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::control::NodeMetrics;
    use crate::time::Clock;

    fn info(uid: &str) -> NodeInfo {
        NodeInfo { uid: uid.into(), ..NodeInfo::default() }
    }

    fn uids(registry: &Registry) -> Vec<&str> {
        let mut uids: Vec<_> = registry.nodes().map(|info| info.uid.as_str()).collect();
        uids.sort_unstable();
        uids
    }

    /// Looks every half second until `to` seconds behind `start`; the names of those who went.
    fn look_until(registry: &mut Registry, start: Instant, from: f64, to: f64) -> Vec<String> {
        let steps = ((to - from) * 2.0) as u32;
        let at = |step: u32| start + Duration::from_secs_f64(from) + LOOK_EVERY * step;
        let gone = (0..=steps).flat_map(|step| registry.look(true, at(step)));
        gone.map(|info| info.uid).collect()
    }

    #[test]
    fn a_node_is_new_once_and_goes_when_it_is_silent() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        assert_eq!(registry.heard(info("a"), start), Heard::New);
        assert_eq!(registry.heard(info("a"), start), Heard::Known);
        registry.heard(info("b"), start);
        assert!(look_until(&mut registry, start, 0.0, 3.0).is_empty());
        registry.heard(info("b"), start + Duration::from_secs(3));
        assert!(look_until(&mut registry, start, 3.5, 6.5).is_empty());
        assert_eq!(look_until(&mut registry, start, 7.0, 7.5), ["a"]);
        assert_eq!(uids(&registry), ["b"]);
        assert_eq!(look_until(&mut registry, start, 8.0, 10.5), ["b"]);
        assert_eq!(registry.heard(info("a"), start + Duration::from_secs(11)), Heard::New);
    }

    #[test]
    fn a_node_that_stops_is_gone_at_once_and_no_late_word_brings_it_back() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        registry.heard(info("a"), start);
        assert!(registry.stopped("a", start));
        assert!(!registry.stopped("a", start), "once");
        assert!(!registry.stopped("never seen", start));
        assert_eq!(registry.heard(info("a"), start), Heard::Ignored);
        assert_eq!(registry.len(), 0);
        look_until(&mut registry, start, 0.0, 31.0);
        assert!(registry.stopped.is_empty(), "not remembered for ever");
    }

    #[test]
    fn nobody_is_silent_while_nothing_could_be_heard() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        registry.heard(info("a"), start);
        for step in 0..100 {
            assert!(registry.look(false, start + LOOK_EVERY * step).is_empty());
        }
        assert!(look_until(&mut registry, start, 50.0, 56.0).is_empty());
        assert_eq!(look_until(&mut registry, start, 56.5, 57.0), ["a"]);
    }

    #[test]
    fn nobody_is_silent_while_this_process_stood_still() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        registry.look(true, start);
        registry.heard(info("a"), start);
        assert!(registry.look(true, start + Duration::from_secs(60)).is_empty());
        assert!(look_until(&mut registry, start, 60.5, 66.5).is_empty());
        assert_eq!(look_until(&mut registry, start, 67.0, 67.5), ["a"]);
    }

    #[test]
    fn all_are_known_once_everybody_could_be_heard() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(registry.is_whole_at(), None);
        registry.look(true, at(0));
        look_until(&mut registry, start, 0.5, 9.5);
        assert_eq!(registry.is_whole_at(), Some(at(0) + MEETING));
        registry.look(false, at(10));
        look_until(&mut registry, start, 10.5, 19.5);
        assert_eq!(registry.is_whole_at(), Some(at(10) + MEETING));
        registry.was_deaf(at(20));
        assert_eq!(registry.is_whole_at(), Some(at(20) + MEETING));
        assert!(MEETING > ANNOUNCE_EVERY);
    }

    #[test]
    fn metrics_stay_until_there_are_new_ones() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        let with = |interval| {
            let metrics = Some(NodeMetrics { interval, items: BTreeMap::new() });
            NodeInfo { metrics, ..info("a") }
        };
        let interval = |registry: &Registry| {
            registry.nodes().next().and_then(|info| info.metrics.as_ref()).map(|m| m.interval)
        };
        registry.heard(with(1.0), start);
        registry.heard(info("a"), start);
        assert_eq!(interval(&registry), Some(1.0));
        registry.heard(with(2.0), start);
        assert_eq!(interval(&registry), Some(2.0));
    }

    #[test]
    fn there_is_room_for_so_many_and_no_more() {
        let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
        for number in 0..MAX_NODES {
            assert_eq!(registry.heard(info(&number.to_string()), start), Heard::New);
        }
        assert_eq!(registry.heard(info("one more"), start), Heard::Ignored);
        assert_eq!(registry.heard(info("0"), start), Heard::Known);
    }

    proptest! {
        /// Against the plain rule: there are those who were heard in the last seven seconds and have
        /// not stopped since they were first seen.
        #[test]
        fn whoever_speaks_is_there(
            steps in proptest::collection::vec((0_u8..4, 0_u8..3), 0..120),
        ) {
            let (mut registry, start) = (Registry::default(), Clock::manual(0).now());
            let (mut now, mut heard) = (start, std::collections::BTreeMap::new());
            let mut stopped = std::collections::BTreeSet::new();
            registry.look(true, now);
            for (step, uid) in steps {
                let uid = format!("n{uid}");
                match step {
                    0 if !stopped.contains(&uid) => {
                        registry.heard(info(&uid), now);
                        heard.insert(uid, now);
                    }
                    1 if registry.stopped(&uid, now) => {
                        heard.remove(&uid);
                        stopped.insert(uid);
                    }
                    _ => {
                        now += LOOK_EVERY;
                        registry.look(true, now);
                        heard.retain(|_, at| {
                            now - *at < SILENT_AFTER || *at + SILENT_AFTER > now
                        });
                    }
                }
                let expected: Vec<_> = heard.keys().map(String::as_str).collect();
                prop_assert_eq!(uids(&registry), expected);
            }
        }
    }
}
