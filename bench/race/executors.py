"""Slipform's loader with each executor, measured in turns: is the one of "auto" the fastest?

In: a dataset folder. Out: a row of `bench auto`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from slipform.bench.peers import OURS
from slipform.bench.race.contestant import Contestant
from slipform.bench.race.measure import estimate, ratio
from slipform.bench.race.race import Effort, race
from slipform.bench.result.result import Row, Settings
from slipform.bench.work import Work, usual_work
from slipform.pipelines.dataset import open_split
from slipform.pipelines.executors import GPU_ONLY, NAMES, chosen, tuned
from slipform.pipelines.manifest import read_manifest

__all__ = ["executors_case", "executors_row"]


def executors_case(folder: Path, cores: int, device: str) -> Settings:
    """The case of the row of a dataset.

    Args:
        folder, cores, device: As for `executors_row`.
    """
    return {
        "choice": "executor",
        "data": read_manifest(folder).dataset,
        "batch_size": _work(folder, cores, device).batch_size,
        "device": device,
    }


def _work(folder: Path, cores: int, device: str) -> Work:
    return usual_work(folder, batch_size=0, cores=cores, device=device, dtype="float32")


def executors_row(
    folder: Path, cores: int, device: str, effort: Effort, say: Callable[[str], None]
) -> Row:
    """Measure the loader alone with each executor, each in its own process.

    Args:
        folder: The dataset folder.
        cores: The number of cores that a process may use.
        device: "cpu" or "cuda".
        effort: How long each executor is measured.
        say: Called with a message about each executor, and about the progress.

    Returns:
        The row. Its settings are the executor of "auto" and the fastest one. Its figures are the
        images/s of each executor that can do the work, and the share of the fastest that "auto"
        reaches in the same rounds.
    """
    work, case = _work(folder, cores, device), executors_case(folder, cores, device)
    with ExitStack() as stack:
        running, notes = {}, []
        for name in NAMES:
            if name in GPU_ONLY and not device.startswith("cuda"):
                continue
            one = stack.enter_context(Contestant(OURS, work, effort, {"executor": name}))
            say(f"{case['data']}, executor {name}: {one.opening.status}; {one.opening.note}")
            if one.opening.status == "ok":
                running[name] = one.measure
            else:
                notes.append(f"{name}: {one.opening.note}")
        found = race(running, effort.rounds, say=say)
    notes += [f"{name}: {failure.note}" for name, failure in found.failures.items()]
    rates = {name: own["images_per_second"] for name, own in found.values.items()}
    auto = _of_auto(folder, work)
    if auto not in rates:
        return Row(suite="auto", case=case, status="failed", note="; ".join(notes))
    fastest = max(rates, key=lambda name: median(rates[name]))
    figures = {"auto_of_fastest_ratio": ratio(rates[auto], rates[fastest])}
    figures |= {f"{name}_images_per_second": estimate(own) for name, own in rates.items()}
    settings: Settings = {"auto": auto, "fastest": fastest}
    return Row(suite="auto", case=case, settings=settings, figures=figures, note="; ".join(notes))


def _of_auto(folder: Path, work: Work) -> str:
    """The executor that "auto" takes for the work."""
    beton = open_split(folder, read_manifest(folder), work.split)
    found = tuned(beton, work.augment.image_size, work.device)
    return chosen(beton, work.augment, work.device, found)
