//! The server API: what the application's backend asks of the gateway.
//!
//! Each method stands once, in `commands.rs`, on typed requests and results; a door such as
//! [`http`] only reads the one and writes the other. The way of a request: the door checks the key
//! and reads a [`Request`], [`Api::call`] measures and dispatches it, the method says it in the
//! [node](crate::node)'s words, and the door writes the [`Outcome`] or the [`ApiError`].
//!
//! **To add a method:** its request and result in `messages.rs`, an async fn in `commands.rs`, its
//! line in the table of `methods.rs`, its label in
//! [`ApiMethod`](crate::telemetry::metrics::labels::ApiMethod), its description in
//! `openapi/openapi.json`.

pub mod access;
mod batch;
mod commands;
mod error;
pub mod http;
mod json;
pub mod messages;
pub mod openapi;
mod methods;
mod stream;
#[cfg(test)]
mod testing;

use std::sync::Arc;

pub use self::batch::{BatchCommand, BatchRequest, MAX_COMMANDS};
pub use self::error::ApiError;
pub use self::methods::{Method, Outcome, Request};
pub use self::stream::StreamError;

use crate::node::Node;
use crate::telemetry::metrics::labels::{ApiFailure, ApiMethod, ApiProtocol};

/// The methods, for callers that came in by one door.
pub struct Api {
    node: Arc<Node>,
    protocol: ApiProtocol,
}

impl Api {
    /// The methods on `node`; what is called counts under `protocol`.
    pub fn new(node: Arc<Node>, protocol: ApiProtocol) -> Self {
        Self { node, protocol }
    }

    /// Does what a request asks, and measures it.
    ///
    /// # Errors
    /// See [`ApiError`]; they are counted and logged here.
    pub async fn call(&self, request: Request) -> Result<Outcome, ApiError> {
        let method = request.method();
        let outcome = self.timed(method.label(), self.dispatch(request)).await;
        if let Err(error) = &outcome {
            self.note(method.label(), error);
        }
        outcome
    }

    async fn timed<T>(&self, method: ApiMethod, work: impl Future<Output = T>) -> T {
        let began = self.node.clock.now();
        let done = work.await;
        let took = self.node.clock.now().saturating_duration_since(began);
        let durations = &self.node.metrics.api.command_duration;
        durations.with((self.protocol, method)).observe(took.as_secs_f64());
        done
    }

    fn note(&self, method: ApiMethod, error: &ApiError) {
        tracing::debug!(?method, code = error.code.code, reason = error.reason, "API call failed");
        self.count_failure(method, ApiFailure::of_code(error.code.code));
    }

    fn count_failure(&self, method: ApiMethod, failure: ApiFailure) {
        self.node.metrics.api.command_errors.with((self.protocol, method, failure)).inc();
    }
}
