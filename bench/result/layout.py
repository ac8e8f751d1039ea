"""`Layout`: how the rows of a suite are shown. Every file in bench/suites has one.

In: the titles, columns and figures of a suite. Out: a `Layout`, for tables, the HTML page and the
README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipform.bench.result.panels import Panel, whole_file
from slipform.bench.result.quantities import case_heading, case_text
from slipform.bench.result.result import Row
from slipform.bench.result.verdict import Verdict

__all__ = ["Figure", "Layout"]

_Rows = Sequence[Row]


@dataclass(frozen=True)
class Figure:
    """A drawing of the rows of a suite.

    Args:
        name: A part of its file's name.
        draw: _Rows -> panels. Those without figures are among the rows.
        description: What it shows, a sentence.
    """

    name: str
    draw: Callable[[_Rows], list[Panel]]
    description: str


def no_verdict(results: Sequence[_Rows]) -> Verdict | None:
    """A suite whose rows say nothing in a sentence."""
    return None


@dataclass(frozen=True)
class Layout:
    """How the rows of a suite are shown.

    Args:
        title: The heading above them.
        about: What was measured, a sentence or two.
        rank: The place of the suite in the report; smaller comes first.
        columns: The figures of the table, in this order; what a file holds beyond them is not
            shown. None: all. The first is the one that the suite is about.
        group: The parts of a case that the page gives tables of their own.
        figures: Drawings.
        verdict: The rows with figures of each result -> what they say, for the top of the page.
    """

    title: str
    about: str = ""
    rank: int = 100
    columns: tuple[str, ...] | None = None
    group: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    verdict: Callable[[Sequence[_Rows]], Verdict | None] = no_verdict

    def plots(self, rows: _Rows) -> list[tuple[str, str, str]]:
        """(name, SVG file, description) of every figure; none where no row was measured."""
        return [
            (figure.name, whole_file(panels, self.title), figure.description)
            for figure, panels in self.drawn(rows)
        ]

    def drawn(self, rows: _Rows) -> list[tuple[Figure, list[Panel]]]:
        """The panels of every figure; none where no row was measured."""
        if not any(row.status == "ok" for row in rows):
            return []
        return [(figure, figure.draw(rows)) for figure in self.figures]

    def groups(self, rows: _Rows) -> list[tuple[str, list[Row]]]:
        """The rows of each table of the page, with what they have in common."""
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            found.setdefault(tuple(str(row.case.get(name)) for name in self.group), []).append(row)
        return [(self._common(members[0]), members) for members in found.values()]

    def _common(self, row: Row) -> str:
        """ "caltech101, streaming, color jitter"."""
        words = []
        for name in self.group:
            value = row.case.get(name)
            if isinstance(value, bool):
                words += [case_heading(name)] if value else []
            elif value not in (None, ""):
                words.append(case_text(value))
        return ", ".join(words)
