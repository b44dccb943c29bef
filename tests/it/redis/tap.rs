//! Stands between a gateway and its Redis, and lets through what a test wants.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What does not come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    Nothing,
    /// Messages: to subscribe works, and so does all else.
    Messages,
    /// Nothing, but messages are so late.
    Time(Duration),
    /// Answers on connections that have not subscribed.
    Answers,
    /// All that the server says.
    Everything,
    /// One channel, which is unsubscribed from behind the gateway's back.
    Channel(String),
}

/// A proxy of its own for one gateway.
pub struct Tap {
    pub address: SocketAddr,
    lost: watch::Sender<Lost>,
    _task: AbortOnDropHandle<()>,
}

impl Tap {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let lost = watch::Sender::new(Lost::Nothing);
        let seen = lost.subscribe();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, target, seen.clone()));
            }
        });
        Self { address, lost, _task: AbortOnDropHandle::new(task) }
    }

    /// From now on, on connections that stand as well.
    pub fn lose(&self, lost: Lost) {
        self.lost.send_replace(lost);
    }
}

async fn connection(stream: TcpStream, target: SocketAddr, lost: watch::Receiver<Lost>) {
    let Ok(upstream) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = upstream.into_split();
    let has_subscribed = watch::Sender::new(false);
    let subscribed = has_subscribed.subscribe();
    tokio::select! {
        () = up(from_client, to_server, has_subscribed, lost.clone()) => {}
        () = down(from_server, to_client, subscribed, lost) => {}
    }
}

/// Notes that the connection subscribes, and speaks for it.
async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    has_subscribed: watch::Sender<bool>,
    mut lost: watch::Receiver<Lost>,
) {
    let mut bytes = BytesMut::new();
    loop {
        let sent = tokio::select! {
            count = from.read_buf(&mut bytes) => {
                if count.unwrap_or(0) == 0 {
                    return;
                }
                if memmem::find(&bytes, b"\r\nSUBSCRIBE\r\n").is_some() {
                    has_subscribed.send_replace(true);
                }
                to.write_all_buf(&mut bytes).await
            }
            Ok(()) = lost.changed() => {
                let own_words = match &*lost.borrow_and_update() {
                    Lost::Channel(name) if *has_subscribed.borrow() => {
                        format!("*2\r\n$11\r\nUNSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len())
                    }
                    _ => String::new(),
                };
                to.write_all(own_words.as_bytes()).await
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    subscribed: watch::Receiver<bool>,
    lost: watch::Receiver<Lost>,
) {
    let mut bytes = BytesMut::new();
    while from.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        while let Some(length) = value_length(&bytes) {
            let value = bytes.split_to(length);
            let says =
                |word: &str| memmem::find(&value, format!("\r\n{word}\r\n").as_bytes()).is_some();
            let is_message = *subscribed.borrow() && says("message");
            let loses = lost.borrow().clone();
            let is_lost = match loses {
                Lost::Nothing => false,
                Lost::Messages => is_message,
                Lost::Time(late) => {
                    tokio::time::sleep(if is_message { late } else { Duration::ZERO }).await;
                    false
                }
                Lost::Answers => !*subscribed.borrow(),
                Lost::Everything => true,
                // What the gateway did not ask it does not see answered.
                Lost::Channel(name) => says("unsubscribe") && says(&name),
            };
            if !is_lost && to.write_all(&value).await.is_err() {
                return;
            }
        }
    }
}

/// The length of the value at the front, if it is there in full.
fn value_length(bytes: &[u8]) -> Option<usize> {
    let (mut rest, mut missing) = (bytes, 1_usize);
    while missing > 0 {
        let line = rest.get(..memmem::find(rest, b"\r\n")?)?;
        rest.advance(line.len() + 2);
        let (kind, number) = line.split_first()?;
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        missing -= 1;
        match (kind, number) {
            (b'$' | b'=' | b'!', Some(length)) => {
                rest = rest.get(usize::checked_add(length, 2)?..)?;
            }
            (b'*' | b'~' | b'>', Some(items)) => missing += items,
            (b'%', Some(pairs)) => missing += 2 * pairs,
            _ => {}
        }
    }
    Some(bytes.len() - rest.len())
}
