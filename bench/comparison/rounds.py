"""Running rounds: each configuration once, the order turned from round to round."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from comparison import fence, machine, redis, results, stack
from comparison.process import CannotRun
from comparison.results import Json
from comparison.scenarios import FENCE, OURS, OURS_DELAY, PEER, PEER_TUNED, Scenario
from comparison.servers import Program
from comparison.stack import Stack

# A run that is void, because the machine was busy, gets so many chances.
ATTEMPTS = 3
NO_PEER = "no peer: none was given and there is no centrifugo on PATH"
# Of a publication of 128 bytes, with all that is around it.
FRAME_BYTES = {"json": 180, "protobuf": 150}
# Sockets of the floor where the scenario does not deliver to many.
FLOOR_SOCKETS = 1_000
FLOOR_MESSAGES = (1, 4, 16)
FLOOR_SECONDS = 3
# A generator that takes so much longer than it should is stuck.
PATIENCE = 3.0
TAIL = 400

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """What rounds are run with."""

    ours: Program
    peer: Program | None
    generator: Path
    limit: Path | None
    cpus: tuple[int, int]
    files: int
    quick: bool
    # Share of the machine that other programs may use without making a row void.
    others_limit: float
    say: Say

    def program(self, column: str) -> Program | None:
        """The server of a column."""
        return self.ours if column in (OURS, OURS_DELAY) else self.peer


class OtherProgram(Exception):
    """Earlier rounds were run with another program, so that theirs and new ones do not compare."""


def columns(bench: Bench, scenario: Scenario) -> tuple[str, ...]:
    """The configurations to run; another build of ours has no tuning of Centrifugo."""
    is_ours = bench.peer is not None and bench.peer.is_ours
    tuned = not (is_ours or bench.quick)
    return tuple(column for column in scenario.columns if column != PEER_TUNED or tuned)


def in_order(columns_: tuple[str, ...], round_: int) -> tuple[str, ...]:
    """ABBA: every second round is run backwards, so that no column always comes first."""
    return columns_ if round_ % 2 == 1 else columns_[::-1]


def is_done(bench: Bench, scenario: Scenario, document: Json | None) -> bool:
    """Whether a round needs no run.

    Raises OtherProgram if it was run with other programs.
    """
    if document is None:
        return False
    for column in columns(bench, scenario):
        program, before = bench.program(column), document["servers"].get(column)
        if program and before and before["digest"] != program.digest:
            raise OtherProgram(
                f"round {document['round']} of {scenario.name} was run with another build of"
                f" {before['label']} ({before['digest']}, this is {program.digest});"
                " give the new ones a --set of their own"
            )
        run = document["runs"].get(column)
        if run is None or (program is not None and run.get("not_run") == NO_PEER):
            return False
    return True


def run_round(
    bench: Bench, scenario: Scenario, codec: str, round_: int, deadline: float
) -> Json:
    """Runs the floor and every column once, and void ones again.

    `deadline` is in seconds of the monotonic clock: no run begins again that may end later, or keep
    a column to come from ending in time.
    """
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    wanted = columns(bench, scenario)
    floor = _floor(bench, scenario, codec)
    runs = {}
    order = in_order(wanted, round_)
    for place, column in enumerate(order, 1):
        until = deadline - (len(order) - place) * scenario.seconds
        runs[column] = _run_column(bench, scenario, codec, column, until)
        bench.say(f"  {column}: {_outcome(runs[column], bench, scenario)}")
    known = {column: bench.program(column) for column in wanted}
    return {
        "format": results.FORMAT,
        "scenario": scenario.name,
        "codec": codec,
        "round": round_,
        "quick": bench.quick,
        "others_limit": bench.others_limit,
        "order": list(order),
        "started": started,
        "machine": machine.describe(),
        "servers": {column: one.describe() for column, one in known.items() if one},
        "redis": redis.version() if scenario.redis else None,
        "floor": floor,
        "runs": runs,
    }


def generator_arguments(
    bench: Bench, scenario: Scenario, codec: str, at_work: Stack, output: Path
) -> list[str]:
    """The command line of the generator."""
    arguments = [
        *(str(bench.generator), "bench", scenario.generator),
        *at_work.flags(),
        *("--codec", codec),
        *("--cpu", str(bench.cpus[1])),
        *("--json", str(output)),
    ]
    if scenario.tokens:
        arguments += ["--token-secret", at_work.server.access.token_key]
    options = {**scenario.options, **(scenario.quick if bench.quick else {})}
    for name, setting in options.items():
        arguments += [f"--{name}", setting] if setting else [f"--{name}"]
    return arguments


def _run_column(
    bench: Bench, scenario: Scenario, codec: str, column: str, until: float
) -> Json:
    program = bench.program(column)
    if program is None:
        return {"not_run": NO_PEER}
    run: Json = {}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if scenario.generator == FENCE:
                run = _run_scripts(bench)
            else:
                run = _run_once(bench, program, scenario, codec, column)
        except CannotRun as error:
            return {"not_run": f"{program.label}: {error}"}
        run["attempts"] = attempt
        trouble = results.troubles(run, scenario, bench.others_limit)
        # A failure is a result, not bad luck.
        if not trouble or results.has_failed(run):
            break
        bench.say(f"  {column}, attempt {attempt} of {ATTEMPTS}: {'; '.join(trouble)}")
        if attempt < ATTEMPTS and time.monotonic() + scenario.seconds > until:
            bench.say(f"  {column}: not run again, the time is over")
            break
    return run


def _run_scripts(bench: Bench) -> Json:
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        with redis.running(bench.cpus[0], Path(name)) as store:
            return {"exit": 0, "document": fence.measure(store.port)}


def _run_once(
    bench: Bench, program: Program, scenario: Scenario, codec: str, column: str
) -> Json:
    obstacle = machine.obstacle(scenario.sockets, bench.cpus, bench.files)
    if obstacle:
        raise CannotRun(f"not on this machine: {obstacle}")
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        output = folder / "result.json"
        with stack.running(program, scenario, column, bench.cpus, folder) as at_work:
            arguments = generator_arguments(bench, scenario, codec, at_work, output)
            try:
                ended = subprocess.run(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=PATIENCE * scenario.seconds + 30,
                    check=False,
                )
            except subprocess.TimeoutExpired as expired:
                return {"failed": f"the generator did not end within {expired.timeout:.0f} s"}
        return _read_run(ended, output)


def _read_run(ended: subprocess.CompletedProcess[str], output: Path) -> Json:
    try:
        return {"exit": ended.returncode, "document": json.loads(output.read_text())}
    except (OSError, ValueError):
        said = " ".join(ended.stderr.split())[-TAIL:] or "nothing"
        return {"exit": ended.returncode, "failed": f"the generator left no result, said {said}"}


def _floor(bench: Bench, scenario: Scenario, codec: str) -> list[Json]:
    """What the bare loop costs now, on this machine; nothing without its program."""
    if bench.limit is None:
        return []
    sockets = scenario.sockets if scenario.delay_matters else FLOOR_SOCKETS
    if machine.obstacle(sockets, bench.cpus, bench.files):
        return []
    found = []
    for messages in FLOOR_MESSAGES:
        options = {
            "sockets": sockets,
            "bytes": FRAME_BYTES[codec],
            "messages": messages,
            "seconds": FLOOR_SECONDS,
            "cpu": bench.cpus[0],
            "receiver-cpu": bench.cpus[1],
        }
        arguments = [f"--{name}={setting}" for name, setting in options.items()]
        try:
            ended = subprocess.run(
                [bench.limit, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            found.append(json.loads(ended.stdout))
        except (subprocess.SubprocessError, OSError, ValueError) as error:
            bench.say(f"  the floor was not measured: {error}")
            return []
    bench.say(f"  floor: {found[0]['send_us']['total']} µs a send to {sockets} sockets")
    return found


def _outcome(run: Json, bench: Bench, scenario: Scenario) -> str:
    if "not_run" in run:
        return f"not run ({run['not_run']})"
    trouble = results.troubles(run, scenario, bench.others_limit)
    if trouble:
        return f"counts for nothing ({'; '.join(trouble)})"
    first = scenario.measures[0]
    found = results.value_in(run, first, bench.others_limit).number
    return f"{first.title} {found:,.4g} {first.unit}".strip()
