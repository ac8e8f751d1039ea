"""Figures of a run, drawn from its folder: `curves`.

In: a run folder. Out: PNG files in its figures/. matplotlib is used without a display.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train.record import read_metrics

FOLDER = "figures"


def curves(run: Path) -> Path:
    """figures/curves.png: loss per step and epoch beside accuracy per epoch."""
    steps, epochs = read_metrics(run, "step"), read_metrics(run, "epoch")
    figure, (left, right) = _figure(2)
    left.plot([x["step"] for x in steps], [x["loss"] for x in steps], color="0.8", linewidth=0.8, label="each step")
    for axes, what in ((left, "loss"), (right, "accuracy")):
        for split, color in (("train", "tab:blue"), ("val", "tab:orange")):
            points = [(x["step"], x[f"{split}_{what}"]) for x in epochs if x[f"{split}_{what}"] is not None]
            axes.plot([p[0] for p in points], [p[1] for p in points], marker=".", color=color, label=split)
        axes.set(xlabel="step", title=what)
        axes.legend()
    right.set(ylim=(0, 1))
    return _save(figure, run, "curves.png")


def _figure(num_columns: int) -> Any:
    """Figure and axes without pyplot, which would keep every figure and ask for a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * num_columns, 4), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, num_columns)


def _save(figure: Any, run: Path, name: str) -> Path:
    path = run / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path
