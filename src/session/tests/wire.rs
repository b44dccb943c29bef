//! A connection's loop in the hands of a test.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::hub::{Message, Wanted};
use crate::node::Node;
use crate::protocol::codes::Disconnect;
use crate::protocol::command::{Command, ConnectRequest, SubscribeRequest, UnsubscribeRequest};
use crate::protocol::frame::Codec;
use crate::protocol::publication::Publication;
use crate::protocol::reply::{Push, Reply, SubscribeResult};
use crate::session::{Flow, Session, Traits};

/// Does what `transport::websocket` does, one poll at a time: commands in order, signals beside
/// them, and at the end everything that was begun is finished before presence is taken back.
pub struct Wire {
    pub session: Arc<Session>,
    /// Written by the server, not read by the client yet.
    pub inbox: VecDeque<Reply>,
    /// Why the server closes, once it does.
    pub closing: Option<Disconnect>,
    last_id: u32,
    frames: VecDeque<Vec<Command>>,
    work: Option<BoxFuture<'static, Flow>>,
    chores: Option<BoxFuture<'static, ()>>,
}

impl Wire {
    /// A connection whose user is known from a trusted header.
    pub fn open(node: &Arc<Node>, codec: Codec, user: &str) -> Self {
        Self::with_traits(
            node,
            codec,
            Traits { header_user: Some(user.into()), native_ping: false },
        )
    }

    pub fn with_traits(node: &Arc<Node>, codec: Codec, traits: Traits) -> Self {
        Self {
            session: Session::open(node, codec, traits),
            inbox: VecDeque::new(),
            closing: None,
            last_id: 0,
            frames: VecDeque::new(),
            work: None,
            chores: None,
        }
    }

    /// A connection that has sent its connect command and read the reply.
    pub fn connected(node: &Arc<Node>, codec: Codec, user: &str) -> Self {
        let mut wire = Self::open(node, codec, user);
        let connect = ConnectRequest::default();
        let reply = wire.call(Command { connect: Some(connect), ..Command::default() });
        assert!(reply.connect.is_some());
        wire
    }

    /// The reply to a command that is answered without anybody else's doing.
    pub fn call(&mut self, command: Command) -> Reply {
        let id = self.ask(command);
        self.settle();
        let at = self.inbox.iter().position(|reply| reply.id == id).expect("a reply");
        self.inbox.remove(at).unwrap()
    }

    /// Sends a command; returns its id.
    pub fn ask(&mut self, command: Command) -> u32 {
        self.last_id += 1;
        self.send(vec![Command { id: self.last_id, ..command }]);
        self.last_id
    }

    pub fn subscribe(&mut self, request: SubscribeRequest) -> Result<SubscribeResult, u32> {
        let reply = self.call(Command { subscribe: Some(request), ..Command::default() });
        match reply.error {
            None => Ok(reply.subscribe.expect("a result")),
            Some(error) => Err(error.code),
        }
    }

    pub fn unsubscribe(&mut self, channel: &str) {
        let unsubscribe = Some(UnsubscribeRequest { channel: channel.into() });
        let reply = self.call(Command { unsubscribe, ..Command::default() });
        assert!(reply.unsubscribe.is_some());
    }

    /// The pushes that have arrived, in order.
    pub fn pushes(&mut self) -> Vec<Push> {
        self.settle();
        self.inbox.drain(..).filter_map(|reply| reply.push).collect()
    }

    pub fn publications(&mut self) -> Vec<Publication> {
        self.pushes().into_iter().filter_map(|push| push.publication).collect()
    }

    /// One frame with these commands.
    pub fn send(&mut self, commands: Vec<Command>) {
        self.frames.push_back(commands);
    }

    /// One poll of everything that can go on; `false` if nothing can, for now.
    pub fn step(&mut self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let mut moved = self.drain(&mut cx);
        if let Some(chores) = &mut self.chores {
            moved = true;
            if chores.as_mut().poll(&mut cx).is_ready() {
                self.chores = None;
            }
        }
        if self.work.is_none()
            && let Some(commands) = self.frames.pop_front()
        {
            let codec = self.session.codec();
            let encoded: Vec<_> =
                commands.iter().map(|command| codec.encode_command(command).unwrap()).collect();
            self.work = Some(self.session.on_frame(codec.join(&encoded)));
        }
        if let Some(work) = &mut self.work {
            moved = true;
            if work.as_mut().poll(&mut cx).is_ready() {
                self.work = None;
            }
        }
        moved | self.drain(&mut cx)
    }

    /// Steps until nothing moves any more.
    pub fn settle(&mut self) {
        for _ in 0..1_000 {
            if !self.step() {
                return;
            }
        }
        panic!("the connection never comes to rest");
    }

    /// Nothing is being worked on.
    pub fn is_idle(&self) -> bool {
        self.work.is_none() && self.chores.is_none() && self.frames.is_empty()
    }

    /// The connection ends now; what is left is for the returned future.
    pub fn end(&mut self, code: u32) -> BoxFuture<'static, ()> {
        let farewell = self.session.leave(code);
        let last = self.session.outbox().take_messages();
        self.receive(last);
        let session = Arc::clone(&self.session);
        let (work, chores) = (self.work.take(), self.chores.take());
        Box::pin(async move {
            if let Some(work) = work {
                work.await;
            }
            if let Some(chores) = chores {
                chores.await;
            }
            session.close(farewell).await;
        })
    }

    fn drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.closing.is_some() {
            return false;
        }
        let wanted = Wanted { messages: true, signals: self.chores.is_none() };
        let Poll::Ready(drained) = self.session.outbox().poll_drain(cx, wanted) else {
            return false;
        };
        self.receive(drained.messages);
        self.closing = drained.closing;
        if drained.rung && self.closing.is_none() {
            self.session.on_ring();
        }
        if !drained.signals.is_empty() && self.closing.is_none() {
            self.chores = Some(self.session.on_signals(drained.signals));
        }
        true
    }

    fn receive(&mut self, messages: impl IntoIterator<Item = Message>) {
        let codec = self.session.codec();
        for message in messages {
            let payload = Bytes::copy_from_slice(message.payload());
            self.inbox.extend(codec.replies(payload).map(Result::unwrap));
        }
    }
}
