//! Logs, metrics, health: what an operator sees of the process.
//!
//! To add a metric: declare it with its help text in [`metrics`], in the group it belongs to, and
//! add its line to the table of `docs/observability.md` (a test compares the two). A label takes
//! its values from a closed set in [`metrics::labels`], never from what a client sent. Durations are
//! measured with [`crate::time::Clock`] and observed in seconds.

pub mod health;
pub mod logging;
pub mod metrics;
pub mod seldom;
