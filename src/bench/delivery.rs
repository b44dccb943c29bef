//! A load in an open loop, and the check that every subscriber gets all of it.

mod step;

use hdrhistogram::Histogram;

use self::step::Step;
use super::crew::{Crew, Halt};
use super::event::Peer;
use super::gauge::{Gauge, Measured};
use super::http::Requests;
use super::report::{Failures, Latency, Row};
use super::roster::Roster;
use super::schedule::{Schedule, sends_something};
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
    pub measured: Measured,
    /// Due in the time that counts.
    pub published: u64,
    /// Deliveries of these that should have come, and that came.
    pub expected: u64,
    pub delivered: u64,
    /// Over the whole step.
    pub faults: Faults,
    /// Deliveries among the missing ones that never came although later ones did.
    pub holes: u64,
    /// Publications that the server neither took nor refused.
    pub unanswered: u64,
    /// What a server may be excused for that is asked for too much: members that it dropped, and
    /// what is missing behind the last that came.
    pub overload: Failures,
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
    let mut outcome = attempt(crew, load, route, run, ignored)?;
    crew.failures.append(std::mem::take(&mut outcome.overload));
    Ok(outcome)
}

/// As [`run`], of a load that may be too much: what such a load excuses is left in
/// [`Outcome::overload`].
///
/// # Errors
/// As [`run`].
pub fn attempt(
    crew: &mut Crew,
    load: &Load,
    route: &Route,
    run: u16,
    ignored: &dyn Fn(usize) -> bool,
) -> Result<Outcome, Halt> {
    let start_ns = crew.engine.now_ns() + LEAD_NS;
    let schedule = Schedule::new(start_ns, load.rate, load.warmup_s + load.seconds);
    let from = start_ns + nanoseconds(load.warmup_s);
    let window = from..from + nanoseconds(load.seconds);
    let mut step = Step::new(crew, load, route, run, window.clone(), ignored);
    let mut gauge = Gauge::new(window.clone());
    if let Err(halt) = drive(crew, &mut step, schedule, &mut gauge, window.end) {
        crew.failures.append(std::mem::take(&mut step.outcome.overload));
        return Err(halt);
    }
    step.outcome.measured = gauge.finish(crew);
    Ok(step.finish(crew))
}

/// Sends what is due and takes what comes, until nothing more is to come.
fn drive(
    crew: &mut Crew,
    step: &mut Step<'_>,
    mut schedule: Schedule,
    gauge: &mut Gauge,
    end_ns: u64,
) -> Result<(), Halt> {
    let (mut events, mut heard_ns) = (Vec::new(), 0);
    loop {
        gauge.look(crew)?;
        let now_ns = crew.engine.now_ns();
        for (number, due_ns) in std::iter::from_fn(|| schedule.take_due(now_ns)).take(BURST) {
            step.publish(crew, number, due_ns)?;
        }
        let due = schedule.peek().map(|(_, due_ns)| due_ns);
        let is_over = gauge.is_done() && due.is_none();
        if is_over && (step.is_settled() || now_ns >= end_ns + PATIENCE_NS) {
            return Ok(());
        }
        let edge = gauge.next_ns().unwrap_or(now_ns + SECOND_NS / 10);
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
            return Ok(());
        }
        if step.outcome.is_broken {
            return Ok(());
        }
        crew.progress.show(now_ns, || step.describe(now_ns));
    }
}

impl Load {
    /// Whether any publication falls into the time that counts.
    pub fn sends_something(&self) -> bool {
        sends_something(self.rate, self.warmup_s, self.seconds)
    }
}

impl Outcome {
    /// A row with everything that is the same for all loads.
    pub fn row(&self, label: impl Into<String>, load: &Load) -> Row {
        let Measured { usage, counted } = &self.measured;
        let mut row = usage.row(label);
        let metrics = &mut row.metrics;
        let deliveries = counted.publications as f64;
        metrics.set("publications_per_s", load.rate);
        metrics.set("offered_per_s", load.rate * self.deliveries_per_publication(load));
        metrics.set("delivered_per_s", deliveries / usage.seconds);
        metrics.count("published", self.published);
        metrics.count("expected", self.expected);
        metrics.count("delivered", self.delivered);
        metrics.count("missing", self.faults.missing);
        metrics.count("doubled", self.faults.doubled);
        metrics.count("disordered", self.faults.disordered);
        metrics.count("disconnected", self.lost);
        metrics.count("unanswered", self.unanswered);
        metrics.set("messages_per_frame", deliveries / counted.frames as f64);
        metrics.set("send_lag_p99_us", self.lag.value_at_quantile(0.99) as f64 / 1_000.0);
        if let Some(server) = usage.server {
            metrics.set("cpu_us_per_delivery", server.cpu_s() * 1e6 / deliveries);
            metrics.set("user_us_per_delivery", server.user_s * 1e6 / deliveries);
            metrics.set("system_us_per_delivery", server.system_s * 1e6 / deliveries);
        }
        if let Some(redis) = usage.redis {
            // By the same clock as what Redis did: those that the server had taken.
            let publications = (counted.replies + counted.answers) as f64;
            metrics.set("redis_cpu_us_per_publication", redis.cpu_s() * 1e6 / publications);
            metrics.set("redis_commands_per_publication", redis.commands as f64 / publications);
        }
        row.latency = Latency::of(&self.latency);
        row
    }

    /// Whether all that was published came, once and in order, and the server took all of it.
    pub fn is_whole(&self) -> bool {
        self.faults.is_none()
            && self.lost == 0
            && self.unanswered == 0
            && self.delivered == self.expected
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
