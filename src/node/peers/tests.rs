//! One node, with the test in the place of all others.

use std::task::{Context, Poll, Waker};

use tokio::time::timeout;

use super::*;
use crate::auth::{TokenSettings, TokenVerifier};
use crate::broker::{self, Broker, ControlInlet, MemoryBroker, control_queue};
use crate::channel::Namespaces;
use crate::config::{ChannelConfig, Client};
use crate::hub::{Connection, Drained, Hub, Outbox, Wanted};
use crate::node::{Parts, Rules, Selection};
use crate::presence::{MemoryPresence, Presence};
use crate::protocol::codes::Disconnect;
use crate::protocol::control;
use crate::protocol::frame::Codec;
use crate::telemetry::metrics::Metrics;
use crate::time::Clock;

/// Longer than anything takes here; nobody waits for it to pass.
const SOON: Duration = Duration::from_secs(60);

type Sent = mpsc::Receiver<broker::Sent>;

/// A node that can speak to others if there is somebody to hear it.
fn node(controller: Controller) -> Arc<Node> {
    let (clock, hub) = (Clock::real(), Arc::new(Hub::default()));
    Node::new(Parts {
        name: "here".to_owned(),
        peers: Peers::new(Uuid::new_v4(), controller),
        hub: Arc::clone(&hub),
        broker: Broker::Memory(MemoryBroker::new(hub, clock.clone())),
        presence: Presence::Memory(MemoryPresence::default()),
        clock,
        client: Client::default(),
        rules: Rules {
            channels: Namespaces::new(&ChannelConfig::default()).expect("valid namespaces"),
            connection_tokens: TokenVerifier::new(TokenSettings::default()).expect("no keys"),
            subscription_tokens: None,
        },
        metrics: Arc::new(Metrics::default()),
        hard: tokio_util::sync::CancellationToken::new(),
    })
}

fn kept() -> (Controller, Sent) {
    let (sender, sent) = mpsc::channel(1_024);
    (Controller::Kept(Mutex::new(Some(sender))), sent)
}

/// A node that takes part in a cluster.
fn joined() -> (Arc<Node>, ControlInlet, Sent, Lifecycle) {
    let (controller, sent) = kept();
    let (node, lifecycle) = (node(controller), Lifecycle::new());
    let (inlet, outlet) = control_queue(node.clock.clone(), Arc::clone(&node.metrics));
    node.join_cluster(Some(outlet), Duration::ZERO, &lifecycle);
    (node, inlet, sent, lifecycle)
}

async fn next(sent: &mut Sent) -> (Option<String>, Command) {
    let (to, message) = timeout(SOON, sent.recv()).await.expect("in time").expect("a message");
    (to, Command::decode(message).expect("a command"))
}

/// The next thing that is said to `to`.
async fn next_to(sent: &mut Sent, to: Option<&str>) -> Content {
    loop {
        let (addressee, command) = next(sent).await;
        if addressee.as_deref() == to {
            return command.into_content().expect("a content");
        }
    }
}

fn say(inlet: &ControlInlet, from: &str, content: Content) {
    inlet.take(&Command::new(from, content).to_bytes().into());
}

fn info(uid: &str) -> Content {
    Content::Node(NodeInfo { uid: uid.into(), ..NodeInfo::default() })
}

fn connect(node: &Node, user: &str) -> Arc<Connection> {
    let connection = Connection::new(Uuid::new_v4(), Codec::Json, Outbox::new(65_536));
    connection.authenticate(user);
    node.hub.connections.add(&connection, 0).expect("no limit");
    connection
}

fn closing(connection: &Connection) -> Option<Disconnect> {
    let mut cx = Context::from_waker(Waker::noop());
    match connection.outbox.poll_drain(&mut cx, Wanted::ALL) {
        Poll::Ready(Drained { closing, .. }) => closing,
        Poll::Pending => None,
    }
}

fn of(user: &str) -> Selection {
    Selection { user: user.to_owned(), ..Selection::default() }
}

#[tokio::test]
async fn what_others_cannot_be_told_is_not_done_here_either() {
    let node = node(Controller::Kept(Mutex::new(None)));
    let ann = connect(&node, "ann");
    let refused = node.disconnect_user(of("ann"), Disconnect::FORCE_DISCONNECT).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert_eq!(closing(&ann), None);
    assert!(matches!(node.active_channels("").await, Err(Error::Internal(_))));
}

#[tokio::test]
async fn others_are_told_what_is_done_here() {
    let (controller, mut sent) = kept();
    let node = node(controller);
    let ann = connect(&node, "ann");
    let disconnect = Disconnect::custom(4_500, "closed");
    node.disconnect_user(of("ann"), disconnect.clone()).await.expect("told");
    assert_eq!(closing(&ann), Some(disconnect));
    let (to, command) = next(&mut sent).await;
    assert_eq!((to, command.uid.as_str()), (None, node.id.to_string().as_str()));
    let expected = control::Disconnect {
        user: "ann".into(),
        code: 4_500,
        reason: "closed".into(),
        ..Default::default()
    };
    assert_eq!(command.into_content(), Some(Content::Disconnect(expected)));
}

