//! Where streams and presence are kept.

use super::setting::{choice, section};
use super::values::Later;

section! {
    /// The engine serves broker and presence alike.
    pub struct Engine {
        pub r#type: EngineType,
        pub redis: Later,
    }
}

choice! {
    /// The kinds of engine.
    pub enum EngineType {
        /// In this process; lost when it ends, and not shared with other nodes.
        #[default]
        Memory = "memory",
        Redis = "redis",
        Nats = "nats",
    }
}
