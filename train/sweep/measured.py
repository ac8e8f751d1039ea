"""What the finished repeats of a run measured, and the numbers of every epoch as CSV.

In: run folders. Out: values by the names that reports use; epochs.csv.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from slipform.pipelines.files import write_whole
from slipform.train.records import read_metrics, read_summary

__all__ = ["EPOCHS", "MOST_LOAD", "NUMBERS", "is_quiet", "measured", "write_epochs"]

EPOCHS = "epochs.csv"
NUMBERS = tuple(
    f"{split}_{of}" for split in ("train", "val", "test") for of in ("loss", "accuracy")
)
# The share of the machine's cores that other processes may use where seconds are compared.
MOST_LOAD = 0.05


def is_quiet(summary: Mapping[str, Any]) -> bool:
    """Whether the seconds of a run are its own: other processes used at most 5 % of the cores.

    Args:
        summary: The content of summary.json. Older ones do not say it, and count as under load.
    """
    share = summary.get("others_share")
    return isinstance(share, int | float) and not isinstance(share, bool) and share <= MOST_LOAD


def measured(run: Path, key: str) -> float | None:
    """The measured value that a report calls `key`.

    Args:
        run: The folder of a finished run.
        key: A name of `reported` in a recipe. "loss" is the training loss of the last epoch;
            "val_loss", "train_loss" and "train_accuracy" are those of the epoch that was saved.

    Returns:
        The value; None if the run did not record it.
    """
    summary, epochs = read_summary(run) or {}, read_metrics(run, "epoch")
    by_number = {values["epoch"]: values for values in epochs}
    value: Any = None
    match key:
        case "loss":
            value = epochs[-1]["train_loss"] if epochs else None
        case "first_loss":
            steps = read_metrics(run, "step")
            value = steps[0]["loss"] if steps else None
        case "first_val_accuracy" | "first_test_accuracy":
            value = by_number.get(1, {}).get(key.removeprefix("first_"))
        case "stopped_at_epoch":
            value = summary.get("epochs")
        case "trainable_parameters":
            value = summary.get(key)
        case "val_loss" | "train_loss" | "train_accuracy":
            value = by_number.get(summary.get("best_epoch"), {}).get(key)
        case _:
            value = _of_classes(summary.get("test_class_accuracy"), key)
    return float(value) if _is_number(value) else None


def _of_classes(by_class: Any, key: str) -> float | None:
    """The accuracy of the worst class, the mean of the others, the limits of the worse half."""
    found = by_class.values() if isinstance(by_class, dict) else ()
    values = sorted(value for value in found if _is_number(value))
    if len(values) < 2:
        return None
    half = values[: len(values) // 2]
    worst = {"worst_class_accuracy": values[0], "other_classes_accuracy": mean(values[1:])}
    return (worst | {"worst_half_min": half[0], "worst_half_max": half[-1]}).get(key)


def write_epochs(out: Path, runs: Mapping[str, Iterable[Path]]) -> Path | None:
    """Write epochs.csv: a line for each epoch of each repeat of each run.

    Args:
        out: The folder of the file.
        runs: Name of a run -> its run folders, one for each seed and fold.

    Returns:
        The path of the file; None if no run has finished an epoch.
    """
    lines: list[Sequence[Any]] = [
        [name, folder.name, epoch["epoch"], *(_rounded(epoch.get(key)) for key in NUMBERS)]
        for name, folders in runs.items()
        for folder in folders
        for epoch in read_metrics(folder, "epoch")
    ]
    if not lines:
        return None
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "repeat", "epoch", *NUMBERS])
    writer.writerows(lines)
    write_whole(out / EPOCHS, text.getvalue())
    return out / EPOCHS


def _rounded(value: object) -> object:
    return round(value, 6) if isinstance(value, int | float) else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
