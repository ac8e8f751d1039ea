"""Training of the reports' runs: all sweeps one after the other, and their tables.

In: the folder of the page, a folder with datasets. Out: run folders, and the tables of each sweep
in the folder of the page. A second call continues where the first one stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slipform.bench.experiments.runs import Outcome, outcomes, studies, sweep_table
from slipform.pipelines.errors import DatasetError, Interrupted, SlipformError
from slipform.pipelines.files import write_whole
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.recipe import Recipe
from slipform.train.sweep.jobs import Repeats
from slipform.train.sweep.sweep import data_differences, prep_command, run_sweep
from slipform.train.sweep.table import TABLES

__all__ = ["Which", "find_data", "train_studies"]

Which = Literal["missing", "waiting"]


def train_studies(
    folder: Path,
    data: Path,
    out: Path,
    which: Which,
    say: Callable[[str], None],
    *,
    seeds: int = 1,
    jobs: int = 1,
) -> list[str]:
    """Train the runs of all studies that have no result of the recipes' settings and all seeds.

    Args:
        folder: The folder of the page. The tables of each sweep are copied to a folder in it.
        data: A folder with dataset folders. A recipe takes the first one that it is made for.
        out: The folder for the runs.
        which: "missing": all such runs. "waiting": those of them that need ImageNet weights.
        say: Called with a message for each sweep.
        seeds: The number of seeds of each run.
        jobs: The number of runs at a time.

    Returns:
        Why sweeps were left out or have failed runs; empty if there was nothing of this kind.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM; the runs in progress have a checkpoint.
        SlipformError: `data` is no folder.
    """
    if not data.is_dir():
        raise SlipformError(f"--data {data} is no folder: give one that has dataset folders")
    found, problems = outcomes(folder), []
    for recipe in studies():
        wanted = [run for run in recipe.runs if _is_wanted(found, recipe, run.name, which, seeds)]
        if not wanted:
            continue
        own = find_data(recipe, data)
        if own is None:
            problems.append(f"{recipe.study}: no dataset in {data}; run: {prep_command(recipe)}")
            continue
        name = recipe.name.replace("/", "-")
        say(f"{recipe.study}, {recipe.name}: {len(wanted)} of {len(recipe.runs)} runs")
        try:
            run_sweep(
                recipe, own, out / name, only=wanted, repeats=Repeats(seeds), num_at_once=jobs
            )
        except Interrupted:
            _copy_tables(out / name, folder / name)
            raise
        except SlipformError as error:
            problems.append(f"{recipe.study}: {error}")
        _copy_tables(out / name, folder / name)
    return problems


def find_data(recipe: Recipe, data: Path) -> Path | None:
    """The first dataset folder that a recipe is made for.

    Args:
        recipe: The recipe.
        data: A folder with dataset folders.
    """
    for path in sorted(data.iterdir()):
        manifest = _manifest(path)
        if manifest is not None and not data_differences(recipe, manifest):
            return path
    return None


def _manifest(path: Path) -> Manifest | None:
    try:
        return read_manifest(path)
    except DatasetError:
        return None


def _is_wanted(found: list[Outcome], recipe: Recipe, run: str, which: Which, seeds: int) -> bool:
    one = next(one for one in found if (one.recipe, one.run.name) == (recipe.name, run))
    is_done = one.state == "measured" and (one.diverged or one.seeds >= seeds)
    return not is_done and (which == "missing" or one.needs_weights)


def _copy_tables(source: Path, target: Path) -> None:
    """Copy the tables of a sweep, to another folder where they would replace results of others.

    The runs of a sweep may have been trained on several machines.
    """
    if not (source / "table.csv").is_file():
        return
    own, number = _with_result(source), 1
    while _with_result(target) - own:
        number += 1
        target = target.with_name(f"{target.name.removesuffix(f'-{number - 1}')}-{number}")
    target.mkdir(parents=True, exist_ok=True)
    for name in TABLES:
        if (source / name).is_file():
            write_whole(target / name, (source / name).read_bytes())
        elif (target / name).is_file():
            (target / name).unlink()


def _with_result(folder: Path) -> set[tuple[str, str]]:
    """(run, settings) of the runs of a table that finished or diverged."""
    found = sweep_table(folder)
    rows = found.rows if found else ()
    return {
        (row["run"], row.get("settings", ""))
        for row in rows
        if int(row.get("seeds") or 0) or row.get("note", "").startswith("diverged")
    }
