"""The end of a run: a test of the best epoch's weights, summary.json, the sinks, figures.

In: a Run whose epochs are done. Out: the summary.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor

from slipform.models import freeze
from slipform.pipelines.machine import machine_name
from slipform.train.figures import curves, draw, events, result
from slipform.train.machine.device import peak_memory_bytes
from slipform.train.records import write_summary
from slipform.train.run.best import copy_weights, load_best
from slipform.train.run.ending import awaiting
from slipform.train.run.identity import check_unchanged
from slipform.train.run.open import Run
from slipform.train.scores.bootstrap import of_share
from slipform.train.step.data import open_loader
from slipform.train.step.evaluate import AnyEvaluation, evaluate, recorded
from slipform.train.step.metrics import Evaluation

__all__ = ["finish"]


def finish(run: Run) -> dict[str, Any]:
    """Test the best epoch, write the summary, also to the sinks, draw the figures.

    Args:
        run: A run whose epochs are done; its evaluated model gets the best epoch's weights.

    Returns:
        The summary, as in summary.json. A resumed run counts seconds and images of all its parts.

    Raises:
        SlipformError: The dataset was replaced, or best.safetensors is damaged.
    """
    state, process = run.state, run.process
    run.checkpoints.wait()
    check_unchanged(run.config, run.manifest, run.folder)
    if process.is_main:
        best = load_best(run.folder, run.manifest.classes)
        copy_weights(state.evaluated, best, run.folder)
    process.broadcast(state.evaluated.state_dict().values())
    test, test_seconds, image = None, None, torch.empty(0)
    if "test" in run.manifest.splits and run.manifest.splits["test"].num_samples:
        executor = run.evaluation.get("test")
        with open_loader(run.config, "test", process, executor=executor) as loader:
            began = time.perf_counter()
            test = evaluate(state, loader, process, awaiting(run, loader), state.best.thresholds)
            test_seconds = time.perf_counter() - began
            if process.is_main:
                image = next(iter(loader)).images[:1].clone()
    counts, clock = freeze.count(state.model), run.counters.timing
    summary = {
        **recorded("test", test, run.manifest.labels),
        "test_accuracy_interval": _interval(test),
        "test_seconds": test_seconds,
        "test_class_accuracy": _by_class(test, run.manifest.classes) if test else None,
        "val_accuracy": state.best.accuracy if run.val is not None else None,
        "best_epoch": state.best.epoch,
        **_labels(run),
        "epochs": state.epoch,
        "steps": state.step,
        "seconds": clock.seconds,
        "others_share": clock.others_share if process.world_size == 1 else None,
        "train_seconds": clock.train_seconds,
        "images_per_second": clock.images_per_second,
        "data_wait_share": clock.wait_share,
        "peak_memory_bytes": peak_memory_bytes(process.device),
        "parameters": counts.total,
        "trainable_parameters": counts.trainable,
        "model": run.config.model.name,
        "dataset": run.manifest.dataset,
        "device": str(process.device),
        "machine": machine_name(str(process.device)),
        "torch": torch.__version__,
        "processes": process.world_size,
        "precision": str(state.functions.precision).removeprefix("torch."),
        "compiled": state.functions.compiled,
        "executor": run.train.executor_name,
        "resident_bytes": run.train.resident_bytes,
        "batch_size": run.config.train.batch_size,
    }
    if process.is_main:
        # First: a tracker that does not answer, or an error in a figure, must not lose the summary.
        write_summary(run.folder, summary)
        run.recorder.summary(state.step, summary)
        _draw(run, image, test)
    return summary


def _labels(run: Run) -> dict[str, Any]:
    """The kind of labels and the thresholds, if images have several labels."""
    if run.manifest.labels != "multi":
        return {}
    thresholds = zip(run.manifest.classes, run.state.best.thresholds, strict=False)
    return {"labels": "multi", "thresholds": dict(thresholds)}


def _interval(test: AnyEvaluation | None) -> list[float] | None:
    """The 95 % interval of the accuracy. That of mAP needs all answers: `validate` has it."""
    if not isinstance(test, Evaluation) or not test.num_images:
        return None
    found = of_share(test.top1, test.num_images)
    return [found.low, found.high]


def _by_class(test: AnyEvaluation, classes: list[str]) -> dict[str, float | None]:
    """Class -> accuracy or average precision; None for a class without test images."""
    shares = zip(classes, test.per_class, strict=True)
    return {name: None if math.isnan(share) else round(share, 6) for name, share in shares}


def _draw(run: Run, image: Tensor, test: AnyEvaluation | None) -> None:
    """Draw the figures. An error becomes a message: the run is finished."""
    try:
        if test is not None:
            result.draw_result(
                run.folder / draw.FOLDER, run.state.evaluated, image, test, run.manifest.classes
            )
        curves.draw_run(run.folder)
        events.draw_events(run.folder)
    except Exception as error:  # the disk, matplotlib, or damaged records
        run.recorder.say(f"figures could not be drawn: {type(error).__name__}: {error}")
