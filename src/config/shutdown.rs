//! How the server stops.

use std::time::Duration;

use super::setting::section;

section! {
    /// Stopping.
    pub struct Shutdown {
        /// The longest a stop may take.
        pub timeout: Duration = Duration::from_secs(30),
        /// Clients are sent away (3001) spread over this time, so that they do not come back all
        /// at once; shorter than `timeout`. Not of Centrifugo.
        pub drain_window: Duration = Duration::from_secs(5),
    }
}
