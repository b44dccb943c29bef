//! Questions to all nodes, and answers to theirs.
//!
//! An answer is whole or it is an error: nothing is asked before all nodes are known, and whoever asks
//! waits for every one that was known when the question went out. One that dies meanwhile fails it at once; one that stops is not waited for, since
//! its connections are on their way elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use ahash::{HashMap, HashMapExt, HashSet};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::oneshot;

use super::{Error, Node};
use crate::protocol::control::{
    self, CHANNELS, ChannelInfo, ChannelsRequest, ChannelsResult, Content, SurveyRequest,
    SurveyResponse,
};
use crate::telemetry::metrics::labels::{Action, SurveyOp};

/// The longest that nodes are waited for: Centrifugo's time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions of this node that may be open. They gather only while nodes are slow to answer.
const MAX_OPEN: usize = 64;
/// Answers to one question at most, so that made-up nodes cannot fill the memory.
const MAX_ANSWERS: usize = 4_096;

/// The questions of this node that wait for answers. Pure but for the callers it wakes.
#[derive(Debug, Default)]
pub(super) struct Surveys {
    open: Mutex<OpenSurveys>,
}

#[derive(Debug, Default)]
struct OpenSurveys {
    last_id: u64,
    by_id: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    awaited: HashSet<String>,
    /// By node.
    answers: HashMap<String, Bytes>,
    /// Gone once it was used.
    done: Option<oneshot::Sender<Result<Vec<Bytes>, Failure>>>,
}

/// Why there is no answer of everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    TooMany,
    Died,
    Failed,
    Late,
}

/// A question on its way; forgotten when this is dropped.
struct Asked<'a> {
    surveys: &'a Surveys,
    id: u64,
    answers: oneshot::Receiver<Result<Vec<Bytes>, Failure>>,
}

impl Surveys {
    fn begin(&self, awaited: HashSet<String>) -> Result<Asked<'_>, Failure> {
        let (sender, answers) = oneshot::channel();
        let mut open = self.open.lock();
        if open.by_id.len() >= MAX_OPEN {
            return Err(Failure::TooMany);
        }
        open.last_id += 1;
        let id = open.last_id;
        let mut survey = Open { awaited, answers: HashMap::new(), done: Some(sender) };
        survey.end_if_whole();
        open.by_id.insert(id, survey);
        Ok(Asked { surveys: self, id, answers })
    }

    /// A node has answered. What nobody asked for is passed over.
    pub fn answered(&self, uid: &str, response: SurveyResponse) {
        let mut open = self.open.lock();
        let Some(survey) = open.by_id.get_mut(&response.id) else { return };
        if response.code != 0 {
            tracing::warn!(node = uid, code = response.code, "a node could not answer a question");
            return survey.end(Err(Failure::Failed));
        }
        if survey.answers.len() < MAX_ANSWERS || survey.awaited.contains(uid) {
            survey.awaited.remove(uid);
            survey.answers.insert(uid.to_owned(), response.data);
            survey.end_if_whole();
        }
    }

    /// A node has stopped: it is not waited for.
    pub fn stopped(&self, uid: &str) {
        for survey in self.open.lock().by_id.values_mut() {
            survey.awaited.remove(uid);
            survey.end_if_whole();
        }
    }

    /// A node is dead: its answer will never come.
    pub fn died(&self, uid: &str) {
        for survey in self.open.lock().by_id.values_mut() {
            if survey.awaited.contains(uid) {
                survey.end(Err(Failure::Died));
            }
        }
    }
}

impl Open {
    fn end_if_whole(&mut self) {
        if self.awaited.is_empty() && self.done.is_some() {
            let answers = self.answers.drain().map(|(_, answer)| answer).collect();
            self.end(Ok(answers));
        }
    }

    fn end(&mut self, with: Result<Vec<Bytes>, Failure>) {
        // Whoever has given up need not be told.
        self.done.take().map(|done| done.send(with));
    }
}

impl Asked<'_> {
    async fn answers(mut self, patience: Duration) -> Result<Vec<Bytes>, Failure> {
        match tokio::time::timeout(patience, &mut self.answers).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(_)) | Err(_) => {
                let open = self.surveys.open.lock();
                let missing = open.by_id.get(&self.id).map(|open| &open.awaited);
                tracing::warn!(nodes = ?missing, "nodes did not answer a question in time");
                Err(Failure::Late)
            }
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.surveys.open.lock().by_id.remove(&self.id);
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Internal(match failure {
            Failure::TooMany => "too many questions to all nodes are open",
            Failure::Died => "a node died before it answered",
            Failure::Failed => "a node could not answer",
            Failure::Late => "a node did not answer in time",
        })
    }
}

impl Node {
    /// Channels with subscribers on any node whose names match the glob `pattern` (empty: all), with
    /// how many there are.
    ///
    /// # Errors
    /// A pattern that is none, or nodes that do not answer.
    pub async fn active_channels(&self, pattern: &str) -> Result<BTreeMap<String, u32>, Error> {
        let mut channels = self.channels_here(pattern)?;
        let request = ChannelsRequest { pattern: pattern.to_owned() }.encode_to_vec();
        for answer in self.survey(SurveyOp::Channels, CHANNELS, request.into()).await? {
            let answer = ChannelsResult::decode(answer)
                .map_err(|_| Error::Internal("a node answered what cannot be read"))?;
            for (channel, there) in answer.channels {
                let count: &mut u32 = channels.entry(channel).or_default();
                *count = count.saturating_add(there.num_clients);
            }
        }
        Ok(channels)
    }

