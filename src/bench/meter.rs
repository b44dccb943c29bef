//! What the server and the generator used between two moments, and whether a row may count.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use super::procfs::{CpuTimes, ProcessUse, own_wait_s, pss_bytes};
use super::redis::RedisUse;
use super::report::Row;
use super::ticker::{Ticker, nanoseconds, seconds};

/// A generator that is busier than this with its one core may itself be what is slow.
const MOST_GENERATOR_CPU: f64 = 0.85;
/// A machine whose host gives more than this to others says nothing about the server.
const MOST_STEAL: f64 = 0.02;
/// Readings that are further from the time that counts, as a share of it, are of another time.
const MOST_OFF: f64 = 0.05;

/// What the server used in the time of a row, and holds at its end.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ServerUse {
    pub user_s: f64,
    pub system_s: f64,
    pub rss_bytes: u64,
    pub pss_bytes: u64,
    pub threads: u64,
}

/// What was named cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    #[error("--pid {0}: the process cannot be read: {1}")]
    Server(u32, io::Error),
    #[error("--beside {0}: the process cannot be read: {1}")]
    Beside(u32, io::Error),
    #[error("--redis {0}: {1}")]
    Redis(SocketAddr, io::Error),
}

/// Whom a meter reads, beside the generator.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// The server.
    pub pid: Option<u32>,
    /// Other processes of the run.
    pub beside: Vec<u32>,
    pub redis: Option<SocketAddr>,
}

/// The readings at the start of a row.
#[derive(Clone, Debug)]
pub struct Meter {
    watched: Watched,
    ticker: Ticker,
    started_ns: u64,
    machine: CpuTimes,
    own_cpu_s: f64,
    own_wait_s: f64,
    server: Option<ProcessUse>,
    beside_ticks: u64,
    redis: Option<RedisUse>,
}

/// The readings at the end of a row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// When the first reading was made, in nanoseconds of the generator's clock.
    pub started_ns: u64,
    pub seconds: f64,
    /// How far the readings are from where they were meant to be, as a share of that time.
    pub off: f64,
    pub generator_cpu: f64,
    pub generator_wait: f64,
    pub steal: f64,
    pub other_cpu: Option<f64>,
    pub server: Option<ServerUse>,
    pub redis: Option<RedisUse>,
}

impl Meter {
    /// Starts to measure the generator, and those who are watched.
    ///
    /// # Errors
    /// If there is no such process or Redis.
    pub fn start(watched: &Watched, ticker: &Ticker) -> Result<Self, MeterError> {
        // First, since Redis takes a moment to answer.
        let redis = watched.redis.map(redis_use).transpose()?;
        Ok(Self {
            ticker: ticker.clone(),
            started_ns: ticker.now_ns(),
            machine: CpuTimes::read(),
            own_cpu_s: own_cpu_s(),
            own_wait_s: own_wait_s(),
            server: watched.pid.map(process_use).transpose()?,
            beside_ticks: watched.beside_ticks()?,
            redis,
            watched: watched.clone(),
        })
    }

    /// What was used since the start, and the server's memory.
    ///
    /// # Errors
    /// If the server's process is gone.
    pub fn finish(&self) -> Result<Usage, MeterError> {
        self.weighed(self.stop()?)
    }

    /// What was used since the start, without the memory that takes the kernel a while to count.
    ///
    /// # Errors
    /// If the server's process is gone.
    pub fn stop(&self) -> Result<Usage, MeterError> {
        let server = self.watched.pid.map(process_use).transpose()?;
        let beside_ticks = self.watched.beside_ticks()?.saturating_sub(self.beside_ticks);
        let (machine, own_cpu_s) = (CpuTimes::read(), own_cpu_s() - self.own_cpu_s);
        let elapsed_s = seconds(self.ticker.now_ns() - self.started_ns).max(f64::EPSILON);
        let ticks = clock_ticks_per_second() as f64;
        let server = match (self.server, server) {
            (Some(before), Some(after)) => Some(ServerUse {
                user_s: after.user.saturating_sub(before.user) as f64 / ticks,
                system_s: after.system.saturating_sub(before.system) as f64 / ticks,
                rss_bytes: after.rss_bytes,
                pss_bytes: 0,
                threads: after.threads,
            }),
            _ => None,
        };
        let total_s = (machine.total.saturating_sub(self.machine.total) as f64 / ticks).max(0.01);
        let steal_s = machine.steal.saturating_sub(self.machine.steal) as f64 / ticks;
        let idle_s = machine.idle.saturating_sub(self.machine.idle) as f64 / ticks;
        let own_wait_s = own_wait_s() - self.own_wait_s;
        let other_cpu = server.map(|server| {
            let beside_s = beside_ticks as f64 / ticks;
            let known_s = idle_s + steal_s + own_cpu_s + server.cpu_s() + beside_s;
            ((total_s - known_s) / total_s).max(0.0)
        });
        let redis = self.watched.redis.map(redis_use).transpose()?;
        Ok(Usage {
            started_ns: self.started_ns,
            seconds: elapsed_s,
            off: 0.0,
            generator_cpu: own_cpu_s / elapsed_s,
            generator_wait: own_wait_s / elapsed_s,
            steal: steal_s / total_s,
            other_cpu,
            server,
            redis: redis.zip(self.redis).map(|(after, before)| after.since(&before)),
        })
    }

