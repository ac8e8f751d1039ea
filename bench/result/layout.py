"""`Layout`: how the rows of a suite are shown. Every file in bench/suites has one.

In: the titles, columns and figures of a suite. Out: a `Layout`, for tables, the HTML page and the
README.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipform.bench.result.panels import Drawing, whole_file
from slipform.bench.result.quantities import case_heading, case_text
from slipform.bench.result.result import Row
from slipform.bench.result.verdict import Verdict

__all__ = ["Figure", "Layout"]

_Rows = Sequence[Row]


@dataclass(frozen=True)
class Figure:
    """A figure of the rows of a suite.

    Attributes:
        name: A part of the name of its file.
        draw: Makes the panels from all rows of the suite, also from those without figures.
        description: A sentence about the figure.
    """

    name: str
    draw: Callable[[_Rows], Sequence[Drawing]]
    description: str


def _no_verdict(results: Sequence[_Rows]) -> Verdict | None:
    return None


@dataclass(frozen=True)
class Layout:
    """How the rows of a suite are shown.

    Attributes:
        title: The heading.
        about: One or two sentences about the measurement.
        rank: The position of the suite in the report; smaller numbers come first.
        columns: The quantities in the table, in this order. Other ones are not shown. None: all.
            The first one is the main quantity of the suite.
        group: Keys of the case. The page has a separate table for each combination of their values.
        figures: The figures.
        verdict: Makes the verdict from the rows with figures of each result; None: no verdict.
        caption: What the numbers in the table are.
    """

    title: str
    about: str = ""
    rank: int = 100
    columns: tuple[str, ...] | None = None
    group: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    verdict: Callable[[Sequence[_Rows]], Verdict | None] = _no_verdict
    caption: str = (
        "Median and 95 % interval of the median (of fewer than six repeats: smallest and largest)."
    )

    def plots(self, rows: _Rows) -> list[tuple[str, str, str]]:
        """Draw all figures as SVG files.

        Args:
            rows: The rows of the suite.

        Returns:
            (name, SVG, description) of every figure; empty if no row has the status "ok".
        """
        return [
            (figure.name, whole_file(panels, self.title), figure.description)
            for figure, panels in self.drawn(rows)
        ]

    def drawn(self, rows: _Rows) -> list[tuple[Figure, Sequence[Drawing]]]:
        """Make the panels of all figures.

        Args:
            rows: The rows of the suite.

        Returns:
            Every figure with its panels; empty if no row has the status "ok".
        """
        if not any(row.status == "ok" for row in rows):
            return []
        return [(figure, figure.draw(rows)) for figure in self.figures]

    def groups(self, rows: _Rows) -> list[tuple[str, list[Row]]]:
        """Divide the rows into the tables of the page.

        Args:
            rows: The rows of the suite.

        Returns:
            (text about the common values, rows) of each table.
        """
        found: dict[tuple[str, ...], list[Row]] = {}
        for row in rows:
            found.setdefault(tuple(str(row.case.get(name)) for name in self.group), []).append(row)
        return [(self._common(members[0]), members) for members in found.values()]

    def _common(self, row: Row) -> str:
        """The values of `group`, such as "caltech101, streaming, color jitter"."""
        words = []
        for name in self.group:
            value = row.case.get(name)
            if isinstance(value, bool):
                words += [case_heading(name)] if value else []
            elif value not in (None, ""):
                words.append(case_text(value))
        return ", ".join(words)
