//! A MongoDB replica set for one test: see `tests/replica_set`.

#[path = "../../replica_set/mod.rs"]
mod set;

use std::time::Duration;

use tempfile::TempDir;

pub use self::set::front::{ask, ask_on};
use self::set::server::{Program, free_address};
pub use self::set::state::{Act, State};
use super::SOON;

/// A running replica set; its processes are killed when this is dropped. Members are 1, 2 and 3, and
/// the first begins as the primary.
pub struct ReplicaSet {
    set: set::ReplicaSet,
    /// After everything that writes into it.
    _folder: TempDir,
}

impl ReplicaSet {
    /// Starts three `mongod` where that is installed, else the stand-in.
    ///
    /// # Panics
    /// Where neither is to be had: `scripts/setup mongo` installs one.
    pub async fn start() -> Self {
        Self::of(Program::find().expect("a server for MongoDB's protocol")).await
    }

    /// Starts the stand-in everywhere, for what real servers cannot be made to do at a given moment:
    /// losing acknowledgements, delays, members that are half open or of the past.
    ///
    /// # Panics
    /// Where it is not installed.
    pub async fn scripted() -> Self {
        Self::of(Program::stand_in().expect("SecantusDB")).await
    }

    async fn of(program: Program) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let addresses = [(); 3].map(|()| free_address().expect("a port"));
        let set = set::ReplicaSet::start(program, folder.path(), addresses).await;
        Self { set: set.expect("the replica set starts"), _folder: folder }
    }

    /// Where drivers find it.
    pub fn uri(&self) -> String {
        self.set.uri()
    }

    /// A member becomes the primary; the former one steps down.
    pub async fn primary(&mut self, member: usize) {
        self.act(Act::Primary(member)).await;
    }

    /// The primary steps down, and nobody is elected until [`ReplicaSet::primary`].
    pub async fn no_primary(&mut self) {
        self.act(Act::NoPrimary).await;
    }

    /// A member is gone, and its connections are reset.
    pub async fn down(&mut self, member: usize) {
        self.act(Act::Down(member)).await;
    }

    /// A member is there again, as a secondary.
    pub async fn up(&mut self, member: usize) {
        self.act(Act::Up(member)).await;
    }

    /// The primary is gone. Real servers elect another; the stand-in waits for
    /// [`ReplicaSet::primary`].
    pub async fn crash(&mut self) {
        self.act(Act::Crash).await;
    }

    /// All members are gone.
    pub async fn away(&mut self) {
        for member in 1..=3 {
            self.down(member).await;
        }
    }

    /// All members are there again, and the first is elected.
    pub async fn back(&mut self) {
        for member in 1..=3 {
            self.up(member).await;
        }
        self.primary(1).await;
    }

    /// The server with the data is killed and started again on what it has; of real servers that is
    /// the primary.
    pub async fn kill_and_restart(&mut self) {
        self.act(Act::Restart).await;
    }

    /// The next writes are done, and their connections reset in place of an answer. Stand-in only.
    pub async fn lose_acknowledgements(&mut self, count: u64) {
        self.act(Act::LoseAcknowledgements(count)).await;
    }

    /// Everything is answered later by so much. Stand-in only.
    pub async fn delay(&mut self, delay: Duration) {
        self.act(Act::Delay(delay)).await;
    }

    /// A member takes what is sent and answers nothing, until it is up again. Stand-in only.
    pub async fn half_open(&mut self, member: usize) {
        self.act(Act::HalfOpen(member)).await;
    }

    /// A member believes to be the primary, of an election before the last one. Stand-in only.
    pub async fn stale_primary(&mut self, member: usize) {
        self.act(Act::StalePrimary(member)).await;
    }

    async fn act(&mut self, act: Act) {
        let done = tokio::time::timeout(6 * SOON, self.set.act(act)).await;
        let done = done.unwrap_or_else(|_| panic!("{act:?} is not done in time"));
        done.unwrap_or_else(|error| panic!("{act:?}: {error}"));
    }

    /// What the members of the stand-in are, with its counts of what was lost and refused.
    pub fn state(&self) -> State {
        self.set.state().expect("the stand-in, which ReplicaSet::scripted() gives")
    }

    /// The collections that writes to several have named since this was called before, one call after
    /// another; the first time it begins to note them. Stand-in only.
    pub fn written(&self) -> Vec<Vec<String>> {
        self.set.written().expect("the stand-in, which ReplicaSet::scripted() gives")
    }

    /// Stops it in good order.
    pub async fn stop(mut self) {
        self.set.stop().await;
    }
}
