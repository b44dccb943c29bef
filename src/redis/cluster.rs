//! Follows a cluster: a connection to every master, and readers at one of them.
//!
//! What is published at any node of a cluster reaches those who hear at any other. So the readers
//! stay where they are while slots move, and nothing said on a moving channel is missed or heard
//! twice. They leave a node that is out of touch with a master that we are connected to.
//!
//! Calls go to a master only while a canary that was sent over it has been heard where the readers
//! are: what is published at the others would be answered as published, and heard by nobody here.
//!
//! Each master has its own identity, and a slot that comes under another one than before is void:
//! those who have positions in its channels recover. Except when both masters are known to be, before
//! and after, the ones that they were: then the slot was moved, whole.

mod history;
mod home;
mod joining;
mod view;

use std::sync::Arc;

use ahash::{HashMap, HashSet, RandomState};
use compact_str::CompactString;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::history::Histories;
use self::home::Home;
use self::joining::Joining;
use self::view::{View, watch_map};
use super::dial::ConnectionError;
use super::keys::Keys;
use super::link::{look, master_id};
use super::options::Place;
use super::routes::{Attachment, Routes};
use super::shard::Shard;
use super::slots::{Master, SharedSlotMap, slot_of};

/// Events that may wait for the supervisor; those who have more of them wait.
const EVENTS: usize = 64;

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
        hearing: watch::Sender::new(None),
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
    /// What this master publishes is heard at the home of this number.
    Heard(Place, u64, u64),
    /// It is not, as far as is known.
    Unheard(Place, u64),
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
    /// The number of the home once everything is heard there.
    hearing: watch::Sender<Option<u64>>,
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
    proof: Proof,
    /// The number of the home that it was last, or 0.
    was_home: u64,
    _stop: DropGuard,
}

/// Whether what a master publishes is heard where the readers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Not known yet.
    Pending,
    Heard,
    Unheard,
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
                    (member.is_tried, member.proof) = (true, Proof::Pending);
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
            Event::Heard(place, number, home) if self.hearing() == Some(home) => {
                self.hear(&place, number);
            }
            // The readers have left, and the same is asked anew elsewhere.
            Event::Heard(..) => {}
            Event::Unheard(place, number) => {
                if let Some(member) = self.member(&place, number) {
                    member.proof = Proof::Unheard;
                }
                self.leave_deaf_home(&place);
            }
            Event::Deaf(number, error) => {
                if let Some(home) = self.home.take_if(|home| home.number == number) {
                    let (shard, place) = (self.shard.number(), &home.place);
                    tracing::warn!(shard, %place, %error, "PUB/SUB of Redis was lost");
                }
            }
        }
        self.settle();
    }

    /// What a master publishes is heard, from now on or again.
    fn hear(&mut self, place: &Place, number: u64) {
        let Some(member) = self.member(place, number) else { return };
        let was_unheard = member.proof == Proof::Unheard;
        member.proof = Proof::Heard;
        if let Some(map) = self.map.as_ref().filter(|_| was_unheard) {
            let is_there =
                |channel: &str| map.owner(slot_of(channel)).is_some_and(|at| at.place == *place);
            let shard = &self.shard;
            let is_ours = |channel: &str| shard.keeps(channel) && is_there(channel);
            shard.receive().interrupted(shard.number(), true, &is_ours);
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
            master: master.clone(),
            number,
            events: self.events.clone(),
            hearing: self.hearing.subscribe(),
            stop: token.clone(),
        };
        tokio::spawn(joining.keep());
        let place = master.place.clone();
        let _stop = token.drop_guard();
        let (up, since, is_tried, proof) = (None, 0, false, Proof::Pending);
        let member = Member { number, master, up, since, is_tried, proof, was_home: 0, _stop };
        self.members.insert(place, member);
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
        let place = self.home.as_ref().map(|home| home.place.clone());
        let hearing = self.hearing();
        self.at_home.send_if_modified(|at| std::mem::replace(at, place.clone()) != place);
        self.hearing.send_if_modified(|at| std::mem::replace(at, hearing) != hearing);
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
        let owners = changed.iter().filter_map(|slot| map.owner(*slot));
        let owners: HashSet<_> = owners.map(|master| &master.place).collect();
        // Where nobody can be asked yet, who waits is told when that is so.
        if self.shown.iter().any(|(place, _)| owners.contains(place)) {
            self.shard.receive().resumed(number);
        }
    }

    fn show(&mut self) {
        // The first time all come together, for who waits for a cluster and then uses all of it.
        let is_first = *self.shard.attachments().borrow() == 0;
        let is_awaited = |member: &Member| member.up.is_some() && member.proof == Proof::Pending;
        let waits = is_first && self.members.values().any(is_awaited);
        let (Some(_), Some(map), false) = (self.hearing(), &self.map, waits) else {
            self.shown.clear();
            return self.shard.go(Routes::Away, false);
        };
        let heard = self.members.values().filter(|member| member.proof == Proof::Heard);
        let ups = heard.filter_map(|member| member.up.clone());
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
