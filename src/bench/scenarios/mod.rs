//! A file per scenario.

pub mod fanout;
pub mod idle;
pub mod publish;
