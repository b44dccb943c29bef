//! The integration tests, one binary: linking it once is what keeps a test run short.

mod bench;
mod ci;
mod compose;
mod dev;
mod drill;
mod edge;
mod framing;
mod fuzzed;
mod history;
mod hostile;
mod ingest;
mod layers;
mod memory;
mod metrics;
mod results;
mod server_api;
mod redis;
mod replica_set;
mod shipped;
mod shutdown;
mod slow;
mod source;
mod support;
mod tidy;
mod tls;
mod websocket;
