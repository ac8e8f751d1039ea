"""A sweep: all [[runs]] of a recipe with several seeds or folds, and one table of their results.

In: a recipe, a dataset folder, a folder for the runs. Out: the run folders out/RUN/seed-N (or
seed-N-fold-K-of-M), and table.md, table.csv and curves.png of all runs, written again whenever a
run ends.

Every run is its own process: a run that fails or has too little memory does not end the sweep. The
same command again skips runs that are finished or have diverged, and continues interrupted ones. A
finished run keeps its best weights but not its checkpoints: those of AlexNet take 0.9 GB.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from glob import escape
from pathlib import Path

from rich.console import Console

from slipform.models.imagenet import Unavailable
from slipform.models.registry import fetch_weights
from slipform.models.spec import ModelConfig
from slipform.pipelines.errors import ConfigError, Interrupted, SlipformError
from slipform.pipelines.files import check_links, locked, remove_orphans
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.records import METRICS, SUMMARY
from slipform.train.run import checkpoint
from slipform.train.run.folder import CONFIG, LOCK
from slipform.train.run.teacher import check_not_own
from slipform.train.run.unchanged import check_unchanged
from slipform.train.sweep.jobs import ONCE, WHOLE, Job, Repeats, make_jobs, run_jobs
from slipform.train.sweep.table import (
    TABLES,
    Row,
    has_no_effect,
    stated_settings,
    write_tables,
)

__all__ = ["data_differences", "prep_command", "run_sweep"]

_NO_WEIGHTS = "weights not available here"
_ADVICE = "give another --out, or --overwrite"
_CHANGED = "the recipe or the data changed while the sweep ran"


def run_sweep(
    recipe: Recipe,
    data: Path,
    out: Path,
    sets: Sequence[str] = (),
    *,
    only: Sequence[SweepRun] = (),
    num_at_once: int = 1,
    repeats: Repeats = ONCE,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Run all runs of a sweep that are not done yet, and write the tables.

    Args:
        recipe: The recipe. One without [[runs]] is one run, which must be repeated. One without a
            name has the settings for the dataset.
        data: The dataset folder.
        out: The folder for the runs and the tables.
        sets: Texts "SECTION.KEY=VALUE" that change settings of all runs.
        only: The runs to run. Default: all. The tables list all runs.
        num_at_once: The number of processes at a time.
        repeats: The seeds and folds of each run.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        overwrite: Repeat finished runs, those of `only`.
        quiet: Print nothing.

    Returns:
        The path of table.md.

    Raises:
        ConfigError: The recipe has no [[runs]] and no repeats, or `out` has runs with other
            settings or data.
        Interrupted: After Ctrl-C or SIGTERM, when all runs in progress have a checkpoint.
        SlipformError: At the end, if runs failed. A run that diverged, or whose pretrained weights
            cannot be downloaded, has not failed.
    """
    manifest = read_manifest(data)
    if not recipe.runs and repeats:
        recipe = replace(recipe, runs=(WHOLE,))
    jobs = make_jobs(recipe, out, sets, manifest, repeats)
    out.mkdir(parents=True, exist_ok=True)
    check_links(out, (LOCK, *TABLES, *(escape(run.name) for run in recipe.runs)))
    with locked(out / LOCK, "another sweep"):
        remove_orphans(out)
        return _run_locked(
            recipe, data, out, sets, manifest, jobs, only=only, num_at_once=num_at_once,
            repeats=repeats, device=device, overwrite=overwrite, quiet=quiet,
        )  # fmt: skip


