"""Rows as text: one table that reads well in a terminal and is Markdown.

In: rows of one suite and its layout. Out: lines. A figure is written as its median and, in
brackets, its interval.
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

Cells = tuple[list[str], list[list[str]]]

STAGES = (
    "The stages of our loaders: seconds of work on an image, threads added up. wait: the time that"
    " the consumer of the batches waited."
)
_CONTESTANTS = ("loader", "way")
_ALWAYS = ("loader", "model", "way")  # what identifies a row is shown even if there is only one


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns.

    Args:
        header: The headings.
        lines: The cells of each line, as many as headings.

    Returns:
        The table without a newline at its end.
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


def cells(rows: Sequence[Row], layout: Layout) -> Cells:
    """The table of one suite's rows.

    Args:
        rows: At least one.
        layout: The suite's.

    Returns:
        Header and lines: what was varied, the figures, the settings. A row without figures has the
        reason instead.
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
    """The rows of one suite as Markdown."""
    return markdown(*cells(rows, layout))


def stage_cells(rows: Sequence[Row]) -> Cells | None:
    """How long each stage of our loaders works on an image.

    Args:
        rows: Of one suite.

    Returns:
        Header and lines as for `cells`; None where no row says it.
    """
    telling = [row for row in rows if any(name.endswith(PER_IMAGE) for name in row.figures)]
    if not telling:
        return None
    cases = _varied(telling)
    stages = list(
        dict.fromkeys(name for row in telling for name in row.figures if name.endswith(PER_IMAGE))
    )
    lines = [
        [
            *(_case(row, name) for name in cases),
            *(quantity(name).text(row.figures.get(name)) for name in stages),
        ]
        for row in telling
    ]
    return [*map(case_heading, cases), *(quantity(name).heading for name in stages)], lines


def constants(rows: Sequence[Row], without: Sequence[str] = ()) -> str:
    """What all rows have in common: "batch size 128, image size 224, dtype float32"; `without` the
    parts of the case that are told elsewhere."""
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
    """The parts of the case that a line needs."""
    return [
        name
        for name in rows[0].case
        if name in _ALWAYS or len({str(row.case.get(name)) for row in rows}) > 1
    ]
