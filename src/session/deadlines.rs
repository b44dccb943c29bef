//! What is due when for one connection. Pure: time comes in, what is due comes out.

use std::time::{Duration, Instant};

use crate::time::jittered;

/// The deadlines of one connection; all of them share one entry in the timing wheel.
#[derive(Debug, Default)]
pub struct Deadlines {
    stale: Option<Instant>,
    ping: Option<Instant>,
    pong: Option<Instant>,
    presence: Option<Instant>,
    expire: Option<Instant>,
    /// A ping was sent and its pong has not come.
    awaits_pong: bool,
    /// The earliest time for which the wheel holds an entry.
    armed: Option<Instant>,
}

/// What recurs, and how long a pong may take. A zero switches off.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    pub ping_interval: Duration,
    pub pong_timeout: Duration,
    pub presence_interval: Duration,
}

/// Something whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The client has not authenticated in time.
    Stale,
    /// A ping is to be sent; the wait for its pong has begun.
    Ping,
    /// The pong did not come.
    NoPong,
    /// Presence is to be renewed, positions and expiry of subscriptions are to be checked.
    PresenceTick,
    /// The connection's credentials have expired and were not refreshed.
    Expired,
}

/// A pong that answers no ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnexpectedPong;

impl Deadlines {
    /// A connection that must authenticate before `stale`.
    pub fn connecting(stale: Option<Instant>) -> Self {
        Self { stale, ..Self::default() }
    }

    /// The client authenticated: the recurring deadlines start, the first ones at a random moment so
    /// that connections made together do not tick together.
    pub fn connected(&mut self, now: Instant, rhythm: &Rhythm) {
        let first = |every: Duration| (!every.is_zero()).then(|| now + jittered(every));
        self.stale = None;
        self.ping = first(rhythm.ping_interval);
        self.presence = first(rhythm.presence_interval);
    }

    /// Sets or clears the moment at which the connection's credentials count as expired.
    pub fn expire_at(&mut self, at: Option<Instant>) {
        self.expire = at;
    }

    /// Notes a pong; tells when it would have been late, if it ever would.
    pub fn pong(&mut self) -> Result<Option<Instant>, UnexpectedPong> {
        if !self.awaits_pong {
            return Err(UnexpectedPong);
        }
        Ok(self.heard())
    }

    /// Notes that the client is alive, however it showed; tells when that would have been too late.
    pub fn heard(&mut self) -> Option<Instant> {
        self.awaits_pong = false;
        self.pong.take()
    }

    /// The next thing due at `now`, if any; ask until there is none.
    pub fn take_due(&mut self, now: Instant, rhythm: &Rhythm) -> Option<Due> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.stale) {
            self.stale = None;
            return Some(Due::Stale);
        }
        if passed(self.pong) {
            self.pong = None;
            return Some(Due::NoPong);
        }
        if passed(self.expire) {
            self.expire = None;
            return Some(Due::Expired);
        }
        if passed(self.ping) {
            self.ping = Some(now + rhythm.ping_interval);
            self.awaits_pong = true;
            self.pong = (!rhythm.pong_timeout.is_zero()).then(|| now + rhythm.pong_timeout);
            return Some(Due::Ping);
        }
        if passed(self.presence) {
            self.presence = Some(now + rhythm.presence_interval);
            return Some(Due::PresenceTick);
        }
        None
    }

    /// The moment for which the wheel needs an entry, if it holds none as early.
    pub fn arm(&mut self, now: Instant) -> Option<Instant> {
        let next = [self.stale, self.ping, self.pong, self.presence, self.expire]
            .into_iter()
            .flatten()
            .min()?;
        let covered = self.armed.is_some_and(|armed| armed > now && armed <= next);
        (!covered).then(|| {
            self.armed = Some(next);
            next
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    const RHYTHM: Rhythm = Rhythm {
        ping_interval: Duration::from_secs(25),
        pong_timeout: Duration::from_secs(8),
        presence_interval: Duration::from_secs(27),
    };

    fn connected() -> (Deadlines, Instant) {
        let now = Clock::manual(0).now();
        let mut deadlines = Deadlines::connecting(Some(now + Duration::from_secs(10)));
        deadlines.connected(now, &RHYTHM);
        (deadlines, now)
    }

    #[test]
    fn a_client_that_does_not_authenticate_is_stale() {
        let now = Clock::manual(0).now();
        let mut deadlines = Deadlines::connecting(Some(now + Duration::from_secs(10)));
        assert_eq!(deadlines.take_due(now + Duration::from_secs(9), &RHYTHM), None);
        assert_eq!(deadlines.take_due(now + Duration::from_secs(10), &RHYTHM), Some(Due::Stale));
    }

    #[test]
    fn first_ping_and_first_presence_tick_are_jittered() {
        let firsts: Vec<_> = (0..200).map(|_| connected()).collect();
        for (deadlines, now) in &firsts {
            let ping = deadlines.ping.unwrap() - *now;
            assert!(ping >= RHYTHM.ping_interval / 2 && ping <= RHYTHM.ping_interval);
            let tick = deadlines.presence.unwrap() - *now;
            assert!(tick >= RHYTHM.presence_interval / 2 && tick <= RHYTHM.presence_interval);
        }
        let pings = firsts.iter().map(|(d, now)| d.ping.unwrap() - *now);
        assert!(pings.clone().max() > pings.min());
    }

    #[test]
    fn a_ping_is_awaited_from_the_moment_it_is_due() {
        let (mut deadlines, now) = connected();
        let later = now + Duration::from_secs(25);
        assert_eq!(deadlines.pong(), Err(UnexpectedPong));
        assert_eq!(deadlines.take_due(later, &RHYTHM), Some(Due::Ping));
        assert_eq!(deadlines.pong(), Ok(Some(later + RHYTHM.pong_timeout)));
        assert_eq!(deadlines.pong(), Err(UnexpectedPong), "a second pong for the same ping");
    }

    #[test]
    fn a_missing_pong_is_noticed() {
        let (mut deadlines, now) = connected();
        let later = now + Duration::from_secs(25);
        deadlines.take_due(later, &RHYTHM);
        let after = later + RHYTHM.pong_timeout;
        let mut due = std::iter::from_fn(|| deadlines.take_due(after, &RHYTHM));
        assert!(due.any(|due| due == Due::NoPong));
    }

    #[test]
    fn the_wheel_gets_an_entry_only_for_an_earlier_deadline() {
        let (mut deadlines, now) = connected();
        let first = deadlines.arm(now).unwrap();
        assert_eq!(deadlines.arm(now), None);
        let sooner = now + Duration::from_secs(1);
        deadlines.expire_at(Some(sooner));
        assert_eq!(deadlines.arm(now), Some(sooner));
        assert!(sooner < first);
        deadlines.expire_at(None);
        assert_eq!(deadlines.arm(sooner), Some(first), "the passed entry covers nothing");
    }
}
