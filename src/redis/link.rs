//! The connection that carries commands: many callers, one pipeline, one identity for life.
//!
//! What is asked while the pipeline is busy goes out together as soon as nothing more waits to be
//! asked; no timer is involved. A question is sent once or not at all: when the link ends, callers
//! learn which of the two it was.

use std::time::Duration;

use compact_str::CompactString;
use tokio::sync::{mpsc, oneshot};

use super::dial::{ConnectionError, Conversation};
use super::driver::{Driver, Meter, Question, WAITING};
use super::keys::Keys;
use super::options::{Access, Place, Replicas};
use super::resp::{Command, Value};
use super::script::{Loaded, Script, eval};

/// How long replicas may take to keep the first identity of their master. Without it a stream of
/// another software changes its epoch once, so this is not worth a longer wait.
const FIRST_IDENTITY_WAIT: Duration = Duration::from_millis(500);

/// A connection to a master. Clones share it; it ends with its supervisor's token.
#[derive(Clone, Debug)]
pub struct Link {
    ask: mpsc::Sender<Question>,
    loaded: Loaded,
    identity: Identity,
}

/// Which history of the data a master goes on with: Redis draws another one at each promotion and
/// each restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: CompactString,
    /// It is the first that this data ever had under our eyes, so that streams without an identity
    /// cannot have lost anything.
    pub is_first: bool,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// There is no connection. Nothing was sent.
    #[error("Redis is unavailable")]
    Unavailable,
    /// The connection ended before the answer came: it may or may not be done.
    #[error("Redis did not answer, so the outcome is unknown")]
    OutcomeUnknown,
    /// It is done, and may or may not last.
    #[error(
        "engine.redis.min_replicas is {wanted}, and {had} replicas had what was written within \
         {within:?}"
    )]
    TooFewReplicas { wanted: u32, had: u64, within: Duration },
    /// Redis refused.
    #[error("Redis refused: {0}")]
    Refused(CompactString),
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    receiver: oneshot::Receiver<Result<Value, CallError>>,
}

/// What is known of a server before anything is asked of it.
pub(super) struct Greeting {
    pub conversation: Conversation,
    /// The replication id of a server that has loaded its data and is a master.
    pub id: CompactString,
    /// It is a node of a cluster.
    pub is_cluster: bool,
    replicas: u64,
}

impl Greeting {
    /// Connects to a master and makes sure that it is one.
    ///
    /// # Errors
    /// The server cannot be reached, is loading its data, or is no master.
    pub async fn of(place: &Place, access: &Access) -> Result<Self, ConnectionError> {
        let mut conversation = Conversation::open(place, access).await?;
        // A server that is loading refuses the ping.
        let commands = [Command::new("PING"), look(), Command::new("INFO").arg("cluster")];
        let answers = conversation.ask(&commands).await?;
        let unexpected = ConnectionError::Unexpected("what INFO tells");
        let [_, replication, cluster] = &answers[..] else { return Err(unexpected) };
        let (Some(replication), Some(cluster)) = (replication.str(), cluster.str()) else {
            return Err(unexpected);
        };
        let id = CompactString::from(master_id(replication)?);
        let replicas = field(replication, "connected_slaves").and_then(|count| count.parse().ok());
        let is_cluster = field(cluster, "cluster_enabled") == Some("1");
        Ok(Self { conversation, id, is_cluster, replicas: replicas.unwrap_or(0) })
    }

    /// Whether the master has had this identity as long as anybody of us remembers. Who remembers an
    /// earlier one, `before`, says so to the others.
    pub async fn is_first(
        &mut self,
        keys: &Keys,
        before: Option<&CompactString>,
    ) -> Result<bool, ConnectionError> {
        let (name, first) = (keys.first_identity(), before.unwrap_or(&self.id));
        let set = Command::new("SET").arg(&name).arg(first).arg("NX");
        let answers = self.conversation.ask(&[set, Command::new("GET").arg(&name)]).await?;
        let [set, first] = &answers[..] else {
            return Err(ConnectionError::Unexpected("an answer"));
        };
        let is_first = first.str() == Some(self.id.as_str());
        if *set == Value::Nil || self.replicas == 0 {
            return Ok(is_first);
        }
        // A replica that is promoted without it would take its own identity for the first.
        let wait = Command::new("WAIT").number(self.replicas);
        let wait = wait.number(FIRST_IDENTITY_WAIT.as_millis() as u64);
        let kept = self.conversation.ask(&[wait]).await?;
        if kept.first().and_then(Value::number).is_some_and(|count| count >= self.replicas) {
            return Ok(is_first);
        }
        self.conversation.ask(&[Command::new("DEL").arg(&name)]).await?;
        Ok(false)
    }

    /// Makes sure that the server knows a command.
    ///
    /// # Errors
    /// [`ConnectionError::Lacks`] with what needs it.
    pub async fn knows(&mut self, command: &str, why: &'static str) -> Result<(), ConnectionError> {
        let question = Command::new("COMMAND").arg("INFO").arg(command);
        let answers = self.conversation.ask(&[question]).await?;
        match answers.first().and_then(Value::list) {
            Some([Value::List(known)]) if !known.is_empty() => Ok(()),
            _ => Err(ConnectionError::Lacks(why)),
        }
    }

