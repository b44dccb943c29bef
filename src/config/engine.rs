//! Where streams and presence are kept.

use super::redis::Redis;
use super::setting::{choice, section};

section! {
    /// The engine serves broker and presence alike.
    pub struct Engine {
        pub r#type: EngineType,
        pub redis: Redis,
    }
}

choice! {
    /// The kinds of engine.
    pub enum EngineType {
        /// In this process; lost when it ends, and not shared with other nodes.
        #[default]
        Memory = "memory",
        /// In Redis, shared by all nodes that use the same one.
        Redis = "redis",
    }
}
