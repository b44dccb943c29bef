//! The health endpoints, and how closely delivery is watched.

use std::time::Duration;

use super::report::Report;
use super::setting::section;

section! {
    /// Tells whether the server is well.
    pub struct Health {
        pub enabled: bool,
        pub handler_prefix: String = "/health".into(),
        /// Makes the plain endpoint tell of delivery.
        pub strict: bool,
        /// From one canary to the next, at most; half of it at least.
        pub canary_interval: Duration = Duration::from_secs(1),
        /// Delivery is broken when no canary has arrived for so long.
        pub canary_timeout: Duration = Duration::from_secs(5),
        /// Load balancers learn of broken delivery only after this.
        pub lb_grace: Duration = Duration::from_secs(30),
    }
}

/// Canaries that may stay away before delivery counts as broken.
const CANARIES_IN_TIMEOUT: u32 = 3;

/// Reports times that do not go together.
pub(super) fn check(health: &Health, report: &mut Report<'_>) {
    let Health { canary_interval: interval, canary_timeout: timeout, lb_grace: grace, .. } = health;
    if interval.is_zero() {
        report.fault(&["health.canary_interval"], "0 is not allowed, expected a span of time");
    }
    if *timeout < interval.saturating_mul(CANARIES_IN_TIMEOUT) {
        let keys = ["health.canary_timeout", "health.canary_interval"];
        report.fault(&keys, "must be three times health.canary_interval or more");
    }
    if grace < timeout {
        let keys = ["health.lb_grace", "health.canary_timeout"];
        report.fault(&keys, "must not be shorter than health.canary_timeout");
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load;
    use crate::config::load::tests::from_file;

    fn faults(health: &str) -> Vec<String> {
        let (sources, files) = from_file("c.json", &format!(r#"{{"health": {health}}}"#));
        let errors = load(&sources, &files).err().map(|errors| errors.0).unwrap_or_default();
        errors.into_iter().map(|error| error.key).collect()
    }

    #[test]
    fn times_that_do_not_go_together_are_named() {
        assert!(faults("{}").is_empty());
        assert_eq!(faults(r#"{"canary_interval": "0"}"#), ["health.canary_interval"]);
        assert_eq!(faults(r#"{"canary_interval": "2s"}"#), ["health.canary_timeout"]);
        assert_eq!(faults(r#"{"lb_grace": "4s"}"#), ["health.lb_grace"]);
    }
}
