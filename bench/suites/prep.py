"""Compare Slipform's dataset writer and ffcv's on the same images.

In: dataset folders. Out: a row for each way of writing: images/s, the multiple of ffcv, CPU use,
memory. slipform.bench.race.writing explains the ways of writing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from slipform.bench.options import data_arguments, out_option, quick_option
from slipform.bench.result.layout import Figure, Layout
from slipform.bench.result.plots import writer_bars
from slipform.bench.result.quantities import is_ours, quantity
from slipform.bench.result.result import Row, Settings
from slipform.bench.result.verdict import Verdict, lead, of_leads
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["LAYOUT", "REQUIRED", "check_cost", "command", "run", "shortfalls", "verdict"]

_CHECKED, _UNCHECKED = "slipform keep", "slipform keep, no check"


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The speed of Slipform's ways of writing, compared with ffcv's writer.

    Args:
        results: The rows with figures of each result.
    """
    leads = []
    for rows in results:
        for where, ways in LAYOUT.groups(rows):
            theirs = [row for row in ways if not is_ours(str(row.case["way"]))]
            ours = [row for row in ways if row not in theirs]
            leads += [lead(where, row, peer) for row in ours for peer in theirs]
    found = of_leads(leads, "writes a dataset", "the other writer")
    if found is None:
        return None
    return replace(
        found, sentence=" ".join([found.sentence, *filter(None, map(check_cost, results))])
    )


def check_cost(rows: Sequence[Row]) -> str:
    """A sentence with the processor time of the check of JPEGs. "": it was not measured.

    Args:
        rows: The rows of a result with figures.
    """
    texts = []
    for where, ways in LAYOUT.groups(rows):
        seconds = {
            str(row.case["way"]): row.figures["cpu_cores"].median
            / row.figures["images_per_second"].median
            for row in ways
            if "cpu_cores" in row.figures
        }
        if {_CHECKED, _UNCHECKED} <= seconds.keys():
            cost = seconds[_CHECKED] - seconds[_UNCHECKED]
            share, time = cost / seconds[_CHECKED], quantity("check_seconds").number(cost)
            texts.append(
                f"The check of kept JPEGs takes {time} of processor time an image,"
                f" {100 * share:.0f} % of the whole ({where})."
            )
            ratios = [row.figures["check_ratio"] for row in ways if "check_ratio" in row.figures]
            texts += [
                f"It takes {quantity('check_ratio').number(ratio.median)} times what libjpeg-turbo"
                " takes to read the same codes."
                for ratio in ratios
            ]
    return " ".join(texts)


LAYOUT = Layout(
    title="Preparing a dataset",
    about=(
        "Slipform's writer and ffcv's write the images of a dataset again. keep: JPEG bytes are"
        " kept, and all of their codes are read as a check; its time in one thread is compared with"
        " that of libjpeg-turbo. Longer bars are better."
    ),
    rank=3,
    columns=(
        "images_per_second",
        "multiple_of_ffcv",
        "cpu_cores",
        "resident_bytes",
        "check_seconds",
        "check_ratio",
    ),
    group=("data",),
    figures=(
        Figure(
            "prep",
            writer_bars,
            "Images per second of each way to write; bars are medians, lines their 95 % intervals.",
        ),
    ),
    verdict=verdict,
)
# Way of writing -> the required multiple: its speed divided by that of ffcv's writer.
REQUIRED = {_UNCHECKED: 10.0, _CHECKED: 3.0, "slipform raw": 3.0}
_CALL_SECONDS = 600.0  # ffcv's writer hangs if one of its workers dies


