//! Listeners, routes and sockets.
//!
//! [`accept`] binds a port and speaks HTTP on its connections, over TLS if [`tls`] says so;
//! [`proxy_protocol`] and [`proxies`] find out whose connection a proxy carries; [`routes`] finds the
//! handler of a request. What a connection must pass before it may upgrade:
//! [`origin`] and [`limits`]; [`upgrade`] checks it, [`websocket`] is the connection from there on,
//! on a [`socket`] whose writes are [`counted`]. [`probes`] are the endpoints for operators, [`agent`]
//! tells load balancers how much the node can take, [`playground`] is a page for newcomers.

pub mod accept;
pub mod agent;
pub mod counted;
pub mod limits;
pub mod origin;
pub mod playground;
pub mod probes;
pub mod proxies;
pub mod proxy_protocol;
pub mod routes;
pub mod socket;
pub mod tls;
pub mod upgrade;
pub mod websocket;
