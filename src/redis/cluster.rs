//! Follows a cluster: a connection to every master, and readers at one of them.
//!
//! What is published at any node of a cluster reaches those who hear at any other. So the readers
//! stay where they are while slots move, and nothing said on a moving channel is missed or heard
//! twice. They leave a node that is out of touch with a master that we are connected to.
//!
//! Each master has its own identity, and a slot that comes under another one than before is void:
//! those who have positions in its channels recover. Except when both masters are known to be, before
//! and after, the ones that they were: then the slot was moved, whole.

mod history;
mod joining;
mod view;

use std::sync::Arc;
use std::time::Duration;

use ahash::{HashMap, HashSet, RandomState};
use compact_str::CompactString;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::history::Histories;
use self::joining::Joining;
use self::view::{View, watch_map};
use super::dial::ConnectionError;
use super::keys::Keys;
use super::link::{look, master_id};
use super::options::Place;
use super::routes::{Attachment, Routes};
use super::shard::{RETRY, Shard, reason};
use super::single::hear;
use super::slots::{Master, SharedSlotMap, slot_of};

/// Events that may wait for the supervisor; those who have more of them wait.
const EVENTS: usize = 64;
/// How often in a row a node may be found out of touch with a master before it is left.
const OUT_OF_TOUCH: u32 = 2;
/// A master that a node does not hear of is there if it answers within this time.
const IS_THERE: Duration = Duration::from_secs(1);

/// Keeps a shard connected to its cluster until it is dropped.
pub(super) async fn follow(shard: Arc<Shard>, seeds: Vec<Place>, stop: CancellationToken) {
    let (events, mut coming) = mpsc::channel(EVENTS);
    let at_home = watch::Sender::new(None);
    let watching = watch_map(Arc::clone(&shard), seeds, at_home.subscribe(), events.clone());
    tokio::spawn(stop.clone().run_until_cancelled_owned(watching));
    let mut supervisor = Supervisor {
        keys: shard.keys().of_cluster(),
        shard,
        stop,
        events,
        members: HashMap::default(),
        map: None,
        turn: 0,
        is_verifying: false,
        is_judging: false,
        histories: Histories::default(),
        home: None,
        at_home,
        last_home: None,
        numbers: 0,
        hasher: RandomState::new(),
        shown: HashSet::default(),
    };
    while let Some(event) = coming.recv().await {
        supervisor.on(event);
    }
}

/// What happens to a cluster's connections.
enum Event {
    /// A node told of the cluster.
    Seen(View),
    /// Before a map with slots elsewhere counts: the places whose masters are still what they were.
    Verified(View, HashSet<Place>),
    /// A master is connected to.
    Up(Place, u64, Box<Attachment>),
    /// It is not, or not any more.
    Down(Place, u64),
    /// A master that this home does not hear of answers, or does not.
    Judged(u64, bool),
    /// The readers hear everything of interest.
    Hearing(u64),
    /// They do not any more.
    Deaf(u64, ConnectionError),
    /// What this master has published is not heard.
    Unheard(Place),
}

struct Supervisor {
    shard: Arc<Shard>,
    keys: Keys,
    stop: CancellationToken,
    events: mpsc::Sender<Event>,
    members: HashMap<Place, Member>,
    map: Option<SharedSlotMap>,
    /// Counts the maps.
    turn: u64,
    is_verifying: bool,
    is_judging: bool,
    histories: Histories,
    home: Option<Home>,
    at_home: watch::Sender<Option<Place>>,
    /// The latest home, and the task that kept its readers.
    last_home: Option<(Place, JoinHandle<()>)>,
    /// Numbers members and homes.
    numbers: u64,
    /// Makes gateways choose different homes.
    hasher: RandomState,
    /// The masters that callers were told of last.
    shown: HashSet<(Place, CompactString)>,
}

/// A master that is connected to, or is to be.
struct Member {
    number: u64,
    master: Master,
    up: Option<Arc<Attachment>>,
    /// The turn in which it was connected to.
    since: u64,
    /// It was tried once at least.
    is_tried: bool,
    _stop: DropGuard,
}

/// Where the readers are.
struct Home {
    number: u64,
    place: Place,
    is_hearing: bool,
    out_of_touch: u32,
    _stop: DropGuard,
}

