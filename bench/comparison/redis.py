"""A Redis for the length of a run, without persistence, and what it tells of itself."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comparison import process
from comparison.process import CannotRun

READY_S = 10.0
POLL_S = 0.05
# Longest wait for one answer.
PATIENCE_S = 20.0
READ_BYTES = 1 << 16
MISSING = "redis-server: none on PATH, and REDIS_SERVER names none"


@dataclass(frozen=True)
class Redis:
    """A Redis at work."""

    pid: int
    port: int

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Used:
    """What a Redis used since its start."""

    cpu_s: float

    @classmethod
    def told_in(cls, info: str) -> Used:
        """What stands in the answer to INFO."""
        fields = dict(line.split(":", 1) for line in info.splitlines() if ":" in line)
        return cls(float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"]))


class Connection:
    """A connection that sends many commands and waits for the answer to the last."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, *words: bytes) -> bytes:
        """The answer to one command, as it comes over the wire."""
        return self.run(command(*words))

    def run(self, commands: bytes) -> bytes:
        """Runs commands, encoded one after the other; their answers, as they come over the wire.

        Raises CannotRun where one of them is refused.
        """
        # The answer to this cannot be part of another: no script gives random bytes back.
        end = os.urandom(8).hex().encode()
        self._socket.sendall(commands + command(b"ECHO", end))
        tail, answers = b"$16\r\n" + end + b"\r\n", bytearray()
        while not answers.endswith(tail):
            read = self._socket.recv(READ_BYTES)
            if not read:
                raise CannotRun("Redis ended the connection")
            answers += read
        found = bytes(answers[: -len(tail)])
        if found.startswith(b"-") or b"\r\n-" in found:
            at = found.find(b"\r\n-") + 2 if not found.startswith(b"-") else 0
            raise CannotRun(f"Redis refuses: {found[at : at + 200].decode(errors='replace')}")
        return found

    def used(self) -> Used:
        """What the server used since its start."""
        return Used.told_in(self.ask(b"INFO", b"cpu").decode())


def command(*words: bytes) -> bytes:
    """A command as it goes over the wire."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    return b"".join(parts)


def version() -> str | None:
    """That of the program; None if there is none that says so."""
    program = _program()
    if not program:
        return None
    try:
        asked = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\bv=(\d+\.\d+\S*)", asked.stdout)
    return found[1] if found else None


@contextmanager
def running(cpu: int, folder: Path) -> Iterator[Redis]:
    """A server on a free port of the loopback, pinned to a CPU; stopped at the end.

    Raises CannotRun if there is no program or it does not get ready.
    """
    program = _program()
    if not program:
        raise CannotRun(MISSING)
    port, log = process.free_port(), folder / "redis.log"
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "save": "",
        "appendonly": "no",
        "io-threads": "1",
    }
    arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
    with process.started([*process.pinned(cpu), program, *arguments], log) as server:
        _await_ready(server, port, log)
        yield Redis(server.pid, port)


def _program() -> str | None:
    return os.environ.get("REDIS_SERVER") or shutil.which("redis-server")


def _await_ready(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while not _answers(port):
        if server.poll() is not None:
            said = process.last_line(log)
            raise CannotRun(f"redis-server ends with {server.returncode} at its start: {said}")
        if time.monotonic() > deadline:
            raise CannotRun(f"redis-server is not ready within {READY_S:.0f} s")
        time.sleep(POLL_S)


def _answers(port: int) -> bool:
    try:
        with Connection(port) as connection:
            return connection.ask(b"PING") == b"+PONG\r\n"
    except (OSError, CannotRun):
        return False
