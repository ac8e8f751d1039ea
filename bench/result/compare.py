"""`bench compare A B`: did B get worse than A's and B's spread allow?

In: two results. Out: one line for each figure that both have, and a verdict.

The change of a figure is B / A. Both medians have an interval, so the change has one: from low_B /
high_A to high_B / low_A (the widest that the two allow: its coverage is above 90 %). A figure got
worse where this whole interval lies on the bad side of 1. Which side that is, and whether a figure
is judged at all, is in slipform.bench.result.quantities. Ratios formed within one run are always
judged: both their parts were measured on the same machine at the same time. Absolute figures are
judged where both results come from the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Estimate, Result, Row
from slipform.bench.result.tables import markdown
from slipform.pipelines.errors import SlipformError

FEWEST_REPEATS = 3  # of a figure that was measured less often there is no spread to judge by


@dataclass(frozen=True)
class Change:
    """One figure of one row in both results.

    Args:
        key: The row's.
        name: The figure's.
        before: The estimate of A.
        after: The estimate of B.
        change: B / A: low, median, high.
        worse: Whether B is worse beyond the interval and the tolerance.
        better: Whether B is better beyond the interval.
    """

    key: tuple[str, ...]
    name: str
    before: Estimate
    after: Estimate
    change: tuple[float, float, float]
    worse: bool
    better: bool


def changes(before: Result, after: Result, tolerance: float = 0.0) -> list[Change]:
    """Every judged figure that both results have.

    Args:
        before: A.
        after: B.
        tolerance: The share by which a figure may get worse beyond its interval.

    Returns:
        A change for each figure.

    Raises:
        SlipformError: There is no figure that both have and that may be judged.
    """
    same_machine = before.environment.machine == after.environment.machine
    theirs = {row.key: row.figures for row in after.rows}
    found = []
    for row in before.rows:
        for name, a in row.figures.items():
            b, meaning = theirs.get(row.key, {}).get(name), quantity(name)
            if b is None or meaning.better is None or min(a.low, b.low) <= 0:
                continue
            if not (same_machine or meaning.within_run):
                continue
            if min(a.repeats, b.repeats) < FEWEST_REPEATS:
                continue
            low, middle, high = b.low / a.high, b.median / a.median, b.high / a.low
            more = meaning.better == "higher"
            worse = high < 1 - tolerance if more else low > 1 + tolerance
            better = low > 1 if more else high < 1
            found.append(Change(row.key, name, a, b, (low, middle, high), worse, better))
    if not found:
        other = " (on different machines only ratios formed within a run are compared)"
        raise SlipformError(
            "the two results have nothing in common to compare" + ("" if same_machine else other)
        )
    return found


def lost(before: Result, after: Result) -> list[tuple[Row, str]]:
    """Rows that had figures before and have none now.

    Args:
        before: A.
        after: B. A row that is not in it at all was not measured, and is not lost.

    Returns:
        The rows of A, each with the reason that B gives.
    """
    rows = {row.key: row for row in after.rows}
    gone = []
    for row in before.rows:
        other = rows.get(row.key)
        if row.status == "ok" and other is not None and other.status != "ok":
            gone.append((row, f"{other.status}: {other.note}"))
    return gone


def unmatched(before: Result, after: Result) -> list[Row]:
    """Rows of A that B does not have."""
    there = {row.key for row in after.rows}
    return [row for row in before.rows if row.key not in there]


def text(found: Sequence[Change]) -> str:
    """A table, what got worse first."""
    order = sorted(
        found, key=lambda change: (not change.worse, change.better, change.key, change.name)
    )
    lines = []
    for change in order:
        low, middle, high = change.change
        meaning = quantity(change.name)
        verdict = "WORSE" if change.worse else "better" if change.better else "within its interval"
        lines.append(
            [
                ", ".join(part.partition("=")[2] for part in change.key[1:]),
                meaning.heading,
                meaning.text(change.before),
                meaning.text(change.after),
                f"{middle:.3f} ({low:.3f} to {high:.3f})",
                verdict,
            ]
        )
    return markdown(["case", "figure", "A", "B", "B / A", "verdict"], lines)


def same_conditions(before: Result, after: Result) -> str:
    """What differs between the two runs besides the code, in one line."""
    a, b = before.environment, after.environment
    names = sorted({*a.versions, *b.versions})
    pairs = [(name, a.versions.get(name, "none"), b.versions.get(name, "none")) for name in names]
    differing = ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
    machine = (
        f"{a.machine}"
        if a.machine == b.machine
        else f"{a.machine} -> {b.machine}, so only ratios are judged"
    )
    return (
        f"machine: {machine}; commits {a.commit} -> {b.commit}; versions: {differing or 'the same'}"
    )
