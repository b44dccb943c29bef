"""What the fence costs Redis: the gateway's publish script beside the same steps without it.

Both scripts are run by the same Redis in turn, in pipelines long enough to keep it busy, and Redis
tells its processor time. No gateway takes part, so this says nothing of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from comparison import figures, machine
from comparison.redis import Connection, command
from comparison.results import Json
from comparison.scenarios import HISTORY

BENCH = Path(__file__).resolve().parents[1]
FENCED = BENCH.parent / "src" / "redis" / "lua" / "publish_stream.lua"
PLAIN = BENCH / "plain_publish.lua"

CHANNELS = 100
# Publications of a channel in each slice, of a slice, and of one pipeline.
OF_CHANNEL = 200
SLICE = CHANNELS * OF_CHANNEL
PIPELINE = 500
# Slices of each script; every second pair runs in the opposite order.
PAIRS = 20
# Bytes of a publication of 128 bytes with its field's head.
PAYLOAD = b"x" * 131
META_TTL = b"7776000"
IDENTITY = b"f" * 40
EPOCH = b"bnch"


@dataclass(frozen=True)
class Script:
    """A script as a server knows it, and its arguments behind those that both have."""

    digest: bytes
    prefix: str
    more: tuple[bytes, ...]

    def call(self, channel: int) -> bytes:
        """A publication, as it goes over the wire."""
        name = f"{channel}"
        keys = [f"{self.prefix}.stream.{name}", f"{self.prefix}.stream.meta.{name}"]
        size, ttl = HISTORY["history_size"], str(HISTORY["history_ttl"]).removesuffix("s")
        arguments = [PAYLOAD, f"{size}", ttl, f"{self.prefix}.client.{name}", META_TTL, EPOCH]
        words = [self.digest, b"2", *keys, *arguments, *self.more]
        return command(
            b"EVALSHA", *(word.encode() if isinstance(word, str) else word for word in words)
        )


def measure(port: int, pairs: int | None = None, channels: int = CHANNELS) -> Json:
    """Runs both scripts; a document like the generator's.

    Raises CannotRun where Redis refuses.
    """
    with Connection(port) as connection:
        # Result's ttl, delta, version and its epoch; then what the fence compares, or where the
        # other has the command that publishes.
        fenced = _load(
            connection, FENCED, "fenced", (b"0", b"0", b"0", b"", IDENTITY, b"1", b"")
        )
        plain = _load(connection, PLAIN, "plain", (b"publish", b"", b"0", b"0", b""))
        slices = {one: _slice(one, channels) for one in (fenced, plain)}
        for one in (fenced, plain):
            # The streams get their full length, and meet the fence for the first time.
            _cost(connection, slices[one])
        times = machine.Times.read()
        costs = []
        for pair in range(PAIRS if pairs is None else pairs):
            order = (fenced, plain) if pair % 2 == 0 else (plain, fenced)
            taken = {one: _cost(connection, slices[one]) for one in order}
            costs.append((taken[fenced], taken[plain]))
        return _document(costs, times.void_until(machine.Times.read()))


def _load(connection: Connection, path: Path, prefix: str, more: tuple[bytes, ...]) -> Script:
    answer = connection.ask(b"SCRIPT", b"LOAD", path.read_bytes())
    return Script(answer.split(b"\r\n")[1], prefix, more)


def _slice(script: Script, channels: int) -> list[bytes]:
    """The pipelines of a slice: each channel in turn."""
    calls = [script.call(channel) for channel in range(channels)]
    wanted = [calls[number % channels] for number in range(SLICE // CHANNELS * channels)]
    return [b"".join(wanted[at : at + PIPELINE]) for at in range(0, len(wanted), PIPELINE)]


def _cost(connection: Connection, pipelines: list[bytes]) -> float:
    """Microseconds of Redis for a publication."""
    before = connection.used()
    calls = sum(_answered(connection.run(pipeline)) for pipeline in pipelines)
    return (connection.used().cpu_s - before.cpu_s) * 1e6 / calls


def _answered(answers: bytes) -> int:
    return answers.count(b"*4\r\n")


def _document(costs: list[tuple[float, float]], void: str | None) -> Json:
    ratio = figures.median([fenced / plain for fenced, plain in costs if plain > 0])
    metrics = {
        "fenced_us_per_publication": figures.median([fenced for fenced, _ in costs]),
        "plain_us_per_publication": figures.median([plain for _, plain in costs]),
        "fence_ratio": ratio,
    }
    row = {"label": "scripts", "void": void, "other_cpu": None, "metrics": metrics}
    return {"format": 1, "scenario": "fence", "failures": [], "rows": [row]}