impl Supervisor {
    fn on(&mut self, event: Event) {
        match event {
            Event::Seen(view) => self.see(view),
            Event::Verified(view, unchanged) => {
                self.is_verifying = false;
                self.take_over(view, &unchanged);
            }
            Event::Up(place, number, attachment) => {
                let turn = self.turn;
                if let Some(member) = self.member(&place, number) {
                    (member.up, member.since) = (Some(Arc::new(*attachment)), turn);
                    member.is_tried = true;
                    tracing::info!(shard = self.shard.number(), %place, "connected to Redis");
                }
            }
            Event::Down(place, number) => {
                if let Some(member) = self.member(&place, number) {
                    member.is_tried = true;
                    if member.up.take().is_some() {
                        self.shard.ask_for_map();
                    }
                }
            }
            Event::Judged(number, is_there) => {
                self.is_judging = false;
                self.out_of_touch(number, u32::from(is_there));
            }
            Event::Hearing(number) => {
                if let Some(home) = self.home.as_mut().filter(|home| home.number == number) {
                    home.is_hearing = true;
                }
            }
            Event::Unheard(place) => self.leave_deaf_home(&place),
            Event::Deaf(number, error) => {
                if let Some(home) = self.home.take_if(|home| home.number == number) {
                    let (shard, place) = (self.shard.number(), &home.place);
                    tracing::warn!(shard, %place, %error, "PUB/SUB of Redis was lost");
                }
            }
        }
        self.settle();
    }

    /// Leaves a home whose own master is not heard there. Of others it may be said and not arrive,
    /// which [`Supervisor::judge_home`] decides.
    fn leave_deaf_home(&mut self, place: &Place) {
        let is_deaf = |home: &mut Home| home.is_hearing && home.place == *place;
        if self.home.take_if(is_deaf).is_some() {
            let (shard, error) = (self.shard.number(), ConnectionError::Unheard);
            tracing::warn!(shard, %place, %error, "PUB/SUB of Redis was lost");
        }
    }

    fn member(&mut self, place: &Place, number: u64) -> Option<&mut Member> {
        self.members.get_mut(place).filter(|member| member.number == number)
    }

    /// A map that only confirms what is known counts at once.
    fn see(&mut self, view: View) {
        if !self.judge_home(&view) || self.is_verifying {
            // The next one comes soon.
            return;
        }
        let moving = self.moving(&view);
        if moving.is_empty() {
            return self.take_over(view, &HashSet::default());
        }
        self.is_verifying = true;
        let events = self.events.clone();
        tokio::spawn(async move {
            let mut unchanged = HashSet::default();
            for attachment in moving {
                if is_unchanged(&attachment).await {
                    unchanged.insert(attachment.place.clone());
                }
            }
            // The supervisor is gone, or takes it.
            let _ = events.send(Event::Verified(view, unchanged)).await;
        });
    }

    /// The masters between which slots have moved since the last map.
    fn moving(&self, view: &View) -> Vec<Arc<Attachment>> {
        let Some(map) = &self.map else { return Vec::new() };
        let mut places = HashSet::default();
        for slot in 0..super::slots::SLOTS as u16 {
            if let (Some(old), Some(new)) = (map.owner(slot), view.map.owner(slot))
                && old.place != new.place
            {
                places.extend([&old.place, &new.place]);
            }
        }
        let ups = places.into_iter().filter_map(|place| self.members.get(place)?.up.clone());
        ups.collect()
    }

    fn take_over(&mut self, view: View, unchanged: &HashSet<Place>) {
        if let Some(map) = &self.map {
            let is_old = |place: &Place| {
                let member = self.members.get(place)?;
                // A map was asked for and came since it is connected to, so what moved came later.
                let is_old = self.turn >= member.since + 2 && unchanged.contains(place);
                is_old.then(|| member.up.as_ref().map(|up| up.link.identity().id.clone()))?
            };
            self.histories.carry(map, &view.map, is_old);
        }
        self.turn += 1;
        let masters: Vec<_> =
            view.map.masters().iter().chain(view.neighbours.idle()).cloned().collect();
        self.map = Some(Arc::new(view.map));
        self.members.retain(|_, member| masters.contains(&member.master));
        for master in masters {
            if !self.members.contains_key(&master.place) {
                self.join(master);
            }
        }
    }

