"""The state of every run of the reports: measured, older or shorter, waiting, or not run.

In: the recipes that reproduce a study, and folders with the tables of sweeps. Out: `Outcome`s.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from slipform.bench.experiments.claims import Results
from slipform.pipelines.files import open_regular
from slipform.train.config.recipe import Recipe, SweepRun, load_recipe, recipe_names
from slipform.train.sweep.table import stated_settings

__all__ = ["STATES", "Outcome", "State", "outcomes", "results_of", "studies"]

State = Literal["measured", "older or shorter", "waits for weights", "not run"]
# From the best to the worst: of several tables the best one counts.
STATES: tuple[State, ...] = ("measured", "older or shorter", "waits for weights", "not run")


@dataclass(frozen=True)
class Outcome:
    """A run of a study.

    Attributes:
        study: The study: "A1".
        recipe: The name of the recipe.
        run: The entry of the recipe.
        model: The settings [model] of the run.
        state: "measured": all settings are those of the recipe. "older or shorter": a result of
            fewer epochs, or from before the recipe was corrected. "waits for weights": it needs
            ImageNet weights.
        seeds: The number of finished runs with different seeds.
        measured: Column of table.csv -> value, such as "test_accuracy".
        note: The note of the table.
        folder: The folder of the table; None without one.
    """

    study: str
    recipe: str
    run: SweepRun
    model: dict[str, Any]
    state: State
    seeds: int = 0
    measured: dict[str, float] = field(default_factory=dict)
    note: str = ""
    folder: Path | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether the run starts from ImageNet weights."""
        return self.model.get("weights", "none") != "none"

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


def outcomes(folder: Path) -> list[Outcome]:
    """The outcome of every run of every study.

    Args:
        folder: A folder that contains folders with table.md and table.csv of sweeps.
    """
    tables = [table for path in sorted(folder.iterdir()) for table in _tables(path)]
    found = []
    for recipe in studies():
        own = [(path, rows) for name, path, rows in tables if name == recipe.name]
        for run in recipe.runs:
            untried = _untried(recipe, run)
            tried = [_tried(untried, recipe, path, rows) for path, rows in own]
            found.append(min([*tried, untried], key=lambda one: STATES.index(one.state)))
    return found


def _tables(path: Path) -> Iterator[tuple[str, Path, list[dict[str, str]]]]:
    """(recipe, folder, rows) of a folder; nothing if it has no table of a sweep."""
    if not (path / "table.csv").is_file():
        return
    with open_regular(path / "table.md") as file:
        heading = re.match(rb"# (\S+)", file.readline())
    with open_regular(path / "table.csv") as file:
        rows = list(csv.DictReader(io.StringIO(file.read().decode("utf-8"))))
    if heading:
        yield heading[1].decode("utf-8"), path, rows


def _untried(recipe: Recipe, run: SweepRun) -> Outcome:
    model = {**recipe.base.get("model", {}), **run.overrides.get("model", {})}
    found = Outcome(recipe.study, recipe.name, run, model, "not run")
    return replace(found, state="waits for weights") if found.needs_weights else found


def _tried(untried: Outcome, recipe: Recipe, path: Path, rows: list[dict[str, str]]) -> Outcome:
    """The outcome of a run that a table lists."""
    row = next((row for row in rows if row["run"] == untried.run.name), {})
    note, seeds = row.get("note", ""), int(row.get("seeds") or 0)
    measured = {name: float(text) for name, text in row.items() if _is_number(text)}
    state = untried.state
    if seeds or note.startswith("diverged"):
        as_stated = row.get("settings") == stated_settings(recipe, untried.run)
        state = "measured" if as_stated else "older or shorter"
    return replace(untried, state=state, seeds=seeds, measured=measured, note=note, folder=path)


def _is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def results_of(found: list[Outcome]) -> Results:
    """The results for checks. Only runs with the settings of their recipes count as evidence.

    Args:
        found: The outcomes of all runs.
    """
    results: dict[str, dict[str, dict[str, float | bool]]] = {}
    for one in found:
        if one.state == "measured":
            values: dict[str, float | bool] = {**one.measured, "diverged": one.diverged}
            results.setdefault(one.study, {})[one.run.name] = values
    return results
