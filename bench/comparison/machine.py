"""The machine that the runs take place on: what it is, and whether it can hold them."""

from __future__ import annotations

import os
import platform
import resource
from dataclasses import dataclass
from pathlib import Path

# Files that a process of ours needs beyond its sockets.
SPARE_FILES = 200
# As in the generator: what makes a row void.
MOST_STEAL = 0.02


@dataclass(frozen=True)
class Times:
    """Ticks of all processors since the machine started."""

    total: int
    stolen: int

    @classmethod
    def read(cls) -> Times:
        """As of now."""
        return cls.told_in(Path("/proc/stat").read_text())

    @classmethod
    def told_in(cls, stat: str) -> Times:
        """What stands in /proc/stat."""
        ticks = [int(text) for text in stat.splitlines()[0].split()[1:9]]
        return cls(sum(ticks), ticks[7])

    def void_until(self, later: Times) -> str | None:
        """Why what was measured meanwhile counts for nothing, if so."""
        stolen = (later.stolen - self.stolen) / max(later.total - self.total, 1)
        return f"the host took {stolen:.1%} of the machine" if stolen > MOST_STEAL else None


def describe() -> dict[str, object]:
    """What a reader needs to know of it; the same fields as in a report of the generator."""
    return {
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": os.cpu_count() or 1,
        "kernel": platform.release(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def cpu_model(cpuinfo: str) -> str:
    """The name of the first processor."""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()


def raise_file_limit() -> int:
    """Lets this process and those it starts open as many files as they may; returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def obstacle(sockets: int, cpus: tuple[int, int], files: int) -> str | None:
    """Why this machine cannot hold a run, if so."""
    available = os.sched_getaffinity(0)
    missing = [cpu for cpu in cpus if cpu not in available]
    if missing or cpus[0] == cpus[1]:
        return f"needs two processors, {cpus[0]} and {cpus[1]}; there are {sorted(available)}"
    if sockets + SPARE_FILES > files:
        return f"needs {sockets + SPARE_FILES} open files, `ulimit -Hn` allows {files}"
    return None
