"""`bench compare A B`: did B get worse than A's and B's spread allow?

In: two results. Out: one line for each figure that both have, and a verdict.

The change of a figure is B / A. Both medians have an interval, so the change has one: from low_B /
high_A to high_B / low_A (the widest that the two allow: its coverage is above 90 %). A figure got
worse where this whole interval lies on the bad side of 1. Ratios formed within one run
(multiple_of_*, *_ratio) are always judged: both their parts were measured on the same machine at
the same time. Absolute figures are judged where both results come from the same machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from slipform.bench.result.result import Estimate, Result, Row
from slipform.bench.result.tables import figure_text, label, markdown
from slipform.pipelines.errors import SlipformError

# Figures to judge, and whether more of it is better. The rest (CPU use, waiting) explains.
_MORE = ("images_per_second", "_ratio", "accuracy")
_LESS = (
    "_seconds",
    "allocated_bytes",
    "reserved_bytes",
    "device_used_bytes",
    "resident_bytes",
    "above_imports_bytes",
)


@dataclass(frozen=True)
class Change:
    """One figure of one row in both results. change: B / A as low, median, high."""

    key: tuple[str, ...]
    name: str
    before: Estimate
    after: Estimate
    change: tuple[float, float, float]
    worse: bool
    better: bool


def is_ratio(name: str) -> bool:
    """A pure number formed within one run."""
    return name.startswith("multiple_of_") or name.endswith("_ratio")


def more_is_better(name: str) -> bool | None:
    """None: it explains, it is not judged."""
    if name.startswith("multiple_of_") or name.endswith(_MORE):
        return True
    return False if name.endswith(_LESS) else None


def changes(before: Result, after: Result, tolerance: float = 0.0) -> list[Change]:
    """Every judged figure that both results have. tolerance: the share by which a figure may get
    worse beyond its interval."""
    same_machine = before.environment.machine == after.environment.machine
    theirs = {row.key: row.figures for row in after.rows}
    found = []
    for row in before.rows:
        for name, a in row.figures.items():
            b, more = theirs.get(row.key, {}).get(name), more_is_better(name)
            if (
                b is None
                or more is None
                or not (same_machine or is_ratio(name))
                or min(a.low, b.low) <= 0
            ):
                continue
            if min(a.repeats, b.repeats) < 3:  # measured once or twice: no spread to judge by
                continue
            low, middle, high = b.low / a.high, b.median / a.median, b.high / a.low
            worse = high < 1 - tolerance if more else low > 1 + tolerance
            better = low > 1 if more else high < 1
            found.append(Change(row.key, name, a, b, (low, middle, high), worse, better))
    if not found:
        raise SlipformError(
            "the two results have nothing in common to compare"
            + (
                ""
                if same_machine
                else " (on different machines only ratios formed within a run are compared)"
            )
        )
    return found


def lost(before: Result, after: Result) -> list[tuple[Row, str]]:
    """Rows that had figures before and have none now, with the reason; a row that is not there at
    all was not measured."""
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
        verdict = "WORSE" if change.worse else "better" if change.better else "within its interval"
        lines.append(
            [
                *(", ".join(part.partition("=")[2] for part in change.key[1:]), label(change.name)),
                *(figure_text(change.name, change.before), figure_text(change.name, change.after)),
                *(f"{middle:.3f} ({low:.3f} to {high:.3f})", verdict),
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
