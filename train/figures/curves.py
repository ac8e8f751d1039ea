"""Curves of loss and accuracy: of one run, and of all runs of a sweep in one figure.

In: the metrics of run folders. Out: curves.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slipform.train.figures.draw import FOLDER, new_figure, save
from slipform.train.records import read_metrics

__all__ = ["draw_run", "draw_sweep"]

_KEYS = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


def draw_run(run: Path, out: Path | None = None) -> Path:
    """Draw curves.png: loss per step and per epoch, accuracy per epoch.

    Args:
        run: The run folder.
        out: The folder of the figure. Default: figures/ in the run folder.

    Returns:
        The path of the figure.
    """
    steps, epochs = read_metrics(run, "step"), read_metrics(run, "epoch")
    figure, (left, right) = new_figure(2)
    left.plot(
        [x["step"] for x in steps],
        [x["loss"] for x in steps],
        color="0.8",
        linewidth=0.8,
        label="each step",
    )
    for axes, what in ((left, "loss"), (right, "accuracy")):
        for split, color in (("train", "tab:blue"), ("val", "tab:orange")):
            points = [
                (x["step"], x[f"{split}_{what}"])
                for x in epochs
                if x[f"{split}_{what}"] is not None
            ]
            axes.plot(
                [p[0] for p in points], [p[1] for p in points], marker=".", color=color, label=split
            )
        axes.set(xlabel="step", title=what)
        axes.legend()
    right.set(ylim=(0, 1))
    return save(figure, out or run / FOLDER, "curves.png")


def draw_sweep(out: Path, runs: Mapping[str, Sequence[Path]]) -> Path | None:
    """Draw curves.png: loss and accuracy of train and val per epoch.

    Each run has a color, each seed a line.

    Args:
        out: The folder of the figure.
        runs: Name of a run -> its run folders, one for each seed.

    Returns:
        The path of the figure; None if no run has finished an epoch yet.
    """
    from matplotlib import colormaps

    figure, panels = new_figure(2, 2, width=6.0)
    colors = colormaps["tab10" if len(runs) <= 10 else "tab20"]
    shown = {}
    for number, (name, folders) in enumerate(runs.items()):
        for folder in folders:
            epochs = read_metrics(folder, "epoch")
            for axes, key in zip(panels.flat, _KEYS, strict=True):
                points = [(x["epoch"], x[key]) for x in epochs if x[key] is not None]
                if points:
                    (shown[name],) = axes.plot(
                        *zip(*points, strict=True),
                        color=colors(number % colors.N),
                        marker=".",
                        linewidth=1.2,
                    )
    if not shown:
        return None
    for axes, key in zip(panels.flat, _KEYS, strict=True):
        axes.set(title=key.replace("_", ", "), xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if key.endswith("accuracy"):
            axes.set(ylim=(0, 1))
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=8)
    return save(figure, out, "curves.png")
