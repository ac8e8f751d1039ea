"""The best epoch's weights of a run: best.safetensors.

In: weights and what one needs to use them elsewhere. Out: the file, whole and with a checksum; on
reading, the weights, or an error that says how to get them back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from slipform.models.weight_file import read_weights, write_weights
from slipform.pipelines.errors import SlipformError
from slipform.train.records import read_metrics
from slipform.train.run.checkpoint import checkpoints, load_all, unwritable
from slipform.train.step.state import Best, TrainState

BEST = "best.safetensors"


def save_best(run: Path, weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write best.safetensors whole or not at all.

    Args:
        run: The run folder.
        weights: Tensors by name, on any device.
        metadata: Texts that go with them: epoch, val_accuracy, model, classes.

    Raises:
        SlipformError: It cannot be written; what was there is untouched.
    """
    try:
        write_weights(run / BEST, weights, metadata)
    except OSError as error:
        raise unwritable(error, "the best weights", run) from error


def load_best(run: Path, classes: list[str] | None = None) -> dict[str, Tensor]:
    """The tensors of best.safetensors, on the CPU.

    Args:
        run: The run folder.
        classes: The classes that the weights must be for; None: any.

    Raises:
        SlipformError: It is missing or damaged, or its weights are for other classes.
    """
    path = run / BEST
    if not path.exists():
        raise SlipformError(
            f"{run} has no {BEST}: its training did not get past one epoch, or the file was"
            f" removed. {_advice(run)}"
        )
    try:
        weights, metadata = read_weights(path)
    except SlipformError as error:
        raise SlipformError(f"{error.message}. {_advice(run)}") from error
    try:
        named = json.loads(metadata["classes"]) if "classes" in metadata else None
    except ValueError:
        raise SlipformError(f"{path} is damaged: it has no classes. {_advice(run)}") from None
    if classes is not None and named is not None and named != classes:
        raise SlipformError(
            f"{path} is for the classes {_some(named)}, but dataset.json beside it has"
            f" {_some(classes)}: the folder's files are of different runs or datasets. Put the"
            " run's own dataset.json back, or train again."
        )
    return weights


def copy_weights(model: nn.Module, weights: dict[str, Tensor], run: Path) -> None:
    """Copy the tensors of best.safetensors into a run's model.

    Args:
        model: The net of the run's settings; it is changed.
        weights: What `load_best` returned.
        run: The run folder, for the error's text.

    Raises:
        SlipformError: The weights are not that model's.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise SlipformError(
            f"{run / BEST} holds other weights than the run's model has ({first}). The folder's"
            " files are of different runs: train again with --overwrite."
        ) from None


def recover(
    run: Path,
    state: TrainState,
    at_end: bool,
    save: Callable[[dict[str, Tensor] | None], None],
    say: Callable[[str], None],
    loss: str = "val_loss",
) -> Best:
    """Write best.safetensors again where it is missing or damaged: from a checkpoint that has its
    weights, else with those of the newest checkpoint, which is said.

    Args:
        run: The run folder.
        state: The run's state, restored from its newest checkpoint.
        at_end: That checkpoint was written at the end of an epoch.
        save: Writes the file: the weights given, or, for None, those that `state` evaluates.
        say: Is told what was done.
        loss: The record of an epoch that `Best.loss` is of.

    Returns:
        The best epoch, whose weights the file now holds; Best() where the next one will be it.
    """
    try:
        load_best(run)
    except SlipformError as error:
        why = error.message.partition(". ")[0]
    else:
        return state.best
    for saved in load_all(run, lambda _: None):
        weights = weights_in(saved, state.best.epoch)
        if weights is not None:
            save(weights)
            say(f"{why}: written again from a checkpoint")
            return state.best
    why = f"{why}, and no checkpoint has the weights of epoch {state.best.epoch} any more"
    if not at_end:
        say(f"{why}: the best epoch from here on takes its place")
        return Best()
    lines = {line["epoch"]: line for line in read_metrics(run, "epoch")}
    line = lines.get(state.epoch, {})
    accuracy, value = line.get("val_accuracy"), line.get(loss)
    state.best = Best(
        float(state.epoch) if accuracy is None else accuracy,
        state.epoch,
        math.inf if value is None else value,
    )
    save(None)
    say(f"{why}: the weights of epoch {state.epoch} take their place")
    return state.best


def weights_in(saved: dict[str, Any], epoch: int) -> dict[str, Tensor] | None:
    """The weights of an epoch, where a checkpoint has them.

    It has them where it was written at the end of that epoch, or where the run keeps them for
    train.restart_from_best_after.

    Args:
        saved: A checkpoint's content.
        epoch: The best epoch, counted from 1.

    Returns:
        Tensors by name, on the CPU; None where the checkpoint has other weights.
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
        return f"Its checkpoints are there: train --resume {run} writes it again."
    return "It has no checkpoint either: train again, with --overwrite."


def _some(names: list[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else "")
