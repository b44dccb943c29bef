"""All processes that a run needs: the server, and where asked for, a Redis and a second node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from comparison import redis, servers
from comparison.redis import Redis
from comparison.scenarios import Scenario
from comparison.servers import Program, Running


@dataclass(frozen=True)
class Stack:
    """What runs. `server` is the one that is measured."""

    server: Running
    redis: Redis | None = None
    # The node that is published to, where that is another one.
    publisher: Running | None = None

    def flags(self) -> list[str]:
        """What the generator has to know of it."""
        access = (self.publisher or self.server).access
        flags = ["--url", f"ws://127.0.0.1:{self.server.access.port}/connection/websocket"]
        flags += ["--api-key", access.api_key, "--pid", str(self.server.pid)]
        if self.publisher:
            flags += ["--api-url", f"http://127.0.0.1:{access.port}/api"]
            flags += ["--beside", str(self.publisher.pid)]
        if self.redis:
            flags += ["--redis", self.redis.address, "--beside", str(self.redis.pid)]
        return flags


@contextmanager
def running(
    program: Program, scenario: Scenario, column: str, cpus: tuple[int, int], folder: Path
) -> Iterator[Stack]:
    """Starts them; stops them at the end, the server first.

    The server that is measured has the first CPU for itself. All else runs on the second, beside
    the generator: there it is in nobody's way for whom a number is taken.

    Raises CannotRun if one of them does not get ready.
    """
    with ExitStack() as processes:
        store = processes.enter_context(redis.running(cpus[1], folder)) if scenario.redis else None

        def start(cpu: int) -> Running:
            node = servers.running(program, scenario, column, cpu, folder, store)
            return processes.enter_context(node)

        publisher = start(cpus[1]) if scenario.two_nodes else None
        yield Stack(start(cpus[0]), store, publisher)
