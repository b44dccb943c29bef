"""The page of results, made of nothing but the files of the rounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from comparison import figures, results
from comparison.figures import Ratio
from comparison.results import Json
from comparison.scenarios import (
    OURS,
    OURS_DELAY,
    PEER,
    PEER_TUNED,
    SCENARIOS,
    Measure,
    Scenario,
)
from comparison.servers import OURS_NAME, WRITE_DELAY

# Rounds that a verdict is worth something with.
FULL_ROUNDS = 5
NOT_RUN = "not run"
# Behind a verdict that waits for the tuned peer: the target is not met without it.
UNTUNED = ", tuned peer not measured"
# What the floor is compared with.
AT_THE_FLOOR = Measure("cpu_us_per_delivery", "CPU per delivery", "µs")
TOGETHER = Measure("messages_per_frame", "messages per frame", "")

HEAD = """\
# Results

Made by `bench/compare --report` of the files in `bench/results`; a test makes it again and
compares. [README.md](README.md) says what is run and how to read this page.

The generator has one core: where a server needs less than it, a row is void or a figure is a lower
bound (≥). Neither says that the server is slow.
"""


@dataclass(frozen=True)
class Series:
    """The rounds of a scenario with a codec."""

    scenario: Scenario
    codec: str
    rounds: list[Json]

    def numbers(self, column: str, measure: Measure) -> list[float]:
        """What counts of a column's measure."""
        values = (results.value(one, column, measure).number for one in self.rounds)
        return [number for number in values if number is not None]

    def is_bound(self, column: str, measure: Measure) -> bool:
        """Whether some of what counts of a column's measure may be higher in truth."""
        return any(results.value(one, column, measure).at_least for one in self.rounds)

    def ratio(self, column: str, other: str, measure: Measure) -> Ratio | None:
        """How a column stands to another, over the rounds in which both count.

        Where the first may be higher in truth, so may the ratio; where the second may be, there is
        none.
        """
        pairs = []
        for one in self.rounds:
            first = results.value(one, column, measure).number
            second = results.value(one, other, measure)
            if first is not None and second.number is not None and not second.at_least:
                pairs.append((first, second.number))
        return figures.ratio(pairs, f"{self.scenario.name} {self.codec} {measure.name}")

    def judged(self, measure: Measure, other: str = PEER) -> Ratio | None:
        """The ratio that a target is about."""
        if not measure.own_ratio:
            return self.ratio(OURS, other, measure)
        pairs = [(number, 1.0) for number in self.numbers(OURS, measure)]
        return figures.ratio(pairs, f"{self.scenario.name} {self.codec} {measure.name}")


def render(root: Path) -> str:
    """The whole page, from the folder that holds the sets."""
    folders = sorted((path for path in root.glob("*") if path.is_dir()), reverse=True)
    if not folders:
        return "\n".join([HEAD, "## No runs", "", *_verdicts(_series(root / "none")), ""])
    return "\n".join([HEAD, *(line for folder in folders for line in _set(folder)), ""])


def verdict(series: Series, measure: Measure) -> str:
    """Whether a target is met: by the medians, and against the tuned peer too."""
    target, ratio = measure.target, series.judged(measure)
    if target is None:
        return ""
    if ratio is None:
        return _absence(series, measure)
    tuned = None if measure.own_ratio else series.judged(measure, PEER_TUNED)
    # What may be higher in truth may still be high enough.
    missed = "not decided" if series.is_bound(OURS, measure) else "not met"
    if not _holds(ratio.median, target.must, measure):
        said = missed
    elif tuned and not _holds(tuned.median, 1.0, measure):
        said = f"{missed} (tuned)"
    else:
        is_aim = target.aim is not None and _holds(ratio.median, target.aim, measure)
        said = "aim met" if is_aim else "met"
        said += "" if tuned or measure.own_ratio else UNTUNED
    few = ratio.rounds < FULL_ROUNDS
    return f"{said}, {_counted(ratio.rounds, 'round')} only" if few else said


