"""Results on disk: a file per round, and what can be read out of it."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.scenarios import PEER, Measure, Scenario

FORMAT = 1
# Repeats the numbers of the rows before it, whatever they are worth.
SUMMARY = "summary"

Json = dict[str, Any]


class BadResult(Exception):
    """A file that is no result; says which."""


@dataclass(frozen=True)
class Value:
    """A number of a run, or why it counts for nothing."""

    number: float | None
    void: str | None = None
    # Why the number may be higher in truth, if so.
    at_least: str | None = None


def path_of(folder: Path, scenario: str, codec: str, round_: int) -> Path:
    """Where a round is kept in the folder of a set."""
    return folder / f"{scenario}-{codec}" / f"round-{round_}.json"


def store(path: Path, document: Json) -> None:
    """Writes a round so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
    os.replace(draft, path)


def load(path: Path) -> Json | None:
    """A round, or None if it has not been run."""
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text())
    except ValueError as error:
        raise BadResult(f"{path}: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BadResult(f"{path}: not a result of format {FORMAT}")
    return document


def rounds(folder: Path, scenario: str, codec: str) -> list[Json]:
    """All rounds of a scenario in a set, in their order."""
    paths = (folder / f"{scenario}-{codec}").glob("round-*.json")
    numbered = sorted((int(path.stem.removeprefix("round-")), path) for path in paths)
    return [document for _, path in numbered if (document := load(path)) is not None]


def value(round_: Json, column: str, measure: Measure) -> Value:
    """What a column measured in a round."""
    run = round_["runs"].get(column)
    if run is None or "not_run" in run:
        return Value(None)
    return value_in(run, measure, round_["others_limit"])


def value_in(run: Json, measure: Measure, others_limit: float) -> Value:
    """What a run measured, if neither it nor what it was measured in is void."""
    document = run.get("document")
    if document is None:
        return Value(None, run.get("failed", "no document"))
    if document.get("failures"):
        return Value(None, f"failed: {document['failures'][0]}")
    rows = [row for row in document["rows"] if row["label"] != SUMMARY]
    for row in rows:
        found = _in_row(row, measure.name)
        if found is not None:
            if measure.is_count:
                return Value(float(found))
            looked_at = rows if measure.whole_run else [row]
            void = next(filter(None, (_busy(one, others_limit) for one in looked_at)), None)
            measured = rows if measure.own_ratio else [row]
            void = next(filter(None, (one.get("void") for one in measured)), void)
            return Value(None, void) if void else Value(float(found), at_least=row.get("at_least"))
    return Value(None, f"{measure.name} was not measured")


def has_failed(run: Json) -> bool:
    """Whether a run gave no report, or one that lists failures."""
    document = run.get("document")
    return document is None or bool(document.get("failures"))


def troubles(run: Json, scenario: Scenario, others_limit: float) -> list[str]:
    """Why a run, or a part of it, counts for nothing."""
    if "not_run" in run:
        return []
    found = (value_in(run, one, others_limit).void for one in scenario.measures)
    return list(dict.fromkeys(trouble for trouble in found if trouble))


def floor_us(round_: Json, messages_per_frame: float) -> float | None:
    """CPU time of the bare loop per message where so many leave together, in microseconds.

    What a send costs between the numbers of messages that were measured is taken from the line
    between them.
    """
    costs = sorted((one["messages_per_send"], one["send_us"]["total"]) for one in round_["floor"])
    if not costs:
        return None
    together = min(max(messages_per_frame, costs[0][0]), costs[-1][0])
    for (fewer, low), (more, high) in zip(costs, costs[1:]):
        if fewer <= together <= more:
            send = low + (high - low) * (together - fewer) / (more - fewer)
            return float(send / together)
    return float(costs[0][1] / costs[0][0])


def peer_of(documents: list[Json]) -> Json | None:
    """The peer that rounds were run against, if there was one."""
    known = [one["servers"].get(PEER) for one in documents]
    return next((one for one in known if one), None)


def _busy(row: Json, limit: float) -> str | None:
    others = row.get("other_cpu")
    if others is None or others <= limit:
        return None
    return f"other programs used more than {limit * 100:.0f} % of the machine"


def _in_row(row: Json, name: str) -> Any:
    if name.startswith("latency."):
        return (row.get("latency") or {}).get(name.removeprefix("latency."))
    return row["metrics"].get(name)
