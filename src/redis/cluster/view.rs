//! What the nodes of a cluster say about it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::Event;
use crate::redis::complaint::Complaint;
use crate::redis::dial::{ConnectionError, Conversation};
use crate::redis::options::Place;
use crate::redis::resp::Command;
use crate::redis::shard::{RETRY, Shard};
use crate::redis::slots::{Neighbours, SlotMap};

/// How often a node is asked, unless somebody wants to know earlier.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Between two questions at least.
const PAUSE: Duration = Duration::from_millis(20);

/// What a node said.
pub(super) struct View {
    pub asked: Place,
    pub map: SlotMap,
    pub neighbours: Neighbours,
}

/// Asks one node after the other until one answers, and goes on with that one; but rather the one
/// `at_home`.
pub(super) async fn watch_map(
    shard: Arc<Shard>,
    seeds: Vec<Place>,
    mut at_home: watch::Receiver<Option<Place>>,
    events: mpsc::Sender<Event>,
) {
    let mut places = seeds.clone();
    let mut conversation = None;
    let mut complaint = Complaint::default();
    let mut misses = 0;
    loop {
        let place = places.first().cloned();
        let Some(place) = at_home.borrow_and_update().clone().filter(|_| misses == 0).or(place)
        else {
            // There is a seed at least.
            return;
        };
        match ask(&shard, &place, &mut conversation).await {
            Ok(view) => {
                (complaint, misses) = (Complaint::default(), 0);
                places = view.map.masters().iter().map(|master| master.place.clone()).collect();
                places.extend(seeds.iter().cloned());
                if events.send(Event::Seen(view)).await.is_err() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
                tokio::select! {
                    _ = timeout(ASK_EVERY, shard.map_wanted()) => {}
                    _ = at_home.changed() => {}
                }
            }
            Err(error) => {
                complaint.about(&shard, &place, &error);
                conversation = None;
                misses += 1;
                // The next one; when all were asked, after a pause.
                places.rotate_left(1);
                if misses % places.len() == 0 {
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}

async fn ask(
    shard: &Shard,
    place: &Place,
    conversation: &mut Option<(Place, Conversation)>,
) -> Result<View, ConnectionError> {
    let (at, mut asking) = match conversation.take() {
        Some((at, asking)) if at == *place => (at, asking),
        _ => {
            let asking = Conversation::open(place, &shard.options().access).await?;
            (place.clone(), asking)
        }
    };
    let question = |what| Command::new("CLUSTER").arg(what);
    let answers = asking.ask(&[question("SLOTS"), question("NODES")]).await?;
    let unexpected = ConnectionError::Unexpected("what CLUSTER tells");
    let [slots, nodes] = &answers[..] else { return Err(unexpected) };
    let (Some(map), Some(neighbours)) = (SlotMap::of(slots, place), Neighbours::of(nodes)) else {
        return Err(unexpected);
    };
    *conversation = Some((at, asking));
    Ok(View { asked: place.clone(), map, neighbours })
}
