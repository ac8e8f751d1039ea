"""The curves of a sweep's runs laid over each other.

In: the run folders. Out: curves.png.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from slipform.train.figures.result import new_figure, save
from slipform.train.run.record import read_metrics

KEYS = ("train_loss", "val_loss", "train_accuracy", "val_accuracy")


def curves(out: Path, runs: Mapping[str, Sequence[Path]]) -> Path | None:
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
