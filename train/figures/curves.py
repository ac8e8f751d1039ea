"""Curves of loss and accuracy: of one run, and of all runs of a sweep in one figure.

In: the metrics of run folders. Out: curves.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from slipform.train.figures.draw import FOLDER, GRID, SERIES, new_figure, save, whole_ticks
from slipform.train.records import read_metrics, read_summary
from slipform.train.records.smoothing import MovingAverage

__all__ = ["draw_run", "draw_sweep", "run_figure"]

_KEYS = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")
_REPORTED: dict[str, Any] = {"linestyle": "--", "linewidth": 1.0, "alpha": 0.8}


def draw_run(run: Path, out: Path | None = None) -> Path:
    """Draw curves.png: loss per step and per epoch, accuracy per epoch.

    Args:
        run: The run folder.
        out: The folder of the figure. Default: figures/ in the run folder.

    Returns:
        The path of the figure.
    """
    return save(run_figure(run), out or run / FOLDER, "curves.png")


def run_figure(run: Path) -> Any:
    """Loss per step and per epoch, accuracy per epoch; of one epoch, bars instead of single points.

    Args:
        run: The run folder.
    """
    steps, epochs = read_metrics(run, "step"), read_metrics(run, "epoch")
    figure, (left, right) = new_figure(2)
    losses = [x["loss"] for x in steps]
    numbers = [x["step"] for x in steps]
    left.plot(numbers, losses, color=GRID, linewidth=0.8, label="each step")
    if len(epochs) <= 1 and losses:
        left.plot(numbers, _smoothed(losses), color=SERIES["train"], label="train, smoothed")
    few = len(epochs) == 1
    for axes, what in ((left, "loss"), (right, "accuracy")):
        bars = {}
        for split, color in SERIES.items():
            key = f"{split}_{what}"
            points = [(x["step"], x[key]) for x in epochs if x.get(key) is not None]
            label = "test (selects nothing)" if split == "test" else split
            if few and points:
                bars[f"{label} {points[0][1]:.4g}"] = (points[0][1], color)
            elif points:
                axes.plot(*zip(*points, strict=True), marker=".", color=color, label=label)
        if bars and axes is right:
            values, colors = zip(*bars.values(), strict=True)
            axes.bar(range(len(bars)), values, color=colors, width=0.5)
            axes.set_xticks(range(len(bars)), list(bars))
            axes.set_xlim(-0.7, len(bars) - 0.3)
        else:
            for name, (value, color) in bars.items():
                axes.axhline(value, color=color, linewidth=1.0, linestyle="--", label=name)
            whole_ticks(axes.xaxis)
        axes.set(xlabel="step", title=what)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    if few:
        right.set(xlabel="after the only epoch")
    right.set(ylim=(0, 1))
    return figure


def _smoothed(losses: Sequence[float]) -> list[float]:
    """The moving average over a tenth of the steps."""
    average = MovingAverage(1 - 1 / max(1.0, len(losses) / 10))
    return [average.add(loss) for loss in losses]


def draw_sweep(
    out: Path,
    runs: Mapping[str, Sequence[Path]],
    reported: Mapping[str, Mapping[str, Any]] | None = None,
    reported_curves: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
) -> Path | None:
    """Draw curves.png: loss and accuracy of train and val per epoch, or of test without val.

    Each run has a color, each seed a line. If no run has a second epoch, each run has a bar, which
    is the mean of its seeds, and each seed a point. What a report gives is dashed, in the color of
    the run: a value as a horizontal line, a curve as a line without points. The accuracy of the
    test, if that is all that is reported, is in the panel of val.

    Args:
        out: The folder of the figure.
        runs: Name of a run -> its run folders, one for each seed.
        reported: Name of a run -> reported values by name, such as "val_accuracy".
        reported_curves: Name of a run -> reported values of every epoch by name.

    Returns:
        The path of the figure; None if no run has finished an epoch yet.
    """
    from matplotlib import colormaps

    figure, panels = new_figure(2, 2, width=6.0)
    axes_of = dict(zip(_KEYS, panels.flat, strict=True))
    colors = colormaps["tab10" if len(runs) <= 10 else "tab20"]
    shown, has_reported = {}, False
    records = {
        name: {folder: read_metrics(folder, "epoch") for folder in folders}
        for name, folders in runs.items()
    }
    few = not any((reported_curves or {}).values()) and all(
        len(epochs) <= 1 for every in records.values() for epochs in every.values()
    )
    for number, (name, every) in enumerate(records.items()):
        color = colors(number % colors.N)
        for key, axes in axes_of.items():
            found = [_points(folder, epochs, key) for folder, epochs in every.items()]
            lines = [points for points in found if points]
            if lines and few:
                shown[name] = _draw_bar(axes, number, [points[-1][1] for points in lines], color)
            for points in () if few else lines:
                (shown[name],) = axes.plot(
                    *zip(*points, strict=True), color=color, marker=".", linewidth=1.2
                )
        if name in shown:
            has_reported |= _draw_reported(axes_of, (reported or {}).get(name, {}), color)
            curve = (reported_curves or {}).get(name, {})
            for key, values in _by_panel(curve).items():
                axes_of[key].plot(range(1, len(values) + 1), values, color=color, **_REPORTED)
                has_reported = True
    if not shown:
        return None
    for key, axes in axes_of.items():
        axes.set(title=key.replace("_", ", ").replace("val", "val or test"), xlabel="epoch")
        if few:
            axes.set(xlabel="after epoch 1", xlim=(-0.7, len(runs) - 0.3))
            axes.set_xticks(range(len(runs)), [""] * len(runs))  # the legend has the names
        else:
            whole_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
        if not axes.lines:
            axes.text(0.5, 0.5, "no val split", ha="center", transform=axes.transAxes)
    title = "dashed: the report's values" if has_reported else None
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=8, title=title)
    return save(figure, out, "curves.png")


def _draw_bar(axes: Any, place: int, values: Sequence[float], color: Any) -> Any:
    """A bar of the mean, and a point for each value. Returns the bar."""
    bar = axes.bar(place, mean(values), width=0.6, color=color, alpha=0.5)
    axes.plot([place] * len(values), values, ".", color=color)
    return bar


def _points(run: Path, epochs: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(epoch, value) of a panel. Without val those of test: of each epoch, or at the end."""
    found = [(x["epoch"], x[key]) for x in epochs if x[key] is not None]
    if found or not key.startswith("val"):
        return found
    key = key.replace("val", "test")
    found = [(x["epoch"], x[key]) for x in epochs if x.get(key) is not None]
    summary = read_summary(run)
    if found or key != "test_accuracy" or summary is None or summary[key] is None:
        return found
    return [(summary["best_epoch"], summary[key])]


def _draw_reported(axes_of: Mapping[str, Any], values: Mapping[str, Any], color: Any) -> bool:
    """Draw reported values as horizontal lines. Returns whether there is one."""
    drawn = False
    for key, value in _by_panel(values).items():
        axes_of[key].axhline(value, color=color, **_REPORTED)
        drawn = True
    return drawn


def _by_panel(values: Mapping[str, Any]) -> dict[str, Any]:
    """Reported values by the panel that shows them. "loss" is the training loss."""
    names = {"loss": "train_loss", **{key: key for key in _KEYS}}
    found = {names[key]: value for key, value in values.items() if key in names}
    if "test_accuracy" in values:
        found.setdefault("val_accuracy", values["test_accuracy"])
    return found
