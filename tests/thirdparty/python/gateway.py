"""A gateway process: config in a temporary folder, free port, stopped by its process id."""

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

TOKEN_SECRET = "a secret that only these tests know"
API_KEY = "an api key that only these tests know"
READY_SECONDS = 60
STOP_SECONDS = 30

_FIRST_PORT = 20_000
_BLOCK = 200
_BLOCKS = 60

_HISTORY = {"history_size": 100, "history_ttl": "60s"}

# Every namespace the suite uses, named after what is special about it.
_NAMESPACES = [
    {"name": "open", "allow_publish_for_client": True},
    {"name": "closed", "allow_subscribe_for_client": False},
    {
        "name": "present",
        "presence": True,
        "join_leave": True,
        "force_push_join_leave": True,
        "allow_presence_for_subscriber": True,
    },
    {
        "name": "log",
        **_HISTORY,
        "force_positioning": True,
        "force_recovery": True,
        "allow_history_for_subscriber": True,
    },
    {
        "name": "delta",
        **_HISTORY,
        "force_recovery": True,
        "allowed_delta_types": ["fossil"],
        "delta_publish": True,
    },
    {"name": "tags", **_HISTORY, "allow_tags_filter": True},
    {"name": "object", "publication_data_format": "json_object"},
]


class Gateway:
    """A gateway process of the suite's own."""

    def __init__(self, folder: Path) -> None:
        self.port = next(_PORTS)
        self.endpoint = f"ws://127.0.0.1:{self.port}/connection/websocket"
        self.api_url = f"http://127.0.0.1:{self.port}/api"
        self._log_path = folder / "gateway.log"
        config_path = folder / "config.json"
        config_path.write_text(json.dumps(_configuration(self.port)))
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [os.environ["GATEWAY_BIN"], "serve", "-c", str(config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What the process has said so far."""
        return self._log_path.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        """Returns once the process serves; raises if it ends or takes too long."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"the gateway ended early\n{self.log}")
            if self._is_ready():
                return
            time.sleep(0.02)
        self._process.kill()
        raise RuntimeError(f"the gateway is not ready after {READY_SECONDS} s\n{self.log}")

    def stop(self) -> None:
        """Asks the process to end and waits until it has; it must end well."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise RuntimeError(f"the gateway does not stop on SIGTERM\n{self.log}") from None
        if code != 0:
            raise RuntimeError(f"the gateway ended with code {code}\n{self.log}")

    def _is_ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.port}/health/ready"
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, OSError):
            return False


def _configuration(port: int) -> dict:
    return {
        "http_server": {"address": "127.0.0.1", "port": port},
        "log": {"level": "info"},
        "health": {"enabled": True},
        "http_api": {"key": API_KEY},
        "client": {"token": {"hmac_secret_key": TOKEN_SECRET}, "expired_close_delay": "8s"},
        "channel": {
            "namespaces": [{"allow_subscribe_for_client": True, **own} for own in _NAMESPACES],
        },
    }


def _ports() -> Iterator[int]:
    """Ports on which nobody listens, and which nobody else is given meanwhile.

    As `free_address` in src/drill/topology/process.rs gives them: below those that the system picks for
    whoever asks for any, in blocks; who has the first port of a block has all of it.
    """
    firsts = (_FIRST_PORT + (os.getpid() + step) % _BLOCKS * _BLOCK for step in range(_BLOCKS))
    first, claim = next((first, claim) for first in firsts if (claim := _listen(first)))
    with claim:
        while True:
            for port in range(first + 1, first + _BLOCK):
                if listener := _listen(port):
                    listener.close()
                    yield port


def _listen(port: int) -> socket.socket | None:
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        return None


_PORTS = _ports()
