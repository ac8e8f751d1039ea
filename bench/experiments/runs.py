"""The state of every run of the reports: measured, with other settings, older, waiting, not run.

In: the recipes that reproduce a study, and folders with the tables of sweeps. Out: `Outcome`s.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from slipform.bench.experiments.claims import Results, Value
from slipform.pipelines.files import open_regular
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, recipe_names
from slipform.train.sweep.measured import EPOCHS, NUMBERS
from slipform.train.sweep.table import stated_settings

__all__ = [
    "STATES", "Outcome", "State", "SweepTable", "outcomes", "results_of", "studies", "sweep_table",
    "sweep_tables",
]  # fmt: skip

State = Literal["measured", "other settings", "older or shorter", "waits for weights", "not run"]
# From the best to the worst: of several tables the best one counts.
STATES: tuple[State, ...] = (
    "measured",
    "other settings",
    "older or shorter",
    "waits for weights",
    "not run",
)
Row = Mapping[str, str]


@dataclass(frozen=True)
class SweepTable:
    """The tables of a sweep.

    Attributes:
        recipe: The name of the recipe.
        folder: The folder of the tables.
        rows: The lines of table.csv.
        epochs: The lines of epochs.csv; none of older tables.
    """

    recipe: str
    folder: Path
    rows: Sequence[Row]
    epochs: Sequence[Row]

    def row(self, run: str) -> Row:
        """The line of a run; empty without one.

        Args:
            run: The name of the run.
        """
        return next((row for row in self.rows if row.get("run") == run), {})

    def measured(self, run: str) -> dict[str, float]:
        """The numbers of a run by column: "test_accuracy".

        Args:
            run: The name of the run.
        """
        numbers = {name: _number(text) for name, text in self.row(run).items() if name}
        return {name: value for name, value in numbers.items() if value is not None}

    def by_epoch(self, run: str) -> dict[str, list[float]]:
        """The numbers of every epoch by column: the mean over the repeats that have the epoch.

        Args:
            run: The name of the run.
        """
        found: dict[str, dict[int, list[float]]] = {name: {} for name in NUMBERS}
        for line in self.epochs:
            epoch = _number(line.get("epoch"))
            if line.get("run") != run or epoch is None:
                continue
            for name in NUMBERS:
                if (value := _number(line.get(name))) is not None:
                    found[name].setdefault(int(epoch), []).append(value)
        return {
            name: [mean(many[epoch]) for epoch in sorted(many)]
            for name, many in found.items()
            if many
        }


@dataclass(frozen=True)
class Outcome:
    """A run of a study.

    Attributes:
        study: The study: "A1".
        recipe: The name of the recipe.
        run: The entry of the recipe.
        model: The settings [model] of the run.
        state: "measured": all settings are those of the recipe. "other settings": those in
            `differs` are not. "older or shorter": a result of fewer epochs, or from before the
            recipe was corrected. "waits for weights": it needs ImageNet weights.
        seeds: The number of finished runs with different seeds.
        measured: Column of table.csv -> value, such as "test_accuracy".
        epochs: Column of epochs.csv -> the value of every epoch.
        note: The note of the table.
        differs: The settings and the data that differ from those of the recipe.
        machine, precision: Those of the trainings. "" where an older table does not tell it.
        folder: The folder of the table; None without one.
    """

    study: str
    recipe: str
    run: SweepRun
    model: dict[str, Any]
    state: State
    seeds: int = 0
    measured: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""
    differs: str = ""
    machine: str = ""
    precision: str = ""
    folder: Path | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether the run starts from ImageNet weights."""
        return self.model.get("weights", "none") != "none"

    @property
    def has_result(self) -> bool:
        """Whether a training has finished or diverged."""
        return self.state in STATES[:3]

    @property
    def accuracy(self) -> tuple[float, float] | None:
        """Reported and measured accuracy, on test or else on validation; None without both."""
        for column in ("test_accuracy", "val_accuracy"):
            if column in self.run.reported and column in self.measured:
                return float(self.run.reported[column]), self.measured[column]
        return None

    @property
    def diverged(self) -> bool:
        """Whether the training diverged."""
        return self.note.startswith("diverged") and "in the report" not in self.note


