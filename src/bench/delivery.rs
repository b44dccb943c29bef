//! A load in an open loop, and the check that every subscriber gets all of it.

mod step;

use hdrhistogram::Histogram;

use self::step::Step;
use super::crew::{Crew, Halt};
use super::event::{Counters, Peer};
use super::http::Requests;
use super::meter::{Meter, MeterError, Usage};
use super::report::{Latency, Row};
use super::roster::Roster;
use super::schedule::Schedule;
use super::ticker::{SECOND_NS, nanoseconds};
use super::verify::Faults;

/// From the plan to the first publication.
const LEAD_NS: u64 = SECOND_NS / 100;
/// Publications sent between two looks at the sockets.
const BURST: usize = 64;
/// When so long after the last publication nothing more came, what is missing is missing.
const SILENCE_NS: u64 = 5 * SECOND_NS;
/// Longest wait after the last publication.
const PATIENCE_NS: u64 = 60 * SECOND_NS;

/// How publications get to the server.
#[derive(Debug)]
pub enum Route {
    /// Over these connections to the server API; a publisher always takes the same.
    Api { requests: Requests, peers: Vec<Peer> },
    /// By these connections, one for each publisher.
    Clients(Vec<Peer>),
    /// By the members themselves.
    Members,
}

/// What one step of a load is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub roster: Roster,
    /// Publications per second.
    pub rate: f64,
    /// Bytes of each.
    pub size: usize,
    pub warmup_s: f64,
    pub seconds: f64,
}

/// What one step found.
#[derive(Debug)]
pub struct Outcome {
    pub usage: Usage,
    /// Due in the time that counts.
    pub published: u64,
    /// Deliveries of these that should have come, and that came.
    pub expected: u64,
    pub delivered: u64,
    /// Deliveries, of whatever, read in the time that counts.
    pub read: u64,
    pub read_frames: u64,
    /// Over the whole step.
    pub faults: Faults,
    pub latency: Histogram<u64>,
    /// How late the generator itself sent.
    pub lag: Histogram<u64>,
    /// Members that were dropped.
    pub lost: u64,
    /// Going on is pointless: nothing is taken any more, or nobody is left.
    pub is_broken: bool,
}

/// Runs one step on members that are subscribed as its roster says. Of the members for which
/// `ignored` says so nothing is expected.
///
/// # Errors
/// If the kernel cannot wait or the server's process is gone.
pub fn run(
    crew: &mut Crew,
    load: &Load,
    route: &Route,
    run: u16,
    ignored: &dyn Fn(usize) -> bool,
) -> Result<Outcome, Halt> {
    let start_ns = crew.engine.now_ns() + LEAD_NS;
    let mut schedule = Schedule::new(start_ns, load.rate, load.warmup_s + load.seconds);
    let from = start_ns + nanoseconds(load.warmup_s);
    let window = from..from + nanoseconds(load.seconds);
    let mut step = Step::new(crew, load, route, run, window.clone(), ignored);
    let mut gauge = Gauge::default();
    let (mut events, mut heard_ns) = (Vec::new(), 0);
    loop {
        let now_ns = crew.engine.now_ns();
        gauge.look(crew, now_ns, &window, &mut step.outcome)?;
        for (number, due_ns) in std::iter::from_fn(|| schedule.take_due(now_ns)).take(BURST) {
            step.publish(crew, number, due_ns)?;
        }
        let due = schedule.peek().map(|(_, due_ns)| due_ns);
        let is_over = gauge.is_done() && due.is_none();
        if is_over && (step.outstanding == 0 || now_ns >= window.end + PATIENCE_NS) {
            break;
        }
        let edge = match (gauge.is_running(), gauge.is_done()) {
            (_, true) => now_ns + SECOND_NS / 10,
            (true, false) => window.end,
            (false, false) => window.start,
        };
        let until_ns = due.unwrap_or(u64::MAX).min(edge).min(now_ns + SECOND_NS / 2);
        crew.engine.poll(until_ns, &mut events)?;
        for event in &events {
            step.take(crew, event);
        }
        // Silence is what a look at the sockets finds, however long this thread was kept from it.
        let is_silent = events.is_empty() && now_ns >= heard_ns + SILENCE_NS;
        if !events.is_empty() || !is_over {
            heard_ns = crew.engine.now_ns();
        } else if is_silent {
            break;
        }
        if step.outcome.is_broken {
            break;
        }
        crew.progress.show(now_ns, || step.describe(now_ns));
    }
    gauge.weigh(crew, &mut step.outcome);
    Ok(step.finish(crew))
}

