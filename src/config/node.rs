//! This process among others.

use std::time::Duration;

use super::setting::section;

section! {
    /// The node.
    pub struct Node {
        /// Empty for `<host name>_<port>`.
        pub name: String,
        /// Metrics of the `info` method are gathered this often.
        pub info_metrics_aggregate_interval: Duration = Duration::from_secs(60),
    }
}
