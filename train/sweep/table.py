"""The table of a sweep: reported and measured results, as Markdown and as CSV.

In: the recipe entry of each run, and its run folders, one for each seed and fold. Out: table.md,
table.csv, classes.csv and curves.png in one folder. A measured number is the mean over them. With
several seeds or folds the sample standard deviation is given, too.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from slipform.pipelines.files import write_whole
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.run_config import RunConfig
from slipform.train.figures import curves
from slipform.train.records import read_metrics, read_summary
from slipform.train.sweep.classes import write_classes

__all__ = ["TABLES", "Row", "stated_settings", "write_tables"]

TABLES = ("table.md", "table.csv", "classes.csv", "curves.png")  # the files of a sweep
_TABLE = TABLES[0]
# Reported values with columns of their own, unlike the other ones.
_OWN_COLUMNS = ("seconds", "minutes", "outcome", "val_accuracy", "test_accuracy")


@dataclass(frozen=True)
class Row:
    """One run of a sweep with all its seeds and folds.

    Attributes:
        run: The entry of the recipe.
        config: The settings of the run.
        epochs: The number of epochs in the recipe; `config` may have another one.
        folders: The run folders, one for each seed and fold.
        notes: Run folder -> why it was not run or failed; entries are added during a sweep.
        settings: What identifies the stated settings; see `stated_settings`.
    """

    run: SweepRun
    config: RunConfig
    epochs: int
    folders: list[Path]
    notes: Mapping[Path, str]
    settings: str = ""


def stated_settings(recipe: Recipe, run: SweepRun, sets: Sequence[str] = ()) -> str:
    """A short hash of what a recipe and the command line state about a run.

    Defaults, which new versions add, and the description have no influence.

    Args:
        recipe: The recipe.
        run: Its entry.
        sets: Texts "SECTION.KEY=VALUE" of the command line, and what is different in the data.
    """
    base = {name: value for name, value in recipe.base.items() if name != "description"}
    stated = [base, recipe.prep, run.overrides, [text for text in sets if text]]
    text = json.dumps(stated, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_tables(out: Path, heading: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write table.md and table.csv. With finished runs: also classes.csv and curves.png.

    An error of the figure is ignored: table.md then has no link to it.

    Args:
        out: The folder of the files.
        heading: The first lines of table.md.
        rows: The runs, in the order of the table.

    Returns:
        The path of table.md.
    """
    out.mkdir(parents=True, exist_ok=True)
    varying = list(dict.fromkeys(key for row in rows for key in _flat(row.run.overrides)))
    table = [_cells(row, varying) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for cells in table for key in cells)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(table)
    write_whole(out / "table.csv", text.getvalue())
    summaries = {
        row.run.name: [found for folder in row.folders if (found := read_summary(folder))]
        for row in rows
    }
    finished = [summary for many in summaries.values() for summary in many]
    classes = write_classes(out, summaries)
    try:
        figure = curves.draw_sweep(
            out,
            {row.run.name: row.folders for row in rows},
            {row.run.name: row.run.reported for row in rows},
            {row.run.name: row.run.reported_curve for row in rows},
        )
    except Exception:  # the disk or matplotlib; the tables do not need it
        figure = None
    lines = [
        *heading,
        *_how(finished),
        "",
        *_markdown(rows, table),
        *(["", f"Accuracy per class: [{classes.name}]({classes.name})"] if classes else []),
        *(["", f"![curves]({figure.name})"] if figure else []),
    ]
    write_whole(out / _TABLE, "\n".join(lines) + "\n")
    return out / _TABLE


def _cells(row: Row, varying: Iterable[str]) -> dict[str, Any]:
    """A line of the CSV file: name -> value, "" if there is none."""
    finished = [summary for folder in row.folders if (summary := read_summary(folder))]
    reported = dict(row.run.reported)
    if "minutes" in reported:
        reported["seconds"] = 60 * reported.pop("minutes")
    cells: dict[str, Any] = {
        "run": row.run.name,
        "folds" if row.config.data.fold else "seeds": len(finished),
        "settings": row.settings,
    }
    cells |= {key: _setting(row.config, key) for key in varying}
    cells |= {f"reported_{key}": value for key, value in reported.items()}
    for key in ("val_accuracy", "test_accuracy", "seconds", "images_per_second"):
        values = [summary[key] for summary in finished if summary[key] is not None]
        cells[key] = round(mean(values), 6) if values else ""
        cells[f"{key}_std"] = round(stdev(values), 6) if len(values) > 1 else ""
    for key in ("test_accuracy", "val_accuracy"):  # the first one that is reported and measured
        if key in reported and cells[key] != "":
            cells["points"] = round(100 * (cells[key] - reported[key]), 2)
            break
    if "seconds" in reported and finished:  # per epoch: the run may have fewer than the report's
        seconds_per_epoch = mean(summary["seconds"] / summary["epochs"] for summary in finished)
        cells["times_faster"] = round(reported["seconds"] / row.epochs / seconds_per_epoch, 2)
    for key in reported:
        if key not in _OWN_COLUMNS and finished:
            cells[key] = round(
                mean(_measured(folder, key) for folder in row.folders if read_summary(folder)), 6
            )
    return cells | {"note": _note(row, len(finished))}


