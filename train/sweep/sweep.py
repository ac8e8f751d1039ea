"""Many runs, one table: all [[runs]] of a recipe, with one or more seeds each, one after another or
several at once.

In: a recipe, a dataset folder, a folder for the runs. Out: out/RUN/seed-N, a run folder each;
table.md, table.csv and curves.png of all of them, written anew whenever a run ends.

Every run is a process of its own, so that one that fails or runs out of memory is one row of the
table. Done again, a sweep passes over what is finished or has diverged, and goes on with what was
interrupted. A finished run keeps its best weights and gives up its checkpoints: AlexNet's take 0.9
GB.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from slipform.models.imagenet import Unavailable, fetch_imagenet
from slipform.pipelines.errors import ConfigError, Interrupted, SlipformError
from slipform.pipelines.files import locked, remove_orphans
from slipform.pipelines.manifest import Manifest, read_manifest
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.records import METRICS, SUMMARY, read_summary
from slipform.train.run import checkpoint
from slipform.train.run.folder import CONFIG, LOCK, run_config
from slipform.train.run.identity import differences as data_changes
from slipform.train.run.resume import differences
from slipform.train.sweep.jobs import Job, run_jobs
from slipform.train.sweep.table import Row, write_tables

NO_WEIGHTS = "weights not available here"


def run_sweep(
    recipe: Recipe,
    data: Path,
    out: Path,
    sets: Sequence[str] = (),
    *,
    only: Sequence[SweepRun] = (),
    num_at_once: int = 1,
    num_seeds: int = 1,
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Do what is not done yet, or of that just the runs `only`; return the path of table.md, which
    lists all.

    Raises ConfigError where `out` holds runs with other settings, Interrupted once all that was
    going on has a checkpoint, SlipformError at the end where runs failed. A run that diverged, or
    whose ImageNet weights cannot be had, is no failure.
    """
    manifest = read_manifest(data)
    jobs = make_jobs(recipe, out, sets, manifest, num_seeds)
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK, "another sweep"):
        remove_orphans(out)
        return _run_locked(
            recipe, data, out, sets, manifest, jobs, only=only, num_at_once=num_at_once,
            num_seeds=num_seeds, device=device, overwrite=overwrite, quiet=quiet,
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
    num_seeds: int,
    device: str,
    overwrite: bool,
    quiet: bool,
) -> Path:
    for job in jobs:
        if overwrite:
            for name in (SUMMARY, METRICS):
                (job.folder / name).unlink(missing_ok=True)
        else:
            _check_unchanged(job, manifest)
    many = [
        f"--{name} {number}"
        for name, number in (("seeds", num_seeds), ("jobs", num_at_once))
        if number > 1
    ]
    heading = _heading(
        recipe, manifest, data, ["--out", str(out), *(f"--set {text}" for text in sets), *many]
    )
    notes = _without_weights(jobs)
    rows = []
    for number, run in enumerate(recipe.runs):
        own = jobs[number :: len(recipe.runs)]
        epochs = resolve(recipe, (), manifest, run).train.epochs
        rows.append(Row(run, own[0].config, epochs, [job.folder for job in own], notes))

    def command(job: Job) -> list[str]:
        return _arguments(job, recipe, data, sets, device, overwrite)

    def ended(job: Job, code: int) -> str:
        if code == 0:
            shutil.rmtree(job.folder / checkpoint.FOLDER, ignore_errors=True)
        elif code != Interrupted.exit_code and not job.has_diverged:
            notes[job.folder] = f"failed: {job.last_message()}"
        write_tables(out, heading, rows)
        summary = read_summary(job.folder)
        return (
            f"test accuracy {summary['test_accuracy']}, {summary['seconds']:.0f} s"
            if summary
            else job.last_message()
        )

    table = write_tables(out, heading, rows)
    asked = [job for job in jobs if not only or job.run in only]
    waiting = [
        job
        for job in asked
        if job.folder not in notes and not job.is_finished and not job.has_diverged
    ]
    console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
    run_jobs(waiting, command, ended, num_at_once=num_at_once, console=console)
    failed = [
        f"{job} {notes[job.folder]}"
        for job in jobs
        if notes.get(job.folder, NO_WEIGHTS) != NO_WEIGHTS
    ]
    if failed:
        raise SlipformError(
            f"{len(failed)} of {len(jobs)} runs failed; the first: {failed[0]}. The others are in"
            f" {table}"
        )
    return table


