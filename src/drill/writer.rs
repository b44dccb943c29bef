//! A writer: publishes numbered publications one after the other, like a backend that does not retry.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::api::{Api, CallError, Place};
use super::dial::Dial;
use super::event::{Event, Number, Outcome, Writer};
use super::journal::Journal;
use super::secret::Hidden;

/// What a publication carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    #[serde(rename = "w")]
    pub writer: Writer,
    #[serde(rename = "n")]
    pub number: Number,
}

/// Who publishes what, where, and how often.
#[derive(Clone, Debug)]
pub struct WriterTask {
    pub writer: Writer,
    pub channel: String,
    /// Where there are several, the next one is taken when one cannot be reached.
    pub places: Vec<Place>,
    pub dial: Dial,
    pub key: Option<Hidden>,
    pub every: Duration,
}

impl WriterTask {
    /// Publishes until told to stop; the publication that is under way then still gets its answer.
    pub async fn run(self, journal: Arc<Journal>, stop: CancellationToken) {
        let open =
            |place: &Place| Api::new(place.clone(), self.key.clone()).over(self.dial.clone());
        let mut apis: Vec<_> = self.places.iter().map(open).collect();
        let mut at = self.writer as usize % apis.len().max(1);
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for number in 1.. {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let Some(api) = apis.get_mut(at) else { return };
            let writer = self.writer;
            let data = serde_json::json!(Payload { writer, number });
            journal.note(Event::Sent { writer, number });
            let answer = api.publish(&self.channel, &data).await;
            let outcome = match &answer {
                Ok(_) => Outcome::Acknowledged,
                Err(CallError::NoAnswer(_)) => Outcome::Unknown,
                Err(CallError::NotSent(_) | CallError::Refused { .. }) => Outcome::Refused,
            };
            journal.note(Event::Answered { writer, number, outcome });
            if matches!(answer, Err(CallError::NotSent(_) | CallError::NoAnswer(_))) {
                at = (at + 1) % apis.len();
            }
        }
    }
}