    /// What all other nodes answer to a question.
    async fn survey(&self, op: SurveyOp, name: &str, data: Bytes) -> Result<Vec<Bytes>, Error> {
        self.metrics.node.actions.with(Action::Survey).inc();
        let began = self.clock.now();
        self.know_all_nodes().await?;
        let asked = {
            // Nobody goes between the two, or a survey would wait for one that is gone.
            let registry = self.peers.registry.lock();
            let awaited = registry.nodes().map(|node| node.uid.clone()).collect();
            self.peers.surveys.begin(awaited)?
        };
        let request = SurveyRequest { id: asked.id, op: name.to_owned(), data };
        self.tell(None, Content::SurveyRequest(request)).await?;
        let answers = asked.answers(PATIENCE).await?;
        let took = self.clock.now().saturating_duration_since(began);
        self.metrics.node.survey_duration.with(op).observe(took.as_secs_f64());
        Ok(answers)
    }

    /// Waits until no node can be missing from the registry.
    async fn know_all_nodes(&self) -> Result<(), Error> {
        if !self.peers.controller.can_hear() {
            return Err(Error::Internal("other nodes cannot be asked now"));
        }
        let whole_at = self.peers.registry.lock().is_whole_at();
        if let (Some(at), false) = (whole_at, self.peers.controller.is_alone()) {
            tokio::time::sleep(at.saturating_duration_since(self.clock.now())).await;
        }
        Ok(())
    }

    /// The answer of this node to a question of another.
    pub(super) fn answer(&self, request: &SurveyRequest) -> SurveyResponse {
        let answer = match request.op.as_str() {
            CHANNELS => self.answer_channels(&request.data),
            _ => Err(control::answer::UNKNOWN),
        };
        match answer {
            Ok(data) => SurveyResponse { id: request.id, code: 0, data },
            Err(code) => SurveyResponse { id: request.id, code, data: Bytes::new() },
        }
    }

    fn answer_channels(&self, request: &[u8]) -> Result<Bytes, u32> {
        let unreadable = control::answer::BAD_REQUEST;
        let request = ChannelsRequest::decode(request).map_err(|_| unreadable)?;
        let channels = self.channels_here(&request.pattern).map_err(|_| unreadable)?;
        let channels = channels.into_iter();
        let channels = channels.map(|(name, num_clients)| (name, ChannelInfo { num_clients }));
        Ok(ChannelsResult { channels: channels.collect() }.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(id: u64, code: u32, data: &'static str) -> SurveyResponse {
        SurveyResponse { id, code, data: data.into() }
    }

    fn awaiting(uids: &[&str]) -> HashSet<String> {
        uids.iter().map(|uid| (*uid).to_owned()).collect()
    }

    async fn answers(asked: Asked<'_>) -> Result<Vec<Bytes>, Failure> {
        let mut answers = asked.answers(PATIENCE).await?;
        answers.sort();
        Ok(answers)
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_was_there_is_waited_for() {
        let surveys = Surveys::default();
        let asked = surveys.begin(awaiting(&["a", "b"])).expect("room");
        surveys.answered("a", response(asked.id, 0, "1"));
        surveys.answered("late comer", response(asked.id, 0, "2"));
        surveys.answered("a", response(asked.id, 0, "1"));
        surveys.answered("b", response(asked.id, 0, "3"));
        assert_eq!(answers(asked).await, Ok(vec!["1".into(), "2".into(), "3".into()]));
        assert!(surveys.open.lock().by_id.is_empty());
        let asked = surveys.begin(awaiting(&[])).expect("room");
        assert_eq!(answers(asked).await, Ok(vec![]), "alone");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_nobody_asked_for_are_passed_over() {
        let surveys = Surveys::default();
        surveys.answered("a", response(1, 0, "1"));
        let asked = surveys.begin(awaiting(&["a"])).expect("room");
        surveys.answered("a", response(asked.id + 1, 0, "1"));
        surveys.answered("a", response(asked.id + 1, 1, ""));
        assert_eq!(answers(asked).await, Err(Failure::Late));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_dies_or_fails_ends_the_wait() {
        let surveys = Surveys::default();
        let asked = surveys.begin(awaiting(&["a", "b"])).expect("room");
        surveys.answered("a", response(asked.id, 0, "1"));
        surveys.died("a");
        surveys.died("b");
        surveys.answered("b", response(asked.id, 0, "2"));
        assert_eq!(answers(asked).await, Err(Failure::Died), "b died, a had answered");
        let asked = surveys.begin(awaiting(&["a", "b"])).expect("room");
        surveys.answered("b", response(asked.id, control::answer::UNKNOWN, ""));
        assert_eq!(answers(asked).await, Err(Failure::Failed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_is_not_waited_for() {
        let surveys = Surveys::default();
        let asked = surveys.begin(awaiting(&["a", "b"])).expect("room");
        surveys.answered("a", response(asked.id, 0, "1"));
        surveys.stopped("b");
        assert_eq!(answers(asked).await, Ok(vec!["1".into()]));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_questions_are_open_and_no_more() {
        let surveys = Surveys::default();
        let mut open = Vec::new();
        for _ in 0..MAX_OPEN {
            open.push(surveys.begin(awaiting(&["a"])).expect("room"));
        }
        assert_eq!(surveys.begin(awaiting(&["a"])).err(), Some(Failure::TooMany));
        open.pop();
        assert!(surveys.begin(awaiting(&["a"])).is_ok());
    }
}
