"""One run of a recipe, measured: what `bench accuracy` has each of its processes do.

In: a dataset folder, a recipe, a seed. Out: seconds and accuracy by name.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from slipform.pipelines.errors import SlipformError


def train_once(
    data: str, recipe: str, sets: tuple[str, ...], seed: int, device: str, target: float
) -> dict[str, float]:
    """One run, in this process.

    Args:
        data: The dataset folder.
        recipe: A recipe's name or path; "": the dataset's defaults.
        sets: "key=value" beyond the recipe.
        seed: train.seed.
        device: "cpu" or "cuda".
        target: The accuracy to reach.

    Returns:
        Measurements by name; seconds_to_target is missing where the target was not reached.

    Raises:
        SlipformError: The dataset has neither a test nor a val split.
    """
    import psutil

    from slipform.pipelines.manifest import read_manifest
    from slipform.train.config.recipe import load_recipe
    from slipform.train.config.resolve import resolve
    from slipform.train.records import read_metrics
    from slipform.train.run.loop import fit

    config = resolve(
        load_recipe(recipe) if recipe else None,
        [*sets, f"train.seed={seed}"],
        read_manifest(Path(data)),
    )
    with tempfile.TemporaryDirectory(prefix="slipform-bench-") as scratch:
        folder = Path(scratch) / "run"
        end = fit(config, Path(data), folder, device=device, quiet=True)
        epochs = read_metrics(folder, "epoch")
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
    """Seconds from the epoch lines of a run.

    Args:
        epochs: Each with train_seconds and val_accuracy.
        target: The accuracy to reach.
        accuracy: At the end; it counts where there is no val split.

    Returns:
        train_seconds; start_up_seconds of several epochs; seconds_to_target where it was reached.
    """
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
