//! Redis Cluster, pure: which slot a key has, which master has a slot, and what a node answers that
//! has not what it was asked for.

use std::sync::Arc;

use ahash::HashMap;
use compact_str::{CompactString, ToCompactString};

use super::address::place;
use super::options::Place;
use super::resp::Value;

/// How many slots there are.
pub const SLOTS: usize = 16_384;
/// Masters that are followed: as many as Redis recommends at most.
const MAX_MASTERS: usize = 1_000;
/// Stands for no master.
const NOBODY: u16 = u16::MAX;
/// The port of Redis.
const REDIS_PORT: u16 = 6_379;

/// Which master has which slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SlotMap {
    owners: Box<[u16]>,
    masters: Vec<Master>,
}

/// A master by the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Master {
    pub place: Place,
    /// The name that the cluster has for it.
    pub id: CompactString,
}

/// What a node of a cluster thinks of the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbours {
    /// By id, whether it is in touch with a master.
    in_touch: HashMap<CompactString, bool>,
    /// Masters that have no slots yet.
    idle: Vec<Master>,
}

/// Why a node has not done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// The slot is at another node now.
    Moved(Place),
    /// The slot is on its way, and these keys are at another node already.
    Ask(Place),
    /// The slot is on its way, and the keys are at neither of the two alone.
    TryAgain,
}

/// The slot of a channel: that of all its keys, which have it in braces.
pub fn slot_of(channel: &str) -> u16 {
    // A brace that closes ends the part that counts. An empty part makes the whole key count, of
    // which no two of a channel are alike: such a channel has no place in a cluster.
    let tag = channel.split('}').next().unwrap_or_default();
    crc16(tag.as_bytes()) % SLOTS as u16
}

/// A text whose slot this is.
pub(super) fn tag_of(slot: u16) -> CompactString {
    // It is found after as many tries as there are slots, on average.
    (0_u32..)
        .map(|number| number.to_compact_string())
        .find(|tag| slot_of(tag) == slot)
        .unwrap_or_default()
}

/// Whether a refusal says that a slot is elsewhere, or on its way.
pub(super) fn is_redirection(text: &str) -> bool {
    ["MOVED ", "ASK ", "TRYAGAIN"].iter().any(|kind| text.starts_with(kind))
}

impl SlotMap {
    /// From the answer to `CLUSTER SLOTS` of the node at `asked`, whose host stands for those that
    /// do not know their own.
    pub fn of(answer: &Value, asked: &Place) -> Option<Self> {
        let mut map = Self { owners: vec![NOBODY; SLOTS].into(), masters: Vec::new() };
        for range in answer.list()? {
            let [first, last, master, ..] = range.list()? else { return None };
            let [host, port, id, ..] = master.list()? else { return None };
            let (first, last) = (slot(first)?, slot(last)?);
            let port = u16::try_from(port.number()?).ok()?;
            let host = host.str().filter(|host| !host.is_empty() && *host != "?");
            let host = match (host, asked) {
                (Some(host), _) => host,
                (None, Place::Tcp { host, .. }) => host,
                (None, Place::Unix(_)) => return None,
            };
            let place = Place::Tcp { host: host.to_owned(), port };
            let index = map.index_of(Master { place, id: id.str()?.into() })?;
            map.owners.get_mut(first..=last)?.fill(index);
        }
        Some(map)
    }

    pub fn owner(&self, slot: u16) -> Option<&Master> {
        self.masters.get(usize::from(*self.owners.get(usize::from(slot))?))
    }

    /// The first slot of the master at a place.
    pub fn first_of(&self, place: &Place) -> Option<u16> {
        let is_there = |slot: &u16| self.owner(*slot).is_some_and(|owner| owner.place == *place);
        (0..SLOTS as u16).find(is_there)
    }

    /// The last one. Tools that move slots begin with the first.
    pub fn last_of(&self, place: &Place) -> Option<u16> {
        let is_there = |slot: &u16| self.owner(*slot).is_some_and(|owner| owner.place == *place);
        (0..SLOTS as u16).rev().find(is_there)
    }

    /// Those who have slots.
    pub fn masters(&self) -> &[Master] {
        &self.masters
    }

