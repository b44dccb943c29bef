//! Metrics as nodes tell them to each other: plain numbers for an interval.

use std::collections::{BTreeMap, HashMap};

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::Metrics;

/// Looks at all metrics from time to time, and says what has become of them in between.
#[derive(Debug, Default)]
pub struct Intervals {
    before: HashMap<String, f64>,
}

impl Intervals {
    /// What was counted since the last call, and what gauges show now. Keys are the parts of a
    /// metric's name and its labels with dots in between, such as `bobolink.node.num_clients` and
    /// `bobolink.node.action_count.action.history`; of a histogram there are `count` and `sum`.
    /// Zeros are left out.
    pub fn next(&mut self, metrics: &Metrics) -> BTreeMap<String, f64> {
        let mut items = BTreeMap::new();
        for family in metrics.gather() {
            let name = with_dots(family.name(), &metrics.prefix);
            for metric in family.get_metric() {
                let key = with_labels(&name, metric);
                self.take(key, &family, metric, &mut items);
            }
        }
        items.retain(|_, value| *value != 0.0);
        items
    }

    fn take(
        &mut self,
        key: String,
        family: &MetricFamily,
        metric: &Metric,
        items: &mut BTreeMap<String, f64>,
    ) {
        match family.get_field_type() {
            MetricType::GAUGE => {
                items.insert(key, metric.get_gauge().get_value());
            }
            MetricType::COUNTER => self.take_growth(key, metric.get_counter().get_value(), items),
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let count = histogram.get_sample_count() as f64;
                self.take_growth(format!("{key}.count"), count, items);
                self.take_growth(format!("{key}.sum"), histogram.get_sample_sum(), items);
            }
            MetricType::SUMMARY | MetricType::UNTYPED => {}
        }
    }

    fn take_growth(&mut self, key: String, value: f64, items: &mut BTreeMap<String, f64>) {
        let before = self.before.insert(key.clone(), value).unwrap_or_default();
        items.insert(key, value - before);
    }
}

/// The parts of a name: prefix, the part of the program that counts, and the rest.
fn with_dots(name: &str, prefix: &str) -> String {
    let own = name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'));
    let (group, rest) = own.unwrap_or(name).split_once('_').unwrap_or((name, ""));
    match own {
        Some(_) => format!("{prefix}.{group}.{rest}"),
        None => format!("{group}.{rest}"),
    }
}

fn with_labels(name: &str, metric: &Metric) -> String {
    let labels = metric.get_label().iter();
    labels.fold(name.to_owned(), |key, label| key + "." + label.name() + "." + label.value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::labels::{Action, MessageType};

    #[test]
    fn counters_tell_what_came_and_gauges_what_is() {
        let (metrics, mut intervals) =
            (Metrics::new("my_gate").expect("a prefix"), Intervals::default());
        metrics.node.num_clients.set(7);
        metrics.node.actions.with(Action::History).inc_by(3);
        metrics.node.broadcast_duration.with(MessageType::Join).observe(0.5);
        let first = intervals.next(&metrics);
        assert_eq!(first["my_gate.node.num_clients"], 7.0);
        assert_eq!(first["my_gate.node.action_count.action.history"], 3.0);
        assert_eq!(first["my_gate.node.broadcast_duration_seconds.type.join.count"], 1.0);
        assert_eq!(first["my_gate.node.broadcast_duration_seconds.type.join.sum"], 0.5);
        assert!(first["process.resident_memory_bytes"] > 0.0);
        assert!(first.values().all(|value| *value != 0.0), "zeros are left out");

        metrics.node.actions.with(Action::History).inc();
        let second = intervals.next(&metrics);
        assert_eq!(second["my_gate.node.num_clients"], 7.0);
        assert_eq!(second["my_gate.node.action_count.action.history"], 1.0);
        assert!(!second.contains_key("my_gate.node.broadcast_duration_seconds.type.join.count"));
    }
}
