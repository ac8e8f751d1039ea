"""`bench tune`: which executor, threads and queue feed this machine fastest? Writes a profile for
`executor = "auto"`.

In: a dataset folder, a time budget. Out: a row for each setting tried, and the winner in the
profile file.

One choice after the other is varied, the best so far kept: executor, threads, queue. Within a
choice all values take turns in processes of their own, and a value replaces the present one only
where the interval of the ratio between them lies above 1: a tie keeps what is usual.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from slipform.bench.race.contestant import Contestant
from slipform.bench.race.measure import Effort, figure, interleave, ratio
from slipform.bench.race.work import Work
from slipform.bench.result.result import Row, Settings
from slipform.bench.suites.loaders import OURS, Say
from slipform.pipelines.beton import Beton
from slipform.pipelines.executors import NAMES
from slipform.pipelines.machine import free_memory_bytes
from slipform.pipelines.manifest import read_manifest

EFFORT = Effort(rounds=7, seconds=1.0, search=False, openings=1)
QUICK = Effort(rounds=3, seconds=0.5, warmup_seconds=0.2, search=False, openings=1, min_batches=4)


def choices(work: Work) -> dict[str, list[Any]]:
    """What is tried, choice by choice; the first value of each is the usual one. threads = 0: as
    many as there are cores.

    resident is left out where its pixels would take more than half of the free memory.
    """
    first = "dali" if work.device.startswith("cuda") else "host"
    executors = [first, *(name for name in NAMES if name != first)]
    if Beton(work.beton).resident_bytes() > free_memory_bytes(work.device) / 2:
        executors.remove("resident")
    threads = sorted(
        {max(1, work.cores // 2), max(1, work.cores - 1), 2 * work.cores} - {work.cores}
    )
    return {"executor": executors, "threads": [0, *threads], "prefetch": [2, 1, 4, 8]}


def tune(work: Work, budget_seconds: float, effort: Effort, say: Say) -> tuple[Settings, list[Row]]:
    """The best settings, and a row for each that was tried. A choice is left out when the budget is
    spent."""
    table = choices(work)
    best: Settings = {name: values[0] for name, values in table.items()}
    rows: list[Row] = []
    end = time.monotonic() + budget_seconds
    for name, values in table.items():
        if time.monotonic() > end:
            say(f"the {budget_seconds:.0f} seconds are spent: {name} stays {best[name]}")
            continue
        tried = [best | {name: value} for value in values]
        found, settings = _race(work, name, tried, effort, say)
        rows += found
        best = settings
        say(f"{name}: {best[name]}")
    return best, rows


def _race(
    work: Work, choice: str, tried: list[Settings], effort: Effort, say: Say
) -> tuple[list[Row], Settings]:
    """All values of one choice in turns; returns their rows and the settings to go on with."""
    with ExitStack() as stack:
        opened = [
            stack.enter_context(Contestant(OURS, work, effort, settings)) for settings in tried
        ]
        running = {str(i): one for i, one in enumerate(opened) if one.opening.status == "ok"}
        values = interleave({key: one.measure for key, one in running.items()}, effort.rounds)
    rows, winner, winning = [], tried[0], 1.0
    for number, (settings, one) in enumerate(zip(tried, opened, strict=True)):
        case: Settings = {
            "data": read_manifest(Path(work.folder)).dataset,
            "choice": choice,
            "value": settings[choice],
        }
        if str(number) not in values:
            rows.append(
                Row(
                    suite="tune",
                    case=case,
                    settings=settings,
                    status=one.opening.status,
                    note=one.opening.note,
                )
            )
            say(f"{choice} = {settings[choice]}: {one.opening.status}: {one.opening.note}")
            continue
        figures = {name: figure(found) for name, found in values[str(number)].items()}
        if "0" in values and number:
            gain = ratio(values[str(number)]["images_per_second"], values["0"]["images_per_second"])
            figures["gain_ratio"] = gain
            if gain.low > 1 and gain.median > winning:
                winner, winning = settings, gain.median
        rows.append(Row(suite="tune", case=case, settings=settings, figures=figures))
    return rows, winner
