"""The first messages of a run: its net, its data, where it continues.

In: an open run's parts. Out: text.
"""

from __future__ import annotations

from slipform.models import freeze
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import Manifest
from slipform.train.config.image_sizes import sizes_note
from slipform.train.config.run_config import RunConfig
from slipform.train.machine.distributed import Process
from slipform.train.step.state import TrainState

__all__ = ["continuing", "headline"]


def continuing(step: int, epoch: int, epochs: int) -> str:
    """Where a resumed run continues.

    Args:
        step: Steps done.
        epoch: Epochs done.
        epochs: Epochs of the run.
    """
    if epoch >= epochs:
        return f"nothing is left to train (train.epochs = {epochs}): testing the best epoch again"
    return f"continuing after step {step}, epoch {epoch + 1} of {epochs}"


def headline(
    config: RunConfig, manifest: Manifest, state: TrainState, loader: Loader, process: Process
) -> str:
    """The net, the data and the device of a run, in one line.

    Args:
        config: The settings of the run.
        manifest: The manifest of the dataset.
        state: The state of the run.
        loader: The loader of the training split.
        process: This process.
    """
    counts = freeze.count(state.model)
    precision = str(state.functions.precision).removeprefix("torch.")
    images = f"{loader.num_samples} images of {manifest.num_classes} classes{sizes_note(config)}"
    many = f" on {process.world_size} processes" if process.world_size > 1 else ""
    together = " of all processes together" if many and config.train.split_batches else ""
    return (
        f"{config.model.name}: {counts.total:,} parameters, {counts.trainable:,} trainable;"
        f" {images}; {process.device}{many}, {precision}, executor {loader.executor_name}, batch"
        f" {config.train.batch_size}{together}"
    )
