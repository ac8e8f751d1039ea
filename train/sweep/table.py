"""The table of a sweep: reported and measured results, as Markdown and as CSV.

In: the recipe entry of each run, and its run folders, one for each seed and fold. Out: table.md,
table.csv, epochs.csv, classes.csv and curves.png in one folder. A measured number is the mean over
the repeats. With several of them the sample standard deviation is given, too.

Seconds are compared only if other processes used few of the cores, see `measured.is_quiet`.
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
from slipform.train.sweep.classes import NAME as CLASSES
from slipform.train.sweep.classes import write_classes
from slipform.train.sweep.measured import EPOCHS, is_quiet, measured, write_epochs
from slipform.train.sweep.table_text import (
    OWN_COLUMNS,
    flat,
    machines,
    markdown,
    spread,
    value_text,
)

__all__ = ["TABLES", "Row", "has_no_effect", "stated_settings", "write_tables"]

# The files of a sweep.
TABLES = ("table.md", "table.csv", EPOCHS, CLASSES, "curves.png")
_TABLE = TABLES[0]
# Settings of [data] that decide which images are seen, and in which order.
_SELECTS = ("data.sampling", "data.fold", "data.fold_seed", "data.fold_rule", "data.block")
_EACH_EPOCH = "test_each_epoch"


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
        differs: How settings and data differ from those of the recipe; "" if they do not.
    """

    run: SweepRun
    config: RunConfig
    epochs: int
    folders: list[Path]
    notes: Mapping[Path, str]
    settings: str = ""
    differs: str = ""


def has_no_effect(name: str) -> bool:
    """Whether a setting changes no weight and no selected epoch of a run.

    Args:
        name: Its dotted name: "data.threads".
    """
    if name == f"train.{_EACH_EPOCH}":
        return True
    return name.startswith(("data.", "records.")) and name not in _SELECTS


