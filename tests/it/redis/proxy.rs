//! Links that can be cut, and a replica behind one.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::process::RedisServer;
use crate::support::{SOON, eventually};

/// Forwards to an address that can change, and can be cut.
pub struct Proxy {
    pub address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let target = watch::Sender::new(Some(target));
        let targets = target.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(forward(stream, targets.clone()));
            }
        });
        Self { address, target, _task: AbortOnDropHandle::new(task) }
    }

    /// Ends all connections; new ones go to `target`, or nowhere.
    pub fn turn(&self, target: Option<SocketAddr>) {
        self.target.send_replace(target);
    }
}

async fn forward(mut stream: TcpStream, mut target: watch::Receiver<Option<SocketAddr>>) {
    let Some(address) = *target.borrow_and_update() else { return };
    let Ok(mut upstream) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut stream, &mut upstream) => {}
        _ = target.changed() => {}
    }
}

/// A master and a replica that is behind a link of its own.
pub struct Pair {
    pub master: RedisServer,
    pub replica: RedisServer,
    pub link: Proxy,
}

impl Pair {
    pub async fn start() -> Self {
        let master = RedisServer::start();
        let link = Proxy::to(master.address()).await;
        let replica = RedisServer::start_with(&["--repl-diskless-sync-delay", "0"]);
        master.ask(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
        replica.ask(&["REPLICAOF", "127.0.0.1", &link.address.port().to_string()]);
        let pair = Self { master, replica, link };
        pair.catch_up().await;
        pair
    }

    pub async fn catch_up(&self) {
        eventually("the replica follows", SOON, async || {
            self.replica.cli(&["INFO", "replication"]).iter().any(|l| l == "master_link_status:up")
        })
        .await;
        let written = self.master.offset();
        eventually("it has everything", SOON, async || self.replica.offset() >= written).await;
    }

    /// The replica loses sight of the master.
    pub fn cut(&self) {
        self.link.turn(None);
    }

    /// And finds it again.
    pub async fn mend(&self) {
        self.link.turn(Some(self.master.address()));
        self.catch_up().await;
    }

    /// The master ends, and the replica is made one.
    pub fn fail_over(&mut self) {
        self.master.kill();
        assert_eq!(self.replica.ask(&["REPLICAOF", "NO", "ONE"]), "OK");
    }
}
