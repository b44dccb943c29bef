//! Metrics with labels whose children are resolved once, and the macro that declares groups.

use std::marker::PhantomData;
use std::sync::OnceLock;

use hyper::{Method, StatusCode};
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::labels::LabelSet;

/// Counters, one for each value of `L`.
pub type Counters<L> = Family<IntCounter, L>;
/// Gauges, one for each value of `L`.
pub type Gauges<L> = Family<IntGauge, L>;
/// Histograms, one for each value of `L`.
pub type Histograms<L> = Family<Histogram, L>;

/// Up to this many combinations a family starts with all its children at zero, so that `rate()`
/// sees the first event. Larger products would fill the exposition with zeros.
const EAGER_CHILDREN: usize = 32;

/// A metric with labels. Finding a child is arithmetic on the labels, without a lock or a hash.
pub struct Family<M, L> {
    children: Box<[OnceLock<M>]>,
    resolve: Box<Resolve<M>>,
    labels: PhantomData<fn(L)>,
}

/// Makes the child for label texts.
type Resolve<M> = dyn Fn(&[&str]) -> M + Send + Sync;

/// Requests by route pattern, method and status; HTTP is no hot path, so children are looked up.
pub struct HttpRequests(IntCounterVec);

/// A gauge that is always 1 and carries the version as its label.
pub struct BuildInfo;

/// One declared metric: its parts of the name, help and shape.
pub(super) struct Spec {
    pub subsystem: &'static str,
    pub name: &'static str,
    pub help: &'static str,
    pub labels: &'static [&'static str],
    pub buckets: &'static [f64],
}

/// Where declared metrics are registered.
pub(super) struct Declarations<'a> {
    pub prefix: &'a str,
    pub registry: &'a Registry,
    pub names: Vec<String>,
}

/// Something a [`Spec`] can be made into.
pub(super) trait Declared: Sized {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)>;
}

impl<M, L: LabelSet> Family<M, L> {
    /// The child for these labels.
    pub fn with(&self, labels: L) -> &M {
        // `position` is below `COUNT`, which is the number of children.
        self.children[labels.position()].get_or_init(|| {
            let mut texts = Vec::with_capacity(3);
            labels.texts(&mut texts);
            (self.resolve)(&texts)
        })
    }

    fn new(resolve: impl Fn(&[&str]) -> M + Send + Sync + 'static) -> Self {
        let children = (0..L::COUNT).map(|_| OnceLock::new()).collect();
        Self { children, resolve: Box::new(resolve), labels: PhantomData }
    }

    fn start_at_zero(self) -> Self {
        if L::COUNT <= EAGER_CHILDREN {
            for position in 0..L::COUNT {
                self.with(L::at(position));
            }
        }
        self
    }
}

impl HttpRequests {
    /// Counts one answered request. `pattern` is that of a route, never the path of a request.
    pub fn count(&self, pattern: &str, method: &Method, status: StatusCode) {
        let labels = [pattern, method_text(method), status.as_str()];
        self.0.with_label_values(&labels).inc();
    }
}

/// Extension methods are the peer's to invent; they share one value.
fn method_text(method: &Method) -> &str {
    const STANDARD: [Method; 9] = [
        Method::GET,
        Method::POST,
        Method::OPTIONS,
        Method::HEAD,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::TRACE,
        Method::CONNECT,
    ];
    if STANDARD.contains(method) { method.as_str() } else { "other" }
}

impl Declarations<'_> {
    /// Makes a metric and registers it.
    ///
    /// # Errors
    /// A name that is not a valid one (a bad prefix), or declared twice.
    pub fn declare<M: Declared>(&mut self, spec: &Spec) -> prometheus::Result<M> {
        let opts =
            Opts::new(spec.name, spec.help.trim()).namespace(self.prefix).subsystem(spec.subsystem);
        let (metric, collector) = M::build(opts, spec)?;
        self.register(collector)?;
        Ok(metric)
    }

    /// Registers a collector and notes its names.
    pub fn register(&mut self, collector: Box<dyn Collector>) -> prometheus::Result<()> {
        self.names.extend(collector.desc().iter().map(|desc| desc.fq_name.clone()));
        self.registry.register(collector)
    }
}

impl Declared for IntCounter {
    fn build(opts: Opts, _: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let metric = IntCounter::with_opts(opts)?;
        Ok((metric.clone(), Box::new(metric)))
    }
}

impl Declared for IntGauge {
    fn build(opts: Opts, _: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let metric = IntGauge::with_opts(opts)?;
        Ok((metric.clone(), Box::new(metric)))
    }
}

impl Declared for Histogram {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let metric = Histogram::with_opts(histogram_opts(opts, spec))?;
        Ok((metric.clone(), Box::new(metric)))
    }
}

impl Declared for BuildInfo {
    fn build(opts: Opts, _: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let metric = IntGauge::with_opts(opts.const_label("version", env!("CARGO_PKG_VERSION")))?;
        metric.set(1);
        Ok((Self, Box::new(metric)))
    }
}

impl Declared for HttpRequests {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let metric = IntCounterVec::new(opts, spec.labels)?;
        Ok((Self(metric.clone()), Box::new(metric)))
    }
}

impl<L: LabelSet> Declared for Counters<L> {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let vector = IntCounterVec::new(opts, spec.labels)?;
        let children = vector.clone();
        let family = Family::new(move |texts| children.with_label_values(texts));
        Ok((family.start_at_zero(), Box::new(vector)))
    }
}

impl<L: LabelSet> Declared for Gauges<L> {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let vector = IntGaugeVec::new(opts, spec.labels)?;
        let children = vector.clone();
        let family = Family::new(move |texts| children.with_label_values(texts));
        Ok((family.start_at_zero(), Box::new(vector)))
    }
}

impl<L: LabelSet> Declared for Histograms<L> {
    fn build(opts: Opts, spec: &Spec) -> prometheus::Result<(Self, Box<dyn Collector>)> {
        let vector = HistogramVec::new(histogram_opts(opts, spec), spec.labels)?;
        let children = vector.clone();
        let family = Family::new(move |texts| children.with_label_values(texts));
        Ok((family, Box::new(vector)))
    }
}

fn histogram_opts(opts: Opts, spec: &Spec) -> HistogramOpts {
    HistogramOpts { common_opts: opts, buckets: spec.buckets.to_vec() }
}

/// Declares one group of metrics: the struct and its registration. The doc comment of a field is
/// the help text; labels stand in brackets in the order of the label set; histograms name buckets.
macro_rules! metric_group {
    (@buckets) => { &[] };
    (@buckets $buckets:expr) => { $buckets };
    (
        $(#[$doc:meta])*
        $group:ident in $subsystem:literal {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $metric:ty = $name:literal
                    $([$($label:literal),+])? $(within $buckets:expr)?;
            )+
        }
    ) => {
        $(#[$doc])*
        pub struct $group {
            $($(#[doc = $help])+ pub $field: $metric,)+
        }

        impl $group {
            fn declare(to: &mut Declarations<'_>) -> prometheus::Result<Self> {
                Ok(Self {
                    $($field: to.declare(&Spec {
                        subsystem: $subsystem,
                        name: $name,
                        help: concat!($($help),+),
                        labels: &[$($($label),+)?],
                        buckets: metric_group!(@buckets $($buckets)?),
                    })?,)+
                })
            }
        }
    };
}

pub(super) use metric_group;