@click.command(cls=Command)
@data_arguments
@click.option(
    "--workers",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Threads of Slipform, processes of ffcv; 0: one per core.",
)
@click.option("--no-peer", is_flag=True, help="Do not measure ffcv.")
@click.option(
    "--require",
    is_flag=True,
    help="Exit with 1 if Slipform is below the required multiples of ffcv.",
)
@quick_option
@out_option
def command(
    data: tuple[Path, ...],
    workers: int,
    no_peer: bool,
    require: bool,
    quick: bool,
    out: Path | None,
) -> None:
    """Write the images of the dataset folders DATA again, with Slipform's writer and with ffcv's.

    \b
    Example: bench prep data/caltech101 data/cifar10 --require
    """
    from slipform.bench.result.environment import stamp

    environment = stamp()
    rounds = 3 if quick else 7
    found = (
        row
        for folder in data
        for row in run(folder, workers or environment.cores, not no_peer, rounds)
    )
    rows = finish("prep", found, out, environment)
    if require and (lacking := shortfalls(rows)):
        raise SlipformError("below the required multiples:\n  " + "\n  ".join(lacking))


def run(folder: Path, workers: int, peers: bool, rounds: int) -> list[Row]:
    """Measure every way of writing, each in its own process.

    Args:
        folder: The dataset folder; its train split is written again.
        workers: Threads of Slipform, processes of ffcv.
        peers: Whether to measure ffcv.
        rounds: Repeats. One more before them is discarded: it includes imports and disk reads.

    Returns:
        A row for each way of writing.
    """
    from slipform.bench.images import image_files
    from slipform.bench.race.checking import compare
    from slipform.bench.race.measure import estimate
    from slipform.bench.race.race import race
    from slipform.bench.race.worker import CallFailed, Worker, isolated
    from slipform.bench.race.writing import Task, Writing, ways
    from slipform.bench.work import stored_as
    from slipform.pipelines.manifest import read_manifest

    stored = stored_as(folder)
    task = Task(str(folder), str(image_files(folder, "train")) if stored == "jpeg" else "", workers)
    names = [way for way in ways(stored) if peers or not way.startswith("ffcv")]
    with ExitStack() as stack:
        workers_of = {way: stack.enter_context(Worker()) for way in names}

        def measure(way: str) -> dict[str, float]:
            return dict(workers_of[way].call(Writing.measure, seconds=_CALL_SECONDS))

        for way in names:
            workers_of[way].keep(Writing, way, task)
        turns = {way: partial(measure, way) for way in names}
        found = race(turns, rounds, warmup_rounds=1, say=say)
        memory = {}
        for way in list(found.values):
            try:
                memory[way] = workers_of[way].call(Writing.memory)
            except CallFailed as failure:
                found.drop(way, failure)
    peer = next((way for way in found.values if way.startswith("ffcv")), None)
    rows = []
    for way in names:
        dataset = read_manifest(folder).dataset
        case: Settings = {"data": dataset, "way": way, "workers": workers}
        if reason := found.failures.get(way):
            say(f"{way}: {reason.status}: {reason.note}")
            rows.append(Row(suite="prep", case=case, status=reason.status, note=reason.note))
            continue
        figures = found.estimates(way) | {"resident_bytes": estimate([memory[way]])}
        if peer is not None and peer != way:
            figures["multiple_of_ffcv"] = found.ratio(way, peer)
        if way == _CHECKED:
            try:
                figures |= isolated(compare, str(folder), rounds)
            except CallFailed as failure:  # the race of the writers is kept
                say(f"check of JPEGs: {failure.status}: {failure.note}")
        rows.append(Row(suite="prep", case=case, figures=figures))
    return rows


def shortfalls(rows: list[Row]) -> list[str]:
    """A text for each way of writing that is below REQUIRED, or was not compared with ffcv.

    Args:
        rows: The rows of the suite.
    """
    found = []
    for row in rows:
        wanted, multiple = REQUIRED.get(str(row.case["way"])), row.figures.get("multiple_of_ffcv")
        if wanted is not None and (multiple is None or multiple.median < wanted):
            measured = f"{multiple.median:.2f} times ffcv" if multiple else "not compared with ffcv"
            found.append(f"{row.case['way']}: {measured}, at least {wanted} is required")
    return found
