"""Runs as processes: `run_jobs` starts `train` for each, several at once, and stops them all with a
checkpoint.

In: Jobs and the command line of each. Out: their run folders; a call for each that ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from slipform.pipelines.errors import Interrupted
from slipform.train.config.recipe import SweepRun
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.interrupt import SWEEP, watched
from slipform.train.records import METRICS, read_metrics, read_summary

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Job:
    """One run of a sweep with one seed."""

    run: SweepRun
    config: RunConfig
    folder: Path

    def __str__(self) -> str:
        return f"{self.run.name} {self.folder.name}"

    @property
    def log(self) -> Path:
        """What the run says; beside its folder, since `train` may clear that."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def is_finished(self) -> bool:
        return read_summary(self.folder) is not None

    @property
    def has_diverged(self) -> bool:
        return bool(read_metrics(self.folder, "diverged"))

    @property
    def num_epochs(self) -> int:
        """Epochs done, also while the run is going on."""
        path = self.folder / METRICS
        return path.read_bytes().count(b'"kind": "epoch"') if path.is_file() else 0

    def last_message(self) -> str:
        """The last line that is not empty, such as an error."""
        lines = (
            self.log.read_text(encoding="utf-8", errors="replace").split("\n")
            if self.log.is_file()
            else []
        )
        return next((line.strip() for line in reversed(lines) if line.strip()), "no message")


def run_jobs(
    jobs: Iterable[Job],
    command: Callable[[Job], Sequence[str]],
    ended: Callable[[Job, int], str],
    *,
    num_at_once: int,
    console: Console,
) -> None:
    """`train` with the arguments `command(job)` for every job; `ended(job, exit code)` gives a line
    to print.

    Each of `num_at_once` processes gets its share of the cores. Raises Interrupted, after Ctrl-C or
    SIGTERM, when every run that was going on has ended; a second Ctrl-C kills them.
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
    epochs_behind = 0
    told = False
    with progress, watched() as stop_requested:
        try:
            while running or (waiting and not stop_requested.is_set()):
                for slot in range(num_at_once):
                    if slot not in running and waiting and not stop_requested.is_set():
                        job = waiting.pop(0)
                        running[slot] = (job, _start(job, command(job), _cores(slot, num_at_once)))
                        console.print(f"{job}: started; it writes to {job.log}", markup=False)
                if stop_requested.is_set() and not told:
                    told = True
                    for _, process in running.values():
                        process.terminate()
                time.sleep(_POLL_SECONDS)
                for slot, (job, process) in list(running.items()):
                    if process.poll() is not None:
                        del running[slot]
                        epochs_behind += job.config.train.epochs
                        console.print(f"{job}: {ended(job, process.returncode)}", markup=False)
                completed = epochs_behind + sum(job.num_epochs for job, _ in running.values())
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
            "stopped; what was going on has a checkpoint. The same command goes on with it"
        )


def _start(job: Job, arguments: Sequence[str], cores: set[int]) -> subprocess.Popen[bytes]:
    """In a process group of its own: a terminal's Ctrl-C reaches the sweep alone, which passes it
    on once."""
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
    os.sched_setaffinity(process.pid, cores)  # seconds before the libraries count their cores
    return process


def _cores(slot: int, num_at_once: int) -> set[int]:
    """The slot's share of the cores that this process may use; one that others have too where there
    are too few."""
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // num_at_once)
    first = slot * share % len(cores)
    return set(cores[first : first + share])