#[tokio::test]
async fn a_new_node_is_told_at_once_who_is_here() {
    let (node, inlet, mut sent, _lifecycle) = joined();
    let Content::Node(own) = next_to(&mut sent, None).await else { panic!("a description") };
    assert_eq!((own.uid.as_str(), own.name.as_str()), (node.id.to_string().as_str(), "here"));
    say(&inlet, "n1", info("n1"));
    let Content::Node(again) = next_to(&mut sent, Some("n1")).await else { panic!("the same") };
    assert_eq!(again.uid, own.uid);
    assert_eq!(node.info().iter().map(|node| &node.uid).collect::<Vec<_>>(), [&own.uid, "n1"]);
    assert_eq!(node.count_nodes(), 2);
}

#[tokio::test]
async fn a_node_that_stops_says_so_and_describes_itself_no_more() {
    let (_node, inlet, mut sent, lifecycle) = joined();
    next_to(&mut sent, None).await;
    lifecycle.soft.cancel();
    assert_eq!(next_to(&mut sent, None).await, Content::Shutdown);
    assert!(timeout(SOON, lifecycle.stopped(SOON)).await.expect("in time"), "by itself");
    inlet.attached();
    say(&inlet, "n1", info("n1"));
    assert!(sent.try_recv().is_err());
}

#[tokio::test]
async fn whoever_can_hear_again_is_described_to_all() {
    let (_node, inlet, mut sent, _lifecycle) = joined();
    next_to(&mut sent, None).await;
    inlet.attached();
    assert!(matches!(next_to(&mut sent, None).await, Content::Node(_)));
}

#[tokio::test]
async fn own_words_and_nonsense_change_nothing() {
    let (node, inlet, mut sent, _lifecycle) = joined();
    let ann = connect(&node, "ann");
    let disconnect = || {
        let user = "ann".to_owned();
        Content::Disconnect(control::Disconnect { user, code: 4_500, ..Default::default() })
    };
    say(&inlet, &node.id.to_string(), disconnect());
    say(&inlet, "", disconnect());
    say(&inlet, "n1", info(""));
    say(&inlet, "n1", info(&node.id.to_string()));
    inlet.take(&Bytes::from_static(b"\xff\xff\xff"));
    inlet.take(&Bytes::new());
    // What comes behind all that is acted on.
    say(&inlet, "n2", info("n2"));
    next_to(&mut sent, Some("n2")).await;
    assert_eq!(closing(&ann), None);
    assert_eq!(node.count_nodes(), 2);
    say(&inlet, "n2", disconnect());
    say(&inlet, "n3", info("n3"));
    next_to(&mut sent, Some("n3")).await;
    assert_eq!(closing(&ann).map(|disconnect| disconnect.code), Some(4_500));
}

#[tokio::test]
async fn questions_are_answered_to_whoever_asks() {
    let (node, inlet, mut sent, _lifecycle) = joined();
    let ask = |id, op: &str, data: Vec<u8>| {
        let request = SurveyRequest { id, op: op.to_owned(), data: data.into() };
        say(&inlet, "n1", Content::SurveyRequest(request));
    };
    let pattern =
        |pattern: &str| control::ChannelsRequest { pattern: pattern.to_owned() }.encode_to_vec();
    ask(1, "channels", pattern(""));
    ask(2, "channels", pattern("[a"));
    ask(3, "channels", b"\xff".to_vec());
    ask(4, "something else", Vec::new());
    for (id, code) in [(1, 0), (2, 2), (3, 2), (4, 3)] {
        let Content::SurveyResponse(response) = next_to(&mut sent, Some("n1")).await else {
            panic!("an answer")
        };
        assert_eq!((response.id, response.code), (id, code));
    }
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_before_all_can_be_known() {
    let (node, _inlet, mut sent, _lifecycle) = joined();
    next_to(&mut sent, None).await;
    assert!(timeout(ANNOUNCE_EVERY, node.active_channels("")).await.is_err(), "it waits");
    assert_eq!(node.active_channels("").await.expect("alone"), [].into());
}

#[tokio::test(start_paused = true)]
async fn what_all_nodes_have_is_added_up() {
    let (node, inlet, mut sent, _lifecycle) = joined();
    for uid in ["n1", "n2"] {
        say(&inlet, uid, info(uid));
        next_to(&mut sent, Some(uid)).await;
    }
    let answering = async {
        let question = loop {
            if let Content::SurveyRequest(question) = next_to(&mut sent, None).await {
                break question;
            }
        };
        for (uid, num_clients) in [("n1", 2), ("n2", u32::MAX)] {
            let channels = [("a".to_owned(), control::ChannelInfo { num_clients })];
            let data = control::ChannelsResult { channels: channels.into() }.encode_to_vec();
            let response = control::SurveyResponse { id: question.id, code: 0, data: data.into() };
            say(&inlet, uid, Content::SurveyResponse(response));
        }
    };
    let (channels, ()) = tokio::join!(node.active_channels("a*"), answering);
    assert_eq!(
        channels.expect("answers").into_iter().collect::<Vec<_>>(),
        [("a".into(), u32::MAX)]
    );
}