def studies() -> list[Recipe]:
    """The recipes that reproduce a study, in the order of the studies."""
    found = [load_recipe(name) for name in recipe_names()]
    return sorted((recipe for recipe in found if recipe.study), key=lambda one: one.study)


def outcomes(folder: Path, recipes: Sequence[Recipe] | None = None) -> list[Outcome]:
    """The outcome of every run of studies.

    Args:
        folder: A folder that contains folders with the tables of sweeps.
        recipes: The recipes of the studies. Default: those of the reports.
    """
    tables = sweep_tables(folder)
    found = []
    for recipe in studies() if recipes is None else recipes:
        own = [table for table in tables if table.recipe == recipe.name]
        for run in recipe.runs:
            untried = _untried(recipe, run)
            tried = [_tried(untried, recipe, table) for table in own]
            # Of several tables with such a result: the one with the most seeds.
            best = min([*tried, untried], key=lambda one: (STATES.index(one.state), -one.seeds))
            found.append(best)
    return found


def sweep_tables(folder: Path) -> list[SweepTable]:
    """The tables of all sweeps in a folder, sorted by the name of their folders.

    Args:
        folder: A folder that contains folders with table.md, table.csv and epochs.csv.
    """
    found = (sweep_table(path) for path in sorted(folder.iterdir()))
    return [table for table in found if table is not None]


def sweep_table(folder: Path) -> SweepTable | None:
    """The tables of a sweep; None if the folder has none.

    Args:
        folder: The folder of table.md, table.csv and epochs.csv.
    """
    if not (folder / "table.csv").is_file():
        return None
    with open_regular(folder / "table.md") as file:
        heading = re.match(rb"# (\S+)", file.readline())
    if heading is None:
        return None
    epochs = _rows(folder / EPOCHS) if (folder / EPOCHS).is_file() else []
    return SweepTable(heading[1].decode("utf-8"), folder, _rows(folder / "table.csv"), epochs)


def _rows(path: Path) -> list[Row]:
    with open_regular(path) as file:
        return list(csv.DictReader(io.StringIO(file.read().decode("utf-8"))))


def _untried(recipe: Recipe, run: SweepRun) -> Outcome:
    model = {**recipe.base.get("model", {}), **run.overrides.get("model", {})}
    study = recipe.study or str(recipe.report.get("own", ""))
    found = Outcome(study, recipe.name, run, model, "not run")
    return replace(found, state="waits for weights") if found.needs_weights else found


def _tried(untried: Outcome, recipe: Recipe, table: SweepTable) -> Outcome:
    """The outcome of a run that a table lists."""
    row = table.row(untried.run.name)
    note, seeds = row.get("note", ""), int(row.get("seeds") or 0)
    differs, state = row.get("differs", ""), untried.state
    if seeds or note.startswith("diverged"):
        if row.get("settings") == stated_settings(recipe, untried.run):
            state = "measured"
        else:
            state = "other settings" if differs else "older or shorter"
    return replace(
        untried, state=state, seeds=seeds, measured=table.measured(untried.run.name),
        epochs=table.by_epoch(untried.run.name), note=note, differs=differs,
        # Older tables have "1 cores".
        machine=re.sub(r"\b1 cores\b", "1 core", row.get("machine", "")),
        precision=row.get("precision", ""), folder=table.folder,
    )  # fmt: skip


def _number(text: str | None) -> float | None:
    """A finite number; None if the text is none."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def results_of(found: Iterable[Outcome]) -> Results:
    """The results for checks. Only runs with the settings of their recipes count as evidence.

    Args:
        found: The outcomes of all runs.
    """
    results: dict[str, dict[str, dict[str, Value]]] = {}
    for one in found:
        if one.state == "measured":
            epochs = {f"epochs_{name}": values for name, values in one.epochs.items()}
            values: dict[str, Value] = {**one.measured, **epochs, "diverged": one.diverged}
            results.setdefault(one.study, {})[one.run.name] = values
    return results
