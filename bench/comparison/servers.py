"""The two servers: which programs they are, their configuration, and one of them at work."""

from __future__ import annotations

import hashlib
import http.client
import json
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comparison import process
from comparison.process import CannotRun
from comparison.redis import Redis
from comparison.scenarios import OURS, OURS_DELAY, PEER_TUNED, Scenario

OURS_NAME = "Bobolink"
WRITE_DELAY = "5ms"
READY_S = 20.0
POLL_S = 0.05


@dataclass(frozen=True)
class Program:
    """A server program. `label` is what it is called in a report."""

    path: Path
    label: str
    name: str
    version: str
    digest: str

    @property
    def is_ours(self) -> bool:
        """Whether it is another build of ours, and so has our settings only."""
        return self.name == OURS_NAME

    def describe(self) -> dict[str, str]:
        """What is recorded of it."""
        fields = {"label": self.label, "name": self.name}
        return {**fields, "version": self.version, "digest": self.digest}


@dataclass(frozen=True)
class Access:
    """What opens a running server."""

    port: int
    token_key: str
    api_key: str


@dataclass(frozen=True)
class Running:
    """A server at work."""

    pid: int
    access: Access


def identify(path: Path, label: str | None) -> Program:
    """Asks a program what it is.

    Raises CannotRun if it is none that can be asked.
    """
    try:
        asked = subprocess.run(
            [path, "version"], capture_output=True, text=True, timeout=20, check=True
        )
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except (OSError, subprocess.SubprocessError) as error:
        raise CannotRun(f"{path.name} version: {error}") from error
    name, version = parse_version(asked.stdout + asked.stderr)
    return Program(path, label or name, name, version, digest)


def parse_version(text: str) -> tuple[str, str]:
    """Name and version in an answer such as "Centrifugo v6.9.1 (Go version: go1.26)"."""
    found = re.search(r"(\w+)\s+v?(\d+\.\d+\S*)", text)
    if not found:
        raise CannotRun(f"says {text.strip()[:80]!r} when asked for its version")
    return found[1].capitalize(), found[2]


def configuration(
    scenario: Scenario, column: str, access: Access, redis: Redis | None = None
) -> dict[str, object]:
    """The configuration of a column. Both servers read this form."""
    everybody = {
        "allow_subscribe_for_client": True,
        "allow_subscribe_for_anonymous": True,
        "allow_publish_for_client": True,
        "allow_publish_for_anonymous": True,
    }
    client: dict[str, object] = {
        "allowed_origins": ["*"],
        "allow_anonymous_connect_without_token": True,
        "ping_interval": "25s",
        "pong_timeout": "8s",
        "token": {"hmac_secret_key": access.token_key},
        **scenario.client,
    }
    config: dict[str, object] = {
        "http_server": {"address": "127.0.0.1", "port": access.port},
        "log": {"level": "error"},
        "client": client,
        "channel": {"without_namespace": {**everybody, **scenario.channels}},
        "http_api": {"key": access.api_key},
        "health": {"enabled": True},
        "usage_stats": {"disabled": True},
    }
    if redis:
        config["engine"] = {"type": "redis", "redis": {"address": f"redis://{redis.address}"}}
    if column == OURS_DELAY:
        client["write_delay"] = WRITE_DELAY
    if column == PEER_TUNED:
        config["websocket"] = {"read_buffer_size": 1024, "use_write_buffer_pool": True}
    return config


@contextmanager
def running(
    program: Program,
    scenario: Scenario,
    column: str,
    cpu: int,
    folder: Path,
    redis: Redis | None = None,
) -> Iterator[Running]:
    """A server of its own on a free port of the loopback, pinned to a CPU; stopped at the end.

    Raises CannotRun if it does not take the configuration or does not get ready.
    """
    access = Access(process.free_port(), secrets.token_hex(16), secrets.token_hex(16))
    config, log = folder / f"server-{access.port}.json", folder / f"server-{access.port}.log"
    settings = configuration(scenario, column, access, redis)
    config.write_text(json.dumps(settings, indent=1))
    if column in (OURS, OURS_DELAY) or program.is_ours:
        _check(program, config)
    with process.started([*process.pinned(cpu), program.path, "-c", config], log) as server:
        _await_ready(server, access, redis is not None, log)
        yield Running(server.pid, access)


def _check(program: Program, config: Path) -> None:
    """Refuses a program that would run without a setting of the column, and so measure another."""
    checked = subprocess.run(
        [program.path, "checkconfig", "-c", config],
        env=process.environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    said = (checked.stdout + checked.stderr).replace(str(config), config.name)
    unknown = [line for line in said.splitlines() if "unknown key" in line]
    if checked.returncode != 0 or unknown:
        raise CannotRun((unknown or said.splitlines() or ["checkconfig fails"])[0][:200])


def _await_ready(
    server: subprocess.Popen[bytes], access: Access, has_redis: bool, log: Path
) -> None:
    deadline = time.monotonic() + READY_S
    # A server may be well before its Redis takes what is published.
    while not (_is_healthy(access.port) and (not has_redis or _publishes(access))):
        if server.poll() is not None:
            raise CannotRun(f"ends with {server.returncode} at its start: {process.last_line(log)}")
        if time.monotonic() > deadline:
            raise CannotRun(f"is not ready within {READY_S:.0f} s: {process.last_line(log)}")
        time.sleep(POLL_S)


def _is_healthy(port: int) -> bool:
    return _ask(port, "GET", "/health", None, {}) is not None


def _publishes(access: Access) -> bool:
    body = json.dumps({"channel": "ready", "data": {}})
    headers = {"X-API-Key": access.api_key, "Content-Type": "application/json"}
    answer = _ask(access.port, "POST", "/api/publish", body, headers)
    return answer is not None and b'"error"' not in answer


def _ask(
    port: int, method: str, path: str, body: str | None, headers: dict[str, str]
) -> bytes | None:
    """What a server answers; None unless it answers well."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.read() if answer.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