def change(series: Series, measure: Measure) -> str:
    """Against another build of ours: whether a difference can be told from chance."""
    ratio = series.judged(measure)
    if ratio is None:
        return _absence(series, measure)
    if ratio.low is None or ratio.high is None:
        return "one round cannot tell"
    if ratio.low <= 1.0 <= ratio.high:
        return "no difference seen"
    return "better" if (ratio.low > 1.0) == measure.more_is_better else "worse"


def _absence(series: Series, measure: Measure) -> str:
    """Why there is no ratio."""
    needed = (OURS,) if measure.own_ratio else (OURS, PEER)
    return NOT_RUN if any(_never_ran(series, one) for one in needed) else "no value counts"


def _holds(ratio: float, bound: float, measure: Measure) -> bool:
    return ratio >= bound if measure.more_is_better else ratio <= bound


def _never_ran(series: Series, column: str) -> bool:
    return all("not_run" in one["runs"].get(column, {"not_run": ""}) for one in series.rounds)


def _series(folder: Path) -> list[Series]:
    return [
        Series(scenario, codec, results.rounds(folder, scenario.name, codec))
        for scenario in SCENARIOS
        for codec in scenario.codecs
    ]


def _set(folder: Path) -> list[str]:
    series = _series(folder)
    ran = [one for one in series if one.rounds]
    documents = [document for one in ran for document in one.rounds]
    against_ours = (results.peer_of(documents) or {}).get("name") == OURS_NAME
    table = _changes(ran) if against_ours else _verdicts(series)
    sections = [line for one in ran for line in _section(one)]
    return [f"## {folder.name}", "", *_circumstances(documents), "", *table, *sections]


def _circumstances(documents: list[Json]) -> list[str]:
    if not documents:
        return ["Nothing was run."]
    machines = _distinct(_machine(one["machine"]) for one in documents)
    programs = _distinct(_program(one) for each in documents for one in each["servers"].values())
    stores = _distinct(one["redis"] for one in documents if one.get("redis"))
    days = sorted({one["started"][:10] for one in documents})
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    quick = ["- A quick look: short runs, one round."] if any(d["quick"] for d in documents) else []
    without = results.peer_of(documents) is None
    missing = ["- The peer was not run: there was none on that machine."] if without else []
    return [
        f"- Date: {span}",
        *(f"- Machine: {one}" for one in machines),
        *(f"- Server: {one}" for one in programs),
        *(f"- Redis: {one}" for one in stores),
        *quick,
        *missing,
    ]


def _machine(machine: Json) -> str:
    memory = machine["memory_bytes"] / (1 << 30)
    cpus = f"{machine['cpu']}, {_counted(machine['cores'], 'core')}"
    return f"{cpus}, {memory:.0f} GiB, Linux {machine['kernel']}"


def _program(server: Json) -> str:
    label = "" if server["label"] == server["name"] else f"{server['label']}: "
    return f"{label}{server['name']} {server['version']} ({server['digest']})"


def _verdicts(series: list[Series]) -> list[str]:
    """Every target, met or not or never tried."""
    head = ["Scenario", "Codec", "Measure", "Ours", "Peer", "Ratio", "95 %"]
    rows = [
        [*_compared(one, measure), *_targets(measure), verdict(one, measure)]
        for one in series
        for measure in one.scenario.measures
        if measure.target
    ]
    return _table([*head, "To tuned", "Must", "Aim", "Verdict"], rows)


def _changes(series: list[Series]) -> list[str]:
    """A build of ours against another: no target is about that."""
    head = ["Scenario", "Codec", "Measure", "Ours", "Peer", "Ratio", "95 %"]
    rows = [
        [*_compared(one, measure)[:-1], change(one, measure)]
        for one in series
        for measure in one.scenario.measures
        if measure.target
    ]
    return _table([*head, "Change"], rows)


def _compared(series: Series, measure: Measure) -> list[str]:
    ratio = series.judged(measure)
    tuned = None if measure.own_ratio else series.judged(measure, PEER_TUNED)
    return [
        series.scenario.name,
        series.codec,
        _title(measure),
        _median(series, OURS, measure),
        _median(series, PEER, measure),
        figures.number(ratio.median) if ratio else "",
        _interval(ratio),
        figures.number(tuned.median) if tuned else "",
    ]


