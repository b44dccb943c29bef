//! A MongoDB replica set of three members on this machine, that follows a script.
//!
//! Where `mongod` is installed these are three of it ([`servers`]). Elsewhere one SecantusDB, in a
//! process of its own, stands behind three members that answer for themselves ([`front`]).
//! docs/history.md says what that cannot show.

pub mod front;
pub mod script;
pub mod server;
pub mod servers;
pub mod state;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use self::front::Front;
use self::server::{Program, Server};
use self::servers::Servers;
use self::state::{Act, MEMBERS, State};

/// A running replica set; its processes are killed when this is dropped.
pub enum ReplicaSet {
    Servers(Servers),
    StandIn { front: Front, server: Box<Server> },
}

impl ReplicaSet {
    /// Starts a set with its data in `folder` and its members at `addresses`; the first is the primary.
    ///
    /// # Errors
    /// Something does not start, with the end of its log.
    pub async fn start(
        program: Program,
        folder: &Path,
        addresses: [SocketAddr; MEMBERS],
    ) -> io::Result<Self> {
        match program {
            Program::Mongod(path) => {
                Ok(Self::Servers(Servers::start(&path, folder, addresses).await?))
            }
            stand_in @ Program::StandIn(_) => {
                let server = Server::start(stand_in, folder, server::free_address()?).await?;
                let front = Front::start(server.address(), addresses).await?;
                Ok(Self::StandIn { front, server: Box::new(server) })
            }
        }
    }

    /// Where drivers find it.
    pub fn uri(&self) -> String {
        match self {
            Self::Servers(servers) => servers.uri(),
            Self::StandIn { front, .. } => front.uri(),
        }
    }

    /// Goes on in the script.
    ///
    /// # Errors
    /// Servers do not do it, or cannot.
    pub async fn act(&mut self, act: Act) -> io::Result<()> {
        match self {
            Self::Servers(servers) => servers.act(act).await,
            Self::StandIn { server, .. } if act == Act::Restart => {
                server.kill();
                server.start_again().await
            }
            Self::StandIn { front, .. } => {
                front.act(act);
                Ok(())
            }
        }
    }

    /// What the members of the stand-in are, with its counts of what was lost and refused.
    pub fn state(&self) -> Option<State> {
        match self {
            Self::Servers(_) => None,
            Self::StandIn { front, .. } => Some(front.state()),
        }
    }

    /// See [`Front::written`].
    #[allow(dead_code, reason = "tests ask, the program does not")]
    pub fn written(&self) -> Option<Vec<Vec<String>>> {
        match self {
            Self::Servers(_) => None,
            Self::StandIn { front, .. } => Some(front.written()),
        }
    }

    /// Stops it in good order.
    pub async fn stop(&mut self) {
        match self {
            Self::Servers(servers) => servers.stop().await,
            Self::StandIn { server, .. } => server.stop().await,
        }
    }
}
