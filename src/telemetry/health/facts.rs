//! What is known of the way of publications over one shard.

use std::time::{Duration, Instant};

use super::Limits;

/// What is known; see [`super::Way`] for who tells it.
#[derive(Debug)]
pub(super) struct Facts {
    pub shard: usize,
    /// Since when it is watched.
    began: Instant,
    connections: Vec<Heard>,
    /// Why there is no connection.
    away: Option<String>,
    /// Since when what is published is not kept as it should be, and why.
    unkept: Option<(Instant, String)>,
}

/// What one PUB/SUB connection has heard.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    /// When the newest own canary was sent that was heard.
    own: Option<Instant>,
    /// Those of other nodes since then.
    others: Option<Streak>,
}

/// Canaries of other nodes that came one after the other while none of one's own did.
#[derive(Clone, Copy, Debug)]
struct Streak {
    first: Instant,
    last: Instant,
}

/// Something that is wrong with the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub shard: usize,
    /// Until then it is known to have worked.
    pub since: Instant,
    /// Other nodes' canaries have arrived all the while, so that Redis delivers: the fault is this
    /// node's, or its connections'.
    pub is_own: bool,
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// There is no connection.
    Away(String),
    /// No PUB/SUB connection hears what is published.
    Unheard,
    /// One of them does not: which, counted from 1, and of how many.
    Deaf { connection: usize, of: usize },
    /// What is published is not kept as it should be, for this reason.
    Unkept(String),
}

impl Facts {
    pub fn new(shard: usize, connections: usize, now: Instant) -> Self {
        let connections = vec![Heard::default(); connections];
        let away = Some("not tried yet".to_owned());
        Self { shard, began: now, connections, away, unkept: None }
    }

    pub fn heard_own(&mut self, connection: usize, sent: Instant) {
        if let Some(heard) = self.connections.get_mut(connection) {
            heard.own = heard.own.max(Some(sent));
            heard.others = None;
        }
    }

    /// On whichever connection it was heard: it shows that Redis delivers.
    pub fn heard_other(&mut self, now: Instant, patience: Duration) {
        for heard in &mut self.connections {
            match &mut heard.others {
                Some(streak) if streak.goes_on(now, patience) => streak.last = now,
                // After a pause, such as that of all Redis, others may be heard a moment before
                // one's own: that proves nothing.
                others => *others = Some(Streak { first: now, last: now }),
            }
        }
    }

    pub fn answered(&mut self, objection: Option<&str>, now: Instant) {
        self.unkept = objection.map(|text| {
            let since = self.unkept.as_ref().map_or(now, |(since, _)| *since);
            (since, text.to_owned())
        });
    }

    pub fn connected(&mut self) {
        self.away = None;
    }

    pub fn lost(&mut self, reason: String) {
        self.away = Some(reason);
    }

    /// What is wrong at this time.
    pub fn fault(&self, now: Instant, limits: &Limits) -> Option<Fault> {
        let is_late = |heard: &Heard| {
            heard.own.is_none_or(|own| now.saturating_duration_since(own) > limits.timeout)
        };
        let of = self.connections.len();
        let late = self.connections.iter().enumerate().filter(|(_, heard)| is_late(heard));
        let late_count = late.clone().count();
        // The one that has been late for longest.
        if let Some((index, heard)) = late.min_by_key(|(_, heard)| heard.own) {
            let what = match &self.away {
                Some(reason) => What::Away(reason.clone()),
                None if late_count < of => What::Deaf { connection: index + 1, of },
                None => What::Unheard,
            };
            let is_own = heard.others.is_some_and(|streak| streak.proves(limits.patience()));
            let since = heard.own.unwrap_or(self.began);
            return Some(Fault { shard: self.shard, since, is_own, what });
        }
        let (since, text) = self.unkept.as_ref()?;
        let is_long = now.saturating_duration_since(*since) > limits.timeout;
        let what = What::Unkept(text.clone());
        is_long.then_some(Fault { shard: self.shard, since: *since, is_own: false, what })
    }
}

impl Streak {
    /// Whether they came for long enough, in which case nothing takes that back but an own canary.
    fn proves(&self, patience: Duration) -> bool {
        self.last.saturating_duration_since(self.first) >= patience
    }

    fn goes_on(&self, now: Instant, patience: Duration) -> bool {
        self.proves(patience) || now.saturating_duration_since(self.last) <= patience
    }
}
