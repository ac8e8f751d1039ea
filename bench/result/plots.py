"""The report's figures, as SVG text.

In: rows of one suite. Out: SVG, the same bytes for the same rows (so that committed figures change
only with their numbers).
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from slipform.bench.result.result import Estimate, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS, PEERS = "#1f6f8b", "#b9b4a7"  # concrete, and what it is measured against
_MEMORY = ("device_used_bytes", "reserved_bytes", "allocated_bytes", "resident_bytes")


@contextmanager
def _drawing() -> Iterator[None]:
    import matplotlib as mpl

    look = {
        "svg.hashsalt": "slipform",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(look):
        yield


def _svg(figure: Any) -> str:
    """The figure as SVG text without date and XML prologue."""
    file = io.StringIO()
    figure.savefig(
        file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
    )
    text = file.getvalue()
    return re.sub(r"[ \t]+$", "", text[text.index("<svg") :], flags=re.MULTILINE)


def _canvas(columns: int, width: float, height: float) -> tuple[Any, list[Axes]]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _errors(figures: Sequence[Estimate]) -> list[list[float]]:
    """How far each interval reaches below and above its median."""
    return [[f.median - f.low for f in figures], [f.high - f.median for f in figures]]


def loader_bars(rows: Sequence[Row]) -> str:
    """Images per second of every loader, one panel for each kind of work, with intervals."""
    races = sorted(
        {
            (str(row.case["data"]), str(row.case["input"]), bool(row.case["color_jitter"]))
            for row in rows
        }
    )
    with _drawing():
        figure, axes = _canvas(len(races), 3.2 * len(races) + 1, 2.8)
        for axis, race in zip(axes, races, strict=True):
            data, kind, jittered = race
            shown = [
                r
                for r in rows
                if (r.case["data"], r.case["input"], r.case["color_jitter"]) == race
                and r.status == "ok"
            ]
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
        return _svg(figure)


def _lines(
    axis: Axes,
    rows: Sequence[Row],
    value: Callable[[Row], Estimate | None],
    style: str,
    scale: float,
    suffix: str = "",
) -> None:
    """One line for each backbone over the batch size."""
    import matplotlib as mpl

    for number, name in enumerate(dict.fromkeys(_series(row) for row in rows)):
        points = sorted(
            ((int(str(r.case["batch_size"])), value(r)) for r in rows if _series(r) == name),
            key=lambda point: point[0],
        )
        found = [(size, figure) for size, figure in points if figure is not None]
        if found:
            figures = [figure for _, figure in found]
            heights, errors = (
                [f.median / scale for f in figures],
                [[e / scale for e in side] for side in _errors(figures)],
            )
            color = mpl.color_sequences["tab10"][number % 10]
            sizes = [size for size, _ in found]
            axis.errorbar(
                sizes,
                heights,
                yerr=errors,
                fmt=style,
                color=color,
                label=name + suffix,
                capsize=2,
                lw=1.2,
                ms=4,
            )
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted({int(str(row.case["batch_size"])) for row in rows}))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}")
    axis.set_xlabel("batch size")


def _series(row: Row) -> str:
    return " ".join(
        str(row.case[name])
        for name in ("model", "precision", "compile")
        if row.case[name] != "auto"
    )


def train_lines(rows: Sequence[Row]) -> str:
    """Images per second (line: end to end, dotted: the step alone) and peak memory against batch
    size, per backbone."""
    good = [row for row in rows if row.status == "ok"]
    memory = next(
        (name for name in _MEMORY if any(name in row.figures for row in good)), "resident_bytes"
    )
    with _drawing():
        figure, (rates, bytes_) = _canvas(2, 9, 3.2)
        _lines(rates, good, lambda row: row.figures.get("end_to_end_images_per_second"), "o-", 1.0)
        _lines(
            rates,
            good,
            lambda row: row.figures.get("step_images_per_second"),
            "x:",
            1.0,
            " (step alone)",
        )
        rates.set_ylabel("images/s")
        rates.set_ylim(bottom=0)
        rates.legend(fontsize=7, frameon=False)
        _lines(bytes_, good, lambda row: row.figures.get(memory), "o-", 2.0**30)
        bytes_.set_ylabel(f"{memory.removesuffix('_bytes').replace('_', ' ')} memory, GiB")
        bytes_.set_ylim(bottom=0)
        return _svg(figure)


def time_bars(rows: Sequence[Row]) -> str:
    """Where the time of 1,000 images goes: the step alone, waiting for data, the rest (cores or bus
    shared with the loader)."""
    good = [row for row in rows if row.status == "ok"]
    names = [f"{_series(row)}, {row.case['batch_size']}" for row in good]
    step = [1000 / row.figures["step_images_per_second"].median for row in good]
    total = [1000 / row.figures["end_to_end_images_per_second"].median for row in good]
    wait = [
        row.figures["wait_share"].median * seconds for row, seconds in zip(good, total, strict=True)
    ]
    rest = [max(0.0, t - s - w) for t, s, w in zip(total, step, wait, strict=True)]
    with _drawing():
        figure, (axis,) = _canvas(1, 8, 0.28 * len(good) + 1.2)
        left = [0.0] * len(good)
        for values, text, color in (
            (step, "step alone", OURS),
            (wait, "waiting for data", "#c8553d"),
            (rest, "the rest", PEERS),
        ):
            axis.barh(names, values, left=left, label=text, color=color)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axis.invert_yaxis()
        axis.set_xlabel("seconds for 1,000 images")
        axis.legend(
            fontsize=7, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3
        )
        return _svg(figure)


PLOTS: dict[str, tuple[tuple[str, Callable[[Sequence[Row]], str], str], ...]] = {
    "loaders": (
        (
            "loaders",
            loader_bars,
            "Images per second of each loader; bars are medians, whiskers their 95 % intervals.",
        ),
    ),
    "train": (
        (
            "train",
            train_lines,
            "Images per second and peak memory against batch size, for each backbone.",
        ),
        ("time", time_bars, "Where the time of 1,000 images goes."),
    ),
}


def plots(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(name, SVG, description) of every figure of these rows' suite."""
    if not any(row.status == "ok" for row in rows):
        return []
    return [(name, draw(rows), alt) for name, draw, alt in PLOTS.get(rows[0].suite, ())]
