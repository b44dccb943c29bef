//! The agent that HAProxy asks about the node (`agent-check`): whether new connections should come
//! here at all, and how many of them.
//!
//! HAProxy connects, the agent says one line and both close. [`Load`] is what the line says of load,
//! measured with [`Punctuality`].

mod load;
mod punctuality;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::load::Load;
pub use self::punctuality::Punctuality;
use super::accept::Listener;

/// Questions answered at the same time; more are closed unanswered, which HAProxy passes over.
const PARALLEL: usize = 64;

/// The longest an answer may take to leave.
const WITHIN: Duration = Duration::from_secs(2);

/// Answers in which one who asks is told that a drain is over. More than one, in case some get lost;
/// not all, since each also undoes what an administrator of the load balancer ordered there.
const READY_ANSWERS: u8 = 5;

/// Addresses that are kept apart; a node has a handful of load balancers.
const MAX_ADDRESSES: usize = 64;

/// What the node says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No new connections, please; those that are here may stay.
    Draining,
    /// New connections are welcome, this many percent of the share that the load balancer's
    /// configuration gives the node: 1 to 100.
    Serving(u8),
}

/// The agent of one node.
pub struct Agent {
    standing: Box<dyn Fn() -> Standing + Send + Sync>,
    told: Mutex<Told>,
}

/// How often each address was told that the node is ready, since it was last told to drain.
#[derive(Debug, Default)]
struct Told(HashMap<IpAddr, u8>);

impl Agent {
    /// An agent that says what `standing` gives when it is asked.
    pub fn new(standing: impl Fn() -> Standing + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { standing: Box::new(standing), told: Mutex::default() })
    }

    /// Answers until `stop`.
    pub async fn serve(self: Arc<Self>, listener: Listener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(PARALLEL));
        listener
            .accept_until(&stop, |tcp, from| {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { return };
                let agent = Arc::clone(&self);
                tokio::spawn(async move {
                    let answered = tokio::time::timeout(WITHIN, agent.answer(tcp, from)).await;
                    if let Ok(Err(error)) = answered {
                        tracing::debug!(remote_addr = %from, %error, "the agent was not heard");
                    }
                    drop(place);
                });
            })
            .await;
    }

    async fn answer(&self, mut tcp: TcpStream, from: SocketAddr) -> io::Result<()> {
        let line = self.told.lock().line((self.standing)(), from.ip());
        tcp.write_all(line.as_bytes()).await?;
        tcp.shutdown().await?;
        // What the other side may have sent is read, lest closing resets the connection under the
        // answer.
        let mut rest = [0; 64];
        while tcp.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

impl Told {
    /// The line for one who asks. `drain` is an order that stays until `ready` revokes it, also over
    /// a restart of the node; so everyone is told `ready` at first, and after each `drain`.
    fn line(&mut self, standing: Standing, to: IpAddr) -> String {
        match standing {
            Standing::Draining => {
                self.0.remove(&to);
                "drain\n".to_owned()
            }
            Standing::Serving(percent) if self.is_to_be_told(to) => {
                format!("ready up {percent}%\n")
            }
            Standing::Serving(percent) => format!("up {percent}%\n"),
        }
    }

    fn is_to_be_told(&mut self, address: IpAddr) -> bool {
        if !self.0.contains_key(&address) && self.0.len() >= MAX_ADDRESSES {
            return true;
        }
        let times = self.0.entry(address).or_default();
        *times = times.saturating_add(1);
        *times <= READY_ANSWERS
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn ask(address: SocketAddr, question: &[u8]) -> String {
        let mut tcp = TcpStream::connect(address).await.expect("the agent's port");
        tcp.write_all(question).await.expect("write");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("an answer and the end");
        answer
    }

    #[tokio::test]
    async fn the_agent_says_what_the_node_says_and_closes() {
        let drains = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&drains);
        let agent = Agent::new(move || match asked.load(Ordering::SeqCst) {
            true => Standing::Draining,
            false => Standing::Serving(75),
        });
        let listener = Listener::bind("agent", "127.0.0.1", 0).await.expect("port");
        let (address, stop) = (listener.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(agent.serve(listener, stop.clone()));

        assert_eq!(ask(address, b"").await, "ready up 75%\n");
        drains.store(true, Ordering::SeqCst);
        assert_eq!(ask(address, b"gateway-1\n").await, "drain\n");
        stop.cancel();
        serving.await.expect("it ends");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn those_who_do_not_listen_take_no_place_from_those_who_do() {
        let agent = Agent::new(|| Standing::Serving(100));
        let listener = Listener::bind("agent", "127.0.0.1", 0).await.expect("port");
        let address = listener.local_addr();
        tokio::spawn(agent.serve(listener, CancellationToken::new()));
        // They never close their side.
        let mut silent = Vec::new();
        for _ in 0..2 * PARALLEL {
            silent.push(TcpStream::connect(address).await.expect("the agent's port"));
        }
        let is_answered = async {
            while ask(address, b"").await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WITHIN * 5, is_answered).await.expect("places come back");
    }

    #[test]
    fn a_drain_is_revoked_for_each_who_asks_and_then_no_more() {
        let mut told = Told::default();
        let other = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..2 {
            for _ in 0..READY_ANSWERS {
                assert_eq!(told.line(Standing::Serving(50), HERE), "ready up 50%\n");
            }
            assert_eq!(told.line(Standing::Serving(50), HERE), "up 50%\n");
            assert_eq!(told.line(Standing::Draining, HERE), "drain\n");
        }
        assert_eq!(told.line(Standing::Serving(1), other), "ready up 1%\n");
    }

    #[test]
    fn an_unknown_crowd_of_askers_takes_no_memory() {
        let mut told = Told::default();
        for number in 0..10_000_u32 {
            told.line(Standing::Serving(100), IpAddr::from(number.to_be_bytes()));
        }
        assert_eq!(told.0.len(), MAX_ADDRESSES);
    }
}
