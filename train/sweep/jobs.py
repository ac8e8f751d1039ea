"""The runs of a sweep: `make_jobs` lists them, `run_jobs` runs them as processes.

In: a recipe and the command line of each job. Out: run folders, and a call for each job that ends.
Several jobs run at once, and all of them can be stopped.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.pipelines.manifest import Manifest
from slipform.train.config.recipe import Recipe, SweepRun
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.interrupt import SWEEP, watched
from slipform.train.records import METRICS, accuracy_text, read_metrics, read_summary

__all__ = ["ONCE", "WHOLE", "Job", "Repeats", "make_jobs", "run_jobs"]

_POLL_SECONDS = 0.2


# The run of a recipe without [[runs]], which is repeated.
WHOLE = SweepRun("all", {}, {})


@dataclass(frozen=True)
class Repeats:
    """How often each run of a sweep is repeated: with each seed, on each fold.

    Attributes:
        seeds: The number of seeds, from train.seed on.
        folds: The number of folds of train and val together; 0: the splits of prep.
    """

    seeds: int = 1
    folds: int = 0

    def __bool__(self) -> bool:
        return self.seeds > 1 or self.folds > 0

    def of(self, config: RunConfig) -> Iterator[tuple[str, RunConfig]]:
        """All repeats of a run.

        Args:
            config: Its settings.

        Yields:
            The name of the run folder, and the settings of the repeat.
        """
        for seed in range(config.train.seed, config.train.seed + self.seeds):
            seeded = config.replace("train.seed", seed)
            if not self.folds:
                yield f"seed-{seed}", seeded
            for fold in range(1, self.folds + 1):
                name = f"seed-{seed}-fold-{fold}-of-{self.folds}"
                yield name, seeded.replace("data.fold", f"{fold}/{self.folds}")


ONCE = Repeats()


@dataclass(frozen=True)
class Job:
    """One run of a sweep with one seed, on one fold.

    Attributes:
        run: The entry of the recipe.
        config: All settings of the run.
        folder: The run folder.
    """

    run: SweepRun
    config: RunConfig
    folder: Path

    def __str__(self) -> str:
        return f"{self.run.name} {self.folder.name}"

    @property
    def log(self) -> Path:
        """The path of the log. It is not in the run folder, which `train` may clear."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_finished(self) -> bool:
        """Whether the run folder has a summary."""
        return read_summary(self.folder) is not None

    @property
    def result(self) -> str:
        """The accuracy and the time of a finished run as text; "" if it is not finished."""
        summary = read_summary(self.folder)
        if summary is None:
            return ""
        measured = accuracy_text(summary) or "no images in val or test"
        return f"{measured}, {summary['seconds']:.0f} s"

    @property
    def has_diverged(self) -> bool:
        """Whether the records say that the run diverged."""
        return bool(read_metrics(self.folder, "diverged"))

    @property
    def num_epochs(self) -> int:
        """The number of epochs done so far, also while the run is in progress."""
        path = self.folder / METRICS
        return path.read_bytes().count(b'"kind": "epoch"') if path.is_file() else 0

    def why_it_ended(self, code: int) -> str:
        """Why the process has no result: its last message, and the signal that killed it.

        Args:
            code: Its exit code; negative: the number of the signal.
        """
        name = signal.strsignal(-code) if code < 0 else None
        killed = f"killed by signal {-code} ({name}); its last message: " if code < 0 else ""
        return f"{killed}{self.last_message()}"

    def last_message(self) -> str:
        """The last line of the log that is not empty, such as an error."""
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").split("\n")
            if self.log.is_file()
            else []
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def make_jobs(
    recipe: Recipe, out: Path, sets: Sequence[str], manifest: Manifest, repeats: Repeats
) -> list[Job]:
    """Make the jobs of a sweep: the first repeat of all runs, then the next one of all.

    Args:
        recipe: The recipe.
        out: The folder for the runs.
        sets: Texts "SECTION.KEY=VALUE" that change settings of all runs.
        manifest: The manifest of the dataset.
        repeats: The seeds and folds of each run.

    Raises:
        ConfigError: The recipe has no [[runs]], a name cannot be a folder, or a setting is wrong.
    """
    if not recipe.runs:
        raise ConfigError(
            f"{recipe.name} is no sweep: it has no [[runs]]. Remove --all, or repeat it with"
            " --seeds or --folds."
        )
    for run in recipe.runs:
        if not run.name.strip("."):  # the name of a folder
            raise ConfigError(
                f'{recipe.name}: the name of a run is "{run.name}": give it another name'
            )
    by_run = [
        [
            Job(run, config, out / run.name / name)
            for name, config in repeats.of(resolve(recipe, sets, manifest, run))
        ]
        for run in recipe.runs
    ]
    return [job for repeat in zip(*by_run, strict=True) for job in repeat]


