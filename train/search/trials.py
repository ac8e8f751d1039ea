"""The tables and the figure of a search.

In: a study of Optuna. Out: trials.csv (in order), trials.md (the best first), trials.png.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from slipform.pipelines.files import write_whole
from slipform.pipelines.number_text import number_text
from slipform.train.figures.draw import save
from slipform.train.figures.search import trials_figure
from slipform.train.records import read_summary
from slipform.train.search.space import Range

__all__ = ["TRIALS", "draw_trials", "write_trials"]

TRIALS = ("trials.md", "trials.csv", "trials.png")
_SHOWN = 50  # lines of trials.md


def write_trials(out: Path, study: Any, ranges: Sequence[Range], heading: Sequence[str]) -> Path:
    """Write trials.csv and trials.md.

    Args:
        out: The folder of the search.
        study: The study.
        ranges: The settings that vary.
        heading: The first lines of trials.md.

    Returns:
        The path of trials.md.
    """
    names = [one.name for one in ranges]
    rows = [_row(out, trial, names) for trial in study.get_trials(deepcopy=False)]
    columns = ["trial", "state", "val_accuracy", "test_accuracy", "seconds", *names]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(out / "trials.csv", text.getvalue())
    done = [row for row in rows if row["state"] == "complete"]
    best = sorted(done, key=lambda row: (-row["val_accuracy"], row["trial"]))
    lines = [*heading, "", *_markdown(best[:_SHOWN], columns)]
    others = [f"{row['trial']} ({row['state']})" for row in rows if row["state"] != "complete"]
    if others:
        lines += ["", f"Without a result: {', '.join(others)}"]
    if done:
        lines += ["", "![trials](trials.png)"]
    write_whole(out / "trials.md", "\n".join(lines) + "\n")
    return out / "trials.md"


def draw_trials(out: Path, study: Any, ranges: Sequence[Range]) -> None:
    """Draw trials.png, if a trial has finished. An error is ignored: the tables do not need it.

    Args:
        out: The folder of the search.
        study: The study.
        ranges: The settings that vary.
    """
    # A pruned trial has a value, too: that of its last epoch.
    trials = study.get_trials(deepcopy=False)
    done = [one for one in trials if one.state.name == "COMPLETE"]
    if not done:
        return
    settings = {one.name: [trial.params[one.name] for trial in done] for one in ranges}
    logarithmic = {one.name for one in ranges if one.log}
    with suppress(Exception):  # the disk or matplotlib
        figure = trials_figure("val accuracy", [x.value for x in done], settings, logarithmic)
        save(figure, out, "trials.png")


def _row(out: Path, trial: Any, names: Sequence[str]) -> dict[str, Any]:
    summary = read_summary(out / f"trial-{trial.number:03d}") or {}
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "val_accuracy": "" if trial.value is None else trial.value,
        "test_accuracy": "" if (test := summary.get("test_accuracy")) is None else test,
        "seconds": round(summary["seconds"], 1) if summary else "",
        **{name: trial.params.get(name, "") for name in names},
    }


def _markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    shown = [column for column in columns if column != "state"]
    lines = ["| " + " | ".join(shown) + " |", "| " + " | ".join("---" for _ in shown) + " |"]
    for row in rows:
        cells = [number_text(x) if isinstance(x := row[n], float) else str(x) for n in shown]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return lines
