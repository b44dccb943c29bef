//! The health endpoints, and how closely delivery is watched.

use std::time::Duration;

use super::redis::Redis;
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

/// Says where a node that alone cannot publish closes its connections before it has heard the others for
/// long enough to know that.
pub(super) fn advise(health: &Health, redis: &Redis, report: &mut Report<'_>) {
    let (timeout, io_timeout) = (health.canary_timeout, redis.io_timeout);
    if health.enabled && timeout / 2 >= io_timeout {
        report.advise(format!(
            "half of health.canary_timeout ({timeout:?}) is not below engine.redis.io_timeout \
             ({io_timeout:?}): a node that alone cannot publish stays ready for health.lb_grace"
        ));
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

    fn advice(health: &str, io_timeout: &str) -> usize {
        let text = format!(
            r#"{{"health": {health},
                "engine": {{"type": "redis", "redis": {{"io_timeout": "{io_timeout}"}}}}}}"#
        );
        let (sources, files) = from_file("c.json", &text);
        let notices = load(&sources, &files).expect("no fault").notices;
        notices.iter().filter(|notice| notice.text.contains("engine.redis.io_timeout")).count()
    }

    #[test]
    fn a_node_that_could_not_know_that_it_is_cut_off_alone_says_so() {
        assert_eq!(advice(r#"{"enabled": true}"#, "4s"), 0, "the defaults");
        assert_eq!(advice(r#"{"enabled": true}"#, "2600ms"), 0);
        assert_eq!(advice(r#"{"enabled": true}"#, "2500ms"), 1);
        assert_eq!(advice(r#"{"enabled": true, "canary_timeout": "8s"}"#, "4s"), 1);
        assert_eq!(advice("{}", "2s"), 0, "nobody asks");
    }

    #[test]
    fn times_that_do_not_go_together_are_named() {
        assert!(faults("{}").is_empty());
        assert_eq!(faults(r#"{"canary_interval": "0"}"#), ["health.canary_interval"]);
        assert_eq!(faults(r#"{"canary_interval": "2s"}"#), ["health.canary_timeout"]);
        assert_eq!(faults(r#"{"lb_grace": "4s"}"#), ["health.lb_grace"]);
    }
}
