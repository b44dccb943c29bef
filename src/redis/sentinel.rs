//! Who is the master: one fixed address, or what the sentinels say.
//!
//! Every sentinel is asked once a second and whenever it announces a switch. Of what those that answer
//! say, the highest configuration epoch counts: a sentinel that was cut off cannot lead us back, one
//! that hangs holds nobody up, and three announcements of one switch are one change.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::complaint::Complaint;
use super::dial::{ConnectionError, Conversation};
use super::options::{Access, Place, Source};
use super::resp::{Command, Value};
use crate::time::Clock;

/// How often a sentinel is asked, and how soon again when it does not answer.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Follows the master of one shard.
#[derive(Clone, Debug)]
pub(super) struct Masters {
    best: watch::Receiver<Option<Place>>,
    /// Keeps the place of a fixed master.
    _held: Option<Arc<watch::Sender<Option<Place>>>>,
}

/// What a sentinel says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    /// Rises with each failover.
    epoch: u64,
    master: Place,
}

/// What each of the sentinels said last, and nothing of those that do not answer.
type Reports = watch::Sender<Vec<Option<Report>>>;

impl Masters {
    /// Starts to watch, until `stop`.
    pub fn watch(source: &Source, shard: usize, clock: &Clock, stop: &CancellationToken) -> Self {
        let (places, master_name, access) = match source {
            Source::Sentinels { places, master_name, access } => (places, master_name, access),
            Source::Fixed(place) => return Self::always(Some(place.clone())),
            // No one master has all of it.
            Source::Cluster(_) => return Self::always(None),
        };
        let reports = Arc::new(Reports::new(vec![None; places.len()]));
        for (index, place) in places.iter().enumerate() {
            let sentinel = Sentinel {
                place: place.clone(),
                master_name: master_name.clone(),
                access: access.clone(),
                index,
                shard,
                clock: clock.clone(),
                reports: Arc::clone(&reports),
            };
            tokio::spawn(stop.clone().run_until_cancelled_owned(sentinel.follow()));
        }
        let (sender, best) = watch::channel(None);
        let mut changes = reports.subscribe();
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            while changes.changed().await.is_ok() {
                let current = sender.borrow().clone();
                let next = choose(&changes.borrow_and_update(), current.as_ref());
                if next != current {
                    sender.send_replace(next);
                }
            }
        }));
        Self { best, _held: None }
    }

    fn always(place: Option<Place>) -> Self {
        let (sender, best) = watch::channel(place);
        Self { best, _held: Some(Arc::new(sender)) }
    }

    /// The master, as soon as it is known.
    pub async fn current(&mut self) -> Option<Place> {
        self.best.wait_for(Option::is_some).await.ok().and_then(|place| place.clone())
    }

    /// Waits until the master is another than `place`.
    pub async fn moved_from(&mut self, place: &Place) {
        let moved = self.best.wait_for(|best| best.as_ref().is_some_and(|best| best != place));
        if moved.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The master by the newest report; the current one if nobody says anything.
fn choose(reports: &[Option<Report>], current: Option<&Place>) -> Option<Place> {
    let newest = reports.iter().flatten().map(|report| report.epoch).max();
    let mut named = reports.iter().flatten().filter(|report| Some(report.epoch) == newest);
    let stays = named.clone().any(|report| Some(&report.master) == current);
    match named.next() {
        Some(report) if !stays => Some(report.master.clone()),
        _ => current.cloned(),
    }
}

struct Sentinel {
    place: Place,
    master_name: String,
    access: Access,
    index: usize,
    shard: usize,
    clock: Clock,
    reports: Arc<Reports>,
}

impl Sentinel {
    async fn follow(self) {
        let mut complaint = Complaint::default();
        loop {
            let result = self.listen(&mut complaint).await;
            self.report(None);
            let Err(error) = result else { continue };
            if complaint.is_news(self.clock.now(), &error.to_string()) {
                let Self { shard, place: sentinel, master_name: master, .. } = &self;
                tracing::warn!(shard, %sentinel, master, %error, "cannot use a sentinel, trying on");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    async fn listen(&self, complaint: &mut Complaint) -> Result<(), ConnectionError> {
        let mut events = Conversation::open(&self.place, &self.access).await?;
        events.ask(&[Command::new("SUBSCRIBE").arg("+switch-master")]).await?;
        let mut questions = Conversation::open(&self.place, &self.access).await?;
        let question = [Command::new("SENTINEL").arg("MASTER").arg(&self.master_name)];
        loop {
            let answers = questions.ask(&question).await?;
            let report = answers.first().and_then(report_of);
            self.report(Some(report.ok_or(ConnectionError::Unexpected("what SENTINEL tells"))?));
            if complaint.is_over() {
                tracing::info!(shard = self.shard, sentinel = %self.place, "a sentinel answers");
            }
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                event = events.next() => drop(event?),
            }
        }
    }

    fn report(&self, report: Option<Report>) {
        self.reports.send_if_modified(|reports| match reports.get_mut(self.index) {
            Some(last) if *last != report => {
                *last = report;
                true
            }
            _ => false,
        });
    }
}

/// From the answer to `SENTINEL MASTER`: field, value, field, value.
fn report_of(answer: &Value) -> Option<Report> {
    let fields = answer.list()?;
    let field = |name: &str| {
        let mut pairs = fields.chunks_exact(2);
        pairs.find_map(|pair| match pair {
            [key, value] if key.str() == Some(name) => value.str(),
            _ => None,
        })
    };
    let host = field("ip")?.to_owned();
    let port = field("port")?.parse().ok()?;
    Some(Report { epoch: field("config-epoch")?.parse().ok()?, master: Place::Tcp { host, port } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> Place {
        Place::Tcp { host: "h".into(), port }
    }

    fn says(epoch: u64, port: u16) -> Option<Report> {
        Some(Report { epoch, master: at(port) })
    }

    #[test]
    fn the_newest_configuration_counts() {
        assert_eq!(choose(&[says(1, 1), says(2, 2), None], Some(&at(1))), Some(at(2)));
        assert_eq!(choose(&[says(1, 1), None, None], Some(&at(1))), Some(at(1)));
    }

    #[test]
    fn sentinels_that_were_set_up_anew_are_believed() {
        assert_eq!(choose(&[says(0, 3), says(0, 3)], Some(&at(2))), Some(at(3)));
    }

    #[test]
    fn while_nobody_answers_the_master_stays() {
        assert_eq!(choose(&[None, None], Some(&at(1))), Some(at(1)));
        assert_eq!(choose(&[None, None], None), None);
    }

    #[test]
    fn of_two_that_disagree_in_one_epoch_the_current_one_stays() {
        assert_eq!(choose(&[says(1, 1), says(1, 2)], Some(&at(2))), Some(at(2)));
    }

    #[test]
    fn a_report_is_read_from_field_and_value() {
        let text = |text: &str| Value::Text(bytes::Bytes::copy_from_slice(text.as_bytes()));
        let fields = ["name", "m", "ip", "h", "port", "7", "config-epoch", "4"];
        let answer = Value::List(fields.map(text).to_vec());
        assert_eq!(report_of(&answer), says(4, 7));
        assert_eq!(report_of(&Value::Nil), None);
        assert_eq!(report_of(&Value::List(fields[..4].iter().map(|t| text(t)).collect())), None);
    }
}