    fn join(&mut self, master: Master) {
        self.numbers += 1;
        let (number, token) = (self.numbers, self.stop.child_token());
        let joining = Joining {
            shard: Arc::clone(&self.shard),
            keys: self.keys.clone(),
            place: master.place.clone(),
            number,
            events: self.events.clone(),
            stop: token.clone(),
        };
        tokio::spawn(joining.keep());
        let place = master.place.clone();
        let _stop = token.drop_guard();
        let member = Member { number, master, up: None, since: 0, is_tried: false, _stop };
        self.members.insert(place, member);
    }

    /// Whether a view is to be believed. That of a home which is out of touch with a master is not, if
    /// it knows of no other in that one's place; and if the master answers us, the home is left.
    fn judge_home(&mut self, view: &View) -> bool {
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
    fn out_of_touch(&mut self, number: u64, by: u32) {
        let Some(home) = self.home.as_mut().filter(|home| home.number == number) else { return };
        home.out_of_touch = if by == 0 { 0 } else { home.out_of_touch + by };
        if home.out_of_touch >= OUT_OF_TOUCH {
            self.home = None;
        }
    }

    /// Draws the conclusions: what is void, where to listen, and where calls go.
    fn settle(&mut self) {
        let is_up =
            |place: &Place| self.members.get(place).is_some_and(|member| member.up.is_some());
        if self.home.as_ref().is_some_and(|home| !is_up(&home.place)) {
            self.home = None;
        }
        self.void_changed();
        if self.home.is_none() {
            self.settle_down();
        }
        let place = self.home.as_ref().map(|home| &home.place);
        self.at_home.send_if_modified(|at| {
            let is_other = at.as_ref() != place;
            at.clone_from(&place.cloned());
            is_other
        });
        self.show();
    }

    fn void_changed(&mut self) {
        let Some(map) = &self.map else { return };
        let owner = |slot| {
            let place = &map.owner(slot)?.place;
            let up = self.members.get(place)?.up.as_ref()?;
            Some(&up.link.identity().id)
        };
        let changed = self.histories.follow(owner);
        if changed.is_empty() {
            return;
        }
        let (number, slots) = (self.shard.number(), changed.len());
        tracing::warn!(shard = number, slots, "the data of Redis may have gone back");
        let shard = &self.shard;
        let is_ours = |channel: &str| shard.keeps(channel) && changed.contains(&slot_of(channel));
        self.shard.receive().interrupted(number, false, &is_ours);
        self.shard.receive().resumed(number);
    }

    /// Chooses a master to listen at, as soon as every one was tried.
    fn settle_down(&mut self) {
        let is_first = self.last_home.is_none();
        if is_first && self.members.values().any(|member| !member.is_tried) {
            return;
        }
        // Not where the last one was, if there is another: there may be a reason.
        let is_last = |place: &Place| self.last_home.as_ref().is_some_and(|last| last.0 == *place);
        let ups = self.members.values().filter_map(|member| member.up.as_ref());
        let rank = |up: &&Arc<Attachment>| (is_last(&up.place), self.hasher.hash_one(&up.place));
        let Some(chosen) = ups.min_by_key(rank) else { return };
        let (place, identity) = (chosen.place.clone(), chosen.link.identity().clone());
        let shard = Arc::clone(&self.shard);
        if !is_first {
            shard.receive().interrupted(shard.number(), true, &|channel| shard.keeps(channel));
        }
        self.numbers += 1;
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

    fn show(&mut self) {
        let is_hearing = self.home.as_ref().is_some_and(|home| home.is_hearing);
        let (true, Some(map)) = (is_hearing, &self.map) else {
            self.shown.clear();
            return self.shard.go(Routes::Away, false);
        };
        let ups = self.members.values().filter_map(|member| member.up.clone());
        let attachments: HashMap<_, _> = ups.map(|up| (up.place.clone(), up)).collect();
        let shown =
            attachments.values().map(|up| (up.place.clone(), up.link.identity().id.clone()));
        let shown: HashSet<_> = shown.collect();
        let is_new = shown.iter().any(|master| !self.shown.contains(master));
        self.shown = shown;
        let (map, carried) = (Arc::clone(map), self.histories.carried());
        self.shard.go(Routes::Cluster { map, attachments, carried }, is_new);
        if is_new {
            self.shard.receive().resumed(self.shard.number());
        }
    }
}

/// Whether a master is still one, and the one it was when it was connected to.
async fn is_unchanged(attachment: &Attachment) -> bool {
    let answer = attachment.link.call(look()).await;
    let id = &attachment.link.identity().id;
    answer.is_ok_and(|info| info.str().and_then(|info| master_id(info).ok()) == Some(id.as_str()))
}
