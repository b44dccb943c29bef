//! Reading streams.

use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use super::{EPOCH_LETTERS, RedisBroker, flag};
use crate::broker::{BrokerError, History, Range, StreamTop};
use crate::protocol::publication::Publication;
use crate::redis::{CallError, Command, Durability, Redis, Route, Script, StreamEntry, Value};
use crate::time::random_letters;

/// What is read, without the epoch that is expected there: equal questions have one answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) channel: CompactString,
    limit: Option<usize>,
    since: Option<u64>,
    reverse: bool,
    pub(super) meta_ttl: Duration,
    is_archived: bool,
}

impl RedisBroker {
    pub(in crate::broker) async fn history(
        self: &Arc<Self>,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
    ) -> Result<History, BrokerError> {
        self.shared_history(channel, range, meta_ttl, false).await
    }

    pub(super) async fn shared_history(
        self: &Arc<Self>,
        channel: &str,
        range: &Range,
        meta_ttl: Duration,
        is_archived: bool,
    ) -> Result<History, BrokerError> {
        let since = range.since.as_ref();
        if range.reverse && since.is_some_and(|since| since.offset == 0) {
            return Err(BrokerError::BadRequest("nothing lies before offset 0"));
        }
        let question = Question {
            channel: channel.into(),
            limit: range.limit,
            since: since.map(|since| since.offset),
            reverse: range.reverse,
            meta_ttl,
            is_archived,
        };
        let (broker, asked) = (Arc::clone(self), question.clone());
        let read = move || {
            let (broker, question) = (Arc::clone(&broker), asked.clone());
            async move {
                match question.is_archived {
                    true => broker.read_archived(&question).await,
                    false => broker.read(&question).await,
                }
            }
        };
        let answer = self.reads.join(question, read).await;
        let history = answer.ok_or(BrokerError::OutcomeUnknown)??;
        let is_other = since.is_some_and(|s| !s.epoch.is_empty() && *s.epoch != *history.top.epoch);
        if is_other { Err(BrokerError::UnrecoverablePosition) } else { Ok(history) }
    }

    async fn read(&self, question: &Question) -> Result<History, BrokerError> {
        let epoch = random_letters(EPOCH_LETTERS);
        let answer = ask(&self.redis, question, &epoch).await;
        let answer = answer.map_err(|error| self.failed(&error))?;
        let history = history_of(&answer).ok_or_else(|| self.nonsense("history"))?;
        self.note_epoch(history.top.offset > 0 && history.top.epoch == epoch);
        Ok(history)
    }
}

impl Question {
    /// Adds which part is read, as the scripts want it.
    pub(super) fn add_range(&self, command: Command) -> Command {
        let command = command.arg(flag(self.limit != Some(0)));
        let command = match (self.since, self.reverse) {
            (None, _) => command.arg(""),
            (Some(offset), false) => command.number(offset.saturating_add(1)),
            (Some(offset), true) => command.number(offset.saturating_sub(1)),
        };
        // All of them is 0 to the script.
        command.number(self.limit.map_or(0, |limit| limit as u64)).arg(flag(self.reverse))
    }
}

async fn ask(redis: &Redis, question: &Question, epoch: &str) -> Result<Value, CallError> {
    let channel = &question.channel;
    let fill = |route: &Route, command: Command| {
        let (keys, identity) = (route.keys(), route.identity());
        let command = command.arg(keys.stream(channel)).arg(keys.stream_meta(channel));
        question
            .add_range(command)
            .number(question.meta_ttl.as_secs())
            .arg(epoch)
            .arg(&identity.id)
            .arg(flag(identity.is_first))
            .arg(route.predecessor())
    };
    redis.shard(channel).run(channel, (Script::History, 2), Durability::Master, fill).await
}

/// From the answer of the script. An entry that cannot be read spoils all of it, since without it
/// the rest would look whole.
pub(super) fn history_of(answer: &Value) -> Option<History> {
    let [offset, epoch, entries] = answer.list()? else { return None };
    let top = StreamTop { offset: offset.number()?, epoch: epoch.str()?.into() };
    let publications = entries.list()?.iter().map(publication_of).collect::<Option<_>>()?;
    Some(History { publications, top })
}

fn publication_of(entry: &Value) -> Option<Arc<Publication>> {
    let entry = StreamEntry::of(entry)?;
    let data = entry.field("d")?.clone();
    Publication::kept(data, entry.number()?).ok().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    fn text(text: impl Into<Bytes>) -> Value {
        Value::Text(text.into())
    }

    fn entry(id: &'static str, data: Vec<u8>) -> Value {
        Value::List(vec![text(id), Value::List(vec![text("d"), text(data)])])
    }

    #[test]
    fn an_entry_that_cannot_be_read_spoils_the_answer() {
        let good = Publication { data: "x".into(), ..Publication::default() }.encode_to_vec();
        let answer = |entries| Value::List(vec![text("2"), text("e"), Value::List(entries)]);
        let history = history_of(&answer(vec![entry("1-0", good.clone())])).expect("readable");
        assert_eq!(history.publications[0].offset, 1);
        assert_eq!(history.top, StreamTop { offset: 2, epoch: "e".into() });
        let spoilt = answer(vec![entry("1-0", good.clone()), entry("2-0", vec![0xff])]);
        assert!(history_of(&spoilt).is_none());
        assert!(history_of(&answer(vec![entry("x", good)])).is_none());
    }
}
