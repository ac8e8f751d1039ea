"""Differences between reported and measured accuracies: what was tried, and what explains them.

In: the outcomes of all runs; the recipes in tried/, and the tables of their sweeps. Out: Markdown.
A recipe in tried/ has [report] with `study` and `of`, the run that differs, and with `column`, the
accuracy that is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipform.bench.experiments.runs import Outcome, SweepTable
from slipform.train.config.recipe import Recipe, load_recipe
from slipform.train.sweep.table import stated_settings
from slipform.train.sweep.table_text import flat, value_text

__all__ = ["TRIED", "differences_section", "tried_recipes"]

TRIED = Path(__file__).with_name("tried")
_PRECISION = "train.precision"
_EQUAL, _LARGE = 0.02, 0.05  # of accuracies


@dataclass(frozen=True)
class _Try:
    """A setting that was tried: its text, the accuracy, the number of seeds."""

    text: str
    accuracy: float
    seeds: int


def tried_recipes() -> list[Recipe]:
    """The recipes of settings to try, sorted by name."""
    return [load_recipe(path) for path in sorted(TRIED.glob("*.toml"))]


def differences_section(found: Sequence[Outcome], tables: Sequence[SweepTable]) -> list[str]:
    """The lines of the section.

    Args:
        found: The outcomes of all runs of the studies.
        tables: The tables of all sweeps.
    """
    recipes = tried_recipes()
    asked = {(recipe.report["study"], recipe.report["of"]) for recipe in recipes}
    large = [
        one
        for one in found
        if one.state == "measured" and one.accuracy and _gap(*one.accuracy) > _LARGE
    ]
    lines = [
        "## Differences",
        "",
        f"A difference counts from {100 * _LARGE:g} points of accuracy. A setting explains it if it"
        f" comes within {100 * _EQUAL:g} points of the report.",
        "",
    ]
    for recipe in recipes:
        lines += _of_recipe(recipe, found, tables)
    rest = [one for one in large if (one.study, one.run.name) not in asked]
    if rest:
        names = ", ".join(_named(one) for one in rest)
        lines += [f"Not explained, nothing was tried: {names}.", ""]
    return lines


def _of_recipe(recipe: Recipe, found: Sequence[Outcome], tables: Sequence[SweepTable]) -> list[str]:
    study, run, column = (recipe.report[key] for key in ("study", "of", "column"))
    one = next(one for one in found if (one.study, one.run.name) == (study, run))
    reported = float(one.run.reported[column])
    tries = _tries(recipe, column, tables)
    own = one.measured.get(column) if one.state == "measured" else None
    measured = "not measured" if own is None else f"measured {own:.3f}"
    lines = [f"**{study}, `{run}`**: {column} reported {reported:.4g}, {measured}."]
    if not tries:
        before = any(_is_of(table, recipe) for table in tables)
        text = "It was tried with other settings only" if before else "Nothing was tried yet"
        return [f"{lines[0]} {text}: `{_command(recipe)}`.", ""]
    near = [tried.text for tried in tries if _gap(reported, tried.accuracy) <= _EQUAL]
    if near:
        verdict = f"The report's value comes with: {'; '.join(near)}."
    else:
        verdict = "No setting that was tried gives the report's value."
    if shared := _shared(recipe):
        verdict += f" All tries have {_text(shared)}."
    return [
        *lines,
        verdict,
        "",
        "| tried | measured | seeds |",
        "| --- | --- | --- |",
        *(f"| {tried.text} | {tried.accuracy:.4f} | {tried.seeds} |" for tried in tries),
        "",
    ]


def _tries(recipe: Recipe, column: str, tables: Sequence[SweepTable]) -> list[_Try]:
    """The settings of a recipe that were run as it states them."""
    own, shared = [table for table in tables if _is_of(table, recipe)], _shared(recipe)
    found = []
    for table in own:
        for run in recipe.runs:
            row, measured = table.row(run.name), table.measured(run.name)
            if row.get("settings") == stated_settings(recipe, run) and column in measured:
                settings = {k: v for k, v in flat(run.overrides).items() if k not in shared}
                text = _text(settings) or run.name
                found.append(_Try(text, measured[column], int(row.get("seeds") or 0)))
    return found


def _is_of(table: SweepTable, recipe: Recipe) -> bool:
    return Path(table.recipe).name == Path(recipe.name).name


def _shared(recipe: Recipe) -> dict[str, Any]:
    """The precision, if it is the same in all tries: they state it to be compared with the run."""
    values = {flat(run.overrides).get(_PRECISION) for run in recipe.runs}
    value = values.pop() if len(values) == 1 else None
    return {} if value is None else {_PRECISION: value}


def _text(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value_text(value)}" for key, value in settings.items())


def _named(one: Outcome) -> str:
    assert one.accuracy is not None
    reported, measured = one.accuracy
    return f"{one.study} `{one.run.name}` ({measured:.3f}, reported {reported:.4g})"


def _command(recipe: Recipe) -> str:
    name = Path(recipe.name)
    return (
        f"train DATA --recipe bench/experiments/tried/{name.name} --all --out"
        f" bench/results/experiments/tried-{name.stem}"
    )


def _gap(reported: float, measured: float) -> float:
    return abs(measured - reported)
