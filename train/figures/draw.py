"""Figures as PNG files, without a display.

In: sizes in inches. Out: a figure of matplotlib and its axes; a complete file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipform.pipelines.files import replacing

__all__ = ["FOLDER", "new_figure", "save"]

FOLDER = "figures"  # in a run folder


def new_figure(
    num_columns: int, num_rows: int = 1, *, width: float = 5.0, height: float = 4.0
) -> Any:
    """Make a figure without pyplot, which would keep every figure and may need a display.

    Args:
        num_columns: Columns of axes.
        num_rows: Rows of axes.
        width: The width of one column, in inches.
        height: The height of one row, in inches.

    Returns:
        A matplotlib figure, and its axes: one Axes, or an array of them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns)


def save(figure: Any, out: Path, name: str) -> Path:
    """Write a figure as a PNG file, completely or not at all.

    Args:
        figure: The matplotlib figure.
        out: The folder; it is created if it does not exist.
        name: The name of the file.

    Returns:
        The path of the file.
    """
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / name) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return out / name
