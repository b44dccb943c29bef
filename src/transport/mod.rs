//! Listeners, routes and sockets.
//!
//! [`accept`] binds a port and speaks HTTP on its connections, over TLS if [`tls`] says so;
//! [`routes`] finds the handler of a request. What a connection must pass before it may upgrade:
//! [`origin`] and [`limits`]; [`upgrade`] checks it, [`websocket`] is the connection from there on,
//! on a [`socket`] whose writes are [`counted`]. [`probes`] are the endpoints for operators,
//! [`playground`] is a page for newcomers.

pub mod accept;
pub mod counted;
pub mod limits;
pub mod origin;
pub mod playground;
pub mod probes;
pub mod routes;
pub mod socket;
pub mod tls;
pub mod upgrade;
pub mod websocket;
