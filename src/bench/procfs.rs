//! What Linux tells about the machine and about one process.

use std::fs;
use std::io;

use serde::Serialize;

/// The machine that the generator runs on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// Name of the processor's model.
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub memory_bytes: u64,
}

/// Time of all processors, in ticks since the machine started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// All of it, with idling.
    pub total: u64,
    pub idle: u64,
    /// Taken by the host for others.
    pub steal: u64,
}

/// What a process has used so far and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUse {
    /// Ticks in its own code.
    pub user: u64,
    /// Ticks in the kernel.
    pub system: u64,
    pub threads: u64,
    pub rss_bytes: u64,
    /// Most that it ever held.
    pub peak_bytes: u64,
}

impl Machine {
    /// Reads what it can; what it cannot read stays empty.
    pub fn read() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == "model name").then(|| value.trim().to_owned())
        });
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            cpu: cpu.unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            memory_bytes: kilobytes(&memory, "MemTotal:").unwrap_or_default(),
        }
    }
}

impl CpuTimes {
    /// As of now; zeros where there is no such file.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let line = stat.lines().find(|line| line.starts_with("cpu ")).unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guests are counted in user already.
        let mut times = [0; 8];
        for (time, text) in times.iter_mut().zip(line.split_whitespace().skip(1)) {
            *time = text.parse().unwrap_or(0);
        }
        let [.., idle, iowait, _, _, steal] = times;
        Self { total: times.iter().sum(), idle: idle + iowait, steal }
    }
}

impl ProcessUse {
    /// As of now.
    ///
    /// # Errors
    /// If the process is not there or is somebody else's.
    pub fn read(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let (user, system, threads) = Self::parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self {
            user,
            system,
            threads,
            rss_bytes: kilobytes(&status, "VmRSS:").unwrap_or_default(),
            peak_bytes: kilobytes(&status, "VmHWM:").unwrap_or_default(),
        })
    }

    fn parse(stat: &str) -> Option<(u64, u64, u64)> {
        // The name in parentheses may hold anything; fields are counted behind its end.
        let (_, behind) = stat.rsplit_once(')')?;
        let mut fields = behind.split_whitespace().skip(11);
        let (user, system) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let threads = fields.nth(4)?.parse().ok()?;
        Some((user, system, threads))
    }
}

/// Memory of a process with its share of what several map. Takes the kernel a while to count, and
/// holds up the process meanwhile.
///
/// # Errors
/// If the process is not there or is somebody else's.
pub fn pss_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    kilobytes(&rollup, "Pss:").ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Seconds for which this thread waited for its processor while others had it; 0 where the kernel
/// does not count that.
pub fn own_wait_s() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let waited_ns = stat.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
    waited_ns.unwrap_or_default() as f64 / 1e9
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_times_are_those_of_all_processors() {
        let stat = "cpu  100 1 50 1000 10 2 3 7 5 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let expected = CpuTimes { total: 1_173, idle: 1_010, steal: 7 };
        assert_eq!(CpuTimes::parse(stat), expected);
        assert_eq!(CpuTimes::parse(""), CpuTimes::default());
    }

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 2 3 4 500 60 7 8 20 0 9 0 100 1000 10";
        assert_eq!(ProcessUse::parse(stat), Some((500, 60, 9)));
        assert_eq!(ProcessUse::parse("7 (a"), None);
    }

    #[test]
    fn this_process_and_this_machine_can_be_read() {
        let own = ProcessUse::read(std::process::id()).unwrap();
        assert!(own.threads > 0 && own.rss_bytes > 0 && own.peak_bytes >= own.rss_bytes);
        assert!(pss_bytes(std::process::id()).unwrap() > 0);
        assert!(CpuTimes::read().total > 0);
        let machine = Machine::read();
        assert!(machine.cores > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty());
    }
}
