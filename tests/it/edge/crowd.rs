//! Clients behind HAProxy that come back whenever they are sent away, and write down what they saw.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bobolink::client::{Client, Endpoint, Incoming};
use bobolink::protocol::command::SubscribeRequest;
use bobolink::protocol::publication::Publication;
use bobolink::time::Clock;
use futures_util::StreamExt;
use futures_util::stream;
use hyper::Method;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::balancer::Balancer;
use crate::support::{SOON, http, token};

/// The channel of the crowd.
pub const CHANNEL: &str = "chat:crowd";

/// Settings of nodes on whose streams the crowd is: long enough for whoever comes back.
pub const STREAMS: &str = "
http_api.key = \"a-key\"
[[channel.namespaces]]
name = \"chat\"
history_size = 10000
history_ttl = \"300s\"
force_recovery = true
allow_subscribe_for_client = true
";

/// Handshakes that are under way at the same time while the crowd gathers.
const AT_ONCE: usize = 32;

/// The wait before another try after one that failed.
const RETRY: Duration = Duration::from_millis(100);

/// Clients on their way, all subscribed to [`CHANNEL`].
pub struct Crowd {
    travellers: Vec<JoinHandle<Diary>>,
    /// The offset at which they may go home.
    last: watch::Sender<Option<u64>>,
}

/// What one client saw.
#[derive(Debug, Default)]
pub struct Diary {
    /// Offset and data of each publication, as they came.
    pub seen: Vec<(u64, String)>,
    /// When it was closed, and with which code.
    pub closes: Vec<(Instant, Option<u16>)>,
    /// What went wrong on the way back.
    pub failures: Vec<String>,
}

/// Where a client stands in the stream.
struct Traveller {
    endpoint: Endpoint,
    token: String,
    epoch: String,
    offset: u64,
    diary: Diary,
    clock: Clock,
}

/// Connected clients that do nothing further.
pub async fn open(balancer: &Balancer, count: usize) -> Vec<Client> {
    let endpoint = balancer.endpoint();
    let clients = (0..count).map(|_| async {
        let mut client = Client::open(&endpoint).await.expect("a WebSocket");
        client.connect(&token("ann")).await.expect("connected");
        client
    });
    stream::iter(clients).buffer_unordered(AT_ONCE).collect().await
}

/// Publishes the numbers from 1 on through the server API at `api`, one after the other, until
/// `stop`; gives the last. Panics if a call fails or gets another offset than its number.
pub async fn publish_until(api: SocketAddr, stop: &mut watch::Receiver<bool>) -> u64 {
    const PACE: Duration = Duration::from_millis(20);
    let mut number = 0;
    while !*stop.borrow_and_update() {
        number += 1;
        let body = format!("{{\"channel\": {CHANNEL:?}, \"data\": {number}}}");
        let key = [("x-api-key", "a-key")];
        let answer = http(api, Method::POST, "/api/publish", &key, &body).await;
        let outcome: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        assert_eq!(outcome["result"]["offset"], number, "{}: {}", answer.status, answer.body);
        let _ = tokio::time::timeout(PACE, stop.changed()).await;
    }
    number
}

impl Crowd {
    /// Connects and subscribes `count` clients.
    pub async fn gather(balancer: &Balancer, count: usize) -> Self {
        let (last, rest) = watch::channel(None);
        let begin = |index| {
            let traveller = Traveller {
                endpoint: balancer.endpoint(),
                token: token(&format!("user-{index}")),
                epoch: String::new(),
                offset: 0,
                diary: Diary::default(),
                clock: Clock::real(),
            };
            begin(traveller, rest.clone())
        };
        let starting = stream::iter(0..count).map(begin).buffer_unordered(AT_ONCE);
        Self { travellers: starting.collect().await, last }
    }

    /// Waits until everyone has seen the publication with this offset, and gives their diaries.
    pub async fn come_home(self, offset: u64) -> Vec<Diary> {
        self.last.send_replace(Some(offset));
        let mut diaries = Vec::new();
        for traveller in self.travellers {
            let home = tokio::time::timeout(4 * SOON, traveller).await;
            diaries.push(home.expect("everyone comes home in time").expect("a client"));
        }
        diaries
    }
}

