//! A node of another program: it hears what nodes hear, and says what a test wants it to. And what a
//! gateway makes of that.

use std::sync::Arc;
use std::time::Duration;

use bobolink::config;
use bobolink::config::redis::Addresses;
use bobolink::protocol::control::{self, Content, SurveyRequest};
use bobolink::redis::{Command, Receive, Redis};
use bobolink::time::Clock;
use bytes::Bytes;
use compact_str::CompactString;
use prost::Message;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::gateways::gateway;
use super::nodes::{call, channels, code_of_close, connected, done, nodes, push};
use super::process::RedisServer;
use crate::support::{SOON, eventually};

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

    fn wanted(&self, _: &dyn Fn(&str) -> bool) -> Vec<CompactString> {
        Vec::new()
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

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_centrifugo_is_obeyed_and_answered() {
    let redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let foreign = Foreign::on(&redis).await;
    foreign.say_fixture("node").await;
    let own = nodes(&one).await[0]["uid"].clone();
    // To it alone, since it is new.
    let described = foreign.hears(|heard| match &heard.content {
        Content::Node(node) if heard.alone => Some(node.uid.clone()),
        _ => None,
    });
    assert_eq!(json!(described.await), own);
    let expected = json!({
        "uid": "n1", "name": "host_8000", "version": "6.9.1", "num_clients": 300, "num_users": 2,
        "num_subs": 5, "num_channels": 3, "uptime": 120,
        "metrics": { "interval": 60.0, "items": { "a.b": 1.5 } },
    });
    eventually("it is known", SOON, async || nodes(&one).await.get(1) == Some(&expected)).await;

    let (mut ann, client) = connected(&one, "ann").await;
    foreign.say_fixture("subscribe_a_user").await;
    let told = push(&mut ann).await;
    let subscribed = told.subscribe.expect("the subscription");
    assert_eq!((told.channel.as_str(), &subscribed.data[..]), ("chat:a", &b"[1]"[..]));
    assert!(subscribed.recoverable && subscribed.positioned);
    let presence = done(&one, "presence", json!({ "channel": "chat:a" })).await;
    assert_eq!(presence["presence"][&client]["chan_info"], json!({ "a": 1 }));

    foreign.say_fixture("survey_request").await;
    foreign.say_fixture("survey_request_of_emulation").await;
    let answer = async |id: u64| {
        foreign
            .hears(|heard| match &heard.content {
                Content::SurveyResponse(answer) if heard.alone && answer.id == id => {
                    Some(answer.clone())
                }
                _ => None,
            })
            .await
    };
    let about_channels = answer(300).await;
    let told = control::ChannelsResult::decode(about_channels.data).expect("channels");
    assert_eq!(about_channels.code, 0);
    assert_eq!(told.channels["chat:a"].num_clients, 1);
    assert_eq!(answer(301).await.code, control::answer::UNKNOWN);

    foreign.say_fixture("refresh_a_user").await;
    assert!(push(&mut ann).await.refresh.expect("the new expiry").expires);
    foreign.say_fixture("unsubscribe_a_user").await;
    let ended = push(&mut ann).await.unsubscribe.expect("the end");
    assert_eq!((ended.code, ended.reason.as_str()), (2_000, "bye"));
    foreign.say_fixture("disconnect_a_user").await;
    let close = ann.closed(SOON).await.expect("closed");
    assert_eq!((close.code, close.reason.as_str()), (Some(4_500), "closed"));
    let mut bob = one.connected("bob").await;
    foreign.say_fixture("disconnect_all_users").await;
    assert_eq!(code_of_close(&mut bob).await, Some(4_501));

    foreign.say_fixture("shutdown").await;
    eventually("it is gone", SOON, async || nodes(&one).await.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_does_not_disturb() {
    let redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let foreign = Foreign::on(&redis).await;
    let mut ann = one.subscribed("ann", "lobby:a").await;
    for name in ["notification", "of_a_later_edition", "survey_response", "disconnect_by_labels"] {
        foreign.say_fixture(name).await;
    }
    for _ in 0..500 {
        foreign.say_bytes(b"\xff\xff\xff\xff").await;
        foreign.say_bytes(b"").await;
    }
    done(&one, "publish", json!({ "channel": "lobby:a", "data": 1 })).await;
    assert_eq!(&ann.publication(SOON).await.expect("a publication").1.data[..], b"1");
    // Acted on in its turn, behind all that.
    foreign.say_fixture("disconnect_a_user").await;
    assert_eq!(code_of_close(&mut ann).await, Some(4_500));
    let complaints = one.log().count(|line| line["level"] == "WARN" || line["level"] == "warn");
    assert!(complaints < 100, "{complaints} lines for 1000 messages");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_centrifugo_is_asked_and_waited_for() {
    let redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let foreign = Foreign::on(&redis).await;
    let _known = foreign.stay();
    eventually("it is known", SOON, async || nodes(&one).await.len() == 2).await;
    let _ann = one.subscribed("ann", "chat:a").await;
    let there = [("chat:a", 2), ("chat:b", 1)]
        .map(|(name, num_clients)| (name.to_owned(), control::ChannelInfo { num_clients }));
    let there = control::ChannelsResult { channels: there.into() }.encode_to_vec();
    let answering = foreign.answer("channels", 0, there.into());
    let (all, ()) = tokio::join!(channels(&one, "chat:*"), answering);
    let expected = json!({ "chat:a": { "num_clients": 3 }, "chat:b": { "num_clients": 1 } });
    assert_eq!(all, expected);
    let asked = foreign.hears(|heard| match &heard.content {
        Content::SurveyRequest(request) => Some(request.data.clone()),
        _ => None,
    });
    assert_eq!(control::ChannelsRequest::decode(asked.await).expect("it").pattern, "chat:*");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_answer_makes_an_error() {
    let redis = RedisServer::start();
    let one = gateway(&redis.settings()).await;
    let foreign = Foreign::on(&redis).await;
    let _known = foreign.stay();
    eventually("it is known", SOON, async || nodes(&one).await.len() == 2).await;
    let answering = foreign.answer("channels", control::answer::INTERNAL, "".into());
    let (failed, ()) = tokio::join!(call(&one, "channels", json!({})), answering);
    assert_eq!(failed["error"]["code"], 100, "{failed}");
}
