//! What the generator asks of the machine before it starts.

use std::num::NonZeroU64;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity, set_current_timer_slack};

use crate::descriptors;

/// Descriptors that are not connections of the scenario.
const SPARE: u64 = 64;
/// Nanoseconds by which the kernel may wake the thread later than asked; the default is 50,000.
const TIMER_SLACK_NS: u64 = 1;

/// What the machine does not give.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    #[error(
        "{needed} descriptors are needed, one for each connection, and the limit is {limit} \
         (ulimit -Hn); ask for fewer connections or raise it"
    )]
    Descriptors { needed: u64, limit: u64 },
    #[error("--cpu {asked}: this process may run on {allowed}")]
    Cpu { asked: usize, allowed: String },
    #[error("cannot choose a processor: {0}")]
    Affinity(rustix::io::Errno),
}

/// Sees to it that so many connections can be open at the same time.
///
/// # Errors
/// If the limit for descriptors is lower and cannot be raised.
pub fn allow_connections(count: u64) -> Result<(), MachineError> {
    let needed = count + SPARE;
    match descriptors::claim() {
        Some(limit) if limit < needed => Err(MachineError::Descriptors { needed, limit }),
        _ => Ok(()),
    }
}

/// Runs this thread on one processor, the last one unless another is asked for, and has it woken on
/// time.
///
/// # Errors
/// If there is no such processor or the process may not use it.
pub fn pin(cpu: Option<usize>) -> Result<(), MachineError> {
    let allowed = sched_getaffinity(None).map_err(MachineError::Affinity)?;
    let allowed: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let chosen = cpu.or_else(|| allowed.last().copied());
    let Some(chosen) = chosen.filter(|cpu| allowed.contains(cpu)) else {
        let allowed: Vec<_> = allowed.iter().map(usize::to_string).collect();
        return Err(MachineError::Cpu {
            asked: cpu.unwrap_or_default(),
            allowed: allowed.join(", "),
        });
    };
    let mut set = CpuSet::new();
    set.set(chosen);
    sched_setaffinity(None, &set).map_err(MachineError::Affinity)?;
    // Without it the thread only wakes a little later, which the rows tell as lag.
    let _ = set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_connections_than_the_machine_allows_are_refused_with_the_limit() {
        allow_connections(1).unwrap();
        let Err(MachineError::Descriptors { needed, limit }) = allow_connections(1 << 40) else {
            panic!("so many are never allowed")
        };
        assert!(needed > limit && limit > 0);
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused_with_those_that_are() {
        let error = pin(Some(CpuSet::MAX_CPU + 1)).unwrap_err().to_string();
        assert!(error.contains("may run on 0"), "{error}");
    }
}
