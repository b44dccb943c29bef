//! Which PUB/SUB channels one reader is to hear, and how far the server is with that.
//!
//! It outlives connections: after each new one everything is asked for anew. Pure but for the
//! waiting callers it wakes.

use std::collections::VecDeque;

use ahash::{HashMap, HashSet};
use compact_str::CompactString;
use tokio::sync::oneshot;

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Interest {
    wanted: HashMap<CompactString, Wanted>,
    /// Wanted and not asked for yet, in order.
    to_ask: VecDeque<CompactString>,
    /// Asked for once and not wanted any more.
    to_drop: HashSet<CompactString>,
    /// What the server will confirm, in its order.
    asked: VecDeque<Asked>,
    next_request: u64,
    /// Channels that were asked to be left and are not confirmed to be.
    leaving: usize,
    /// How many channels the server holds for the connection, by what it has confirmed.
    held: u64,
}

#[derive(Debug)]
struct Wanted {
    stage: Stage,
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    New,
    /// The server was asked with this request.
    Asked(u64),
    Heard,
}

#[derive(Debug)]
struct Asked {
    name: CompactString,
    /// `None` for a channel that is held already, asked for to be told how many are.
    request: Option<u64>,
}

/// The server says something else than it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disagreement {
    /// It confirms what it was not asked, or not in this order.
    Order,
    /// It holds more or fewer channels than it was asked to.
    Count,
}

