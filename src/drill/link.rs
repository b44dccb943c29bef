//! The wires in front of a Redis: a TCP proxy that can cut some of them, or let them go dead.
//!
//! Everybody reaches Redis through it, since Redis and Sentinel announce its address. Who is at the
//! other end shows in what they say first: a replica asks with PSYNC, a gateway gives its name.

use std::net::SocketAddr;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// In so many bytes a connection says who it is.
const INTRODUCTION: usize = 4_096;
/// Connections of a gateway or a replica are few; more than this is a mistake.
const MAX_CONNECTIONS: usize = 1_024;
/// After accepting failed.
const PAUSE: Duration = Duration::from_millis(50);

/// Whose wires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those of replicas to their master.
    Replicas,
    /// Those of a gateway, by its name (`engine.redis.client_name`).
    Gateway(String),
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They end, and so do new ones.
    Cut,
    /// They stay open and nothing gets through, as if the packets were dropped.
    Dead,
}

/// The proxy in front of one Redis; gone when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    rule: watch::Sender<Option<(Whose, Fate)>>,
    _task: AbortOnDropHandle<()>,
}

impl Link {
    /// Listens on `listen` for those who want to reach `target`.
    ///
    /// # Errors
    /// If the address is taken.
    pub async fn open(listen: SocketAddr, target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let rule = watch::Sender::new(None);
        let rules = rule.subscribe();
        let task = tokio::spawn(serve(listener, target, rules));
        Ok(Self { address, rule, _task: AbortOnDropHandle::new(task) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on these wires are cut or dead.
    pub fn damage(&self, whose: Whose, fate: Fate) {
        self.rule.send_replace(Some((whose, fate)));
    }

    /// All is well again. Wires that were dead end, for what was sent over them is gone.
    pub fn mend(&self) {
        self.rule.send_replace(None);
    }
}

type Rules = watch::Receiver<Option<(Whose, Fate)>>;

async fn serve(listener: TcpListener, target: SocketAddr, rules: Rules) {
    let mut wires = tokio::task::JoinSet::new();
    loop {
        while wires.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((near, _)) if wires.len() < MAX_CONNECTIONS => {
                wires.spawn(wire(near, target, rules.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn wire(near: TcpStream, target: SocketAddr, mut rules: Rules) {
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) =
        (near.into_split(), far.into_split());
    let mut said = Vec::new();
    let (mut up, mut down) = (vec![0; 16 * 1_024], vec![0; 16 * 1_024]);
    loop {
        let now = fate(&rules.borrow_and_update(), &said);
        match now {
            Some(Fate::Cut) => return,
            Some(Fate::Dead) => {
                swallow(&mut from_near, &mut from_far, &mut rules).await;
                return;
            }
            None => {}
        }
        let moved = tokio::select! {
            // What is said is looked at before it is handed on.
            heard = from_near.read(&mut up) => match heard {
                Ok(len) if len > 0 => {
                    let room = INTRODUCTION.saturating_sub(said.len()).min(len);
                    said.extend_from_slice(&up[..room]);
                    let now = fate(&rules.borrow(), &said);
                    if now.is_some() {
                        continue;
                    }
                    hand_on(&mut to_far, &up[..len]).await
                }
                _ => return,
            },
            heard = from_far.read(&mut down) => match heard {
                Ok(len) if len > 0 => hand_on(&mut to_near, &down[..len]).await,
                _ => return,
            },
            changed = rules.changed() => changed.is_ok(),
        };
        if !moved {
            return;
        }
    }
}

async fn hand_on(to: &mut OwnedWriteHalf, bytes: &[u8]) -> bool {
    to.write_all(bytes).await.is_ok()
}

/// Reads on and on until the rule changes, so that the ends notice nothing.
async fn swallow(near: &mut OwnedReadHalf, far: &mut OwnedReadHalf, rules: &mut Rules) {
    let mut lost = [0; 4_096];
    let mut lost_too = [0; 4_096];
    loop {
        tokio::select! {
            heard = near.read(&mut lost) => if !heard.is_ok_and(|len| len > 0) { return },
            heard = far.read(&mut lost_too) => if !heard.is_ok_and(|len| len > 0) { return },
            _ = rules.changed() => return,
        }
    }
}

/// What the rule means for a wire on which this was said.
fn fate(rule: &Option<(Whose, Fate)>, said: &[u8]) -> Option<Fate> {
    let (whose, fate) = rule.as_ref()?;
    let is_theirs = match whose {
        Whose::Replicas => memmem::find(said, b"PSYNC").is_some(),
        Whose::Gateway(name) => memmem::find(said, format!("\r\n{name}\r\n").as_bytes()).is_some(),
    };
    is_theirs.then_some(*fate)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A server that says everything back, behind a link, and a connection of somebody.
    async fn connected() -> (Link, TcpStream, AbortOnDropHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let echo = AbortOnDropHandle::new(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        }));
        let link = Link::open("127.0.0.1:0".parse().unwrap(), target).await.unwrap();
        let stream = TcpStream::connect(link.address()).await.unwrap();
        (link, stream, echo)
    }

    async fn says(stream: &mut TcpStream, text: &str) -> Option<String> {
        stream.write_all(text.as_bytes()).await.ok()?;
        let mut answer = vec![0; 100];
        let len = timeout(SOON, stream.read(&mut answer)).await.unwrap().ok()?;
        (len > 0).then(|| String::from_utf8_lossy(&answer[..len]).into_owned())
    }

    #[tokio::test]
    async fn only_the_wires_of_the_named_gateway_are_cut() {
        let (link, mut one, _echo) = connected().await;
        let mut two = TcpStream::connect(link.address()).await.unwrap();
        assert!(says(&mut one, "\r\nnode-1\r\n").await.is_some());
        assert!(says(&mut two, "\r\nnode-2\r\n").await.is_some());
        link.damage(Whose::Gateway("node-1".to_owned()), Fate::Cut);
        assert_eq!(says(&mut one, "x").await, None);
        assert_eq!(says(&mut two, "x").await.as_deref(), Some("x"));
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(says(&mut again, "\r\nnode-1\r\n").await, None, "new ones are cut as well");
        link.mend();
        let mut again = TcpStream::connect(link.address()).await.unwrap();
        assert!(says(&mut again, "\r\nnode-1\r\n").await.is_some());
    }

    #[tokio::test]
    async fn a_dead_wire_stays_open_until_it_is_mended() {
        let (link, mut replica, _echo) = connected().await;
        assert!(says(&mut replica, "PSYNC ? -1\r\n").await.is_some());
        link.damage(Whose::Replicas, Fate::Dead);
        // Another wire shows that the rule is in force.
        let mut other = TcpStream::connect(link.address()).await.unwrap();
        other.write_all(b"PSYNC").await.unwrap();
        let mut nothing = [0; 1];
        replica.write_all(b"x").await.unwrap();
        let silent = timeout(Duration::from_millis(300), other.read(&mut nothing)).await;
        assert!(silent.is_err(), "open, and silent");
        link.mend();
        let ended = timeout(SOON, other.read(&mut nothing)).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)));
    }
}
