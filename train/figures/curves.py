"""Curves of loss and accuracy: of one run, and of the runs of a sweep laid over each other.

In: the metrics of run folders. Out: curves.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slipform.train.figures.draw import FOLDER, new_figure, save
from slipform.train.records import read_metrics

KEYS = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


def draw_run(run: Path, out: Path | None = None) -> Path:
    """curves.png in `out`, or the run's figures/: loss per step and epoch beside accuracy per
    epoch."""
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
    """curves.png in `out`: loss and accuracy, of train and val, by epoch. A color for each run, a
    line for each seed.

    None where no run has an epoch yet.
    """
    from matplotlib import colormaps

    figure, panels = new_figure(2, 2, width=6.0)
    colors = colormaps["tab10" if len(runs) <= 10 else "tab20"]
    shown = {}
    for number, (name, folders) in enumerate(runs.items()):
        for folder in folders:
            epochs = read_metrics(folder, "epoch")
            for axes, key in zip(panels.flat, KEYS, strict=True):
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
    for axes, key in zip(panels.flat, KEYS, strict=True):
        axes.set(title=key.replace("_", ", "), xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        if key.endswith("accuracy"):
            axes.set(ylim=(0, 1))
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=8)
    return save(figure, out, "curves.png")