impl Interest {
    /// Wants a channel. `None` if it is heard already; otherwise what tells when it is.
    pub fn want(&mut self, name: &str) -> Option<oneshot::Receiver<()>> {
        if !self.wanted.contains_key(name) {
            self.to_ask.push_back(name.into());
            let wanted = Wanted { stage: Stage::New, waiting: Vec::new() };
            self.wanted.insert(name.into(), wanted);
        }
        let wanted = self.wanted.get_mut(name)?;
        if wanted.stage == Stage::Heard {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        wanted.waiting.push(sender);
        Some(receiver)
    }

    /// Wants a channel no more.
    pub fn leave(&mut self, name: &str) {
        let Some((name, wanted)) = self.wanted.remove_entry(name) else { return };
        match wanted.stage {
            Stage::New => self.to_ask.retain(|asked| *asked != name),
            Stage::Asked(_) | Stage::Heard => {
                self.to_drop.insert(name);
            }
        }
    }

    /// Whether a channel is wanted.
    pub fn has(&self, name: &str) -> bool {
        self.wanted.contains_key(name)
    }

    /// How many channels are wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// How many of them are heard.
    #[cfg(test)]
    pub fn heard(&self) -> usize {
        self.wanted.values().filter(|wanted| wanted.stage == Stage::Heard).count()
    }

    /// A new connection: the server knows of nothing.
    pub fn restart(&mut self) {
        self.asked.clear();
        self.to_drop.clear();
        (self.leaving, self.held) = (0, 0);
        self.wanted.values_mut().for_each(|wanted| wanted.stage = Stage::New);
        self.to_ask = self.wanted.keys().cloned().collect();
    }

    /// Channels to unsubscribe from now; to be asked for before those of [`Interest::ask`], which may
    /// be the same ones, wanted again.
    pub fn drop_now(&mut self) -> Vec<CompactString> {
        self.leaving += self.to_drop.len();
        self.to_drop.drain().collect()
    }

    /// At most `most` channels to subscribe to now.
    pub fn ask(&mut self, most: usize) -> Vec<CompactString> {
        let count = self.to_ask.len().min(most);
        let names: Vec<_> = self.to_ask.drain(..count).collect();
        for name in &names {
            self.next_request += 1;
            let request = self.next_request;
            if let Some(wanted) = self.wanted.get_mut(name) {
                wanted.stage = Stage::Asked(request);
            }
            self.asked.push_back(Asked { name: name.clone(), request: Some(request) });
        }
        names
    }

    /// Whether the server, asked once more for a channel that it holds, would tell by that how many
    /// it holds. If so, that is to be asked now.
    pub fn ask_again(&mut self, name: &str) -> bool {
        let is_heard = self.wanted.get(name).is_some_and(|wanted| wanted.stage == Stage::Heard);
        if is_heard {
            self.asked.push_back(Asked { name: name.into(), request: None });
        }
        is_heard
    }

    /// The server hears a channel for us, and holds so many. Confirmations come in the order of the
    /// requests.
    pub fn confirm(&mut self, name: &str, held: u64) -> Result<(), Disagreement> {
        let asked = self.asked.pop_front().filter(|asked| asked.name == name);
        let asked = asked.ok_or(Disagreement::Order)?;
        self.held += u64::from(asked.request.is_some());
        self.agree(held)?;
        // An earlier request for a channel that was left and wanted again confirms nothing.
        if let Some(wanted) = self.wanted.get_mut(name)
            && asked.request.is_some_and(|request| wanted.stage == Stage::Asked(request))
        {
            wanted.stage = Stage::Heard;
            for waiting in std::mem::take(&mut wanted.waiting) {
                // Whoever has given up waiting need not be told.
                let _ = waiting.send(());
            }
        }
        Ok(())
    }

    /// The server has left a channel, and holds so many. One that it leaves unasked is missing.
    pub fn left(&mut self, held: u64) -> Result<(), Disagreement> {
        self.leaving = self.leaving.checked_sub(1).ok_or(Disagreement::Count)?;
        self.held = self.held.saturating_sub(1);
        self.agree(held)
    }

    fn agree(&self, held: u64) -> Result<(), Disagreement> {
        if self.held == held { Ok(()) } else { Err(Disagreement::Count) }
    }

    /// Whether everything that was asked for is confirmed, and nothing waits to be asked for.
    pub fn is_settled(&self) -> bool {
        self.asked.is_empty() && self.to_ask.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_wants_a_channel_waits_for_its_confirmation() {
        let mut interest = Interest::default();
        let mut first = interest.want("a").expect("to wait");
        let mut second = interest.want("a").expect("to wait");
        assert_eq!(interest.ask(9), ["a"]);
        assert!(first.try_recv().is_err());
        assert_eq!(interest.confirm("a", 1), Ok(()));
        assert_eq!((first.try_recv(), second.try_recv()), (Ok(()), Ok(())));
        assert!(interest.want("a").is_none());
        assert!(interest.ask(9).is_empty(), "asked once");
    }

    #[test]
    fn a_confirmation_from_before_a_channel_was_left_counts_for_nothing() {
        let mut interest = Interest::default();
        let _ = interest.want("a");
        interest.ask(9);
        interest.leave("a");
        let mut again = interest.want("a").expect("to wait");
        assert_eq!(interest.drop_now(), ["a"]);
        assert_eq!(interest.ask(9), ["a"]);
        assert_eq!(interest.confirm("a", 1), Ok(()));
        assert!(again.try_recv().is_err(), "the server drops it next");
        assert_eq!(interest.left(0), Ok(()));
        assert_eq!(interest.confirm("a", 1), Ok(()));
        assert!(again.try_recv().is_ok());
    }

    #[test]
    fn after_a_new_connection_everything_is_asked_for_anew() {
        let mut interest = Interest::default();
        let _ = interest.want("a");
        interest.ask(9);
        assert_eq!(interest.confirm("a", 1), Ok(()));
        let mut waiting = interest.want("b").expect("to wait");
        interest.ask(9);
        interest.restart();
        assert_eq!(interest.heard(), 0);
        let mut asked = interest.ask(9);
        asked.sort();
        assert_eq!(asked, ["a", "b"]);
        assert!(waiting.try_recv().is_err());
    }

    #[test]
    fn a_confirmation_out_of_order_is_noticed() {
        let mut interest = Interest::default();
        assert_eq!(interest.confirm("a", 1), Err(Disagreement::Order));
        let _ = interest.want("a");
        interest.ask(9);
        assert_eq!(interest.confirm("b", 1), Err(Disagreement::Order));
    }

    #[test]
    fn a_server_that_holds_other_channels_than_it_was_asked_to_is_noticed() {
        let heard = |names: &[&str]| {
            let mut interest = Interest::default();
            names.iter().for_each(|name| drop(interest.want(name)));
            interest.ask(9);
            for (held, name) in (1..).zip(names) {
                assert_eq!(interest.confirm(name, held), Ok(()));
            }
            interest
        };
        let mut asked = heard(&["a", "b"]);
        assert!(!asked.ask_again("c"), "it is not held");
        assert!(asked.ask_again("a"));
        assert_eq!(asked.confirm("a", 2), Ok(()));
        assert!(asked.ask_again("a"));
        assert_eq!(asked.confirm("a", 1), Err(Disagreement::Count), "b was forgotten");

        assert_eq!(heard(&["a"]).left(0), Err(Disagreement::Count), "nobody asked for that");
        let mut left = heard(&["a", "b"]);
        left.leave("b");
        left.drop_now();
        assert_eq!(left.left(0), Err(Disagreement::Count), "a was forgotten as well");
        left.restart();
        left.ask(9);
        assert_eq!(left.confirm("a", 1), Ok(()));
    }

    /// A request to subscribe or, without the flag, to unsubscribe; the answer counts.
    fn serve(
        server: &mut HashSet<CompactString>,
        (subscribe, name): (bool, CompactString),
    ) -> (bool, CompactString, u64) {
        if subscribe {
            server.insert(name.clone());
        } else {
            server.remove(&name);
        }
        (subscribe, name, server.len() as u64)
    }

    fn take(
        interest: &mut Interest,
        (subscribe, name, held): (bool, CompactString, u64),
    ) -> Result<(), Disagreement> {
        if subscribe { interest.confirm(&name, held) } else { interest.left(held) }
    }

    proptest! {
        /// Against a server that does as it is told, in order.
        #[test]
        fn what_is_heard_is_what_the_server_sends(
            steps in proptest::collection::vec((0_u8..6, 0_u8..4), 0..80),
        ) {
            let mut interest = Interest::default();
            let (mut wire, mut server) = (VecDeque::new(), HashSet::default());
            let mut confirmed = VecDeque::new();
            for (step, name) in steps.into_iter().chain((0..40).map(|n| (2 + n % 3, 0))) {
                let name = CompactString::from(format!("c{name}"));
                match step {
                    0 => drop(interest.want(&name)),
                    1 => interest.leave(&name),
                    2 => {
                        wire.extend(interest.drop_now().into_iter().map(|name| (false, name)));
                        wire.extend(interest.ask(2).into_iter().map(|name| (true, name)));
                    }
                    3 => {
                        let served = wire.pop_front().map(|request| serve(&mut server, request));
                        confirmed.extend(served);
                    }
                    4 => {
                        if let Some(answer) = confirmed.pop_front() {
                            prop_assert_eq!(take(&mut interest, answer), Ok(()));
                        }
                    }
                    _ => {
                        if interest.ask_again(&name) {
                            wire.push_back((true, name));
                        }
                    }
                }
            }
            while let Some(request) = wire.pop_front() {
                confirmed.push_back(serve(&mut server, request));
            }
            for answer in confirmed {
                prop_assert_eq!(take(&mut interest, answer), Ok(()));
            }
            prop_assert!(interest.is_settled());
            let wanted: HashSet<_> = interest.wanted.keys().cloned().collect();
            prop_assert_eq!(interest.heard(), wanted.len());
            prop_assert_eq!(server, wanted);
        }
    }
}