def _measured(run: Path, key: str) -> float:
    """The measured value that a report calls `key`; nan if the records are damaged.

    "loss" means the training loss of the last epoch.
    """
    summary, steps, epochs = read_summary(run) or {}, read_metrics(run, "step"), _epochs(run)
    match key:
        case "loss":
            value = list(epochs.values())[-1]["train_loss"] if epochs else None
        case "first_loss":
            value = steps[0]["loss"] if steps else None
        case "stopped_at_epoch":
            value = summary.get("epochs")
        case "trainable_parameters":
            value = summary.get(key)
        case _:  # val_loss, train_loss, train_accuracy
            value = epochs.get(summary.get("best_epoch"), {}).get(key)
    return float("nan") if value is None else float(value)


def _epochs(run: Path) -> dict[Any, dict[str, Any]]:
    return {values["epoch"]: values for values in read_metrics(run, "epoch")}


def _note(row: Row, num_finished: int) -> str:
    num_diverged = sum(bool(read_metrics(folder, "diverged")) for folder in row.folders)
    said = row.run.reported.get("outcome") == "diverged"
    notes = [row.notes[folder] for folder in row.folders if folder in row.notes]
    parts = list(dict.fromkeys(notes))
    if row.config.train.epochs != row.epochs:
        parts.append(
            f"epochs: {row.config.train.epochs}, not {row.epochs}; times faster: per epoch"
        )
    if num_diverged:
        share = (
            ""
            if num_diverged == len(row.folders)
            else f" with {num_diverged} of {len(row.folders)} seeds"
        )
        parts.append(f"diverged{share}" + (", as reported" if said else ""))
    elif said:
        parts.append("diverged in the report")
    num_left = len(row.folders) - num_finished - num_diverged - len(notes)
    return "; ".join(
        [*parts, *([f"{num_left} of {len(row.folders)} not finished"] if num_left else [])]
    )


def _markdown(rows: Sequence[Row], table: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the table, without empty columns."""
    lines = []
    for row, cells in zip(rows, table, strict=True):
        also = [
            f"{key} {_figure(cells[f'reported_{key}'])} → {_figure(cells.get(key))}"
            for key in _others(cells)
        ]
        lines.append(
            {
                "run": row.run.name,
                "settings": ", ".join(
                    f"{_short(key)} {_text(value)}"
                    for key, value in _flat(row.run.overrides).items()
                ),
                "val, reported": _number(cells, "reported_val_accuracy", ".4g"),
                "val": _number(cells, "val_accuracy", ".4f"),
                "test, reported": _number(cells, "reported_test_accuracy", ".4g"),
                "test": _number(cells, "test_accuracy", ".4f"),
                "points": _number(cells, "points", "+.1f"),
                "seconds, reported": _number(cells, "reported_seconds", ".0f"),
                "seconds": _number(cells, "seconds", ".0f"),
                "times faster": _number(cells, "times_faster", ".3g"),
                "images/s": _number(cells, "images_per_second", ",.0f"),
                "other figures, reported → measured": ", ".join(also),
                "note": cells["note"].replace("|", "/"),
            }
        )
    columns = [column for column in lines[0] if any(line[column] for line in lines)]
    body = [[line[column] for column in columns] for line in lines]
    return ["| " + " | ".join(cells) + " |" for cells in (columns, ["---"] * len(columns), *body)]


def _others(cells: dict[str, Any]) -> list[str]:
    names = [key.removeprefix("reported_") for key in cells if key.startswith("reported_")]
    return [name for name in names if name not in _OWN_COLUMNS]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _number(cells: dict[str, Any], key: str, form: str) -> str:
    """The number, with its standard deviation if there is one; "" if there is no number."""
    if cells.get(key, "") == "":
        return ""
    spread = cells.get(f"{key}_std", "")
    return f"{cells[key]:{form}}" + (f" ± {spread:{form}}" if spread != "" else "")


def _how(finished: Sequence[dict[str, Any]]) -> list[str]:
    """The machines and versions that the runs recorded."""
    how = {
        (
            s["machine"],
            s["torch"],
            s["precision"] + (", compiled" if s["compiled"] else ""),
            s["executor"],
        )
        for s in finished
    }
    return [
        f"- Machine: {machine}; torch {torch}, {mode}, executor {executor}"
        for machine, torch, mode, executor in sorted(how)
    ]


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"optimizer": {"lr": 1}} -> {"optimizer.lr": 1}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= (
            _flat(value, f"{prefix}{key}.")
            if isinstance(value, dict)
            else {f"{prefix}{key}": value}
        )
    return found


def _setting(config: RunConfig, dotted: str) -> str:
    value: Any = config.model_dump()
    for key in dotted.split("."):
        value = value.get(key, "")
    return _text(value)


def _short(dotted: str) -> str:
    section, _, key = dotted.rpartition(".")
    return section if key == "name" else key


def _text(value: Any) -> str:
    return (
        " ".join(map(str, value))
        if isinstance(value, list | tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
