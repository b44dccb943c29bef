//! The Centrifuge client protocol, version 2: messages, codecs, codes. No sockets, no config.

pub mod command;
pub mod filter;
pub mod json;
pub mod publication;
pub mod reply;