def _targets(measure: Measure) -> list[str]:
    if measure.target is None:
        return ["", ""]
    sign = "≥" if measure.more_is_better else "≤"
    bounds = (measure.target.must, measure.target.aim)
    return ["" if bound is None else f"{sign} {bound:g}" for bound in bounds]


def _section(series: Series) -> list[str]:
    """One scenario in full: every column, with its spread."""
    scenario = series.scenario
    known = [one for one in scenario.columns if any(one in each["runs"] for each in series.rounds)]
    titles = {
        OURS: "Ours",
        OURS_DELAY: f"Ours, write delay {WRITE_DELAY}",
        PEER: "Peer",
        PEER_TUNED: "Peer, tuned",
    }
    rows = [
        [_title(measure), *(_spread(series, column, measure) for column in known)]
        for measure in scenario.measures
    ]
    share = ["share of the physical floor", *(_share(series, column) for column in known)]
    delivers = any(measure.name == AT_THE_FLOOR.name for measure in scenario.measures)
    rows += [share] if delivers and any(share[1:]) else []
    return [
        "",
        f"### {scenario.name}, {series.codec}",
        "",
        f"{scenario.title}. {_counted(len(series.rounds), 'round')}; median (lowest to highest).",
        "",
        *_table(["Measure", *(titles[column] for column in known)], rows),
        *_remarks(series, known),
    ]


def _share(series: Series, column: str) -> str:
    """The part of a delivery's CPU time that the bare loop needs as well."""
    shares = []
    for one in series.rounds:
        cost = results.value(one, column, AT_THE_FLOOR).number
        together = results.value(one, column, TOGETHER).number
        floor = results.floor_us(one, together) if together else None
        if cost and floor:
            shares.append(floor / cost)
    found = figures.spread(shares)
    return f"{found.median * 100:.0f} %" if found else ""


def _remarks(series: Series, columns: list[str]) -> list[str]:
    """What was not run, void or failed, so that nobody takes it for a success."""
    said: dict[str, list[int]] = {}
    for one in series.rounds:
        for column in columns:
            run = one["runs"].get(column, {"not_run": "it was left out"})
            troubles = results.troubles(run, series.scenario, one["others_limit"])
            troubles += _bounds(run, series.scenario, one["others_limit"])
            if "not_run" in run:
                troubles = [f"not run: {run['not_run']}"]
            for trouble in troubles:
                said.setdefault(f"{column}: {trouble}", []).append(one["round"])
    lines = [
        f"- {text} ({'round' if len(at) == 1 else 'rounds'} {', '.join(map(str, at))})"
        for text, at in said.items()
    ]
    return ["", *lines] if lines else []


def _bounds(run: Json, scenario: Scenario, others_limit: float) -> list[str]:
    """Why numbers of a run may be higher in truth."""
    if "not_run" in run:
        return []
    found = (results.value_in(run, one, others_limit).at_least for one in scenario.measures)
    return [f"at least: {why}" for why in dict.fromkeys(found) if why]


def _title(measure: Measure) -> str:
    return f"{measure.title}, {measure.unit}" if measure.unit else measure.title


def _median(series: Series, column: str, measure: Measure) -> str:
    found = figures.spread(series.numbers(column, measure))
    if found:
        return _bound(series, column, measure) + figures.number(found.median)
    return NOT_RUN if _never_ran(series, column) else "void"


def _spread(series: Series, column: str, measure: Measure) -> str:
    found = figures.spread(series.numbers(column, measure))
    if found is None:
        return ""
    middle = _bound(series, column, measure) + figures.number(found.median)
    ends = f"{figures.number(found.low)} to {figures.number(found.high)}"
    return f"{middle} ({ends})" if found.count > 1 else middle


def _bound(series: Series, column: str, measure: Measure) -> str:
    return "≥ " if series.is_bound(column, measure) else ""


def _interval(ratio: Ratio | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return ""
    return f"{figures.number(ratio.low)} to {figures.number(ratio.high)}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines]
