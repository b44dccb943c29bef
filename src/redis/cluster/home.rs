//! Where the readers of a cluster are, when they leave, and where they go.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::DropGuard;

use super::view::View;
use super::{Event, Member, Proof, Supervisor, is_unchanged};
use crate::redis::dial::ConnectionError;
use crate::redis::options::Place;
use crate::redis::routes::Attachment;
use crate::redis::shard::{RETRY, reason};
use crate::redis::single::hear;

/// How often in a row a node may be found out of touch with a master before it is left.
const OUT_OF_TOUCH: u32 = 2;
/// A master that a node does not hear of is there if it answers within this time.
const IS_THERE: Duration = Duration::from_secs(1);

/// The master that the readers are at.
pub(super) struct Home {
    pub number: u64,
    pub place: Place,
    pub is_hearing: bool,
    out_of_touch: u32,
    _stop: DropGuard,
}

impl Supervisor {
    /// Chooses a master to listen at, as soon as every one was tried.
    pub(super) fn settle_down(&mut self) {
        let is_first = self.last_home.is_none();
        if is_first && self.members.values().any(|member| !member.is_tried) {
            return;
        }
        // Not where the last one was, if there is another: there may be a reason. And not to and fro
        // between two, where a third is well.
        let is_last = |place: &Place| self.last_home.as_ref().is_some_and(|last| last.0 == *place);
        let ups = self.members.values().filter_map(|member| Some((member, member.up.as_ref()?)));
        let rank = |(member, up): &(&Member, &Arc<Attachment>)| {
            (is_last(&up.place), member.was_home, self.hasher.hash_one(&up.place))
        };
        let Some((_, chosen)) = ups.min_by_key(rank) else { return };
        let (place, identity) = (chosen.place.clone(), chosen.link.identity().clone());
        let shard = Arc::clone(&self.shard);
        if !is_first {
            shard.receive().interrupted(shard.number(), true, &|channel| shard.keeps(channel));
        }
        self.members.values_mut().for_each(|member| member.proof = Proof::Pending);
        self.numbers += 1;
        if let Some(member) = self.members.get_mut(&place) {
            member.was_home = self.numbers;
        }
        let (number, token) = (self.numbers, self.stop.child_token());
        let previous = self.last_home.take().map(|(_, task)| task);
        let (at, keys, events, stop) =
            (place.clone(), self.keys.clone(), self.events.clone(), token.clone());
        let listening = async move {
            if let Some(previous) = previous {
                // Both would hear for the same.
                let _ = previous.await;
                tokio::time::sleep(RETRY).await;
            }
            let mut tasks = JoinSet::new();
            let error = match hear(&shard, &at, &keys, &identity, &stop, &mut tasks).await {
                Err(error) => error,
                Ok(()) => {
                    let _ = events.send(Event::Hearing(number)).await;
                    reason(tasks.join_next().await)
                }
            };
            let _ = events.send(Event::Deaf(number, error)).await;
            stop.cancel();
            while tasks.join_next().await.is_some() {}
        };
        self.last_home = Some((place.clone(), tokio::spawn(listening)));
        let _stop = token.drop_guard();
        self.home = Some(Home { number, place, is_hearing: false, out_of_touch: 0, _stop });
    }

    /// Whether a view is to be believed. That of a home which is out of touch with a master is not, if
    /// it knows of no other in that one's place; and if the master answers us, the home is left.
    pub(super) fn judge_home(&mut self, view: &View) -> bool {
        let (Some(home), Some(map)) = (&self.home, &self.map) else { return true };
        if home.place != view.asked {
            return true;
        }
        let is_deaf_to = |member: &&Member| {
            let place = &member.master.place;
            member.up.is_some()
                && *place != home.place
                && !view.neighbours.hears(&member.master)
                && map.first_of(place).is_some_and(|slot| {
                    view.map.owner(slot).is_none_or(|owner| owner.place == *place)
                })
        };
        let missed = self.members.values().find(is_deaf_to).and_then(|member| member.up.clone());
        let (number, place) = (home.number, home.place.clone());
        let Some(other) = missed else {
            self.out_of_touch(number, 0);
            return true;
        };
        if !std::mem::replace(&mut self.is_judging, true) {
            let events = self.events.clone();
            tokio::spawn(async move {
                let is_there = timeout(IS_THERE, is_unchanged(&other)).await.unwrap_or(false);
                if is_there {
                    tracing::warn!(%place, other = %other.place, "a node does not hear of another");
                }
                let _ = events.send(Event::Judged(number, is_there)).await;
            });
        }
        false
    }

    /// Counts how often in a row a home was found `by` its deafness.
    pub(super) fn out_of_touch(&mut self, number: u64, by: u32) {
        let Some(home) = self.home.as_mut().filter(|home| home.number == number) else { return };
        home.out_of_touch = if by == 0 { 0 } else { home.out_of_touch + by };
        if home.out_of_touch >= OUT_OF_TOUCH {
            self.home = None;
        }
    }

    /// Leaves a home whose own master is not heard there. Of others it may be said and not arrive,
    /// which [`Supervisor::judge_home`] decides.
    pub(super) fn leave_deaf_home(&mut self, place: &Place) {
        let is_deaf = |home: &mut Home| home.is_hearing && home.place == *place;
        if self.home.take_if(is_deaf).is_some() {
            let (shard, error) = (self.shard.number(), ConnectionError::Unheard);
            tracing::warn!(shard, %place, %error, "PUB/SUB of Redis was lost");
        }
    }

    /// The number of the home whose readers hear everything of interest.
    pub(super) fn hearing(&self) -> Option<u64> {
        self.home.as_ref().filter(|home| home.is_hearing).map(|home| home.number)
    }
}
