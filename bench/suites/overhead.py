"""Measure the CPU time that a loader needs for a batch beside the pixels.

In: a dataset folder. Out: a row for each executor and batch size: the CPU time of the consumer's
thread, the whole time of a batch, and how long a training that is slower than the loader waits for
a batch, and for the first one of an epoch. The consumer's thread asks for batches ahead, waits, and
makes the Batch. Other threads make the order, the requests and the pixels.

For raw pixels there is also the CPU time of all threads together, less that of the kernel that
renders: order, Plan, requests, waiting and Batch. The kernel runs, because it fills the caches: a
look-up of 2,000 labels then takes 28 us instead of 2 (AMD EPYC, Zen 4). The executor dali has the
CPU time of the thread that gives the batches to DALI's graph: a core can feed a GPU that fast,
wherever DALI decodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, median
from threading import get_ident
from typing import TYPE_CHECKING, Any

import click

from slipform.bench.options import (
    check_names,
    data_argument,
    device_name,
    device_option,
    numbers,
    out_option,
    words,
)
from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Estimate, Row, Settings
from slipform.bench.result.verdict import Verdict
from slipform.bench.suites import Kept, finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

if TYPE_CHECKING:
    from slipform.pipelines.loader import Loader

__all__ = ["LAYOUT", "command", "measure", "verdict", "waits"]


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The processor time of the consumer and of all threads, over all batch sizes.

    Args:
        results: The rows with figures of each result.
    """
    rows = [row for own in results for row in own]
    own, whole = _range(rows, "consumer_seconds"), _range(rows, "host_seconds")
    if not own:
        return None
    text = f"The thread that takes the batches needs {own} of processor time for a batch."
    if whole:
        text += f" All threads together need {whole}, without rendering."
    if first := _range(rows, "epoch_start_seconds"):
        other = _range(rows, "next_batch_seconds")
        text += (
            f" A training that is slower than the loader waits {first} for the first batch of an"
            f" epoch, and {other} for each other one."
        )
    return Verdict(text, own, "of the consumer's processor time for a batch")


def _range(rows: Sequence[Row], name: str) -> str:
    """The smallest and the largest median of a figure."""
    medians = sorted(row.figures[name].median for row in rows if name in row.figures)
    if not medians:
        return ""
    write = quantity(name).number
    return " to ".join(dict.fromkeys((write(medians[0]), write(medians[-1]))))


LAYOUT = Layout(
    title="The loader's own time for a batch",
    about=(
        "The training waits for the consumer's thread alone. The other threads make the order,"
        " the Plan and the requests of later batches. Their time grows with the number of images."
    ),
    rank=6,
    columns=(
        "consumer_seconds",
        "host_seconds",
        "feed_seconds",
        "batch_seconds",
        "next_batch_seconds",
        "epoch_start_seconds",
    ),
    verdict=verdict,
)
_ROUNDS = 7
_BATCHES = 200  # in a round
_EPOCHS = 7  # whose first batches are waited for
_STEP = 2.0  # the time of a training's step, in times of a batch


@click.command(cls=Command)
@data_argument
@click.option(
    "--batch-sizes", default="64,256,512,1024,2000", show_default=True, help="Images in a batch."
)
@click.option("--executors", default="resident,host", show_default=True, help="Executors.")
@device_option
@out_option
def command(data: Path, batch_sizes: str, executors: str, device: str, out: Path | None) -> None:
    """Measure the CPU time of a loader beside the pixels, with the dataset folder DATA.

    \b
    Example: bench overhead data/cifar10
    """
    from slipform.bench.race.worker import CallFailed, isolated
    from slipform.bench.result.environment import stamp
    from slipform.pipelines.executors import NAMES
    from slipform.pipelines.manifest import read_manifest

    dataset, environment = read_manifest(data).dataset, stamp()
    kept = Kept("overhead", out, environment, [data])

    def row(name: str, size: int) -> Row:
        case: Settings = {"data": dataset, "loader": name, "batch_size": size}
        say(f"{name}, batch size {size}")
        if before := kept.of(case):
            return before[0]
        try:
            figures = isolated(measure, str(data), name, size, device_name(device))
            return Row(suite="overhead", case=case, figures=figures)
        except CallFailed as failure:
            say(f"  {failure.status}: {failure.note}")
            return Row(suite="overhead", case=case, status=failure.status, note=failure.note)

    sizes, names = numbers(batch_sizes, "--batch-sizes"), words(executors)
    check_names("--executors", names, NAMES)
    found = (row(name, size) for name in names for size in sizes)
    rows = finish("overhead", found, out, environment, kept)
    if all(row.status != "ok" for row in rows):
        raise SlipformError("no point could be measured")


