//! Scripts: every one that is run, and how it is run.

use bytes::Bytes;

use super::resp::{Command, Value};

/// A script, in the order of [`Script::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Append to a stream and tell the subscribers.
    PublishStream,
    /// Tell the subscribers unless the idempotency key was seen.
    PublishOnce,
    /// Append to a stream and to the queue of what is to be archived, and tell the subscribers.
    PublishArchived,
    /// Read a stream.
    History,
    /// Read the stream of an archived channel.
    HistoryArchived,
    /// See which entries are still in the queue of what is to be archived.
    Waiting,
    /// Take publications out of a stream.
    Erase,
    /// Add or renew clients in a channel's presence.
    PresenceAdd,
    /// Remove a client from it.
    PresenceRemove,
    /// Read it.
    PresenceGet,
    /// Count it, where users are counted.
    PresenceCount,
    /// Show that it can be written and published.
    Canary,
    /// Let entries leave an archive stream.
    ArchiveDone,
    /// Take a consumer out of an archive stream's group.
    ArchiveLeave,
    /// Read what is missing in an archive stream.
    ArchiveAtHand,
}

impl Script {
    pub const ALL: [Self; 15] = [
        Self::PublishStream,
        Self::PublishOnce,
        Self::PublishArchived,
        Self::History,
        Self::HistoryArchived,
        Self::Waiting,
        Self::Erase,
        Self::PresenceAdd,
        Self::PresenceRemove,
        Self::PresenceGet,
        Self::PresenceCount,
        Self::Canary,
        Self::ArchiveDone,
        Self::ArchiveLeave,
        Self::ArchiveAtHand,
    ];

    /// The text, which says what the keys and arguments are.
    pub fn source(self) -> &'static str {
        match self {
            Self::PublishStream => include_str!("lua/publish_stream.lua"),
            Self::PublishOnce => include_str!("lua/publish_once.lua"),
            Self::PublishArchived => {
                concat!(include_str!("lua/archive.lua"), include_str!("lua/publish_archived.lua"))
            }
            Self::History => include_str!("lua/history.lua"),
            Self::HistoryArchived => {
                concat!(include_str!("lua/archive.lua"), include_str!("lua/history_archived.lua"))
            }
            Self::Waiting => include_str!("lua/waiting.lua"),
            Self::Erase => include_str!("lua/erase.lua"),
            Self::PresenceAdd => include_str!("lua/presence_add.lua"),
            Self::PresenceRemove => include_str!("lua/presence_remove.lua"),
            Self::PresenceGet => include_str!("lua/presence_get.lua"),
            Self::PresenceCount => include_str!("lua/presence_count.lua"),
            Self::Canary => include_str!("lua/canary.lua"),
            Self::ArchiveDone => include_str!("lua/archive_done.lua"),
            Self::ArchiveLeave => include_str!("lua/archive_leave.lua"),
            Self::ArchiveAtHand => include_str!("lua/archive_at_hand.lua"),
        }
    }
}

/// The names that a server gave to the scripts.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded([Bytes; Script::ALL.len()]);

impl Loaded {
    /// The commands that load all scripts.
    pub fn commands() -> impl Iterator<Item = Command> {
        Script::ALL.iter().map(|script| Command::new("SCRIPT").arg("LOAD").arg(script.source()))
    }

    /// From the answers to [`Loaded::commands`].
    pub fn of(answers: &[Value]) -> Option<Self> {
        let mut loaded = Self::default();
        for (name, answer) in loaded.0.iter_mut().zip(answers) {
            *name = answer.text()?.clone();
        }
        (answers.len() == Script::ALL.len()).then_some(loaded)
    }

    /// Begins a call of a script: its keys follow, then its arguments.
    pub fn call(&self, script: Script, keys: u64) -> Command {
        match self.0.get(script as usize) {
            Some(name) => Command::new("EVALSHA").arg(name).number(keys),
            None => eval(script, keys),
        }
    }
}

/// Begins a call that brings the script along, for servers that have lost it.
pub fn eval(script: Script, keys: u64) -> Command {
    Command::new("EVAL").arg(script.source()).number(keys)
}