def stated_settings(recipe: Recipe, run: SweepRun, sets: Sequence[str] = ()) -> str:
    """A short hash of what a recipe and the command line state about a run.

    Defaults, which new versions add, the description, and whether test is measured at each epoch
    have no influence.

    Args:
        recipe: The recipe.
        run: Its entry.
        sets: Texts "SECTION.KEY=VALUE" of the command line, and what is different in the data.
    """
    base = {name: value for name, value in recipe.base.items() if name != "description"}
    if isinstance(base.get("train"), dict):
        base["train"] = {key: v for key, v in base["train"].items() if key != _EACH_EPOCH}
    stated = [base, recipe.prep, run.overrides, [text for text in sets if text]]
    text = json.dumps(stated, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_tables(out: Path, heading: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write table.md and table.csv. With finished epochs and runs: also the other files.

    An error of the figure is ignored: table.md then has no link to it.

    Args:
        out: The folder of the files.
        heading: The first lines of table.md.
        rows: The runs, in the order of the table.

    Returns:
        The path of table.md.
    """
    out.mkdir(parents=True, exist_ok=True)
    varying = list(dict.fromkeys(key for row in rows for key in flat(row.run.overrides)))
    table = [_cells(row, varying) for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(
        text, list(dict.fromkeys(key for cells in table for key in cells)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(table)
    write_whole(out / "table.csv", text.getvalue())
    folders = {row.run.name: row.folders for row in rows}
    summaries = {
        name: [found for folder in own if (found := read_summary(folder))]
        for name, own in folders.items()
    }
    finished = [summary for many in summaries.values() for summary in many]
    epochs, classes = write_epochs(out, folders), write_classes(out, summaries)
    try:
        figure = curves.draw_sweep(
            out,
            folders,
            {row.run.name: row.run.reported for row in rows},
            {row.run.name: row.run.reported_curve for row in rows},
        )
    except Exception:  # the disk or matplotlib; the tables do not need it
        figure = None
    lines = [
        *heading,
        *machines(finished),
        *spread(table),
        "",
        *markdown([row.run for row in rows], table),
        *(["", f"Every epoch: [{epochs.name}]({epochs.name})"] if epochs else []),
        *(["", f"Accuracy per class: [{classes.name}]({classes.name})"] if classes else []),
        *(["", f"![curves]({figure.name})"] if figure else []),
    ]
    write_whole(out / _TABLE, "\n".join(lines) + "\n")
    return out / _TABLE


def _cells(row: Row, varying: Iterable[str]) -> dict[str, Any]:
    """A line of the CSV file: name -> value, "" if there is none."""
    folders = {folder: summary for folder in row.folders if (summary := read_summary(folder))}
    finished = list(folders.values())
    quiet = [summary for summary in finished if is_quiet(summary)]
    reported = dict(row.run.reported)
    if "minutes" in reported:
        reported["seconds"] = 60 * reported.pop("minutes")
    cells: dict[str, Any] = {
        "run": row.run.name,
        _repeats(row.config): len(finished),
        "settings": row.settings,
        "differs": row.differs,
    }
    cells |= {key: _setting(row.config, key) for key in varying}
    cells |= {f"reported_{key}": value for key, value in reported.items()}
    for key in ("val_accuracy", "test_accuracy"):
        cells |= _statistics(key, finished)
    for key in ("seconds", "images_per_second"):
        cells |= _statistics(key, quiet)
    for key in ("test_accuracy", "val_accuracy"):  # the first one that is reported and measured
        if key in reported and cells[key] != "":
            cells["points"] = round(100 * (cells[key] - reported[key]), 2)
            break
    if "seconds" in reported and quiet:  # per epoch: the run may have fewer than the report's
        seconds_per_epoch = mean(summary["seconds"] / summary["epochs"] for summary in quiet)
        cells["times_faster"] = round(reported["seconds"] / row.epochs / seconds_per_epoch, 2)
    for key in dict.fromkeys(("loss", "trainable_parameters", *reported)):
        if key not in OWN_COLUMNS and finished:
            values = [value for folder in folders if (value := measured(folder, key)) is not None]
            cells[key] = round(mean(values), 6) if values else ""
    for key in ("machine", "precision"):
        cells[key] = "; ".join(sorted({summary[key] for summary in finished}))
    return cells | {"note": _note(row, folders)}


def _statistics(key: str, summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    values = [summary[key] for summary in summaries if summary[key] is not None]
    return {
        key: round(mean(values), 6) if values else "",
        f"{key}_std": round(stdev(values), 6) if len(values) > 1 else "",
    }


def _note(row: Row, finished: Mapping[Path, Mapping[str, Any]]) -> str:
    diverged = [folder for folder in row.folders if read_metrics(folder, "diverged")]
    num_diverged = len(diverged)
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
            else f" with {num_diverged} of {len(row.folders)} {_repeats(row.config)}"
        )
        parts.append(f"diverged{share}" + (", as reported" if said else ""))
    elif said:
        parts.append("diverged in the report")
    if loads := _loads([*finished.values()]):
        parts.append(f"{', '.join(loads)}: seconds do not count")
    # A run may have failed after its summary was written: it is finished, and has a note.
    num_left = len({*row.folders} - {*finished, *diverged, *row.notes})
    return "; ".join(
        [*parts, *([f"{num_left} of {len(row.folders)} not finished"] if num_left else [])]
    )


def _repeats(config: RunConfig) -> str:
    return "folds" if config.data.fold else "seeds"


def _loads(finished: Sequence[Mapping[str, Any]]) -> list[str]:
    """Why the seconds of runs do not count: "under load (1 of 3)", "load not recorded"."""
    unknown = sum(summary.get("others_share") is None for summary in finished)
    loud = sum(not is_quiet(summary) for summary in finished) - unknown
    return [
        name + ("" if number == len(finished) else f" ({number} of {len(finished)})")
        for name, number in (("under load", loud), ("load not recorded", unknown))
        if number
    ]


def _setting(config: RunConfig, dotted: str) -> str:
    value: Any = config.model_dump()
    for key in dotted.split("."):
        value = value.get(key, "")
    return value_text(value)