    /// Makes sure that the server drops no keys when its memory is full.
    ///
    /// # Errors
    /// [`ConnectionError::Evicts`] with the policy.
    pub async fn keeps_everything(&mut self) -> Result<(), ConnectionError> {
        let answers = self.conversation.ask(&[Command::new("INFO").arg("memory")]).await?;
        let info = answers.first().and_then(Value::str).unwrap_or_default();
        match field(info, "maxmemory_policy") {
            Some("noeviction") => Ok(()),
            Some(policy) => Err(ConnectionError::Evicts(policy.to_owned())),
            None => Err(ConnectionError::Unexpected("what INFO tells")),
        }
    }

    /// A link to it. The second half drives it, until it ends with the reason. With `replicas`,
    /// answers come when so many have what was written.
    pub async fn into_link(
        mut self,
        access: &Access,
        is_first: bool,
        replicas: Option<Replicas>,
        meter: Meter,
    ) -> Result<(Link, Driver), ConnectionError> {
        let names = self.conversation.ask(&Loaded::commands().collect::<Vec<_>>()).await?;
        let loaded = Loaded::of(&names).ok_or(ConnectionError::Unexpected("names of scripts"))?;
        let (ask, questions) = mpsc::channel(WAITING);
        let (conversation, id) = (self.conversation, self.id);
        let io_timeout = access.io_timeout;
        let driver = Driver::new(conversation, questions, id.clone(), io_timeout, replicas, meter);
        Ok((Link { ask, loaded, identity: Identity { id, is_first } }, driver))
    }
}

impl Link {
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Sends a command and waits for its answer.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, command: Command) -> Result<Value, CallError> {
        self.send(command, false).await
    }

    /// The same for a slot that the server is still taking over.
    ///
    /// # Errors
    /// See [`CallError`].
    pub(super) async fn call_asking(&self, command: Command) -> Result<Value, CallError> {
        self.send(command, true).await
    }

    /// Sends a command before this returns, so that what is sent later comes later.
    ///
    /// # Errors
    /// There is no connection, or too much waits for it already.
    pub fn begin(&self, command: Command) -> Result<Answer, CallError> {
        let (sender, receiver) = oneshot::channel();
        let question = Question { command, asking: false, answer: sender };
        self.ask.try_send(question).map_err(|_| CallError::Unavailable)?;
        Ok(Answer { receiver })
    }

    /// Begins a call of a script with so many keys; they follow, then the arguments.
    pub fn script(&self, script: Script, keys: u64) -> Command {
        self.loaded.call(script, keys)
    }

    /// Calls a script. A server that has lost it has not begun, so it is sent again, whole.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn run<A: AsRef<[u8]>>(
        &self,
        script: Script,
        keys: u64,
        args: &[A],
    ) -> Result<Value, CallError> {
        match self.call(self.script(script, keys).args(args)).await {
            Err(error) if error.is_unknown_script() => {
                self.call(eval(script, keys).args(args)).await
            }
            answer => answer,
        }
    }

    async fn send(&self, command: Command, asking: bool) -> Result<Value, CallError> {
        let (sender, receiver) = oneshot::channel();
        let question = Question { command, asking, answer: sender };
        self.ask.send(question).await.map_err(|_| CallError::Unavailable)?;
        Answer { receiver }.wait().await
    }
}

impl Answer {
    /// Waits for it. There is no timer for each call: a connection on which nothing is answered ends
    /// within `io_timeout` and a second, and with it the wait.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn wait(self) -> Result<Value, CallError> {
        self.receiver.await.unwrap_or(Err(CallError::OutcomeUnknown))
    }
}

impl CallError {
    /// The server has lost its scripts, and has not begun.
    pub fn is_unknown_script(&self) -> bool {
        matches!(self, Self::Refused(text) if text.starts_with("NOSCRIPT"))
    }
}

/// The question that shows whether a server is the master it was.
pub(super) fn look() -> Command {
    Command::new("INFO").arg("replication")
}

/// The replication id in the answer to `INFO replication`.
pub(super) fn master_id(info: &str) -> Result<&str, ConnectionError> {
    match (field(info, "role"), field(info, "master_replid")) {
        (Some("master"), Some(id)) if !id.is_empty() => Ok(id),
        (Some("master"), _) => Err(ConnectionError::Unexpected("a master without an identity")),
        _ => Err(ConnectionError::NotMaster),
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_master_has_an_identity() {
        let info = "# Replication\r\nrole:master\r\nmaster_replid:abc\r\nmaster_replid2:000\r\n";
        assert_eq!(master_id(info).expect("a master"), "abc");
        let replica = info.replace("role:master", "role:slave");
        assert!(matches!(master_id(&replica), Err(ConnectionError::NotMaster)));
        assert!(master_id("role:master\r\n").is_err());
        assert!(master_id("").is_err());
    }
}
