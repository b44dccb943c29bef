//! WebSocket without I/O: frames (RFC 6455) and compressed messages (RFC 7692).
//!
//! [`receive::Receiver`] turns the bytes that a peer sent into [`receive::Event`]s, or into the
//! [`Violation`] that ends the connection. To send, a payload stands behind its
//! [`frame::server_header`]; [`deflate::compress`] makes the payload of a compressed message. Nothing
//! here knows a socket, a clock or a configuration, and a connection that waits holds no buffer.

pub mod deflate;
pub mod frame;
pub mod handshake;
pub mod receive;
mod violation;

pub use violation::Violation;
