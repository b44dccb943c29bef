"""The command line of bench/compare."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import time
from pathlib import Path

from comparison import machine, report, results, rounds, servers
from comparison.process import CannotRun
from comparison.results import BadResult
from comparison.rounds import Bench, OtherProgram
from comparison.scenarios import CODECS, SCENARIOS, Scenario, scenario
from comparison.servers import Program

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "bench" / "RESULTS.md"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
OURS = TARGET / "release" / "bobolink"
LIMIT = TARGET / "release" / "examples" / "limit"
QUICK = TARGET / "compare"
QUICK_MINUTES = 29.0
# The call ended well and another is needed (EX_TEMPFAIL of sysexits.h).
AGAIN = 75
FLOOR_S = 12.0
OTHERS_HELP = "of the machine that other programs may use before a row is void [5]"

ABOUT = """\
Compares two servers: runs the same load against both, in turn, and keeps what came out.

  bench/compare --quick                                one short round of every scenario
  bench/compare --scenario fanout-50 --codec json      rounds that are still missing
  bench/compare --report                               bench/RESULTS.md from what is kept
"""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    flags = _parser().parse_args(arguments)
    try:
        if flags.list:
            return _list()
        if flags.report:
            return _report(flags)
        if flags.quick:
            return _quick(flags)
        if flags.scenario is None:
            raise CannotRun("needs --scenario NAME, --quick, --report or --list")
        return _run(flags)
    except (CannotRun, BadResult, OtherProgram) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench/compare", description=ABOUT, formatter_class=argparse.RawTextHelpFormatter
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the scenarios")
    what.add_argument("--scenario", metavar="NAME", help="run one, see --list")
    what.add_argument("--quick", action="store_true", help="run all, short, within half an hour")
    what.add_argument("--report", action="store_true", help="write bench/RESULTS.md")
    add = parser.add_argument
    add("--stdout", action="store_true", help="print the report instead")
    add("--codec", choices=CODECS, default="json", help="how clients write [json]")
    add("--ours", type=Path, metavar="FILE", default=OURS, help="[target/release/bobolink]")
    add("--peer", type=Path, metavar="FILE", help="[CENTRIFUGO, or centrifugo on PATH]")
    add("--peer-name", metavar="NAME", help="what the report calls the peer [its own name]")
    add("--generator", type=Path, metavar="FILE", help="program with `bench` [that of --ours]")
    add("--limit", type=Path, metavar="FILE", default=LIMIT, help="program of the floor")
    add("--pairs", type=_positive, default=5, metavar="N", help="rounds of a scenario [5]")
    add("--minutes", type=float, default=9.5, help="no round starts that may end later [9.5]")
    add("--others", type=float, default=5.0, metavar="PERCENT", help=OTHERS_HELP)
    add("--server-cpu", type=int, default=0, metavar="CPU", help="[0]")
    add("--generator-cpu", type=int, default=1, metavar="CPU", help="[1]")
    add("--set", metavar="NAME", help="folder of the results [the machine's name]")
    add("--results", type=Path, default=RESULTS, metavar="FOLDER", help="folder of the sets")
    return parser


def _list() -> int:
    for one in SCENARIOS:
        print(f"{one.name:17} {one.title}")
    return 0


def _report(flags: argparse.Namespace) -> int:
    page = report.render(flags.results)
    if flags.stdout:
        sys.stdout.write(page)
    else:
        PAGE.write_text(page)
    return 0


def _run(flags: argparse.Namespace) -> int:
    chosen = scenario(flags.scenario)
    if chosen is None:
        names = ", ".join(one.name for one in SCENARIOS)
        raise CannotRun(f"there is no scenario {flags.scenario!r}, there are: {names}")
    if flags.codec not in chosen.codecs:
        raise CannotRun(f"{chosen.name} has no clients whose codec could be {flags.codec}")
    bench = _bench(flags, quick=False)
    folder = flags.results / _set_name(flags.set)
    deadline, ran = time.monotonic() + flags.minutes * 60, 0
    for round_ in range(1, flags.pairs + 1):
        path = results.path_of(folder, chosen.name, flags.codec, round_)
        if rounds.is_done(bench, chosen, results.load(path)):
            continue
        # The first always runs, or there would be no end of calling again.
        if ran and time.monotonic() + _seconds(bench, chosen) > deadline:
            print(f"round {round_} of {flags.pairs} is the next; call again", flush=True)
            return AGAIN
        _say(f"{chosen.name} {flags.codec}, round {round_} of {flags.pairs}")
        results.store(path, rounds.run_round(bench, chosen, flags.codec, round_, deadline))
        ran += 1
    _say(f"all {flags.pairs} rounds are in {folder.name}/{chosen.name}-{flags.codec}")
    return 0


def _quick(flags: argparse.Namespace) -> int:
    bench = _bench(flags, quick=True)
    deadline = time.monotonic() + QUICK_MINUTES * 60
    folder = QUICK / "quick"
    shutil.rmtree(folder, ignore_errors=True)
    for one in SCENARIOS:
        if time.monotonic() + _seconds(bench, one) > deadline:
            _say(f"{one.name}: not run, the time is over")
            continue
        codec = flags.codec if flags.codec in one.codecs else one.codecs[0]
        _say(f"{one.name} {codec}")
        path = results.path_of(folder, one.name, codec, 1)
        results.store(path, rounds.run_round(bench, one, codec, 1, deadline))
    sys.stdout.write(report.render(QUICK))
    return 0


def _bench(flags: argparse.Namespace, *, quick: bool) -> Bench:
    ours = _program(flags.ours, None, "--ours")
    limit = flags.limit if flags.limit.exists() else None
    if limit is None:
        _say(f"no floor: {flags.limit.name} is built by `cargo build --release --example limit`")
    bench = Bench(
        ours=ours,
        peer=_peer(flags),
        generator=flags.generator or ours.path,
        limit=limit,
        cpus=(flags.server_cpu, flags.generator_cpu),
        files=machine.raise_file_limit(),
        quick=quick,
        others_limit=flags.others / 100,
        say=_say,
    )
    busy = os.getloadavg()[0]
    if busy > 0.3:
        _say(f"the machine is busy (load {busy:.2f}); what others take makes runs void")
    return bench


def _peer(flags: argparse.Namespace) -> Program | None:
    given = flags.peer or os.environ.get("CENTRIFUGO") or shutil.which("centrifugo")
    if not given:
        _say(rounds.NO_PEER)
        return None
    return _program(Path(given), flags.peer_name, "--peer")


def _program(path: Path, label: str | None, flag: str) -> Program:
    if not path.is_file():
        raise CannotRun(f"{flag}: there is no program {path}")
    return servers.identify(path.resolve(), label)


def _seconds(bench: Bench, chosen: Scenario) -> float:
    """How long a round takes at most, if nothing is run again."""
    return FLOOR_S + len(rounds.columns(bench, chosen)) * chosen.seconds


def _set_name(given: str | None) -> str:
    if given is None:
        described = machine.describe()
        given = f"{described['cpu']}-{described['cores']}-cores"
    name = re.sub(r"[^a-z0-9.]+", "-", given.lower()).strip("-.")
    if not name:
        raise CannotRun(f"--set: {given!r} has no letter or digit to name a folder with")
    return name


def _positive(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return number


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
