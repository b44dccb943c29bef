//! Listeners, routes and sockets.
