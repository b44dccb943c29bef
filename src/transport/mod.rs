//! Listeners, routes and sockets.
//!
//! [`accept`] binds a port and speaks HTTP on its connections, over TLS if [`tls`] says so;
//! [`routes`] finds the handler of a request. What a connection must pass before it may upgrade:
//! [`origin`] and [`limits`]. [`probes`] are the endpoints for operators.

pub mod accept;
pub mod limits;
pub mod origin;
pub mod probes;
pub mod routes;
pub mod socket;
pub mod tls;
