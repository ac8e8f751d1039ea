"""The conclusions of the reports: each with a check, a verdict and the results that it is about.

In: recipes with conclusions, checks.toml, results. Out: verdicts, and a Markdown table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slipform.bench.experiments.claims import Results, Value, evaluate, used
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.files import open_regular
from slipform.train.config.recipe import Recipe

__all__ = ["CHECKS", "NO_CHECK", "Conclusion", "conclusion_table", "judge", "read_checks"]

CHECKS, NO_CHECK = "checks.toml", "no check"


@dataclass(frozen=True)
class Conclusion:
    """A conclusion of a report.

    Attributes:
        study: The study: "A1".
        text: What the report concludes.
        check: The check; "" if the results cannot decide it.
        verdict: The verdict, or `NO_CHECK`.
        shown: The measured values that the check reads, as text.
    """

    study: str
    text: str
    check: str
    verdict: str
    shown: str


def read_checks(path: Path, recipes: Sequence[Recipe]) -> dict[str, list[str]]:
    """Read the checks of studies.

    Args:
        path: checks.toml.
        recipes: The recipes of the studies.

    Raises:
        ConfigError: A study has another number of checks than its recipe has conclusions.
    """
    with open_regular(path) as file:
        checks = tomllib.loads(file.read().decode("utf-8"))
    for recipe in recipes:
        study = _study(recipe)
        wanted, given = len(_texts(recipe)), len(checks.get(study, []))
        if wanted != given:
            raise ConfigError(
                f"{path}: {study} has {given} checks, and {recipe.name} has {wanted}"
                ' conclusions. Give one for each, "" if the tables cannot decide it.'
            )
    return checks


def judge(
    recipes: Sequence[Recipe], checks: Mapping[str, Sequence[str]], results: Results
) -> list[Conclusion]:
    """Judge all conclusions of studies.

    Args:
        recipes: The recipes of the studies.
        checks: Study -> a check for each of its conclusions.
        results: The measured results.

    Raises:
        ConfigError: A check cannot be read.
    """
    return [
        Conclusion(
            _study(recipe),
            text,
            check,
            evaluate(check, _study(recipe), results) if check else NO_CHECK,
            _shown(check, _study(recipe), results) if check else "",
        )
        for recipe in recipes
        for text, check in zip(_texts(recipe), checks[_study(recipe)], strict=True)
    ]


def conclusion_table(conclusions: Sequence[Conclusion]) -> list[str]:
    """The lines of a Markdown table.

    Args:
        conclusions: What `judge` returned.
    """
    lines = [
        "| study | the report concludes | verdict | measured | check |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in conclusions:
        check = f"`{one.check}`" if one.check else ""
        text = one.text.replace("|", "/")
        lines.append(f"| {one.study} | {text} | {one.verdict} | {one.shown} | {check} |")
    return lines


def _study(recipe: Recipe) -> str:
    return recipe.study or str(recipe.report.get("own", ""))


def _texts(recipe: Recipe) -> list[str]:
    return [str(text) for text in recipe.report.get("conclusions", [])]


def _shown(check: str, study: str, results: Results) -> str:
    """The values of the results that a check reads: "val_accuracy: a 0.3, b 0.2"."""
    by_column: dict[str, list[str]] = {}
    for other, column, run in used(check, study):
        value = results.get(other, {}).get(run, {}).get(column)
        if value is None:
            continue
        name = run if other == study else f"{other} {run}"
        by_column.setdefault(column, []).append(f"{name} {_text(value)}")
    return "; ".join(f"{column}: {', '.join(values)}" for column, values in by_column.items())


def _text(value: Value) -> str:
    if isinstance(value, Sequence):
        ends = zip(("first", "last", "least", "most"), _ends(value), strict=True)
        return "(" + ", ".join(f"{name} {_text(number)}" for name, number in ends) + ")"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ends(epochs: Sequence[float]) -> tuple[float, float, float, float]:
    return epochs[0], epochs[-1], min(epochs), max(epochs)
