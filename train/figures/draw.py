"""Figures as PNG files, without a display.

In: sizes in inches. Out: a figure of matplotlib and its axes; the file, written whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipform.pipelines.files import replacing

FOLDER = "figures"  # of a run folder


def new_figure(
    num_columns: int, num_rows: int = 1, *, width: float = 5.0, height: float = 4.0
) -> Any:
    """Figure and axes without pyplot, which would keep every figure and ask for a display. Sizes in
    inches, of one axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns)


def save(figure: Any, out: Path, name: str) -> Path:
    """Writes out/name, a PNG, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / name) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return out / name
