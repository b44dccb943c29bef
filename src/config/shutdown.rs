//! How the server stops.

use std::time::Duration;

use super::setting::section;

section! {
    /// Stopping.
    pub struct Shutdown {
        /// The longest a stop may take.
        pub timeout: Duration = Duration::from_secs(30),
        /// The node says that it is leaving (readiness, agent) and serves as before for this time, so
        /// that load balancers have looked before it closes its port. Not of Centrifugo.
        pub drain_delay: Duration,
        /// Then clients are sent away (3001), spread over this time, so that they do not come back
        /// all at once; with `drain_delay` shorter than `timeout`. Not of Centrifugo.
        pub drain_window: Duration = Duration::from_secs(5),
    }
}
