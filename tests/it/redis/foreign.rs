//! A node of another program: it hears what nodes hear, and says what a test wants it to.

use std::sync::Arc;
use std::time::Duration;

use bobolink::config;
use bobolink::config::redis::Addresses;
use bobolink::protocol::control::{self, Content, SurveyRequest};
use bobolink::redis::{Command, Receive, Redis};
use bobolink::time::Clock;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::process::RedisServer;
use crate::support::SOON;

/// Known to the others as `n1`, the node of tests/fixtures/control.txt.
pub struct Foreign {
    redis: Arc<Redis>,
    heard: watch::Receiver<Vec<Heard>>,
    _stop: DropGuard,
}

/// What another node said.
pub struct Heard {
    /// To this node alone rather than to all.
    pub alone: bool,
    pub content: Content,
}

struct Ear(watch::Sender<Vec<Heard>>);

const ALL: &str = "centrifugo.control";
const ALONE: &str = "centrifugo.node.n1";

impl Receive for Ear {
    fn message(&self, name: &str, payload: &Bytes) {
        let Ok(command) = control::Command::decode(payload.clone()) else { return };
        let is_own = command.uid == "n1";
        if let Some(content) = command.into_content().filter(|_| !is_own) {
            self.0.send_modify(|heard| heard.push(Heard { alone: name == ALONE, content }));
        }
    }

    fn is_wanted(&self, _: &str) -> bool {
        true
    }

    fn interrupted(&self, _: usize, _: bool, _: &dyn Fn(&str) -> bool) {}

    fn resumed(&self, _: usize) {}
}

impl Foreign {
    pub async fn on(server: &RedisServer) -> Self {
        let address = Addresses(vec![format!("redis://{}", server.address())]);
        let settings = config::redis::Redis { address, ..config::redis::Redis::default() };
        let (ear, heard) = watch::channel(Vec::new());
        let receive: Arc<dyn Receive> = Arc::new(Ear(ear));
        let redis = Redis::new(&settings, &Clock::real(), &receive).expect("settings");
        for name in [ALL, ALONE] {
            redis.shards()[0].hear_always(name);
        }
        let stop = CancellationToken::new();
        redis.start(&stop);
        tokio::time::timeout(SOON, redis.reached()).await.expect("Redis is there");
        Self { redis, heard, _stop: stop.drop_guard() }
    }

    /// Says something to all nodes.
    pub async fn say(&self, content: Content) {
        self.say_bytes(&control::Command::new("n1", content).to_bytes()).await;
    }

    /// Says to all nodes what a fixture holds.
    pub async fn say_fixture(&self, name: &str) {
        self.say_bytes(&fixture(name)).await;
    }

    pub async fn say_bytes(&self, bytes: &[u8]) {
        let attachment = self.redis.shards()[0].attachment().expect("Redis is there");
        let command = Command::new("PUBLISH").arg(ALL).arg(bytes);
        attachment.link.call(command).await.expect("published");
    }

    /// The first thing said, before or from now on, in which `find` finds something.
    pub async fn hears<T>(&self, find: impl Fn(&Heard) -> Option<T>) -> T {
        let found = |heard: &Vec<Heard>| heard.iter().find_map(&find);
        let mut heard = self.heard.clone();
        let waiting = heard.wait_for(|heard| found(heard).is_some());
        let heard = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("an ear");
        found(&heard).expect("it was just there")
    }

    /// Describes itself often enough to stay among the known, until the returned guard is dropped.
    pub fn stay(&self) -> DropGuard {
        let stop = CancellationToken::new();
        let redis = Arc::clone(&self.redis);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut words = tokio::time::interval(Duration::from_secs(1));
            loop {
                words.tick().await;
                let Ok(attachment) = redis.shards()[0].attachment() else { continue };
                let command = Command::new("PUBLISH").arg(ALL);
                let _ = attachment.link.call(command.arg(fixture("node"))).await;
            }
        }));
        stop.drop_guard()
    }

    /// Waits for a question, and answers it.
    pub async fn answer(&self, op: &str, code: u32, data: Bytes) {
        let of_op = |heard: &Heard| match &heard.content {
            Content::SurveyRequest(SurveyRequest { id, op: asked, .. }) if asked == op => Some(*id),
            _ => None,
        };
        let id = self.hears(of_op).await;
        self.say(Content::SurveyResponse(control::SurveyResponse { id, code, data })).await;
    }
}

/// The bytes of a message of tests/fixtures/control.txt, which were written down from Centrifugo's field
/// numbers and not recorded.
fn fixture(name: &str) -> Vec<u8> {
    let lines = include_str!("../../fixtures/control.txt").lines();
    let mut named = lines.filter_map(|line| line.split_once(' '));
    let (_, hex) = named.find(|(first, _)| *first == name).expect("a fixture");
    let digit = |byte: u8| char::from(byte).to_digit(16).expect("hex") as u8;
    hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}
