//! Where the calls of a channel go, and how they follow it when it moves within a cluster.
//!
//! A node that has not what it is asked for says so before it does anything. So such a call, and no
//! other, is made again: anew, since keys and identity are those of the other node.

use std::sync::Arc;
use std::time::Duration;

use ahash::HashMap;
use compact_str::CompactString;
use tokio::time::{Instant, timeout_at};

use super::dial::ConnectionError;
use super::driver::{Driver, Meter};
use super::keys::Keys;
use super::link::{CallError, Greeting, Identity, Link};
use super::options::{Place, ShardOptions};
use super::resp::{Command, Value};
use super::script::{Script, eval};
use super::shard::Shard;
use super::slots::{Redirect, SharedSlotMap, slot_of};

/// Between two tries while a slot is on its way.
const TRY_AGAIN: Duration = Duration::from_millis(10);

/// Connections to one master, from the moment that all of them work until one does not.
#[derive(Debug)]
pub struct Attachment {
    pub link: Link,
    pub place: Place,
    /// Answers when enough replicas have what was written, with `min_replicas`.
    acknowledged: Option<Link>,
    keys: Keys,
}

/// Where a channel is at the moment.
#[derive(Clone, Debug)]
pub struct Route {
    pub attachment: Arc<Attachment>,
    predecessor: CompactString,
}

/// Whether a call must last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The master's word is enough.
    Master,
    /// As many replicas as `min_replicas` says must have it.
    Replicas,
}

/// All attachments of a shard.
#[derive(Debug, Default)]
pub(super) enum Routes {
    #[default]
    Away,
    One(Arc<Attachment>),
    Cluster {
        map: SharedSlotMap,
        attachments: HashMap<Place, Arc<Attachment>>,
        /// By slot, the identity under which it was before it came to its master without a loss.
        carried: Arc<HashMap<u16, CompactString>>,
    },
}

impl Attachment {
    /// Opens connections for commands to a master. The drivers keep them until one of them ends.
    /// `before` is the identity that was seen there earlier.
    pub(super) async fn open(
        place: &Place,
        options: &ShardOptions,
        keys: Keys,
        before: Option<&Identity>,
        wants_cluster: bool,
        meter: Meter,
    ) -> Result<(Self, Vec<Driver>), ConnectionError> {
        let access = &options.access;
        let mut greeting = Greeting::of(place, access).await?;
        if greeting.is_cluster && !wants_cluster {
            return Err(ConnectionError::Cluster);
        }
        if options.hash_field_ttl {
            greeting.knows("HEXPIRE", "presence_hash_field_ttl needs HEXPIRE (Redis 7.4)").await?;
        }
        if options.keeps_everything {
            greeting.keeps_everything().await?;
        }
        // In a cluster the key would be at one master, and say nothing of the others.
        let is_first =
            !wants_cluster && greeting.is_first(&keys, before.map(|identity| &identity.id)).await?;
        let id = greeting.id.clone();
        let (link, driver) = greeting.into_link(access, is_first, None, meter.clone()).await?;
        let mut drivers = vec![driver];
        let acknowledged = match &options.replicas {
            None => None,
            Some(replicas) => {
                let greeting = Greeting::of(place, access).await?;
                if greeting.id != id {
                    return Err(ConnectionError::OtherIdentity);
                }
                let replicas = Some(replicas.clone());
                let opened = greeting.into_link(access, is_first, replicas, meter).await?;
                drivers.push(opened.1);
                Some(opened.0)
            }
        };
        Ok((Self { link, place: place.clone(), acknowledged, keys }, drivers))
    }

    /// The names of keys there.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What publications into streams go over.
    pub(super) fn publishing(&self) -> &Link {
        self.link_for(Durability::Replicas)
    }

    fn link_for(&self, durability: Durability) -> &Link {
        match durability {
            Durability::Master => &self.link,
            Durability::Replicas => self.acknowledged.as_ref().unwrap_or(&self.link),
        }
    }
}

impl Route {
    pub fn keys(&self) -> &Keys {
        &self.attachment.keys
    }

    pub fn identity(&self) -> &Identity {
        self.attachment.link.identity()
    }

    /// The identity of the master that the channel came from, if it lost nothing on the way; or
    /// empty. Streams that have it go on.
    pub fn predecessor(&self) -> &str {
        &self.predecessor
    }
}

impl Routes {
    /// Where a channel is.
    pub fn of(&self, channel: &str) -> Option<Route> {
        match self {
            Self::Away => None,
            Self::One(attachment) => Some(Route {
                attachment: Arc::clone(attachment),
                predecessor: CompactString::default(),
            }),
            Self::Cluster { map, attachments, carried } => {
                let slot = slot_of(channel);
                let attachment = Arc::clone(attachments.get(&map.owner(slot)?.place)?);
                let predecessor = carried.get(&slot).cloned().unwrap_or_default();
                Some(Route { attachment, predecessor })
            }
        }
    }

