"""Train to a given accuracy, several times, and measure the seconds.

In: a dataset folder, a recipe, a target. Out: one row. Each seed trains with
slipform.train.run.loop.fit in its own process.

- seconds_to_target: the training time, with loading but without validation, up to the end of the
  first epoch whose validation accuracy is the target or more. Without a val split, as in public
  speed runs: the whole training time, if the test accuracy after the last epoch is the target or
  more.
- start_up_seconds: compilation and warm-up: the time of the first epoch minus the median of the
  others.
- test_seconds: the time of the test. On a GPU each epoch is tested, outside of the other times, so
  that the last test neither compiles nor loads compiled code. Public speed runs report
  seconds_to_target - start_up_seconds + test_seconds.
- process_seconds: from the start of the process to the summary, with imports, validation and test.
- accuracy: the accuracy on the test split with the weights of the best epoch, or of the last one
  without a val split.
"""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from slipform.bench.options import (
    data_argument,
    device_name,
    device_option,
    out_option,
    quick_option,
)
from slipform.bench.result.layout import Layout
from slipform.bench.result.quantities import quantity
from slipform.bench.result.result import Row, Settings
from slipform.bench.result.verdict import Verdict
from slipform.bench.suites import finish, say
from slipform.pipelines.command import Command
from slipform.pipelines.errors import SlipformError

__all__ = ["LAYOUT", "command", "run", "run_against", "verdict"]


def verdict(results: Sequence[Sequence[Row]]) -> Verdict | None:
    """The accuracy and the seconds of the first row.

    Args:
        results: The rows with figures of each result.
    """
    rows = [row for part in results for row in part if "accuracy" in row.figures]
    if not rows:
        return None
    row, write = rows[0], lambda name: quantity(name).number(rows[0].figures[name].median)
    accuracy, seconds = write("accuracy"), write("train_seconds")
    text = (
        f"The recipe {row.case['recipe'] or 'of the defaults'} reaches {accuracy} on"
        f" {row.case['data']} in {seconds} of training"
        f" ({row.settings['reached_target']} of {row.settings['seeds']} runs reach"
        f" {quantity('accuracy').number(float(str(row.case['target'])))})."
    )
    return Verdict(text, accuracy, f"accuracy on {row.case['data']} after {seconds} of training")


LAYOUT = Layout(
    title="Seconds to accuracy",
    about="A recipe is trained to a given accuracy, with several seeds, each in a fresh process.",
    rank=4,
    columns=(
        "accuracy",
        "seconds_to_target",
        "start_up_seconds",
        "test_seconds",
        "process_seconds",
        "data_wait_seconds",
    ),
    verdict=verdict,
)
_CALL_SECONDS = 24 * 3600.0


@click.command(cls=Command)
@data_argument
@click.option("--recipe", default="", help="As for train. [default: settings for DATA]")
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for train.")
@click.option(
    "--target",
    type=click.FloatRange(0, 1),
    default=0.94,
    show_default=True,
    help="The accuracy to reach, on val or test.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=None,
    help="Number of runs, each with its own seed. [default: 5; --quick: 2]",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="Also measure this speed run: airbench94_muon.py, on a GPU. Or a log of it.",
)
@device_option
@quick_option
@out_option
def command(
    data: Path,
    recipe: str,
    sets: tuple[str, ...],
    target: float,
    seeds: int | None,
    against: Path | None,
    device: str,
    quick: bool,
    out: Path | None,
) -> None:
    """Train to a given accuracy, several times, and measure the seconds.

    \b
    Examples: bench accuracy data/cifar10 --recipe cifar10/fast --target 0.94 --seeds 20
              bench accuracy data/cifar10-all --recipe cifar10/fast --seeds 20 --against
              airbench94_muon.py
    """
    from slipform.bench.race import speed_run
    from slipform.bench.result.environment import stamp
    from slipform.train.config.recipe import load_recipe

    if recipe:
        load_recipe(recipe)
    if against:
        speed_run.check(against, data)
    environment = stamp()
    seeds, device = seeds or (2 if quick else 5), device_name(device)

    def found() -> Iterator[Row]:
        yield from run(data, recipe, sets, seeds, target, device)
        if against:
            yield run_against(against, data, seeds, target, device)

    rows = finish("accuracy", found(), out, environment)
    if rows[0].status != "ok":
        raise SlipformError(f"{rows[0].status}: {rows[0].note}")


