"""Figures as PNG files and as SVG elements of a page, without a display.

In: sizes in inches. Out: a figure of matplotlib and its axes; a complete file, or SVG whose colors
are variables of the page, so that it follows light and dark mode.
"""

from __future__ import annotations

import io
import re
from html import escape
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import printable
from slipform.pipelines.files import replacing
from slipform.pipelines.glyphs import any_characters
from slipform.train.figures.palette import PALETTES

__all__ = [
    "ACCENT", "FOLDER", "GRID", "MUTED", "SERIES", "light_frame", "name_ticks", "new_figure",
    "save", "short", "svg", "whole_ticks",
]  # fmt: skip

FOLDER = "figures"  # in a run folder

# Colors of a figure. In SVG each is the variable of the page with its name.
_LIGHT = PALETTES["light"]
ACCENT, MUTED, GRID = (_LIGHT[name] for name in ("ours", "muted", "line"))
SERIES = {"train": _LIGHT["ours"], "val": _LIGHT["mark"], "test": _LIGHT["third"]}
_VARIABLES = {"#000000": "ink", "#ffffff": "panel"} | {
    _LIGHT[name]: name for name in ("ours", "muted", "line", "mark", "third")
}


def new_figure(
    num_columns: int, num_rows: int = 1, *, width: float = 5.0, height: float = 4.0, **options: Any
) -> Any:
    """Make a figure without pyplot, which would keep every figure and may need a display.

    Args:
        num_columns: Columns of axes.
        num_rows: Rows of axes.
        width: The width of one column, in inches.
        height: The height of one row, in inches.
        **options: As for matplotlib's `Figure.subplots`.

    Returns:
        A matplotlib figure, and its axes: one Axes, or an array of them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * num_columns, height * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(num_rows, num_columns, **options)


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
    with replacing(out / name) as temporary, any_characters():
        figure.savefig(temporary, dpi=120, format="png")
    return out / name


def svg(figure: Any, words: str) -> str:
    """A figure as an SVG element for a page that defines the colors.

    Args:
        figure: The matplotlib figure.
        words: What the figure shows, for screen readers; its names start with it.
    """
    import matplotlib

    text = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": words}
    with matplotlib.rc_context(settings), any_characters():
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    _, start, rest = text.getvalue().partition("<svg ")
    found = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", start + rest, flags=re.DOTALL)
    prefix = re.sub(r"\W+", "-", words)[:24]
    # Only tags change: a text, such as the name of a class, may look like a color.
    found = re.sub(r"<[^>]*>", lambda tag: _of_page(tag[0], prefix), found)
    found = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', "", found, count=1)
    return found.replace("<svg ", f'<svg role="img" aria-label="{escape(words)}" ', 1)


def _of_page(tag: str, prefix: str) -> str:
    """A tag of SVG with the colors and the font of the page; the prefix is for its names."""
    for color, name in _VARIABLES.items():
        tag = tag.replace(color, f"var(--{name})")
    tag = re.sub(r"font: ([\w ]*?)([\d.]+px) [^;\"]*", r"font: \1\2 system-ui, sans-serif", tag)
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    return re.sub(r'(href="|url\()#', rf"\g<1>#{prefix}-", tag)


def short(name: str, most: int = 24) -> str:
    """A name on one line, without control characters; the middle of a long one is left out.

    Args:
        name: The name of a class or of a file.
        most: The maximum number of characters.
    """
    name = printable(name)
    if len(name) <= most:
        return name
    head = (most - 1) // 2
    return f"{name[:head]}…{name[len(name) - (most - 1 - head) :]}"


def light_frame(axes: Any) -> None:
    """Draw a light frame, without lines at the top and the right.

    Args:
        axes: The axes.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(color=GRID)


def whole_ticks(axis: Any) -> None:
    """Put ticks at whole numbers only, such as epochs; one tick is enough.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
    """
    # Without min_n_ticks an axis that shows a single number has ticks between whole numbers.
    axis.get_major_locator().set_params(integer=True, min_n_ticks=1)


def name_ticks(axis: Any, names: list[str], *, rotation: float = 0.0, size: float = 8.0) -> None:
    """Write names at an axis, one at each whole number from 0.

    Args:
        axis: `axes.xaxis` or `axes.yaxis`.
        names: The names, shortened already; see `short`.
        rotation: Degrees.
        size: The size of the font in points.
    """
    axis.set_ticks(
        range(len(names)),
        names,
        rotation=rotation,
        fontsize=size,
        parse_math=False,  # "$5 to $10" is no formula
    )
