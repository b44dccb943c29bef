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
    request: u64,
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
        self.wanted.values_mut().for_each(|wanted| wanted.stage = Stage::New);
        self.to_ask = self.wanted.keys().cloned().collect();
    }

    /// Channels to unsubscribe from now; to be asked for before those of [`Interest::ask`], which may
    /// be the same ones, wanted again.
    pub fn drop_now(&mut self) -> Vec<CompactString> {
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
            self.asked.push_back(Asked { name: name.clone(), request });
        }
        names
    }

    /// The server hears a channel for us. Confirmations come in the order of the requests; `false`
    /// if this one does not.
    pub fn confirm(&mut self, name: &str) -> bool {
        let Some(asked) = self.asked.pop_front() else { return false };
        if asked.name != name {
            return false;
        }
        // An earlier request for a channel that was left and wanted again confirms nothing.
        if let Some(wanted) = self.wanted.get_mut(name)
            && wanted.stage == Stage::Asked(asked.request)
        {
            wanted.stage = Stage::Heard;
            for waiting in std::mem::take(&mut wanted.waiting) {
                // Whoever has given up waiting need not be told.
                let _ = waiting.send(());
            }
        }
        true
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
        assert!(interest.confirm("a"));
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
        assert!(interest.confirm("a"));
        assert!(again.try_recv().is_err(), "the server drops it next");
        assert!(interest.confirm("a"));
        assert!(again.try_recv().is_ok());
    }

    #[test]
    fn after_a_new_connection_everything_is_asked_for_anew() {
        let mut interest = Interest::default();
        let _ = interest.want("a");
        interest.ask(9);
        interest.confirm("a");
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
        assert!(!interest.confirm("a"));
        let _ = interest.want("a");
        interest.ask(9);
        assert!(!interest.confirm("b"));
    }

    proptest! {
        /// Against a server that does as it is told, in order.
        #[test]
        fn what_is_heard_is_what_the_server_sends(
            steps in proptest::collection::vec((0_u8..5, 0_u8..4), 0..80),
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
                    3 => match wire.pop_front() {
                        Some((true, name)) => {
                            server.insert(name.clone());
                            confirmed.push_back(name);
                        }
                        Some((false, name)) => drop(server.remove(&name)),
                        None => {}
                    },
                    _ => {
                        if let Some(name) = confirmed.pop_front() {
                            prop_assert!(interest.confirm(&name));
                        }
                    }
                }
            }
            while let Some((subscribe, name)) = wire.pop_front() {
                if subscribe {
                    server.insert(name.clone());
                    confirmed.push_back(name);
                } else {
                    server.remove(&name);
                }
            }
            confirmed.iter().for_each(|name| assert!(interest.confirm(name)));
            prop_assert!(interest.is_settled());
            let wanted: HashSet<_> = interest.wanted.keys().cloned().collect();
            prop_assert_eq!(interest.heard(), wanted.len());
            prop_assert_eq!(server, wanted);
        }
    }
}
