//! Where the epochs of channels are: registered before anything is stored in them.
//!
//! What is known of a channel is remembered. It may be old, which does no harm: epochs never leave
//! their places, and the bounds of their buckets only widen, so at worst they are widened once more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use compact_str::CompactString;
use mongodb::bson::doc;
use mongodb::options::{UpdateOneModel, WriteModel};
use parking_lot::Mutex;

use super::attempt::{DUPLICATE_KEY, Failure, of_code};
use super::layout::{Chapter, bucket_of};
use super::looks::Looks;

/// Channels that are remembered, some 200 bytes each; past it all are forgotten.
const REMEMBERED: usize = 100_000;

/// Channels of one look.
const LOOK: usize = 500;

/// See the [module](self).
#[derive(Default)]
pub struct Places {
    known: Mutex<HashMap<Arc<str>, Vec<Chapter>>>,
}

/// Offsets that are about to be stored.
#[derive(Clone, Debug)]
pub struct Wish {
    pub channel: Arc<str>,
    pub epoch: CompactString,
    pub first: i64,
    pub last: i64,
}

impl Wish {
    /// Whether an epoch reaches over them.
    fn is_within(&self, chapter: &Chapter) -> bool {
        let (low, high) = (bucket_of(self.first), bucket_of(self.last));
        chapter.first <= self.first && chapter.low <= low && high <= chapter.high
    }
}

impl Places {
    /// Sees to it that the epochs of all wishes are there and reach over their offsets. Returns, wish
    /// by wish, the place of its epoch and the highest offset that has expired in it.
    pub async fn prepare(
        &self,
        looks: &Looks,
        wishes: &[Wish],
    ) -> Result<Vec<(usize, i64)>, Failure> {
        loop {
            self.learn(looks, wishes).await?;
            let (writes, channels) = self.missing(looks, wishes);
            if writes.is_empty() {
                if let Some(places) = self.places(wishes) {
                    return Ok(places);
                }
                // Everything was forgotten in between.
                continue;
            }
            let failed = looks.write(writes).await?;
            // Somebody else registered the epoch at the same moment if there is a duplicate.
            if let Some((_, code, message)) =
                failed.into_iter().find(|(_, code, _)| *code != DUPLICATE_KEY)
            {
                return Err(of_code(code, &message));
            }
            let mut known = self.known.lock();
            for channel in channels {
                known.remove(&channel);
            }
        }
    }

    /// Forgets a channel whose document was changed here.
    pub fn forget(&self, channel: &str) {
        self.known.lock().remove(channel);
    }

    /// Reads the channels that are not known.
    async fn learn(&self, looks: &Looks, wishes: &[Wish]) -> Result<(), Failure> {
        let unknown: HashSet<Arc<str>> = {
            let known = self.known.lock();
            let is_unknown = |wish: &&Wish| !known.contains_key(&wish.channel);
            wishes.iter().filter(is_unknown).map(|wish| Arc::clone(&wish.channel)).collect()
        };
        let unknown: Vec<_> = unknown.into_iter().collect();
        for part in unknown.chunks(LOOK) {
            let names: Vec<&str> = part.iter().map(|name| &**name).collect();
            let found = looks.channels(&names).await?;
            let mut found: HashMap<_, _> =
                found.into_iter().map(|channel| (channel.name, channel.epochs)).collect();
            let mut known = self.known.lock();
            if known.len() + part.len() > REMEMBERED {
                known.clear();
            }
            for name in part {
                known.insert(Arc::clone(name), found.remove(&**name).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// What has to be written first, and the channels concerned. A channel gets one epoch at a time,
    /// so that they stand in the order of the wishes.
    fn missing(&self, looks: &Looks, wishes: &[Wish]) -> (Vec<WriteModel>, HashSet<Arc<str>>) {
        let known = self.known.lock();
        let (mut writes, mut channels) = (Vec::new(), HashSet::new());
        for wish in wishes {
            let Some(chapters) = known.get(&wish.channel) else { continue };
            let place = chapters.iter().position(|chapter| chapter.name == wish.epoch);
            let write = match place.map(|place| (place, &chapters[place])) {
                Some((_, chapter)) if wish.is_within(chapter) => continue,
                _ if !channels.insert(Arc::clone(&wish.channel)) => continue,
                Some((place, _)) => widening(looks, wish, place),
                None => registration(looks, wish),
            };
            writes.push(write.into());
        }
        (writes, channels)
    }

    fn places(&self, wishes: &[Wish]) -> Option<Vec<(usize, i64)>> {
        let known = self.known.lock();
        let place = |wish: &Wish| {
            let mut chapters = known.get(&wish.channel)?.iter().enumerate();
            let (place, chapter) = chapters.find(|(_, chapter)| chapter.name == wish.epoch)?;
            Some((place, chapter.expired))
        };
        wishes.iter().map(place).collect()
    }
}

/// Adds an epoch behind all others, unless it is there: then the key is a duplicate.
fn registration(looks: &Looks, wish: &Wish) -> UpdateOneModel {
    let chapter = doc! {
        "name": &*wish.epoch,
        "first": wish.first,
        "low": bucket_of(wish.first),
        "high": bucket_of(wish.last),
        "deletions": 0_i64,
    };
    UpdateOneModel::builder()
        .namespace(looks.channels.namespace())
        .filter(doc! { "_id": &*wish.channel, "epochs.name": { "$ne": &*wish.epoch } })
        .update(doc! { "$push": { "epochs": chapter } })
        .upsert(true)
        .build()
}

fn widening(looks: &Looks, wish: &Wish, place: usize) -> UpdateOneModel {
    let field = |name: &str| format!("epochs.{place}.{name}");
    let low = doc! { field("first"): wish.first, field("low"): bucket_of(wish.first) };
    UpdateOneModel::builder()
        .namespace(looks.channels.namespace())
        .filter(doc! { "_id": &*wish.channel, field("name"): &*wish.epoch })
        .update(doc! { "$min": low, "$max": { field("high"): bucket_of(wish.last) } })
        .build()
}