impl Diary {
    /// Panics unless each number up to `last` was seen once and in order from the first on.
    pub fn check_complete(&self, last: u64) {
        let first = self.seen.first().map_or(last + 1, |(offset, _)| *offset);
        let expected: Vec<_> = (first..=last).map(|number| (number, number.to_string())).collect();
        if self.seen != expected {
            let wrong = self.seen.iter().zip(&expected).find(|(seen, expected)| seen != expected);
            panic!("{} of {} were seen; first fault {wrong:?}", self.seen.len(), expected.len());
        }
        assert_eq!(first, 1, "everyone was there before the first");
    }
}

async fn begin(
    mut traveller: Traveller,
    mut last: watch::Receiver<Option<u64>>,
) -> JoinHandle<Diary> {
    let mut client = traveller.arrive().await.expect("everyone arrives at first");
    tokio::spawn(async move {
        while traveller.follow(&mut client, &mut last).await.is_none() {
            client = loop {
                match traveller.arrive().await {
                    Ok(client) => break client,
                    Err(failure) => traveller.diary.failures.push(failure),
                }
                tokio::time::sleep(RETRY).await;
            };
        }
        traveller.diary
    })
}

impl Traveller {
    /// Connects and subscribes from where it was.
    async fn arrive(&mut self) -> Result<Client, String> {
        let arriving = async {
            let mut client =
                Client::open(&self.endpoint).await.map_err(|e| format!("open: {e}"))?;
            client.connect(&self.token).await.map_err(|e| format!("connect: {e}"))?;
            let recover = !self.epoch.is_empty();
            let request = SubscribeRequest {
                channel: CHANNEL.to_owned(),
                recover,
                offset: self.offset,
                epoch: self.epoch.clone(),
                ..SubscribeRequest::default()
            };
            let result = client.subscribe_with(request).await;
            let result = result.map_err(|e| format!("subscribe: {e}"))?;
            if recover && !result.recovered {
                return Err("not recovered".to_owned());
            }
            Ok((client, result))
        };
        let arrived = tokio::time::timeout(SOON, arriving).await;
        let (client, result) = arrived.map_err(|_| "late".to_owned())??;
        self.epoch = result.epoch;
        result.publications.into_iter().for_each(|publication| self.note(publication));
        Ok(client)
    }

    /// Follows the channel: `None` when the connection ends, something when all is seen.
    async fn follow(
        &mut self,
        client: &mut Client,
        last: &mut watch::Receiver<Option<u64>>,
    ) -> Option<()> {
        loop {
            if last.borrow_and_update().is_some_and(|last| self.offset >= last) {
                return Some(());
            }
            let incoming = tokio::select! {
                incoming = client.next(4 * SOON) => incoming,
                _ = last.changed() => continue,
            };
            match incoming {
                Ok(Incoming::Push(push)) => match push.publication {
                    Some(publication) => self.note(publication),
                    None => self.diary.failures.push(format!("pushed: {push:?}")),
                },
                Ok(Incoming::Ping | Incoming::NativePing) => {}
                Ok(Incoming::Closed(close)) => {
                    self.diary.closes.push((self.clock.now(), close.code));
                    return None;
                }
                other => {
                    self.diary.failures.push(format!("{other:?}"));
                    return None;
                }
            }
        }
    }

    fn note(&mut self, publication: Publication) {
        self.offset = publication.offset;
        let data = String::from_utf8_lossy(&publication.data).into_owned();
        self.diary.seen.push((publication.offset, data));
    }
}

#[test]
fn a_diary_with_a_gap_a_double_or_a_swap_does_not_pass() {
    let diary = |numbers: &[u64]| {
        let seen = numbers.iter().map(|number| (*number, number.to_string())).collect();
        Diary { seen, ..Diary::default() }
    };
    diary(&[1, 2, 3]).check_complete(3);
    for wrong in [&[1, 3][..], &[1, 2, 2, 3], &[2, 1, 3], &[1, 2], &[2, 3], &[]] {
        let wrong = diary(wrong);
        assert!(std::panic::catch_unwind(|| wrong.check_complete(3)).is_err(), "{wrong:?}");
    }
}