def _run_locked(
    recipe: Recipe,
    data: Path,
    out: Path,
    sets: Sequence[str],
    manifest: Manifest,
    jobs: Sequence[Job],
    *,
    only: Sequence[SweepRun],
    num_at_once: int,
    repeats: Repeats,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> Path:
    asked = [job for job in jobs if not only or job.run in only]
    for job in jobs:
        check_not_own(job.config, job.folder)
    # Runs that are not asked for keep their results, also with `overwrite`.
    kept = [job for job in jobs if job not in asked] if overwrite else jobs
    advice = "give another --out, or overwrite all runs of the sweep" if overwrite else _ADVICE
    for job in kept:
        check_unchanged(job.folder, job.config, manifest, advice, has_no_effect)
    for job in asked if overwrite else ():
        for name in (SUMMARY, METRICS):
            (job.folder / name).unlink(missing_ok=True)
    many = [
        word
        for name, number in (
            ("seeds", repeats.seeds),
            ("folds", repeats.folds),
            ("jobs", num_at_once),
        )
        if number > 1
        for word in (f"--{name}", str(number))
    ]
    changed = [word for text in sets for word in ("--set", text)]
    heading = _heading(recipe, manifest, data, ["--out", str(out), *changed, *many])
    notes = _without_weights(jobs)
    matter = [text for text in sets if not has_no_effect(text.partition("=")[0].strip())]
    stated = [text for text in (*matter, data_differences(recipe, manifest)) if text]
    rows = []
    for number, run in enumerate(recipe.runs):
        own = jobs[number :: len(recipe.runs)]
        epochs = resolve(recipe, (), manifest, run).train.epochs
        folders, settings = [job.folder for job in own], stated_settings(recipe, run, stated)
        rows.append(Row(run, own[0].config, epochs, folders, notes, settings, "; ".join(stated)))

    def command(job: Job) -> list[str]:
        return _arguments(job, recipe, data, sets, device, overwrite)

    def ended(job: Job, code: int) -> str:
        if code == 0:
            shutil.rmtree(job.folder / checkpoint.FOLDER, ignore_errors=True)
            try:  # its process has read the recipe again
                check_unchanged(job.folder, job.config, manifest, _ADVICE, has_no_effect)
            except ConfigError as error:
                notes[job.folder] = f"failed: {_CHANGED}: {error.message}"
        elif code != Interrupted.exit_code and not job.has_diverged:
            notes[job.folder] = f"failed: {job.why_it_ended(code)}"
        with suppress(OSError):  # runs in progress go on; the tables are written again at the end
            write_tables(out, heading, rows)
        return job.result or job.why_it_ended(code)

    write_tables(out, heading, rows)
    for job in jobs:  # a run may have finished after its sweep was killed
        if job.is_finished:
            shutil.rmtree(job.folder / checkpoint.FOLDER, ignore_errors=True)
    left = [job for job in asked if job.folder not in notes and not job.is_finished]
    waiting = [job for job in left if not job.has_diverged]
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    run_jobs(waiting, command, ended, num_at_once=num_at_once, console=console)
    table = write_tables(out, heading, rows)
    failed = [
        f"{job} {notes[job.folder]}"
        for job in jobs
        if notes.get(job.folder, _NO_WEIGHTS) != _NO_WEIGHTS
    ]
    if failed:
        raise SlipformError(
            f"{len(failed)} of {len(jobs)} runs failed; the first: {failed[0]}. All: {table}"
        )
    return table


def _arguments(
    job: Job, recipe: Recipe, data: Path, sets: Sequence[str], device: str, overwrite: bool
) -> list[str]:
    """The arguments of `train` that start or resume a job."""
    begins = overwrite or not (job.folder / CONFIG).is_file()
    name = recipe.name if job.run is WHOLE else f"{recipe.name}:{job.run.name}"
    named = ["--recipe", name] if recipe.name else []
    what = [*named, "--out"] if begins else ["--resume"]
    own = [f"train.seed={job.config.train.seed}", f'data.fold="{job.config.data.fold}"']
    changed = [f"--set={text}" for text in (*sets, *own)]
    # A folder without settings is left of an own job that was killed as it began.
    replace = ["--overwrite"] if overwrite or (begins and job.folder.exists()) else []
    return [str(data), *what, str(job.folder), *changed, "--device", device, *replace]


def data_differences(recipe: Recipe, manifest: Manifest) -> str:
    """How a dataset differs from the one that a recipe is made for.

    Args:
        recipe: The recipe.
        manifest: The manifest of the dataset.

    Returns:
        The differences and the command for the recipe's dataset; "" if there are none.
    """
    given = {"dataset": manifest.dataset, **manifest.options}
    found = [
        f'{key} is "{given.get(key)}", the recipe is for "{value}"'
        for key, value in recipe.prep.items()
        if given.get(key) != value
    ]
    return f"other data: {', '.join(found)} ({prep_command(recipe)})" if found else ""


def prep_command(recipe: Recipe) -> str:
    """The command line that makes the dataset of a recipe.

    Args:
        recipe: A recipe with a [prep] table.
    """
    options = " ".join(
        f"--{key.replace('_', '-')} {value}"
        for key, value in recipe.prep.items()
        if key != "dataset"
    )
    return " ".join(f"prep {recipe.prep['dataset']} --source DIR --out DIR {options}".split())


def _without_weights(jobs: Sequence[Job]) -> dict[Path, str]:
    """Folder -> note, for jobs that are not done and whose weights cannot be downloaded.

    A run with a checkpoint needs no other weights.
    """
    waiting = [
        job
        for job in jobs
        if not job.is_finished and not job.has_diverged and not checkpoint.checkpoints(job.folder)
    ]
    models = {
        (job.config.model.weights, job.config.model.name): job.config.model for job in waiting
    }
    available = {key: _can_fetch(model) for key, model in models.items()}
    return {
        job.folder: _NO_WEIGHTS
        for job in waiting
        if not available[job.config.model.weights, job.config.model.name]
    }


def _can_fetch(model: ModelConfig) -> bool:
    """Download the weights of a net where they are not on this machine; False if that fails."""
    try:
        fetch_weights(model)
    except Unavailable:
        return False
    except ConfigError:
        return True  # the run fails with this error, and the others are run
    return True


def _heading(recipe: Recipe, manifest: Manifest, data: Path, options: Sequence[str]) -> list[str]:
    """The first lines of table.md: the name and description, the command line, the data."""
    title = f"# {recipe.name or manifest.dataset}" + (f" ({recipe.study})" if recipe.study else "")
    named = ["--recipe", recipe.name] if recipe.name else []
    command = shlex.join(["train", str(data), *named, "--all", *options])
    lines = [title, "", recipe.base.get("description", "").strip(), "", f"- Command: `{command}`"]
    lines += [f"- Data: {data}: {manifest.dataset}, {manifest.split_rule}"]
    different = data_differences(recipe, manifest)
    return [*lines, *([f"- {different[0].upper()}{different[1:]}"] if different else [])]