    /// Adds what [`Meter::stop`] left out.
    ///
    /// # Errors
    /// If the server's process is gone.
    pub fn weighed(&self, mut usage: Usage) -> Result<Usage, MeterError> {
        if let (Some(pid), Some(server)) = (self.watched.pid, &mut usage.server) {
            server.pss_bytes = pss_bytes(pid).map_err(|error| MeterError::Server(pid, error))?;
        }
        Ok(usage)
    }
}

impl Watched {
    /// Ticks that the processes beside the server have used so far.
    fn beside_ticks(&self) -> Result<u64, MeterError> {
        let ticks = |pid: &u32| match ProcessUse::read(*pid) {
            Ok(used) => Ok(used.user + used.system),
            Err(error) => Err(MeterError::Beside(*pid, error)),
        };
        self.beside.iter().map(ticks).sum()
    }
}

impl ServerUse {
    /// Seconds of a processor.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

impl Usage {
    /// Compares the readings with the time that they should be of, in nanoseconds of the generator's
    /// clock: one that was kept from its processor looks too late.
    #[must_use]
    pub fn meant_for(self, window: &Range<u64>) -> Self {
        let ended_ns = self.started_ns + nanoseconds(self.seconds);
        let off_ns = self.started_ns.abs_diff(window.start).max(ended_ns.abs_diff(window.end));
        let meant_ns = window.end.saturating_sub(window.start).max(1);
        Self { off: off_ns as f64 / meant_ns as f64, ..self }
    }

    /// Why the row counts for nothing, if so.
    pub fn void(&self) -> Option<String> {
        if self.off > MOST_OFF {
            let percent = self.off * 100.0;
            return Some(format!(
                "what was measured is off the time that counts by {percent:.0} %"
            ));
        }
        if self.generator_cpu > MOST_GENERATOR_CPU {
            let percent = self.generator_cpu * 100.0;
            return Some(format!("the generator used {percent:.0} % of its core"));
        }
        (self.steal > MOST_STEAL)
            .then(|| format!("the host took {:.1} % of the machine", self.steal * 100.0))
    }

    /// A row with everything but its own numbers.
    pub fn row(&self, label: impl Into<String>) -> Row {
        Row {
            label: label.into(),
            void: self.void(),
            seconds: self.seconds,
            generator_cpu: self.generator_cpu,
            generator_wait: self.generator_wait,
            steal: self.steal,
            other_cpu: self.other_cpu,
            server: self.server,
            redis: self.redis,
            ..Row::default()
        }
    }
}

fn process_use(pid: u32) -> Result<ProcessUse, MeterError> {
    ProcessUse::read(pid).map_err(|error| MeterError::Server(pid, error))
}

fn redis_use(address: SocketAddr) -> Result<RedisUse, MeterError> {
    RedisUse::read(address).map_err(|error| MeterError::Redis(address, error))
}

fn own_cpu_s() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;

    #[test]
    fn a_busy_generator_or_a_shared_machine_voids_a_row() {
        let fine = Usage { generator_cpu: 0.85, steal: 0.02, ..Usage::default() };
        assert_eq!(fine.void(), None);
        let busy = Usage { generator_cpu: 0.86, ..fine }.row("a");
        assert!(busy.void.unwrap().contains("86 %"));
        let shared = Usage { steal: 0.03, ..fine }.void().unwrap();
        assert!(shared.contains("3.0 %"), "{shared}");
    }

    #[test]
    fn readings_of_another_time_void_a_row() {
        let of = |started_ns, seconds| {
            let usage = Usage { started_ns, seconds, ..Usage::default() };
            usage.meant_for(&(1_000_000_000..3_000_000_000)).void()
        };
        assert_eq!(of(1_000_000_000, 2.0), None);
        assert_eq!(of(1_090_000_000, 2.0), None);
        // Begun late, of the right length but late, too long, ended before its time.
        for (started_ns, seconds) in [
            (2_999_700_000, 0.000_3),
            (1_500_000_000, 2.0),
            (1_000_000_000, 2.5),
            (1_000_000_000, 1.0),
        ] {
            let void = of(started_ns, seconds).unwrap();
            assert!(void.contains("off the time that counts"), "{void}");
        }
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        let ticker = Ticker::new(Clock::real());
        let of = |pid| Watched { pid, ..Watched::default() };
        Meter::start(&of(Some(u32::MAX)), &ticker).unwrap_err();
        let here = of(Some(std::process::id()));
        let usage = Meter::start(&here, &ticker).unwrap().finish().unwrap();
        assert!(usage.server.is_some_and(|server| server.rss_bytes > 0 && server.pss_bytes > 0));
        assert!(Meter::start(&of(None), &ticker).unwrap().finish().unwrap().server.is_none());
    }

    #[test]
    fn what_belongs_to_the_run_is_named_when_it_cannot_be_read() {
        let ticker = Ticker::new(Clock::real());
        let beside = Watched { beside: vec![u32::MAX], ..Watched::default() };
        let error = Meter::start(&beside, &ticker).unwrap_err().to_string();
        assert!(error.contains("--beside 4294967295"), "{error}");
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let redis = Watched { redis: Some(address), ..Watched::default() };
        let error = Meter::start(&redis, &ticker).unwrap_err().to_string();
        assert!(error.contains("--redis 127.0.0.1:1"), "{error}");
    }
}
