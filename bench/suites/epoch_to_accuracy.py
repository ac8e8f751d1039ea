"""`bench accuracy`: seconds of training until a given accuracy, over several seeds.

In: a dataset folder, a recipe, a target. Out: one row. Each seed trains through
slipform.train.run.loop.fit in a process of its own.

seconds_to_target: training time (loading included, validation not) up to the end of the first epoch
whose validation accuracy is at least the target. Without a val split, as in public speed runs,
nothing is selected and the last epoch's test accuracy counts: then it is the whole training time.
start_up_seconds: what the first epoch took beyond the median of the others: compilation and
warm-up; test_seconds: the pass over the test split. Public speed runs count seconds_to_target -
start_up_seconds + test_seconds. process_seconds: from the start of the process to the summary,
imports, validation and test included. accuracy: of the test split at the end, with the best epoch's
weights (the last one's without a val split).
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipform.bench.race.measure import figure
from slipform.bench.race.worker import Died, isolated
from slipform.bench.result.result import Row, Settings
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import read_manifest


def train_once(
    data: str, recipe: str, sets: tuple[str, ...], seed: int, device: str, target: float
) -> dict[str, float]:
    """One run. Measurements by name; seconds_to_target is missing where the target was not
    reached."""
    import psutil

    from slipform.train.config.resolve import load_recipe, resolve
    from slipform.train.run.loop import fit
    from slipform.train.run.record import read_metrics

    config = resolve(
        load_recipe(recipe) if recipe else None,
        [*sets, f"train.seed={seed}"],
        read_manifest(Path(data)),
    )
    with tempfile.TemporaryDirectory(prefix="slipform-bench-") as scratch:
        run = Path(scratch) / "run"
        end = fit(config, Path(data), run, device=device, quiet=True)
        epochs = read_metrics(run, "epoch")
    process_seconds = time.time() - psutil.Process().create_time()
    accuracy = end["test_accuracy"] if end["test_accuracy"] is not None else end["val_accuracy"]
    if accuracy is None:
        raise SlipformError(
            f"{data} has neither a test nor a val split: there is no accuracy to measure"
        )
    found = from_epochs(epochs, target, accuracy)
    found["process_seconds"] = process_seconds
    found["data_wait_seconds"] = end["data_wait_share"] * found["train_seconds"]
    found["images_per_second"] = end["images_per_second"]
    if end["test_seconds"] is not None:
        found["test_seconds"] = end["test_seconds"]
    found["accuracy"] = accuracy
    return found


def from_epochs(epochs: list[dict[str, Any]], target: float, accuracy: float) -> dict[str, float]:
    """Seconds out of a run's epoch lines; accuracy: at the end."""
    lengths = [line["train_seconds"] for line in epochs]
    ends = list(itertools.accumulate(lengths))
    found = {"train_seconds": ends[-1]}
    if len(lengths) > 1:
        found["start_up_seconds"] = max(0.0, lengths[0] - statistics.median(lengths[1:]))
    for line, end in zip(epochs, ends, strict=True):
        if line["val_accuracy"] is not None and line["val_accuracy"] >= target:
            found["seconds_to_target"] = end
            break
    if epochs[-1]["val_accuracy"] is None and accuracy >= target:
        found["seconds_to_target"] = ends[-1]
    return found


def run(
    data: Path,
    recipe: str,
    sets: tuple[str, ...],
    seeds: int,
    target: float,
    device: str,
    say: Callable[[str], None],
) -> Row:
    """One row over all seeds."""
    runs: list[dict[str, float]] = []
    case: Settings = {
        "data": read_manifest(data).dataset,
        "recipe": recipe,
        "target": target,
        "device": device,
    }
    case["settings"] = " ".join(sets)
    for seed in range(seeds):
        found = isolated(
            train_once, str(data), recipe, sets, seed, device, target, seconds=24 * 3600.0
        )
        if isinstance(found, Died):
            return Row(
                suite="accuracy",
                case=case,
                status="out of memory" if found.out_of_memory else "failed",
                note=found.note,
            )
        runs.append(found)
        reached = (
            f"target after {found['seconds_to_target']:.1f} s"
            if "seconds_to_target" in found
            else "target not reached"
        )
        say(f"seed {seed}: accuracy {found['accuracy']:.4f}, {reached}")
    names = dict.fromkeys(name for found in runs for name in found)
    figures = {name: figure([found[name] for found in runs if name in found]) for name in names}
    settings = summary(
        [found["accuracy"] for found in runs], sum("seconds_to_target" in found for found in runs)
    )
    return Row(suite="accuracy", case=case, settings=settings, figures=figures)


def summary(accuracies: list[float], reached: int) -> Settings:
    """What a row over several seeds says beside its medians."""
    deviation = round(statistics.stdev(accuracies), 5) if len(accuracies) > 1 else None
    mean = round(statistics.fmean(accuracies), 5)
    return {
        "seeds": len(accuracies),
        "reached_target": reached,
        "mean_accuracy": mean,
        "standard_deviation": deviation,
    }
