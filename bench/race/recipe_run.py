"""One measured run of a recipe, for `bench accuracy`.

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

__all__ = ["from_epochs", "train_once"]


def train_once(
    data: str, recipe: str, sets: tuple[str, ...], seed: int, device: str, target: float
) -> dict[str, float]:
    """Train once, in this process.

    Args:
        data: The dataset folder.
        recipe: The name or path of a recipe; "": settings for the dataset.
        sets: Texts "SECTION.KEY=VALUE" that change settings.
        seed: The setting train.seed.
        device: "cpu" or "cuda".
        target: The accuracy to reach, 0..1.

    Returns:
        Quantity -> value, without seconds_to_target if the target was not reached.

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
    """Compute times from the records of a run's epochs.

    Args:
        epochs: The records; train_seconds and val_accuracy are used.
        target: The accuracy to reach, 0..1.
        accuracy: The accuracy at the end, used if there is no val split.

    Returns:
        train_seconds; start_up_seconds if there are several epochs; seconds_to_target if the target
        was reached.
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
