"""Find the loader's best settings on this machine, for executor = "auto".

In: a dataset folder, a time budget. Out: a row for each setting that was tried, and the best
settings in the profile file.

The choices are varied one after another: executor, threads, prefetch, and on a GPU the share of the
JPEGs for its decoder. The best value of each choice is kept for the next ones. All values of a
choice are measured in turns, each in its own process. A value replaces the usual one only if it is
faster beyond the noise (slipform.pipelines.fastest.fastest).
"""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slipform.bench.options import (
    data_argument,
    device_name,
    device_option,
    dtype_option,
    out_option,
    quick_option,
)
from slipform.bench.result.layout import Layout
from slipform.bench.result.result import Row, Settings
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

if TYPE_CHECKING:
    from slipform.bench.race.race import Effort
    from slipform.bench.work import Work

__all__ = ["LAYOUT", "choices", "command", "tune", "tune_steps"]

LAYOUT = Layout(
    title="Loader settings tried on this machine",
    rank=5,
    columns=("images_per_second", "gain_ratio", "cpu_cores"),
)


@click.command(cls=Command)
@data_argument
@click.option(
    "--seconds",
    type=click.IntRange(1),
    default=180,
    show_default=True,
    help="Seconds after which no further choice is tried.",
)
@click.option(
    "--profile",
    type=click.Path(path_type=Path),
    help="The profile to write. [default: $SLIPFORM_PROFILE, else ~/.cache/slipform/tune.json]",
)
@click.option(
    "--recipe",
    "recipes",
    multiple=True,
    help="Also choose precision, memory format and compilation for the net of this recipe. Can be"
    " repeated.",
)
@dtype_option
@device_option
@quick_option
@out_option
def command(
    data: Path,
    seconds: int,
    profile: Path | None,
    recipes: tuple[str, ...],
    dtype: str,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Find the loader's best settings for the dataset folder DATA on this machine.

    data.executor = "auto" then uses these settings.

    \b
    Example: bench tune data/caltech101 --recipe caltech101/alexnet-scratch
    """
    from slipform.bench.race.race import Effort
    from slipform.bench.result.environment import stamp
    from slipform.bench.work import usual_work
    from slipform.pipelines.manifest import read_manifest
    from slipform.pipelines.profile import profile_key, profile_path, write_profile
    from slipform.train.config.recipe import load_recipe
    from slipform.train.config.resolve import resolve

    manifest = read_manifest(data)
    for name in recipes:  # a wrong recipe ends this before the measurements
        resolve(load_recipe(name), manifest=manifest)
    environment = stamp()
    work = usual_work(
        data, batch_size=0, cores=environment.cores, device=device_name(device), dtype=dtype
    )
    effort = Effort(rounds=6, seconds=1.0, search=False, openings=1)
    if quick:
        effort = replace(effort, seconds=0.25, warmup_seconds=0.1, min_batches=4)
    best, rows = tune(work, seconds, effort)
    path, works = profile or profile_path(), any(row.status == "ok" for row in rows)
    if works:
        key = profile_key(work.stored, work.augment.image_size, work.device)
        write_profile(path, key, {**best, "date": environment.date, "commit": environment.commit})
    steps = (row for name in recipes for row in tune_steps(data, name, work.device, path))
    finish("tune", itertools.chain(rows, steps), out, environment)
    if not works:
        raise SlipformError("no setting could be measured, so no profile was written")
    chosen = ", ".join(f"{name} = {value}" for name, value in best.items())
    click.echo(f"best: {chosen}; written to {path}")


def tune_steps(data: Path, recipe: str, device: str, profile: Path) -> list[Row]:
    """Measure the steps of a recipe's net in each precision and memory format, and compiled.

    The choice is written to the profile of this machine, where `train` reads it.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe. The runs of a sweep are ignored.
        device: "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:N".
        profile: The file with the profiles. It is written.

    Returns:
        A row for each way of doing the steps.
    """
    from slipform.bench.race.measure import estimate, ratio
    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import load_recipe
    from slipform.train.config.resolve import resolve
    from slipform.train.machine.device import set_up
    from slipform.train.machine.distributed import join
    from slipform.train.run.auto import with_batch_size
    from slipform.train.run.decide import decide

    manifest = read_manifest(data)
    config = resolve(load_recipe(recipe), manifest=manifest)
    with join(device) as process:
        set_up(config.train, process.device)
        config = with_batch_size(config, manifest, process, messages := list[str]())
        decision = decide(config, manifest, process, thorough=True, profile=profile)
    for message in messages:
        say(message)
    say(f"{recipe}: {decision.reason}")
    usual = next(iter(decision.rates.values()), [])
    rows = []
    for name, rates in decision.rates.items():
        figures = {"images_per_second": estimate(rates)}
        if rates is not usual:
            figures["gain_ratio"] = ratio(rates, usual[: len(rates)])
        case: Settings = {"data": manifest.dataset, "choice": f"step of {recipe}", "value": name}
        rows.append(Row(suite="tune", case=case, figures=figures))
    return rows


def choices(work: Work) -> dict[str, list[Any]]:
    """The values to try.

    Args:
        work: The work of the loader.

    Returns:
        Choice -> its values, the usual one first. threads = 0 means one for each core. The executor
        resident is left out if its pixels would need more than half of the free memory.
        decoder_share is there for JPEGs on a GPU.
    """
    from slipform.pipelines import machine
    from slipform.pipelines.executors import GPU_ONLY, NAMES

    gpu = work.device.startswith("cuda")
    first = "dali" if gpu else "host"
    executors = [first, *(name for name in NAMES if name != first)]
    if not gpu:
        executors = [name for name in executors if name not in GPU_ONLY]
    if work.open().resident_bytes() > machine.free_memory_bytes(work.device) / 2:
        executors.remove("resident")
    threads = {max(1, work.cores // 2), max(1, work.cores - 1), 2 * work.cores} - {work.cores}
    table: dict[str, list[Any]] = {
        "executor": executors,
        "threads": [0, *sorted(threads)],
        "prefetch": [2, 1, 4, 8],
    }
    if gpu and work.stored == "jpeg":
        table["decoder_share"] = ["auto", 0.0, 0.25, 0.5, 0.75, 1.0]
    return table


def tune(work: Work, budget_seconds: float, effort: Effort) -> tuple[Settings, list[Row]]:
    """Measure the values of one choice after another.

    Args:
        work: The work of the loader.
        budget_seconds: After this time, no further choice is tried.
        effort: Span and warm-up, and the minimum number of rounds.

    Returns:
        The best settings, and a row for each setting that was tried.
    """
    table = choices(work)
    best: Settings = {name: values[0] for name, values in table.items()}
    rows: list[Row] = []
    end = time.monotonic() + budget_seconds
    for name, values in table.items():
        if name == "decoder_share" and best["executor"] not in ("dali", "stream"):
            continue
        if time.monotonic() > end:
            say(f"the {budget_seconds:.0f} seconds are over: {name} stays {best[name]}")
            continue
        found, best = _race(work, name, [best | {name: value} for value in values], effort)
        rows += found
        say(f"{name}: {best[name]}")
    return best, rows


def _race(
    work: Work, choice: str, tried: list[Settings], effort: Effort
) -> tuple[list[Row], Settings]:
    """Measure all values of a choice. Return their rows, and the best settings so far."""
    from slipform.bench.peers import OURS
    from slipform.bench.race.contestant import Contestant
    from slipform.bench.race.race import race
    from slipform.pipelines.fastest import fastest, rounds_needed
    from slipform.pipelines.manifest import read_manifest

    names = [f"{choice} = {settings[choice]}" for settings in tried]
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(Contestant(OURS, work, effort, settings))
            for name, settings in zip(names, tried, strict=True)
        }
        running = {name: one.measure for name, one in opened.items() if one.opening.status == "ok"}
        found = race(running, max(effort.rounds, rounds_needed(len(tried))), say=say)
    rows = []
    for name, settings in zip(names, tried, strict=True):
        dataset = read_manifest(Path(work.folder)).dataset
        case: Settings = {"data": dataset, "choice": choice, "value": settings[choice]}
        if name in found.values:
            figures = found.estimates(name)
            if names[0] in found.values and name != names[0]:
                figures["gain_ratio"] = found.ratio(name, names[0])
            rows.append(Row(suite="tune", case=case, settings=settings, figures=figures))
            continue
        failure = found.failures.get(name) or opened[name].opening
        say(f"{name}: {failure.status}: {failure.note}")
        rows.append(
            Row(
                suite="tune",
                case=case,
                settings=settings,
                status=failure.status,
                note=failure.note,
            )
        )
    finished = [number for number, name in enumerate(names) if name in found.values]
    if not finished:
        return rows, tried[0]
    rates = [found.values[names[number]]["images_per_second"] for number in finished]
    return rows, tried[finished[fastest(rates)]]
