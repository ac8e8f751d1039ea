"""Figures of searches: losses by learning rate, and the trials of a search over settings.

In: numbers. Out: figures of matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slipform.train.figures.draw import ACCENT, GRID, SERIES, new_figure, short, whole_ticks

__all__ = ["rate_figure", "trials_figure"]

_COLUMNS = 3


def rate_figure(
    rates: Sequence[float], losses: Sequence[float], smoothed: Sequence[float], suggestion: float
) -> Any:
    """The loss by learning rate, with the suggested one.

    Args:
        rates: The learning rate of each step.
        losses: The loss of each step.
        smoothed: The smoothed losses.
        suggestion: The suggested learning rate.
    """
    figure, axes = new_figure(1, width=7.0)
    axes.plot(rates, losses, color=GRID, linewidth=1.0, label="each step")
    axes.plot(rates, smoothed, color=ACCENT, label="smoothed")
    axes.axvline(
        suggestion, color=SERIES["val"], linestyle="--", linewidth=1.0,
        label=f"suggestion {suggestion:.2g}",
    )  # fmt: skip
    low, high = min(smoothed), max(smoothed[: max(1, len(smoothed) // 2)])
    room = max(high - low, 1e-9)
    axes.set(xscale="log", ylim=(low - 0.25 * room, high + 0.6 * room))
    axes.set(xlabel="learning rate (optimizer.lr)", ylabel="loss", title="loss by learning rate")
    axes.legend()
    return figure


def trials_figure(
    measure: str,
    values: Sequence[float],
    settings: Mapping[str, Sequence[Any]],
    logarithmic: set[str],
) -> Any:
    """The measure of each trial in order, and by each setting.

    Args:
        measure: What was measured.
        values: The measure of each finished trial, in order.
        settings: Name -> the value of each of these trials.
        logarithmic: The settings with a logarithmic axis.
    """
    rows = -(-(1 + len(settings)) // _COLUMNS)
    columns = min(_COLUMNS, 1 + len(settings))
    figure, panels = new_figure(columns, rows, width=4.4, height=3.4, squeeze=False)
    best = [max(values[: place + 1]) for place in range(len(values))]
    first, *others = panels.flat
    numbers = range(1, len(values) + 1)
    first.plot(numbers, values, "o", color=ACCENT, markersize=4)
    first.step(numbers, best, where="post", color=SERIES["val"], linewidth=1.2, label="best so far")
    first.set(xlabel="finished trial", ylabel=measure, title="trials")
    whole_ticks(first.xaxis)
    first.legend()
    for axes, (name, found) in zip(others, settings.items(), strict=False):
        plain = [x if isinstance(x, int | float) else short(str(x), 14) for x in found]
        axes.scatter(plain, values, c=list(numbers), cmap="viridis", s=18)
        if name in logarithmic:
            axes.set_xscale("log")
        elif all(type(x) is int for x in found):
            whole_ticks(axes.xaxis)
        axes.set(xlabel=name, title="darker: earlier trials")
    for axes in others[len(settings) :]:
        axes.set_axis_off()
    return figure
