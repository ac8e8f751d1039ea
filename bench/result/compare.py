"""`bench compare A B`: whether B is worse than A beyond the intervals of both.

In: two results. Out: one line for each figure that both have, and a verdict.

The change of a figure is B / A. Its interval is from low_B / high_A to high_B / low_A, the widest
one that the intervals of both medians allow; its coverage is above 90 %. A figure is worse if this
whole interval is on the bad side of 1. slipform.bench.result.quantities defines the bad side, and
which figures have no verdict. Ratios within one run always have a verdict: both parts were measured
on the same machine at the same time. Absolute figures have one if both results are of the same
machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Estimate, Result, Row
from slipform.bench.result.tables import markdown
from slipform.pipelines.errors import SlipformError

__all__ = ["Change", "changes", "lost", "same_conditions", "text", "unmatched"]

_MIN_REPEATS = 3  # fewer repeats give no interval


@dataclass(frozen=True)
class Change:
    """One figure of one row in both results.

    Attributes:
        key: The key of the row.
        name: The name of the figure.
        before: The estimate in A.
        after: The estimate in B.
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
    """The changes of all figures that both results have and that get a verdict.

    Args:
        before: The result A.
        after: The result B.
        tolerance: The share by which a figure may be worse, beyond its interval.

    Raises:
        SlipformError: There is no such figure, and no row is lost.
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
            if min(a.repeats, b.repeats) < _MIN_REPEATS:
                continue
            low, middle, high = b.low / a.high, b.median / a.median, b.high / a.low
            more = meaning.better == "higher"
            worse = high < 1 - tolerance if more else low > 1 + tolerance
            better = low > 1 if more else high < 1
            found.append(Change(row.key, name, a, b, (low, middle, high), worse, better))
    if not found and not lost(before, after):
        other = " (on different machines only ratios formed within a run are compared)"
        raise SlipformError(
            "the two results have nothing in common to compare" + ("" if same_machine else other)
        )
    return found


def lost(before: Result, after: Result) -> list[tuple[Row, str]]:
    """The rows of A that have figures in A, but none in B.

    Args:
        before: The result A.
        after: The result B. A row that it does not contain was not measured, and does not count.

    Returns:
        The rows of A, each with the reason in B.
    """
    rows = {row.key: row for row in after.rows}
    gone = []
    for row in before.rows:
        other = rows.get(row.key)
        if row.status == "ok" and other is not None and other.status != "ok":
            gone.append((row, f"{other.status}: {other.note}"))
    return gone


def unmatched(before: Result, after: Result) -> list[Row]:
    """The rows of A that B does not contain.

    Args:
        before: The result A.
        after: The result B.
    """
    there = {row.key for row in after.rows}
    return [row for row in before.rows if row.key not in there]


def text(found: Sequence[Change]) -> str:
    """A Markdown table of changes; the worse ones are first.

    Args:
        found: The changes.
    """
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
    """The differences between the environments of two results, in one line.

    Args:
        before: The result A.
        after: The result B.
    """
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