    fn index_of(&mut self, master: Master) -> Option<u16> {
        let known = self.masters.iter().position(|known| *known == master);
        let index = known.unwrap_or_else(|| {
            self.masters.push(master);
            self.masters.len() - 1
        });
        u16::try_from(index).ok().filter(|_| index < MAX_MASTERS)
    }
}

impl Neighbours {
    /// From the answer to `CLUSTER NODES`. Lines that cannot be read are left out.
    pub fn of(answer: &Value) -> Option<Self> {
        let mut neighbours = Self::default();
        for line in answer.str()?.lines().take(2 * MAX_MASTERS) {
            let fields: Vec<_> = line.split(' ').collect();
            let [id, address, flags, _, _, _, _, link, slots @ ..] = &fields[..] else { continue };
            let has = |flag: &str| flags.split(',').any(|own| own == flag);
            if !has("master") || has("handshake") || has("noaddr") {
                continue;
            }
            let is_in_touch = has("myself") || *link == "connected" && !has("fail");
            neighbours.in_touch.insert((*id).into(), is_in_touch);
            // `address:port@port,hostname`, of which the first two are of interest.
            let address = address.split('@').next().unwrap_or_default();
            let address = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if slots.is_empty()
                && is_in_touch
                && let Some((host, port)) = address
                && let Ok(port) = port.parse()
            {
                let place = Place::Tcp { host: host.to_owned(), port };
                neighbours.idle.push(Master { place, id: (*id).into() });
            }
        }
        neighbours.idle.truncate(MAX_MASTERS);
        Some(neighbours)
    }

    /// Whether the node hears of what is published at a master.
    pub fn hears(&self, master: &Master) -> bool {
        self.in_touch.get(&master.id).copied().unwrap_or(false)
    }

    /// Masters that have no slots yet.
    pub fn idle(&self) -> &[Master] {
        &self.idle
    }
}

impl Redirect {
    /// From the text of a refusal by the node at `asked`; `None` if it refuses for another reason.
    pub fn of(text: &str, asked: &Place) -> Option<Self> {
        let mut words = text.split(' ');
        let kind = words.next()?;
        if kind == "TRYAGAIN" {
            return Some(Self::TryAgain);
        }
        let (_slot, address) = (words.next()?, words.next()?);
        let port_alone = address.strip_prefix(':').and_then(|port| port.parse().ok());
        let place = match (port_alone, asked) {
            (Some(port), Place::Tcp { host, .. }) => Place::Tcp { host: host.clone(), port },
            _ => listed(address)?,
        };
        match kind {
            "MOVED" => Some(Self::Moved(place)),
            "ASK" => Some(Self::Ask(place)),
            _ => None,
        }
    }
}

/// `host:port`, where the host may be an IPv6 address without brackets.
fn listed(address: &str) -> Option<Place> {
    let (host, port) = address.rsplit_once(':')?;
    match host.contains(':') && !host.starts_with('[') {
        true => Some(Place::Tcp { host: host.to_owned(), port: port.parse().ok()? }),
        false => place(address, REDIS_PORT).ok(),
    }
}

fn slot(value: &Value) -> Option<usize> {
    usize::try_from(value.number()?).ok().filter(|slot| *slot < SLOTS)
}

/// CRC-16 with the polynomial 0x1021, as XMODEM has it.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ 0x1021,
        })
    })
}

