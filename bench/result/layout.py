"""How the rows of a suite are shown. Every file of bench/suites has one.

In: what the suite says of itself. Out: a `Layout`, for tables, the page and the README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipform.bench.result.result import Row

Rows = Sequence[Row]


@dataclass(frozen=True)
class Figure:
    """A drawing of a suite's rows.

    Args:
        name: A part of its file's name.
        draw: Rows with status "ok" -> SVG.
        description: What it shows, for those who cannot see it.
    """

    name: str
    draw: Callable[[Rows], str]
    description: str


def no_findings(rows: Rows) -> list[str]:
    """A suite whose rows have no verdict in a sentence."""
    return []


@dataclass(frozen=True)
class Layout:
    """How the rows of one suite are shown.

    Args:
        title: The heading above them.
        rank: The place of the suite in the report; smaller comes first.
        columns: The figures of the table, in this order; what a file holds beyond them is not
            shown. None: all.
        figures: Drawings.
        findings: Rows -> what they say, a sentence each, for the top of the page.
    """

    title: str
    rank: int = 100
    columns: tuple[str, ...] | None = None
    figures: tuple[Figure, ...] = ()
    findings: Callable[[Rows], list[str]] = no_findings

    def plots(self, rows: Rows) -> list[tuple[str, str, str]]:
        """(name, SVG, description) of every figure; none where no row was measured."""
        good = [row for row in rows if row.status == "ok"]
        if not good:
            return []
        return [(one.name, one.draw(good), one.description) for one in self.figures]
