//! The server API.

pub mod http;
pub mod openapi;