/// A map that several hold.
pub(super) type SharedSlotMap = Arc<SlotMap>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(bytes::Bytes::copy_from_slice(text.as_bytes()))
    }

    fn range(first: i64, last: i64, host: &str, port: i64, id: &str) -> Value {
        let node = Value::List(vec![text(host), Value::Integer(port), text(id)]);
        Value::List(vec![Value::Integer(first), Value::Integer(last), node])
    }

    fn at(host: &str, port: u16) -> Place {
        Place::Tcp { host: host.into(), port }
    }

    #[test]
    fn slots_are_those_of_redis() {
        // As `CLUSTER KEYSLOT` answers for `{…}`.
        for (channel, slot) in [("123456789", 12_739), ("a", 15_495), ("foo", 12_182)] {
            assert_eq!(slot_of(channel), slot, "{channel}");
        }
        assert_eq!(slot_of("a}b"), slot_of("a"));
    }

    #[test]
    fn every_slot_has_a_text() {
        for slot in (0..SLOTS as u16).step_by(409) {
            assert_eq!(slot_of(&tag_of(slot)), slot);
        }
    }

    #[test]
    fn a_map_says_who_has_what() {
        let answer = Value::List(vec![
            range(0, 99, "h", 1, "one"),
            range(200, 16_383, "", 2, "two"),
            range(100, 150, "h", 1, "one"),
        ]);
        let map = SlotMap::of(&answer, &at("asked", 9)).expect("a map");
        let owner = |slot| map.owner(slot).map(|master| master.place.clone());
        assert_eq!((owner(0), owner(150)), (Some(at("h", 1)), Some(at("h", 1))));
        assert_eq!((owner(151), owner(16_383)), (None, Some(at("asked", 2))));
        assert_eq!((map.first_of(&at("h", 1)), map.last_of(&at("h", 1))), (Some(0), Some(150)));
        assert_eq!((map.first_of(&at("h", 9)), map.last_of(&at("h", 9))), (None, None));
        assert_eq!(map.masters().len(), 2);
        for wrong in [range(9, 3, "h", 1, "x"), range(0, 16_384, "h", 1, "x"), Value::Nil] {
            assert!(SlotMap::of(&Value::List(vec![wrong]), &at("asked", 9)).is_none());
        }
    }

    #[test]
    fn neighbours_say_whom_they_hear() {
        let lines = "a 10.0.0.1:7000@17000,h1 myself,master - 0 0 1 connected 0-5460\n\
                     b 10.0.0.2:7000@17000 master - 0 1 2 disconnected 5461-10922 [9->-a]\n\
                     c 10.0.0.3:7000@17000 master,fail - 1 1 3 connected 10923-16383\n\
                     d 10.0.0.4:7000@17000 master - 0 1 0 connected\n\
                     e 10.0.0.5:7000@17000 slave a 0 1 1 connected\n\
                     f :0@0 master,noaddr - 0 0 0 disconnected\nnonsense\n";
        let neighbours = Neighbours::of(&text(lines)).expect("readable");
        let hears = |id: &str| neighbours.hears(&Master { place: at("h", 1), id: id.into() });
        assert_eq!(
            ["a", "b", "c", "d", "e", "f"].map(hears),
            [true, false, false, true, false, false]
        );
        let idle: Vec<_> = neighbours.idle().iter().map(|master| &master.place).collect();
        assert_eq!(idle, [&at("10.0.0.4", 7000)]);
    }

    #[test]
    fn a_redirection_says_where_to() {
        let of = |text: &str| Redirect::of(text, &at("asked", 9));
        assert_eq!(of("MOVED 3999 127.0.0.1:6381"), Some(Redirect::Moved(at("127.0.0.1", 6381))));
        assert_eq!(of("ASK 3999 ::1:6381"), Some(Redirect::Ask(at("::1", 6381))));
        assert_eq!(of("MOVED 3999 :6381"), Some(Redirect::Moved(at("asked", 6381))));
        assert_eq!(of("TRYAGAIN Multiple keys"), Some(Redirect::TryAgain));
        for other in ["ERR no", "MOVED", "MOVED 1", "MOVED 1 x:y", "CLUSTERDOWN The cluster"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert!(is_redirection("ASK 3999 ::1:6381") && is_redirection("TRYAGAIN Multiple keys"));
        assert!(!is_redirection("NOREPLICAS Not enough") && !is_redirection("CLUSTERDOWN"));
    }

    proptest! {
        #[test]
        fn every_channel_has_a_slot(channel in ".{0,30}") {
            prop_assert!(usize::from(slot_of(&channel)) < SLOTS);
        }

        #[test]
        fn no_text_breaks_the_readers(words in "(MOVED|ASK|TRYAGAIN|x)( [0-9a-z:.,@-]{0,12}){0,9}") {
            let _ = Redirect::of(&words, &at("asked", 9));
            let _ = Neighbours::of(&text(&words));
        }
    }
}