def _arguments(
    job: Job, recipe: Recipe, data: Path, sets: Sequence[str], device: str, overwrite: bool
) -> list[str]:
    """What `train` is called with for one job: to begin it, or to go on with it."""
    begins = overwrite or not (job.folder / CONFIG).is_file()
    what = ["--recipe", f"{recipe.name}:{job.run.name}", "--out"] if begins else ["--resume"]
    changed = [f"--set={text}" for text in (*sets, f"train.seed={job.config.train.seed}")]
    return [
        str(data),
        *what,
        str(job.folder),
        *changed,
        "--device",
        device,
        *(["--overwrite"] if overwrite else []),
    ]


def make_jobs(
    recipe: Recipe, out: Path, sets: Sequence[str], manifest: Manifest, num_seeds: int
) -> list[Job]:
    """All runs in the recipe's order with the first seed, then all with the next, so that a table
    is soon complete."""
    if not recipe.runs:
        raise ConfigError(f"{recipe.name} is no sweep: it has no [[runs]]. Leave --all out.")
    for run in recipe.runs:
        if not run.name.strip("."):  # it becomes a folder
            raise ConfigError(f'{recipe.name}: a run is named "{run.name}": give it another name')
    jobs = []
    for offset in range(num_seeds):
        for run in recipe.runs:
            config = resolve(recipe, sets, manifest, run)
            seed = config.train.seed + offset
            config = config.replace("train.seed", seed)
            jobs.append(Job(run, config, out / run.name / f"seed-{seed}"))
    return jobs


def data_differences(recipe: Recipe, manifest: Manifest) -> str:
    """How the dataset differs from the one that the recipe is for, and how to make that; "" where
    it does not."""
    given = {"dataset": manifest.dataset, **manifest.options}
    found = [
        f'{key} is "{given.get(key)}", the recipe is for "{value}"'
        for key, value in recipe.prep.items()
        if given.get(key) != value
    ]
    return f"other data: {', '.join(found)} ({prep_command(recipe)})" if found else ""


def prep_command(recipe: Recipe) -> str:
    """The command line that makes the recipe's data."""
    options = " ".join(
        f"--{key.replace('_', '-')} {value}"
        for key, value in recipe.prep.items()
        if key != "dataset"
    )
    return " ".join(f"prep {recipe.prep['dataset']} --source DIR --out DIR {options}".split())


def _check_unchanged(job: Job, manifest: Manifest) -> None:
    """Raises ConfigError where the folder's run has other settings than are asked for now, [data]
    aside, or was trained on another dataset."""
    if not (job.folder / CONFIG).is_file():
        return
    if found := data_changes(read_manifest(job.folder), manifest):
        raise ConfigError(
            f"{job.folder} was trained on another dataset: {'; '.join(found)}. Take another --out,"
            " or --overwrite"
        )
    changes = {
        name: pair
        for name, pair in differences(run_config(job.folder), job.config).items()
        if not name.startswith("data.")
    }
    if job.config.train.batch_size == "auto":
        changes.pop("train.batch_size", None)
    if changes:
        listed = ", ".join(
            f"{name} = {before}, not {now}" for name, (before, now) in changes.items()
        )
        raise ConfigError(f"{job.folder} was run with {listed}: take another --out, or --overwrite")


def _without_weights(jobs: Sequence[Job]) -> dict[Path, str]:
    """The jobs that are not done and whose ImageNet weights are neither here nor can be fetched,
    each with its note."""
    asked: dict[tuple[str, str], bool] = {}
    for job in jobs:
        model = job.config.model
        if (
            not checkpoint.checkpoints(job.folder)  # they have all weights
            and model.weights != "none"
            and not Path(model.weights).expanduser().exists()
            and (model.weights, model.name) not in asked
        ):
            try:
                fetch_imagenet(model.weights, model.name)
                asked[model.weights, model.name] = True
            except Unavailable:
                asked[model.weights, model.name] = False
    unavailable = [
        job
        for job in jobs
        if not asked.get((job.config.model.weights, job.config.model.name), True)
    ]
    return {
        job.folder: NO_WEIGHTS
        for job in unavailable
        if not job.is_finished and not job.has_diverged and not checkpoint.checkpoints(job.folder)
    }


def _heading(recipe: Recipe, manifest: Manifest, data: Path, options: Sequence[str]) -> list[str]:
    """The table's first lines: what the sweep is, its command line, its data."""
    title = f"# {recipe.name}" + (f" ({recipe.study})" if recipe.study else "")
    command = " ".join(["train", str(data), "--recipe", recipe.name, "--all", *options])
    lines = [title, "", recipe.base.get("description", "").strip(), "", f"- Command: `{command}`"]
    lines += [f"- Data: {data}: {manifest.dataset}, {manifest.split_rule}"]
    different = data_differences(recipe, manifest)
    return [*lines, *([f"- {different[0].upper()}{different[1:]}"] if different else [])]
