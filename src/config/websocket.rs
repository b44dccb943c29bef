//! The WebSocket endpoint.

use std::time::Duration;

use super::setting::section;
use super::units::ByteSize;

section! {
    /// The WebSocket transport.
    pub struct WebSocket {
        pub disabled: bool,
        pub handler_prefix: String = "/connection/websocket".into(),
        /// Compresses for clients that offer to decompress.
        pub compression: bool,
        /// Messages smaller than this are sent as they are.
        pub compression_min_size: ByteSize,
        /// 1 (fastest) to 9 (smallest); -1 for 6, 0 for none, -2 as 1.
        pub compression_level: i32 = 1,
        /// Taken and without effect, as are the next two.
        pub read_buffer_size: ByteSize,
        pub write_buffer_size: ByteSize,
        pub use_write_buffer_pool: bool,
        /// The longest a write may take; 0 for no limit.
        pub write_timeout: Duration = Duration::from_secs(1),
        /// A longer message of a client closes its connection (1009).
        pub message_size_limit: ByteSize = 65_536,
        /// The same after decompression; 0 for ten times `message_size_limit`.
        pub decompressed_message_size_limit: ByteSize,
    }
}