def run_jobs(
    jobs: Iterable[Job],
    command: Callable[[Job], Sequence[str]],
    ended: Callable[[Job, int], str],
    *,
    num_at_once: int,
    console: Console,
    is_hopeless: Callable[[Job], bool] = lambda job: False,
) -> None:
    """Run `train` for every job, each in its own process.

    Each of the processes gets its share of the cores.

    Args:
        jobs: The jobs, in the order of their start.
        command: Returns the arguments of `train` for a job.
        ended: Called with a job and its exit code when it ends; returns a line to print.
        num_at_once: The number of processes at a time.
        console: The console for messages and the progress bar.
        is_hopeless: Called with a job in progress again and again. If true, its process is asked to
            stop: it writes a checkpoint and ends with the exit code of an interruption.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM, when all runs in progress have written a checkpoint
            and ended. A second Ctrl-C kills them.
    """
    waiting = list(jobs)
    running: dict[int, tuple[Job, subprocess.Popen[bytes]]] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
    )
    progress = Progress(
        *columns, console=console, disable=console.quiet or not console.is_terminal, transient=True
    )
    task = progress.add_task("", total=sum(job.config.train.epochs for job in waiting))
    epochs_done = 0  # of the jobs that have ended
    stopping = False
    hopeless: set[Path] = set()  # the folders of jobs that were asked to stop
    with progress, watched() as stop_requested:
        try:
            while running or (waiting and not stop_requested.is_set()):
                for slot in range(num_at_once):
                    if slot not in running and waiting and not stop_requested.is_set():
                        job = waiting.pop(0)
                        running[slot] = (job, _start(job, command(job), _cores(slot, num_at_once)))
                        console.print(f"{job}: started; it writes to {job.log}", markup=False)
                if stop_requested.is_set() and not stopping:
                    stopping = True
                    for _, process in running.values():
                        process.terminate()
                time.sleep(_POLL_SECONDS)
                for slot, (job, process) in list(running.items()):
                    if process.poll() is None:
                        if not stopping and job.folder not in hopeless and is_hopeless(job):
                            hopeless.add(job.folder)
                            process.terminate()
                    else:
                        del running[slot]
                        epochs_done += job.config.train.epochs
                        console.print(f"{job}: {ended(job, process.returncode)}", markup=False)
                completed = epochs_done + sum(job.num_epochs for job, _ in running.values())
                progress.update(
                    task,
                    completed=completed,
                    description=", ".join(str(job) for job, _ in running.values()),
                )
        finally:
            for _, process in running.values():
                process.kill()
                process.wait()
    if stop_requested.is_set():
        raise Interrupted(
            "stopped; the runs in progress have checkpoints. The same command continues them"
        )


def _start(job: Job, arguments: Sequence[str], cores: set[int]) -> subprocess.Popen[bytes]:
    """Start the process of a job, in its own process group.

    Ctrl-C in a terminal then reaches only the sweep, which sends one signal to each run.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with open(job.log, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "slipform.train.cli", *arguments],
            env={**os.environ, SWEEP: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
    try:
        # The libraries of the process read the number of its cores seconds later.
        os.sched_setaffinity(process.pid, cores)
    except OSError:  # the cores of this process were taken away meanwhile
        process.kill()
        process.wait()
        raise
    return process


def _cores(slot: int, num_at_once: int) -> set[int]:
    """The share of this process' cores for a slot. Slots share cores if there are too few."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // num_at_once)
    first = slot * share % len(cores)
    return set(cores[first : first + share])