def run(
    data: Path, recipe: str, sets: tuple[str, ...], seeds: int, target: float, device: str
) -> Iterator[Row]:
    """Train with every seed, one after another.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe; "": settings for the dataset.
        sets: Texts "SECTION.KEY=VALUE" that change settings.
        seeds: The number of runs; their seeds are 0, 1, ...
        target: The accuracy to reach, 0..1.
        device: "cpu" or "cuda".

    Yields:
        After each seed, one row for all seeds so far.
    """
    from slipform.bench.race.recipe_run import train_once
    from slipform.bench.race.worker import CallFailed, isolated

    case = _case(data, recipe, target, device, " ".join(sets))
    if device != "cpu":
        sets = ("train.test_each_epoch=true", *sets)
    runs: list[dict[str, float]] = []
    for seed in range(seeds):
        try:
            found = isolated(
                train_once, str(data), recipe, sets, seed, device, target, seconds=_CALL_SECONDS
            )
        except CallFailed as failure:
            yield Row(suite="accuracy", case=case, status=failure.status, note=failure.note)
            return
        runs.append(found)
        seconds = found.get("seconds_to_target")
        reached = "target not reached" if seconds is None else f"target after {seconds:.1f} s"
        say(f"seed {seed}: accuracy {found['accuracy']:.4f}, {reached}")
        yield _row(case, runs)


def run_against(script: Path, data: Path, seeds: int, target: float, device: str) -> Row:
    """Measure a public speed run on the same images, or read its log.

    Args:
        script: The script or the log; see slipform.bench.race.speed_run.
        data: A CIFAR-10 dataset folder.
        seeds: The number of runs.
        target: The accuracy to reach, 0..1.
        device: "cpu" or "cuda".

    Returns:
        One row for all runs.
    """
    from slipform.bench.race import speed_run
    from slipform.bench.race.worker import CallFailed

    from_log = speed_run.is_log(script)
    case = _case(data, script.name, target, "of the log" if from_log else device, "")
    try:
        if from_log:
            runs = speed_run.read_log(script)
        else:
            runs = speed_run.run(script, data, seeds, device, say)
    except CallFailed as failure:
        return Row(suite="accuracy", case=case, status=failure.status, note=failure.note)
    for found in runs:
        if found["accuracy"] >= target:
            found["seconds_to_target"] = found["train_seconds"]
    return _row(case, runs, sha256=hashlib.sha256(script.read_bytes()).hexdigest()[:16])


def _case(data: Path, recipe: str, target: float, device: str, settings: str) -> Settings:
    from slipform.pipelines.manifest import read_manifest

    dataset = read_manifest(data).dataset
    return {
        "data": dataset,
        "recipe": recipe,
        "target": target,
        "device": device,
        "settings": settings,
    }


def _row(case: Settings, runs: list[dict[str, float]], **settings: str) -> Row:
    """The row of all runs: an estimate of each quantity, and statistics of the accuracy."""
    from slipform.bench.race.measure import estimate

    names = dict.fromkeys(name for found in runs for name in found)
    figures = {name: estimate([found[name] for found in runs if name in found]) for name in names}
    accuracies = [found["accuracy"] for found in runs]
    deviation = round(statistics.stdev(accuracies), 5) if len(runs) > 1 else None
    return Row(
        suite="accuracy",
        case=case,
        settings={
            "seeds": len(runs),
            "reached_target": sum("seconds_to_target" in found for found in runs),
            "mean_accuracy": round(statistics.fmean(accuracies), 5),
            "standard_deviation": deviation,
            **settings,
        },
        figures=figures,
    )
