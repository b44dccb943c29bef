"""Processes of a run: started on a processor of their own, and stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_S = 15.0


class CannotRun(Exception):
    """Why a run does not take place; it is recorded as not run."""


def pinned(cpu: int) -> list[str]:
    """What a command line starts with to run on one CPU."""
    return ["taskset", "-c", str(cpu)]


def environment() -> dict[str, str]:
    """That of this process, without what could configure a server otherwise."""
    ours = ("BOBOLINK_", "CENTRIFUGO_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    return {**kept, "GOMAXPROCS": "1"}


def free_port() -> int:
    """A port of the loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def last_line(log: Path) -> str:
    """The last that a process said."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it says nothing"


@contextmanager
def started(arguments: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that writes to a file, and is stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
