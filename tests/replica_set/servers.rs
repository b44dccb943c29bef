//! Three `mongod` as one replica set.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use tokio::time::sleep;

use super::front::ask;
use super::server::{Program, Server};
use super::state::{Act, MEMBERS, SET};

/// The longest that an election may take.
const ELECTION: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// For how long a member does not stand for election, in seconds: longer than any test.
const HELD: i32 = 600;

/// The running servers.
pub struct Servers {
    members: Vec<Server>,
}

impl Servers {
    /// Starts them, makes them a set and waits for its first primary.
    ///
    /// # Errors
    /// One does not start, or they do not elect.
    pub async fn start(
        program: &Path,
        folder: &Path,
        addresses: [SocketAddr; MEMBERS],
    ) -> io::Result<Self> {
        let mut members = Vec::new();
        for (number, address) in (1..).zip(addresses) {
            let program = Program::Mongod(program.to_owned());
            let folder = folder.join(number.to_string());
            members.push(Server::start(program, &folder, address).await?);
        }
        let mut servers = Self { members };
        ask(
            servers.members[0].address(),
            doc! { "replSetInitiate": servers.config(), "$db": "admin" },
        )
        .await?;
        servers.act(Act::Primary(1)).await?;
        Ok(servers)
    }

    pub fn uri(&self) -> String {
        let hosts: Vec<_> = self.members.iter().map(|one| one.address().to_string()).collect();
        format!("mongodb://{}/?replicaSet={SET}", hosts.join(","))
    }

    /// Goes on in the script.
    ///
    /// # Errors
    /// The servers do not follow, or the act is only for the stand-in.
    pub async fn act(&mut self, act: Act) -> io::Result<()> {
        match act {
            Act::Primary(member) => self.elect(member).await,
            Act::NoPrimary => {
                let primary = self.primary().await;
                let others = self.members.iter().map(Server::address);
                for other in others.filter(|other| Some(*other) != primary) {
                    admin(other, doc! { "replSetFreeze": HELD }).await?;
                }
                if let Some(primary) = primary {
                    // It may end the connection in the place of an answer.
                    let _ = admin(primary, doc! { "replSetStepDown": HELD, "force": true }).await;
                }
                Ok(())
            }
            Act::Down(member) => {
                self.members[member - 1].kill();
                Ok(())
            }
            Act::Up(member) => self.members[member - 1].start_again().await,
            Act::Crash => {
                let primary = self.primary().await;
                let server = self.members.iter_mut().find(|one| Some(one.address()) == primary);
                server.into_iter().for_each(Server::kill);
                Ok(())
            }
            Act::Restart => {
                let primary = self.primary().await;
                for server in self.members.iter_mut().filter(|one| Some(one.address()) == primary) {
                    server.kill();
                    server.start_again().await?;
                }
                Ok(())
            }
            Act::LoseAcknowledgements(_)
            | Act::Delay(_)
            | Act::HalfOpen(_)
            | Act::StalePrimary(_) => {
                let text = format!("{act:?} is for ReplicaSet::scripted()");
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
        }
    }

    pub async fn stop(&mut self) {
        for server in &mut self.members {
            server.stop().await;
        }
    }

    async fn elect(&mut self, member: usize) -> io::Result<()> {
        let server = &mut self.members[member - 1];
        if !server.is_alive() {
            server.start_again().await?;
        }
        let address = server.address();
        let electing = async {
            while !is_primary(address).await {
                let _ = admin(address, doc! { "replSetFreeze": 0 }).await;
                let _ = admin(address, doc! { "replSetStepUp": 1 }).await;
                sleep(LOOK_EVERY).await;
            }
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the member is not elected");
        tokio::time::timeout(ELECTION, electing).await.map_err(late)
    }

    async fn primary(&self) -> Option<SocketAddr> {
        for server in &self.members {
            if is_primary(server.address()).await {
                return Some(server.address());
            }
        }
        None
    }

    fn config(&self) -> Document {
        let member = |(id, server): (usize, &Server)| {
            doc! { "_id": id as i32, "host": server.address().to_string() }
        };
        let members: Vec<_> = self.members.iter().enumerate().map(member).collect();
        // Tests should not wait for what is granted to a set over a network.
        let settings = doc! { "electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500 };
        doc! { "_id": SET, "members": members, "settings": settings }
    }
}

async fn is_primary(address: SocketAddr) -> bool {
    let hello = admin(address, doc! { "hello": 1 }).await;
    hello.is_ok_and(|hello| hello.get_bool("isWritablePrimary").unwrap_or_default())
}

async fn admin(address: SocketAddr, mut command: Document) -> io::Result<Document> {
    command.insert("$db", "admin");
    ask(address, command).await
}
