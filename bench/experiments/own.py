"""Studies of our own, which test the reports' conclusions with other weights or nets.

In: recipes with `own` in [report], their outcomes, their conclusions. Out: a section of the page.
They fill no row of a report.
"""

from __future__ import annotations

from collections.abc import Sequence

from slipform.bench.experiments.conclusions import Conclusion, conclusion_table
from slipform.bench.experiments.run_table import machines
from slipform.bench.experiments.runs import Outcome
from slipform.train.config.recipe import Recipe, load_recipe, recipe_names

__all__ = ["own_section", "own_studies"]


def own_studies() -> list[Recipe]:
    """The recipes of studies of our own, sorted by the name of the study."""
    found = [load_recipe(name) for name in recipe_names()]
    own = (recipe for recipe in found if recipe.report.get("own"))
    return sorted(own, key=lambda one: str(one.report["own"]))


def own_section(
    recipes: Sequence[Recipe], found: Sequence[Outcome], judged: Sequence[Conclusion]
) -> list[str]:
    """The lines of the section.

    Args:
        recipes: The recipes of the studies.
        found: The outcomes of their runs.
        judged: Their conclusions.
    """
    lines = []
    for recipe in recipes:
        study = str(recipe.report["own"])
        own = [one for one in found if one.study == study]
        done = [one for one in own if one.state == "measured"]
        lines += [
            f"## Study {study}: {recipe.report['title']}",
            "",
            f"{' '.join(recipe.base['description'].split())} {len(done)} of {len(own)} runs of"
            f" {recipe.name} were trained. The runs of the reports differ in net and weights, so"
            f" this fills none of their rows. {machines(done)}",
            "",
            *_runs(done),
            *conclusion_table([one for one in judged if one.study == study]),
            "",
        ]
    return lines


def _runs(done: Sequence[Outcome]) -> list[str]:
    if not done:
        return []
    lines = ["| run | val | test | seeds |", "| --- | --- | --- | --- |"]
    for one in done:
        cells = [
            f"{one.measured[name]:.4f}" if name in one.measured else ""
            for name in ("val_accuracy", "test_accuracy")
        ]
        shown = ["diverged", ""] if one.diverged else cells
        lines.append(f"| {one.run.name} | {' | '.join(shown)} | {one.seeds or ''} |")
    return [*lines, ""]
