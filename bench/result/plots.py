"""The figures of the report, as SVG text.

In: rows of one suite with status "ok". Out: SVG, the same bytes for the same rows, so that
committed figures change only with their numbers.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Estimate, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, PEERS, WAITING = "#1f6f8b", "#b9b4a7", "#c8553d"
_MEMORY = ("device_used_bytes", "reserved_bytes", "allocated_bytes", "resident_bytes")


def loader_bars(rows: Sequence[Row]) -> str:
    """Images per second of every loader, one panel for each kind of work, with intervals."""

    def race_of(row: Row) -> tuple[str, str, bool]:
        return str(row.case["data"]), str(row.case["input"]), bool(row.case["color_jitter"])

    races = sorted({race_of(row) for row in rows})
    with _canvas("Images per second of each loader", len(races), 3.2 * len(races) + 1, 3.0) as (
        figure,
        axes,
    ):
        for axis, race in zip(axes, races, strict=True):
            data, kind, jittered = race
            shown = [row for row in rows if race_of(row) == race]
            shown.sort(key=lambda row: row.figures["images_per_second"].median)
            names = [str(row.case["loader"]) for row in shown]
            rates = [row.figures["images_per_second"] for row in shown]
            colors = [OURS if name.startswith("slipform") else PEERS for name in names]
            axis.barh(
                names,
                [rate.median for rate in rates],
                xerr=_errors(rates),
                color=colors,
                error_kw={"lw": 1, "capsize": 2},
            )
            axis.set_title(f"{data}, {kind}{', color jitter' if jittered else ''}")
            axis.set_xlabel("images/s")
            axis.xaxis.set_major_locator(_few_ticks())
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return _svg(figure)


def train_lines(rows: Sequence[Row]) -> str:
    """Images per second (line: end to end, dotted: the step alone) and peak memory against batch
    size, one line for each backbone."""
    memory = next(
        (name for name in _MEMORY if any(name in row.figures for row in rows)), "resident_bytes"
    )
    title = "Training: images per second and peak memory"
    with _canvas(title, 2, 9, 4.0) as (figure, (rates, bytes_)):
        _lines(rates, rows, "end_to_end_images_per_second", "o-", 1.0)
        _lines(rates, rows, "step_images_per_second", "x:", 1.0, " (step alone)")
        rates.set_ylabel("images/s")
        _lines(bytes_, rows, memory, "o-", 2.0**30)
        bytes_.set_ylabel(f"{quantity(memory).heading}, GiB")
        for axis in (rates, bytes_):
            axis.set_ylim(bottom=0)
        _legend(figure, rates, 4)
        return _svg(figure)


def time_bars(rows: Sequence[Row]) -> str:
    """Where the time of 1,000 images goes: the step alone, waiting for data, the rest (cores or bus
    shared with the loader)."""
    names = [f"{_series(row)}, {row.case['batch_size']}" for row in rows]
    step = [1000 / row.figures["step_images_per_second"].median for row in rows]
    total = [1000 / row.figures["end_to_end_images_per_second"].median for row in rows]
    wait = [
        row.figures["wait_share"].median * seconds for row, seconds in zip(rows, total, strict=True)
    ]
    rest = [max(0.0, t - s - w) for t, s, w in zip(total, step, wait, strict=True)]
    title = "Where the time of 1,000 images goes"
    with _canvas(title, 1, 8, 0.28 * len(rows) + 1.7) as (figure, (axis,)):
        left = [0.0] * len(rows)
        for values, text, color in (
            (step, "step alone", OURS),
            (wait, "waiting for data", WAITING),
            (rest, "the rest", PEERS),
        ):
            axis.barh(names, values, left=left, label=text, color=color)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.invert_yaxis()
        axis.set_xlabel("seconds")
        axis.set_ylabel("net, batch size")
        _legend(figure, axis, 3)
        return _svg(figure)


@contextmanager
def _canvas(
    title: str, columns: int, width: float, height: float
) -> Iterator[tuple[Any, list[Axes]]]:
    """A figure with its title and a row of axes, under the report's style."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    style = {
        "svg.hashsalt": "slipform",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        figure = Canvas(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.suptitle(title, fontsize=11)
        yield figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _svg(figure: Any) -> str:
    """The figure as SVG text without date and XML prologue."""
    file = io.StringIO()
    figure.savefig(
        file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
    )
    text = file.getvalue()
    return re.sub(r"[ \t]+$", "", text[text.index("<svg") :], flags=re.MULTILINE)


def _legend(figure: Any, axis: Axes, columns: int) -> None:
    """One legend below the axes, so that it covers nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=columns, fontsize=7, frameon=False
    )


def _few_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4)


def _errors(figures: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its median."""
    return [[f.median - f.low for f in figures], [f.high - f.median for f in figures]]


def _lines(
    axis: Axes, rows: Sequence[Row], name: str, style: str, scale: float, suffix: str = ""
) -> None:
    """One line for each backbone over the batch size."""
    import matplotlib as mpl

    def size_of(row: Row) -> int:
        return int(str(row.case["batch_size"]))

    for number, series in enumerate(dict.fromkeys(_series(row) for row in rows)):
        shown = [row for row in rows if _series(row) == series and name in row.figures]
        shown.sort(key=size_of)
        if not shown:
            continue
        figures = [row.figures[name] for row in shown]
        axis.errorbar(
            [size_of(row) for row in shown],
            [figure.median / scale for figure in figures],
            yerr=[[error / scale for error in side] for side in _errors(figures)],
            fmt=style,
            color=mpl.color_sequences["tab10"][number % 10],
            label=series + suffix,
            capsize=2,
            lw=1.2,
            ms=4,
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted({size_of(row) for row in rows}))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axis.set_xlabel("batch size")


def _series(row: Row) -> str:
    return " ".join(
        str(row.case[name])
        for name in ("model", "precision", "compile")
        if row.case[name] != "auto"
    )