    /// Any of the attachments.
    pub fn any(&self) -> Option<Arc<Attachment>> {
        match self {
            Self::Away => None,
            Self::One(attachment) => Some(Arc::clone(attachment)),
            Self::Cluster { attachments, .. } => attachments.values().next().cloned(),
        }
    }

    /// Every one of them.
    pub fn all(&self) -> Vec<Arc<Attachment>> {
        match self {
            Self::Away => Vec::new(),
            Self::One(attachment) => vec![Arc::clone(attachment)],
            Self::Cluster { attachments, .. } => attachments.values().cloned().collect(),
        }
    }

    /// A slot of the master at a place of a cluster: the one of `before` if it has that still.
    pub fn slot_at(&self, place: &Place, before: Option<u16>) -> Option<u16> {
        let Self::Cluster { map, .. } = self else { return None };
        let is_there = |slot: &u16| map.owner(*slot).is_some_and(|owner| owner.place == *place);
        before.filter(is_there).or_else(|| map.last_of(place))
    }

    fn at(&self, place: &Place) -> Option<Arc<Attachment>> {
        match self {
            Self::Cluster { attachments, .. } => attachments.get(place).cloned(),
            Self::Away | Self::One(_) => None,
        }
    }
}

impl Shard {
    /// Calls what `make` gives for the place where a channel is.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(
        &self,
        channel: &str,
        make: impl Fn(&Route) -> Command,
    ) -> Result<Value, CallError> {
        self.follow(channel, Durability::Master, |route, _| make(route)).await
    }

    /// Calls a script with so many keys, which `fill` appends, and then the arguments. A server that
    /// has lost the script has not begun, so it is sent again, whole.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run(
        &self,
        channel: &str,
        (script, keys): (Script, u64),
        durability: Durability,
        fill: impl Fn(&Route, Command) -> Command,
    ) -> Result<Value, CallError> {
        let make = |route: &Route, is_whole| match is_whole {
            false => fill(route, route.attachment.link.script(script, keys)),
            true => fill(route, eval(script, keys)),
        };
        self.follow(channel, durability, make).await
    }

    async fn follow(
        &self,
        channel: &str,
        durability: Durability,
        make: impl Fn(&Route, bool) -> Command,
    ) -> Result<Value, CallError> {
        let mut is_whole = false;
        // Not before the first redirection, since the clock is asked in vain mostly.
        let mut until = None;
        let mut asked: Option<Route> = None;
        loop {
            let is_asking = asked.is_some();
            let route = match asked.take() {
                Some(route) => route,
                None => self.route(channel)?,
            };
            let link = route.attachment.link_for(durability);
            let command = make(&route, is_whole);
            let answer = match is_asking {
                false => link.call(command).await,
                true => link.call_asking(command).await,
            };
            let text = match answer {
                Err(CallError::Refused(text)) => text,
                answer => return answer,
            };
            if text.starts_with("NOSCRIPT") && !is_whole {
                is_whole = true;
                asked = is_asking.then_some(route);
                continue;
            }
            let Some(redirect) = Redirect::of(&text, &route.attachment.place) else {
                return Err(CallError::Refused(text));
            };
            let until = *until.get_or_insert_with(|| self.now() + self.options().access.io_timeout);
            match redirect {
                Redirect::Moved(_) => self.moved_from(channel, &route, until).await?,
                Redirect::Ask(place) => match self.routes().at(&place) {
                    // The keys left their master a moment ago, and it is a master still.
                    Some(attachment) => {
                        let predecessor = route.identity().id.clone();
                        asked = Some(Route { attachment, predecessor });
                    }
                    None => self.pause(until).await?,
                },
                Redirect::TryAgain => self.pause(until).await?,
            }
        }
    }

    /// Waits until a channel is elsewhere.
    async fn moved_from(
        &self,
        channel: &str,
        route: &Route,
        until: Instant,
    ) -> Result<(), CallError> {
        let mut changes = self.changes();
        loop {
            self.ask_for_map();
            changes.mark_unchanged();
            let is_elsewhere = self
                .routes()
                .of(channel)
                .is_some_and(|now| now.attachment.place != route.attachment.place);
            if is_elsewhere {
                return Ok(());
            }
            match timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(CallError::Unavailable),
            }
        }
    }

    async fn pause(&self, until: Instant) -> Result<(), CallError> {
        if self.now() >= until {
            return Err(CallError::Unavailable);
        }
        tokio::time::sleep(TRY_AGAIN).await;
        Ok(())
    }
}
