//! What a run found, as it is written to a file and shown in a table.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};
use serde::{Serialize, Serializer};

use super::meter::ServerUse;
use super::procfs::Machine;
use super::redis::RedisUse;

/// Version of the file's form; raised when a name changes its meaning.
pub const FORMAT: u32 = 1;
/// Faults that are listed; beyond them they are only counted.
const MAX_LISTED: usize = 50;
/// Nanoseconds that a histogram tells apart at its lower end, and its upper end: ten minutes.
const LOWEST_NS: u64 = 1_000;
const HIGHEST_NS: u64 = 600_000_000_000;

/// A whole run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub format: u32,
    /// Of the generator.
    pub version: &'static str,
    pub scenario: &'static str,
    /// The flags as they were in force, without secrets.
    pub options: serde_json::Value,
    pub machine: Machine,
    /// RFC 3339, UTC.
    pub started: String,
    pub elapsed_s: f64,
    pub failures: Failures,
    pub rows: Vec<Row>,
}

/// One measurement.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub label: String,
    /// Why the row counts for nothing, if so.
    pub void: Option<String>,
    /// Why its rate may be higher in truth, if so.
    pub at_least: Option<String>,
    pub seconds: f64,
    /// Share of one core that the generator used.
    pub generator_cpu: f64,
    /// Share of the time in which it could have run but others had its core.
    pub generator_wait: f64,
    /// Share of the machine's time that its host gave to others.
    pub steal: f64,
    /// Share of the machine's time that nobody of the run used; only with `--pid`.
    pub other_cpu: Option<f64>,
    pub server: Option<ServerUse>,
    pub redis: Option<RedisUse>,
    pub metrics: Metrics,
    pub latency: Option<Latency>,
}

/// Numbers by name.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<&'static str, f64>);

/// A distribution of times.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub count: u64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// The whole histogram in nanoseconds, in HdrHistogram's V2 form, compressed, in base64.
    pub histogram: String,
}

/// What went wrong, in a list of bounded length.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    listed: Vec<String>,
    unlisted: u64,
}

impl Metrics {
    /// Sets a number; what is no number (0 divided by 0) is left out.
    pub fn set(&mut self, name: &'static str, value: f64) {
        if value.is_finite() {
            self.0.insert(name, value);
        }
    }

    /// Sets a count.
    pub fn count(&mut self, name: &'static str, value: u64) {
        self.set(name, value as f64);
    }

    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    /// Takes over all numbers of another row.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(name, value)| (*name, *value)));
    }
}

impl Serialize for Metrics {
    /// Whole numbers are written without a point.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| {
            let whole = value.fract() == 0.0 && value.abs() < 9e15;
            let number = match whole {
                true => serde_json::Value::from(*value as i64),
                false => serde_json::Value::from(*value),
            };
            (name, number)
        }))
    }
}

impl Latency {
    /// The figures of a histogram of nanoseconds; `None` if it is empty.
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        if histogram.is_empty() {
            return None;
        }
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        let mut bytes = Vec::new();
        // Writing into memory cannot fail; without the bytes the figures still stand.
        let _ = V2DeflateSerializer::new().serialize(histogram, &mut bytes);
        Some(Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max() as f64 / 1_000.0,
            histogram: STANDARD.encode(bytes),
        })
    }
}

impl Failures {
    /// Adds a failure to the list, or only counts it when the list is full.
    pub fn add(&mut self, what: impl Into<String>) {
        if self.listed.len() < MAX_LISTED {
            self.listed.push(what.into());
        } else {
            self.unlisted += 1;
        }
    }

    /// Adds all of another list.
    pub fn append(&mut self, other: Self) {
        other.listed.into_iter().for_each(|what| self.add(what));
        self.unlisted += other.unlisted;
    }

    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The list, and how many there are beyond it.
    pub fn lines(&self) -> Vec<String> {
        let more = (self.unlisted > 0).then(|| format!("and {} more", self.unlisted));
        self.listed.iter().cloned().chain(more).collect()
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.listed.len() as u64 + self.unlisted
    }
}

impl Serialize for Failures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.lines().serialize(serializer)
    }
}

/// An empty histogram of nanoseconds, from a microsecond to ten minutes, to three digits.
pub fn histogram() -> Histogram<u64> {
    // Cannot fail: the bounds are constants that fit.
    Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3).expect("the bounds fit")
}

/// Adds a time; what is beyond the bounds counts as the bound.
pub fn record(histogram: &mut Histogram<u64>, nanoseconds: u64) {
    histogram.saturating_record(nanoseconds);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_listed_up_to_a_bound_and_counted_beyond() {
        let mut failures = Failures::default();
        (0..MAX_LISTED + 3).for_each(|number| failures.add(format!("failure {number}")));
        assert_eq!(failures.lines().len(), MAX_LISTED + 1);
        assert_eq!(failures.lines().last().map(String::as_str), Some("and 3 more"));
        assert_eq!(failures.count(), 53);
        let mut all = failures.clone();
        all.append(failures);
        assert_eq!((all.lines().len(), all.count()), (MAX_LISTED + 1, 106));
    }

    #[test]
    fn metrics_are_numbers_and_whole_ones_have_no_point() {
        let mut metrics = Metrics::default();
        metrics.count("delivered", 1_000);
        metrics.set("cpu", 0.5);
        metrics.set("nothing", f64::NAN);
        let json = serde_json::to_string(&metrics).unwrap();
        assert_eq!(json, r#"{"cpu":0.5,"delivered":1000}"#);
    }

    #[test]
    fn a_latency_tells_its_histogram_whole() {
        let mut times = histogram();
        (1..=1_000).for_each(|us| record(&mut times, us * 1_000));
        let latency = Latency::of(&times).unwrap();
        assert!((latency.p50_us - 500.0).abs() < 1.0, "{}", latency.p50_us);
        assert!((latency.p99_us - 990.0).abs() < 2.0, "{}", latency.p99_us);
        let bytes = STANDARD.decode(latency.histogram).unwrap();
        let mut deserializer = hdrhistogram::serialization::Deserializer::new();
        let read: Histogram<u64> = deserializer.deserialize(&mut &bytes[..]).unwrap();
        assert_eq!(read, times);
        assert!(Latency::of(&histogram()).is_none());
    }
}
