"""The accuracy per class of all runs of a sweep, as CSV.

In: the summaries of finished runs. Out: classes.csv: a line for each class, a column for each run.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from slipform.pipelines.files import write_whole

__all__ = ["NAME", "write_classes"]

NAME = "classes.csv"


def write_classes(out: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path | None:
    """Write classes.csv, the mean over the seeds of each run.

    Args:
        out: The folder of the file.
        runs: Name of a run -> its summaries, one for each finished seed.

    Returns:
        The path of the file; None if no summary has accuracies per class.
    """
    found = {
        name: [one["test_class_accuracy"] for one in summaries if _has_classes(one)]
        for name, summaries in runs.items()
    }
    found = {name: many for name, many in found.items() if many}
    if not found:
        return None
    classes = dict.fromkeys(name for many in found.values() for one in many for name in one)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *found])
    for name in classes:
        columns = [
            [one[name] for one in many if _is_number(one.get(name))] for many in found.values()
        ]
        writer.writerow([name, *(round(mean(values), 6) if values else "" for values in columns)])
    write_whole(out / NAME, text.getvalue())
    return out / NAME


def _has_classes(summary: Mapping[str, Any]) -> bool:
    return isinstance(summary.get("test_class_accuracy"), dict)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
