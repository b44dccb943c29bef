//! The metrics endpoint.

use super::setting::section;

section! {
    /// Metrics in the format of Prometheus.
    pub struct Prometheus {
        pub enabled: bool,
        pub handler_prefix: String = "/metrics".into(),
        /// The first part of every metric's name. Not of Centrifugo.
        pub prefix: String = "bobolink".into(),
        /// Counts HTTP requests by route.
        pub instrument_http_handlers: bool,
        /// Measures how many publications a recovery brings.
        pub recovered_publications_histogram: bool,
        pub native_histograms: bool,
    }
}
