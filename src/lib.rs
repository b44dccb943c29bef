//! Bobolink, a realtime gateway that speaks the Centrifuge client protocol.
//!
//! The layers, each using only what stands above it in this list:
//!
//! 1. [`protocol`]: messages, codecs and codes of the wire; [`websocket`]: frames and compression.
//! 2. [`config`]: every setting, from four sources.
//! 3. [`channel`] and [`auth`]: names, options, permissions; tokens.
//! 4. [`hub`]: who is connected here, and fan-out; [`redis`]: connections to Redis; [`archive`]:
//!    what is kept for years.
//! 5. [`broker`] and [`presence`]: streams, and who is in them; [`ingest`]: from Redis into the archive.
//! 6. [`node`]: the verbs over all of these.
//! 7. [`session`]: one connection's protocol life.
//! 8. [`api`] and [`transport`]: the ways in.
//! 9. [`history`]: reading the archive over HTTP.
//! 10. [`server`]: puts the parts together; [`cli`] starts it.
//!
//! Beside them, [`client`] speaks the protocol from the other end, over [`protocol`] alone, and
//! [`bench`] does so by the thousand to measure a server. [`drill`] breaks a cluster and judges what its
//! clients were told.
//!
//! [`time`], [`lifecycle`], [`descriptors`] and [`telemetry`] serve all layers.

pub mod descriptors;
pub mod lifecycle;
pub mod telemetry;
pub mod time;

pub mod protocol;
pub mod websocket;
pub mod config;
pub mod channel;
pub mod auth;
pub mod hub;
pub mod redis;
pub mod archive;
pub mod broker;
pub mod presence;
pub mod ingest;
pub mod node;
pub mod session;
pub mod api;
pub mod transport;
pub mod history;
pub mod server;
pub mod client;
pub mod bench;
pub mod drill;
pub mod cli;