impl Outcome {
    /// A row with everything that is the same for all loads.
    pub fn row(&self, label: impl Into<String>, load: &Load) -> Row {
        let mut row = self.usage.row(label);
        let metrics = &mut row.metrics;
        let seconds = self.usage.seconds;
        metrics.set("publications_per_s", load.rate);
        metrics.set("offered_per_s", load.rate * self.deliveries_per_publication(load));
        metrics.set("delivered_per_s", self.read as f64 / seconds);
        metrics.count("published", self.published);
        metrics.count("expected", self.expected);
        metrics.count("delivered", self.delivered);
        metrics.count("missing", self.faults.missing);
        metrics.count("doubled", self.faults.doubled);
        metrics.count("disordered", self.faults.disordered);
        metrics.count("disconnected", self.lost);
        metrics.set("messages_per_frame", self.read as f64 / self.read_frames as f64);
        metrics.set("send_lag_p99_us", self.lag.value_at_quantile(0.99) as f64 / 1_000.0);
        if let Some(server) = self.usage.server {
            let deliveries = self.read as f64;
            metrics.set("cpu_us_per_delivery", server.cpu_s() * 1e6 / deliveries);
            metrics.set("user_us_per_delivery", server.user_s * 1e6 / deliveries);
            metrics.set("system_us_per_delivery", server.system_s * 1e6 / deliveries);
        }
        if let Some(redis) = self.usage.redis {
            let publications = self.published as f64;
            metrics.set("redis_cpu_us_per_publication", redis.cpu_s() * 1e6 / publications);
            metrics.set("redis_commands_per_publication", redis.commands as f64 / publications);
        }
        row.latency = Latency::of(&self.latency);
        row
    }

    /// 99 % of the deliveries came within this, in milliseconds.
    pub fn p99_ms(&self) -> f64 {
        self.latency.value_at_quantile(0.99) as f64 / 1e6
    }

    fn deliveries_per_publication(&self, load: &Load) -> f64 {
        match self.published {
            0 => load.roster.subscribers as f64,
            published => self.expected as f64 / published as f64,
        }
    }
}

/// Looks at the meters where the time that counts begins and ends.
#[derive(Default)]
struct Gauge {
    meter: Option<(Meter, Counters)>,
    is_done: bool,
}

impl Gauge {
    fn look(
        &mut self,
        crew: &Crew,
        now_ns: u64,
        window: &std::ops::Range<u64>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        match &self.meter {
            None if now_ns >= window.start => {
                self.meter = Some((crew.meter()?, crew.engine.counters()));
            }
            Some((meter, before)) if !self.is_done && now_ns >= window.end => {
                self.is_done = true;
                read(meter, before, crew, outcome)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what there is, also when a step ends before its time. What counting the memory costs
    /// is paid here, behind the last delivery.
    fn weigh(&self, crew: &mut Crew, outcome: &mut Outcome) {
        let Some((meter, before)) = &self.meter else { return };
        let stopped = if self.is_done { Ok(()) } else { read(meter, before, crew, outcome) };
        let weighed = stopped.and_then(|()| meter.weighed(outcome.usage));
        match weighed {
            Ok(usage) => outcome.usage = usage,
            Err(error) => crew.failures.add(error.to_string()),
        }
    }

    fn is_running(&self) -> bool {
        self.meter.is_some() && !self.is_done
    }

    fn is_done(&self) -> bool {
        self.is_done
    }
}

fn read(
    meter: &Meter,
    before: &Counters,
    crew: &Crew,
    outcome: &mut Outcome,
) -> Result<(), MeterError> {
    let after = crew.engine.counters();
    outcome.read = after.publications - before.publications;
    outcome.read_frames = after.frames - before.frames;
    outcome.usage = meter.stop()?;
    Ok(())
}
