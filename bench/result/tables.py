"""Rows as tables: aligned Markdown, for terminals and pages.

In: the rows of a suite and its layout. Out: text. A figure is its median, followed by its interval
in brackets.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import (
    PER_IMAGE,
    case_heading,
    case_text,
    contestant,
    quantity,
)
from slipform.bench.result.result import Row

__all__ = ["STAGES", "cells", "constants", "markdown", "stage_cells", "table"]

_Cells = tuple[list[str], list[list[str]]]

STAGES = (
    "The stages of Slipform's loaders: seconds of work on an image, summed over threads. wait: the"
    " time that the consumer of the batches waited."
)
_CONTESTANTS = ("loader", "way")
_ALWAYS = ("loader", "model", "way")  # what identifies a row is shown even if there is only one


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Make a Markdown table with aligned columns, without a newline at its end.

    Args:
        header: The headings.
        lines: The cells of each line, as many as headings.
    """
    cells = [
        [cell.replace("|", "/").replace("\n", " ") for cell in line] for line in [header, *lines]
    ]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]

    def join(line: Sequence[str]) -> str:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        return f"| {' | '.join(padded)} |"

    return "\n".join(
        [join(cells[0]), join(["-" * width for width in widths]), *map(join, cells[1:])]
    )


def cells(rows: Sequence[Row], layout: Layout) -> _Cells:
    """The cells of the table of a suite.

    Args:
        rows: The rows of the suite, at least one.
        layout: The layout of the suite.

    Returns:
        The header and the lines: the parts of the case that vary, the figures, the settings. A row
        without figures has the reason instead.
    """
    cases = _varied(rows)
    columns = layout.columns or tuple(dict.fromkeys(n for row in rows for n in row.figures))
    shown = [name for name in columns if any(name in row.figures for row in rows)]
    lines = []
    for row in rows:
        figures = [quantity(name).text(row.figures.get(name)) for name in shown]
        remark = " ".join(f"{name}={case_text(value)}" for name, value in row.settings.items())
        if row.status != "ok":
            figures = [row.status, *[""] * (len(shown) - 1)] if shown else []
            remark = row.note
        lines.append([*(_case(row, name) for name in cases), *figures, remark])
    headings = [*map(case_heading, cases), *(quantity(name).heading for name in shown)]
    return [*headings, "settings"], lines


def table(rows: Sequence[Row], layout: Layout) -> str:
    """The table of a suite as Markdown.

    Args:
        rows: The rows of the suite, at least one.
        layout: The layout of the suite.
    """
    return markdown(*cells(rows, layout))


def stage_cells(rows: Sequence[Row]) -> _Cells | None:
    """The cells of the table of stages: the time of each stage of Slipform's loaders for an image.

    Args:
        rows: The rows of a suite.

    Returns:
        The header and the lines; None if no row has times of stages.
    """
    timed = [row for row in rows if any(name.endswith(PER_IMAGE) for name in row.figures)]
    if not timed:
        return None
    cases = _varied(timed)
    stages = list(
        dict.fromkeys(name for row in timed for name in row.figures if name.endswith(PER_IMAGE))
    )
    lines = [
        [
            *(_case(row, name) for name in cases),
            *(quantity(name).text(row.figures.get(name)) for name in stages),
        ]
        for row in timed
    ]
    return [*map(case_heading, cases), *(quantity(name).heading for name in stages)], lines


def constants(rows: Sequence[Row], without: Sequence[str] = ()) -> str:
    """The parts of the case that all rows have in common: "batch size 128, dtype float32".

    Args:
        rows: The rows of a suite, at least one.
        without: Keys of the case to leave out.
    """
    varied = [*_varied(rows), *without]
    return ", ".join(
        f"{case_heading(name)} {case_text(value)}"
        for name, value in rows[0].case.items()
        if name not in varied and value != ""
    )


def _case(row: Row, name: str) -> str:
    text = case_text(row.case.get(name))
    return contestant(text) if name in _CONTESTANTS else text


def _varied(rows: Sequence[Row]) -> list[str]:
    """The parts of the case that vary, and those that identify a row."""
    return [
        name
        for name in rows[0].case
        if name in _ALWAYS or len({str(row.case.get(name)) for row in rows}) > 1
    ]
