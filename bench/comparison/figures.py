"""Arithmetic of the comparison: medians, ratios, and how sure they are. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 10_000


@dataclass(frozen=True)
class Spread:
    """Several values of the same thing."""

    median: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Ratio:
    """The median of per-round ratios with its 95 % interval; no interval from a single round."""

    median: float
    low: float | None
    high: float | None
    rounds: int


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    if len(ordered) % 2 == 1:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2


def spread(values: Sequence[float]) -> Spread | None:
    """Median and extremes; None of nothing."""
    if not values:
        return None
    return Spread(median(values), min(values), max(values), len(values))


def ratio(pairs: Sequence[tuple[float, float]], seed: str) -> Ratio | None:
    """How the first of each pair stands to the second; None without a pair to divide."""
    ratios = [first / second for first, second in pairs if second > 0]
    if not ratios:
        return None
    low, high = bootstrap(ratios, seed) if len(ratios) > 1 else (None, None)
    return Ratio(median(ratios), low, high, len(ratios))


def bootstrap(values: Sequence[float], seed: str) -> tuple[float, float]:
    """The 95 % interval of the median: it is taken again of values drawn from the values.

    The same seed gives the same interval, with every version of Python.
    """
    draw, count = random.Random(seed).random, len(values)
    medians = sorted(
        median([values[int(draw() * count)] for _ in range(count)]) for _ in range(RESAMPLES)
    )
    tail = int(RESAMPLES * 0.025)
    return medians[tail], medians[RESAMPLES - 1 - tail]


def number(value: float) -> str:
    """A value in three digits, or all those before the point, with separators of thousands."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    if 0 < size < 0.1:
        digits = 3
    text = f"{value:,.{digits}f}"
    return "0" if float(text.replace(",", "")) == 0 else text
