"""Rounds and programs that were never real, for the tests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from comparison.rounds import NO_PEER
from comparison.scenarios import OURS, PEER

Json = dict[str, Any]

# Answers what a server program is asked before it serves, and then serves its health.
SERVER = """\
import json, socket, sys
if sys.argv[1] == "version":
    sys.exit(print("{name} v{version} (made for a test)"))
if sys.argv[1] == "checkconfig":
    delayed = "write_delay" in open(sys.argv[3]).read()
    sys.exit(print("warning: unknown key client.write_delay is ignored" if delayed else "fine"))
listener = socket.create_server(("127.0.0.1", json.load(open(sys.argv[2]))["http_server"]["port"]))
while True:
    peer, _ = listener.accept()
    peer.recv(4096)
    peer.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
    peer.close()
"""

# Gives one prepared answer after the other; notes what it was called with.
GENERATOR = """\
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
answers = json.loads((folder / "answers.json").read_text())
calls = folder / "calls.jsonl"
made = len(calls.read_text().splitlines()) if calls.exists() else 0
with calls.open("a") as file:
    file.write(json.dumps(sys.argv[1:]) + chr(10))
answer = answers[made % len(answers)]
if answer is None:
    sys.exit("it broke")
pathlib.Path(sys.argv[sys.argv.index("--json") + 1]).write_text(json.dumps(answer))
"""


# Answers what the comparison asks a Redis, and says that scripts which compare an identity cost it
# a quarter more.
REDIS = """\
import socket, sys, threading
if "--version" in sys.argv:
    sys.exit(print("Redis server v=7.2.1 sha=0:0"))
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
scripts, spent, asked = {{}}, [0.0], []
def bulk(text):
    return b"$%d\\r\\n%s\\r\\n" % (len(text), text)
def answer(words):
    asked.append(words)
    name = words[0].upper()
    if name == b"PING":
        return b"+PONG\\r\\n"
    if name == b"ECHO":
        return bulk(words[1])
    if name == b"INFO":
        return bulk(b"# CPU\\r\\nused_cpu_sys:1.0\\r\\nused_cpu_user:%.6f\\r\\n" % spent[0])
    if name == b"SCRIPT":
        scripts[digest := b"%040d" % len(scripts)] = words[2]
        return bulk(digest)
    if name == b"EVALSHA" and words[1] in scripts and int(words[2]) == 2:
        spent[0] += 1e-6 * (5 if b"identity" in scripts[words[1]] else 4)
        return b"*4\\r\\n" + bulk(b"1") + bulk(b"bnch") + bulk(b"0") * 2
    return b"-ERR unknown command\\r\\n"
def serve(peer):
    stream = peer.makefile("rb")
    while line := stream.readline():
        words = []
        for _ in range(int(line[1:])):
            size = int(stream.readline()[1:])
            words.append(stream.read(size + 2)[:-2])
        peer.sendall(answer(words))
listener = socket.create_server((flags["--bind"], int(flags["--port"])))
while True:
    peer, _ = listener.accept()
    threading.Thread(target=serve, args=(peer,), daemon=True).start()
"""


def row(metrics: Json, **more: Any) -> Json:
    """A row of a generator's report."""
    return {"label": "it", "void": None, "other_cpu": 0.0, "metrics": metrics, **more}


def document(*rows: Json, failures: tuple[str, ...] = ()) -> Json:
    """A generator's report."""
    return {"format": 1, "failures": list(failures), "rows": list(rows)}


def delivery(cpu: float, **more: Any) -> Json:
    """A report of a fan-out that took so much CPU time per delivery."""
    metrics = {
        "cpu_us_per_delivery": cpu,
        "user_us_per_delivery": cpu / 4,
        "system_us_per_delivery": cpu * 3 / 4,
        "messages_per_frame": 1.0,
    }
    latency = {"p50_us": 4_000.0, "p99_us": 9_000.0}
    return document(row(metrics, latency=latency, **more))


def round_(number: int, ours: Json | None, peer: Json | None, scenario: str = "fanout-50") -> Json:
    """A round of two reports; without the peer's, it was not run."""
    servers = {OURS: described("Bobolink", "1.0.0"), PEER: described("Centrifugo", "6.9.1")}
    runs = {
        OURS: {"document": ours} if ours else {"not_run": "x"},
        PEER: {"document": peer} if peer else {"not_run": NO_PEER},
    }
    return {
        "format": 1,
        "scenario": scenario,
        "codec": "json",
        "round": number,
        "quick": False,
        "others_limit": 0.05,
        "order": list(runs),
        "started": f"2026-01-0{number}T00:00:00Z",
        "machine": {"cpu": "Abacus", "cores": 2, "kernel": "6.1", "memory_bytes": 8 << 30},
        "servers": {column: servers[column] for column in runs if "document" in runs[column]},
        "floor": [floor(1, 3.0), floor(4, 6.0)],
        "runs": runs,
    }


def floor(messages: int, send_us: float) -> Json:
    """What the bare loop prints."""
    return {"messages_per_send": messages, "send_us": {"total": send_us}}


def described(name: str, version: str) -> Json:
    """A program as a round names it."""
    return {"label": name, "name": name, "version": version, "digest": f"digest-{version}"}


def server_program(path: Path, name: str, version: str) -> Path:
    """A program that behaves like a server until it is loaded."""
    return _program(path, SERVER.replace("{name}", name).replace("{version}", version))


def redis_program(path: Path) -> Path:
    """A program that behaves like redis-server, as far as the comparison asks."""
    return _program(path, REDIS.replace("{{", "{").replace("}}", "}"))


def generator_program(path: Path, answers: list[Json | None]) -> Path:
    """A generator that gives these reports in turn; None for one that breaks."""
    (path.parent / "answers.json").write_text(json.dumps(answers))
    return _program(path, GENERATOR)


def calls_of(path: Path) -> list[list[str]]:
    """The command lines that a generator was called with."""
    calls = path.parent / "calls.jsonl"
    return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def _program(path: Path, text: str) -> Path:
    # Isolated and without `site`, which is most of the time that an interpreter takes to start.
    path.write_text(f"#!{sys.executable} -IS\n{text}")
    path.chmod(0o755)
    return path
