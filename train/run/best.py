"""best.safetensors: the weights of the best epoch of a run.

In: weights and metadata, such as the classes. Out: a complete file with a checksum. When it is
read: the weights, or an error that says how to restore them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slipform.models.weight_file import read_weights, write_weights
from slipform.models.weights import load_exactly
from slipform.pipelines.errors import SlipformError
from slipform.train.records import read_metrics
from slipform.train.run.checkpoint import checkpoints, load_all, unwritable
from slipform.train.run.identity import some
from slipform.train.step.state import Best, TrainState

__all__ = [
    "BEST",
    "BestFile",
    "copy_weights",
    "load_best",
    "read_best",
    "recover",
    "save_best",
]

BEST = "best.safetensors"


def save_best(run: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write best.safetensors, completely or not at all.

    Args:
        run: The run folder.
        weights: Tensors by name, on any device.
        metadata: Texts by name: epoch, model, classes, labels, thresholds, and val_accuracy
            if the dataset has a val split.

    Raises:
        SlipformError: The file cannot be written; an older file has not changed.
    """
    try:
        write_weights(run / BEST, weights, metadata)
    except OSError as error:
        raise unwritable(error, "the best weights", run) from error


@dataclass(frozen=True)
class BestFile:
    """The content of best.safetensors.

    Attributes:
        weights: The tensors, on the CPU.
        epoch: The epoch of the weights; None if the file does not say.
        classes: The names of the classes; None if the file does not say.
        thresholds: Several labels for each image: C thresholds. Empty if the run had no images for
            validation.
    """

    weights: dict[str, Tensor]
    epoch: int | None
    classes: list[str] | None
    thresholds: tuple[float, ...]


def read_best(run: Path, classes: list[str] | None = None) -> BestFile:
    """Read best.safetensors.

    Args:
        run: The run folder.
        classes: The class names that the file must have. Default: any.

    Raises:
        SlipformError: The file is missing or damaged, or its weights are for other classes.
    """
    path = run / BEST
    if not path.exists():
        raise SlipformError(
            f"{run} has no {BEST}: its training did not finish one epoch, or the file was removed."
            f" {_advice(run)}"
        )
    try:
        weights, metadata = read_weights(path)
    except SlipformError as error:
        raise SlipformError(f"{error.message}. {_advice(run)}") from error
    try:
        epoch = int(metadata["epoch"]) if "epoch" in metadata else None
        named = _names(metadata["classes"]) if "classes" in metadata else None
        thresholds = tuple(float(value) for value in json.loads(metadata.get("thresholds", "[]")))
    except (RecursionError, TypeError, ValueError):
        raise SlipformError(f"{path} is damaged: wrong metadata. {_advice(run)}") from None
    if classes is not None and named is not None and named != classes:
        raise SlipformError(
            f"{path} is for the classes {some(named)}, but dataset.json in the same folder"
            f" has {some(classes)}: these files are of different runs or datasets. Restore the"
            " dataset.json of the run, or train again."
        )
    is_complete = classes is None or len(thresholds) in (0, len(classes))
    if not is_complete or not all(0 <= value <= 1 for value in thresholds):
        raise SlipformError(f"{path} is damaged: wrong thresholds. {_advice(run)}")
    return BestFile(weights, epoch, named, thresholds)


def load_best(run: Path, classes: list[str] | None = None) -> dict[str, Tensor]:
    """The tensors of best.safetensors; see `read_best`.

    Args:
        run: The run folder.
        classes: The class names that the file must have. Default: any.
    """
    return read_best(run, classes).weights


def copy_weights(model: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    """Copy the tensors of best.safetensors into the model of a run.

    Args:
        model: The net of the run; changed in place.
        weights: The result of `load_best`.
        run: The run folder, for the text of the error.

    Raises:
        SlipformError: The weights do not fit the model.
    """
    try:
        load_exactly(model, weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise SlipformError(
            f"the weights in {run / BEST} do not fit the run's model ({first}). The files in the"
            " folder are of different runs: train again with --overwrite."
        ) from None


def recover(
    run: Path,
    state: TrainState,
    classes: list[str],
    at_end: bool,
    save: Callable[[dict[str, Tensor] | None], None],
    say: Callable[[str], None],
    loss: str = "val_loss",
) -> Best:
    """Write best.safetensors again if it is missing, damaged, or of another epoch.

    The file has the weights of a later epoch if the process was killed between the writes of the
    file and of the checkpoint. The weights come from a checkpoint that has them. If there is none,
    the weights of the newest checkpoint replace them, and a message says so. If the file has the
    classes of another dataset (--other-data), it gets the classes of the present one.

    Args:
        run: The run folder.
        state: The state of the run, restored from its newest checkpoint.
        classes: The classes of the dataset.
        at_end: Whether that checkpoint was written at the end of an epoch.
        save: Writes the given weights to the file; None: those of `state.evaluated`.
        say: Called with a message for the user.
        loss: The key of `Best.loss` in the records of epochs.

    Returns:
        The epoch of the weights in the file; Best() if the next epoch will write the file. It has
        no thresholds if other weights replace the lost ones.
    """
    try:
        found = read_best(run)
    except SlipformError as error:
        why = error.message.partition(". ")[0]
    else:
        if found.epoch in (None, state.best.epoch):
            if found.classes not in (None, classes):
                save(found.weights)
            return state.best
        why = f"{run / BEST} has epoch {found.epoch}, but the checkpoint has another best epoch"
    for saved in load_all(run, lambda _: None):
        kept = _weights_in(saved, state.best.epoch)
        if kept is not None:
            save(kept)
            say(f"{why}: written again from a checkpoint")
            return state.best
    why = f"{why}, and no checkpoint has the weights of epoch {state.best.epoch}"
    if not at_end:
        say(f"{why}: the best of the next epochs replaces it")
        return Best()
    lines = {line["epoch"]: line for line in read_metrics(run, "epoch")}
    line = lines.get(state.epoch, {})
    accuracy, value = line.get("val_accuracy"), line.get(loss)
    state.best = Best(
        -1.0 if accuracy is None else accuracy,
        state.epoch,
        math.inf if value is None else value,
    )
    save(None)
    say(f"{why}: the weights of epoch {state.epoch} replace them")
    return state.best


def _weights_in(saved: dict[str, Any], epoch: int) -> dict[str, Tensor] | None:
    """The weights of the best epoch in a checkpoint; None if it does not have them.

    It has them if it was written at the end of that epoch, or if the run keeps them for
    train.restart_from_best_after.
    """
    state, loader = saved["state"], saved["loader"]
    if state["best"]["epoch"] != epoch:
        return None
    if state["best_weights"] is not None:
        kept: dict[str, Tensor] = state["best_weights"]
        return kept
    if state["epoch"] == epoch and (loader["epoch"], loader["seen"]) == (epoch, 0):
        last: dict[str, Tensor] = state["ema"] or state["model"]
        return last
    return None


def _advice(run: Path) -> str:
    if checkpoints(run):
        return f"The run has checkpoints: train --resume {run} writes the file again."
    return "The run has no checkpoint: train again with --overwrite."


def _names(text: str) -> list[str]:
    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError(text)
    return found
