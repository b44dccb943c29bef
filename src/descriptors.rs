//! How many files and sockets the process may have open, and room for them in the kernel.

use std::fs::File;

use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Most descriptors that room is made for ahead of time: half a megabyte of the kernel's memory.
const ROOM: u64 = 65_536;

/// Raises the process's limit as far as it is allowed to (`ulimit -Hn`) and makes room; the limit
/// that is in force then, `None` for no limit. Best called before there are threads.
pub fn claim() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let limit = if raised.is_ok() { maximum } else { current };
    // Without room connections are as good, some only wait a little as they open.
    let _ = make_room(limit.unwrap_or(ROOM));
    limit
}

/// Has the kernel's table of descriptors be as large from the start as it will be later, up to
/// 65,536. It grows by doubling, and each time a process of several threads waits 10 to 25 ms for
/// all CPUs to have seen the new table: so long nobody's connection gets on.
///
/// # Errors
/// If so many are not allowed.
pub fn make_room(count: u64) -> Result<(), Errno> {
    let any = File::open("/dev/null")
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::MFILE))?;
    let last = i32::try_from(count.clamp(1, ROOM) - 1).unwrap_or_default();
    fcntl_dupfd_cloexec(&any, last).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_allowed_is_claimed_and_there_is_room_for_it() {
        let limit = claim();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!((current, limit), (maximum, maximum));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let room = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        let room: u64 = room.trim().parse().unwrap();
        assert!(room >= limit.unwrap_or(ROOM).min(ROOM), "{room} {limit:?}");
    }

    #[test]
    fn room_for_more_than_is_allowed_is_an_error() {
        let before = claim();
        if before.is_some_and(|limit| limit < ROOM) {
            assert_eq!(make_room(ROOM), Err(Errno::INVAL));
        }
    }
}