def measure(data: str, executor: str, batch_size: int, device: str) -> dict[str, Estimate]:
    """Measure one executor at one batch size, in this process.

    Args:
        data: The dataset folder.
        executor: The name of the executor.
        batch_size: Images in a batch.
        device: "cpu" or "cuda".

    Returns:
        consumer_seconds, the CPU time of this thread, and batch_seconds; both for one batch.
        epoch_start_seconds and next_batch_seconds: how long a training waits for the first batch of
        an epoch, and for any other one, if its step takes twice as long as a batch. For raw pixels
        also host_seconds: of all threads, without the kernel that renders. With the executor dali
        feed_seconds instead.
    """
    from slipform.bench.race.measure import estimate
    from slipform.bench.work import usual_work
    from slipform.pipelines.loader import Loader
    from slipform.pipelines.machine import num_cores

    work = usual_work(
        Path(data), batch_size=batch_size, cores=num_cores(), device=device, dtype="float32"
    )
    own, whole, fed, host = [], [], [], []
    with Loader(
        data,
        augment=work.augment,
        batch_size=batch_size,
        executor=executor,
        device=device,
        reuse_buffers=True,
    ) as loader:
        for _ in loader:  # the first epoch checks and reads every sample
            pass
        for _ in range(_ROUNDS):
            before = loader.stats().get("feed_seconds")
            thread, wall = time.thread_time(), time.perf_counter()
            _take(loader)
            own.append((time.thread_time() - thread) / _BATCHES)
            whole.append((time.perf_counter() - wall) / _BATCHES)
            if before is not None:
                fed.append((loader.stats()["feed_seconds"] - before) / _BATCHES)
        first, other = waits(loader, _STEP * median(whole))
        if work.stored == "raw" and not fed:
            rendering = _count_rendering()
            _take(loader)  # some batches were begun before
            for _ in range(_ROUNDS):
                began = time.process_time() - rendering()
                _take(loader)
                host.append((time.process_time() - rendering() - began) / _BATCHES)
    found = {"consumer_seconds": estimate(own), "batch_seconds": estimate(whole)}
    found |= {"epoch_start_seconds": estimate(first), "next_batch_seconds": estimate(other)}
    found |= {"feed_seconds": estimate(fed)} if fed else {}
    return found | ({"host_seconds": estimate(host)} if host else {})


def waits(loader: Iterable[object], step: float) -> tuple[list[float], list[float]]:
    """Measure how long a training waits for batches.

    Args:
        loader: Each loop over it is an epoch.
        step: Seconds of a step, in which the training does not look at the loader.

    Returns:
        The seconds for the first batch of each epoch after the first one, with the end of the epoch
        before it, and the mean seconds for the other batches of each of these epochs.
    """
    epochs: list[list[float]] = []
    began = time.perf_counter()
    for _ in range(_EPOCHS + 1):
        epochs.append([])
        for _ in loader:
            epochs[-1].append(time.perf_counter() - began)
            time.sleep(step)
            began = time.perf_counter()
    # Not in the loop: the means of many batches would take longer than the end of an epoch.
    return [own[0] for own in epochs[1:]], [mean(own[1:] or own) for own in epochs[1:]]


def _take(loader: Loader) -> None:
    """Take the batches of a round, over as many epochs as that needs."""
    left = _BATCHES
    while left:
        for _ in loader:
            left -= 1
            if not left:
                break


def _count_rendering() -> Callable[[], float]:
    """Count the CPU time of the kernel in this process.

    Returns:
        A function that gives the seconds of all threads up to now.
    """
    from slipform.pipelines.rendering import pool

    prepared = pool.prepared  # type: ignore[attr-defined]  # imported there
    seconds: dict[int, float] = {}  # by thread: each one changes only its own

    def counted(*arguments: Any) -> tuple[Callable[..., None], tuple[object, ...]]:
        kernel, own = prepared(*arguments)

        def run(*numbers: object) -> None:
            began = time.thread_time()
            kernel(*numbers)
            thread = get_ident()
            seconds[thread] = seconds.get(thread, 0.0) + time.thread_time() - began

        return run, own

    vars(pool)["prepared"] = counted
    return lambda: sum(list(seconds.values()))
