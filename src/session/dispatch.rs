//! From a frame to its commands, and from a command to its handler.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use super::count::method_of;
use super::refusal::Refusal;
use super::{Flow, Session, State, commands};
use crate::protocol::codes::{Disconnect, ErrorCode};
use crate::protocol::command::{Command, Request};
use crate::protocol::reply::Reply;

impl Session {
    /// Decodes and handles one command after the other. What is wrong with the frame closes the
    /// connection; commands before the fault have been done.
    pub(super) async fn work_through(self: &Arc<Self>, frame: Bytes) -> Flow {
        let mut commands = self.codec().commands(frame);
        let mut read = 0;
        while let Some(command) = commands.next() {
            if self.connection.outbox.is_closing() {
                return Flow::Continue;
            }
            let Ok(command) = command else {
                self.connection.outbox.close(Disconnect::BAD_REQUEST);
                return Flow::Continue;
            };
            let size = commands.consumed() - read;
            read = commands.consumed();
            if self.begin(command, size).await == Flow::Refused {
                return Flow::Refused;
            }
        }
        Flow::Continue
    }

    /// Handles a command: at once, or beside others if the configuration allows that and the order
    /// does not matter to the protocol.
    async fn begin(self: &Arc<Self>, command: Command, size: usize) -> Flow {
        let id = command.id;
        let Ok(request) = command.request() else {
            self.connection.outbox.close(Disconnect::BAD_REQUEST);
            return Flow::Continue;
        };
        self.count_received(&request, size);
        let in_line = matches!(
            request,
            Request::Connect(_) | Request::Unsubscribe(_) | Request::Send(_) | Request::Pong
        );
        match &self.parallel {
            Some(parallel) if !in_line => {
                let Ok(permit) = Arc::clone(parallel).acquire_owned().await else {
                    return Flow::Continue;
                };
                let session = Arc::clone(self);
                let mut work = Box::pin(async move {
                    session.handle(id, request).await;
                    drop(permit);
                });
                // Up to its first wait it runs in its turn: a subscribe takes its place before an
                // unsubscribe behind it looks for one.
                let waits = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await;
                if waits {
                    tokio::spawn(work);
                }
                Flow::Continue
            }
            _ => self.handle(id, request).await,
        }
    }

    async fn handle(self: &Arc<Self>, id: u32, request: Request) -> Flow {
        let method = method_of(&request);
        let is_connect = matches!(request, Request::Connect(_));
        let started = self.node.clock.now();
        let answer = self.answer(id, request).await;
        let took = self.node.clock.now().saturating_duration_since(started);
        self.node.metrics.client.command_duration.with(method).observe(took.as_secs_f64());
        match answer {
            Ok(None) => Flow::Continue,
            Ok(Some(reply)) => {
                self.queue(&Reply { id, ..reply });
                Flow::Continue
            }
            Err(Refusal::Error(code)) => {
                self.count_reply_error(method, code.code);
                self.queue(&Reply { id, error: Some(code.into()), ..Reply::default() });
                if is_connect { Flow::Refused } else { Flow::Continue }
            }
            Err(Refusal::Disconnect(disconnect)) => {
                self.connection.outbox.close(disconnect);
                Flow::Continue
            }
        }
    }

    /// The reply, unless the handler queued it itself or there is none.
    async fn answer(self: &Arc<Self>, id: u32, request: Request) -> Result<Option<Reply>, Refusal> {
        let request = match request {
            Request::Connect(request) => return commands::connect(self, id, request).await,
            Request::Pong => {
                let pong = self.deadlines.lock().pong();
                let late_at = pong.map_err(|_| Disconnect::BAD_REQUEST)?;
                self.count_round_trip(late_at);
                return Ok(None);
            }
            other => other,
        };
        if !matches!(*self.state.lock(), State::Connected(_)) {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        match request {
            Request::Connect(_) | Request::Pong => Err(Disconnect::BAD_REQUEST.into()),
            Request::Subscribe(request) => commands::subscribe(self, id, request).await,
            Request::Unsubscribe(request) => commands::unsubscribe(self, request).await,
            Request::Publish(request) => commands::publish(self, request).await,
            Request::Presence(request) => commands::presence(self, request).await,
            Request::PresenceStats(request) => commands::presence_stats(self, request).await,
            Request::History(request) => commands::history(self, request).await,
            Request::Refresh(request) => commands::refresh(self, request).await,
            Request::SubRefresh(request) => commands::sub_refresh(self, request).await,
            // There is no backend to call yet, and nobody listens to messages without a reply.
            Request::Rpc(_) => Err(ErrorCode::NOT_AVAILABLE.into()),
            Request::Send(_) => Err(Disconnect::NOT_AVAILABLE.into()),
        }
    }
}
