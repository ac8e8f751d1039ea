"""The weights of a run near a step, from its files, and their predictions for a batch.

In: a run folder and a step. Out: a net in evaluation mode, and where its weights are from; the
prediction and the loss of each sample.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from slipform.models import registry
from slipform.models.weights import load_exactly
from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.errors import SlipformError
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.batches import open_rank
from slipform.train.run.best import copy_weights, load_best
from slipform.train.run.checkpoint import load_all
from slipform.train.run.segments import Segment
from slipform.train.step.class_weights import Labels
from slipform.train.step.loss import make_loss

__all__ = ["Predictions", "Weights", "first_net", "net_of", "predictions", "weights_near"]


@dataclass(frozen=True)
class Weights:
    """A net of a run.

    Attributes:
        model: The net in evaluation mode, on the CPU.
        source: Where the weights are from, such as "the checkpoint after step 120".
    """

    model: nn.Module
    source: str


@dataclass(frozen=True)
class Predictions:
    """The predictions of a net for the samples of a batch.

    Attributes:
        predicted: int64 [N], the most probable classes.
        losses: float32 [N], the loss of each sample; 0 where the label does not count.
    """

    predicted: Tensor
    losses: Tensor


def net_of(run: Path, config: RunConfig) -> nn.Module:
    """The untrained net of a run, on the CPU.

    Args:
        run: The run folder.
        config: The settings of the run.
    """
    return registry.build(
        replace(config.model, weights="none"),
        num_classes=read_manifest(run).num_classes,
        image_size=config.augment.image_size,
    )


def first_net(segment: Segment) -> nn.Module:
    """The net of a run before its first step, on the CPU in training mode.

    Args:
        segment: The first segment of the run.

    Raises:
        ConfigError: The file of model.weights is gone, or the net cannot be built.
        DatasetError: The dataset is missing or differs.
    """
    config = segment.config
    with open_rank(segment, torch.device("cpu"), 0, "host") as loader, torch.random.fork_rng([]):
        torch.manual_seed(config.train.seed)
        model = registry.build(
            config.model,
            num_classes=loader.num_classes,
            image_size=config.augment.image_size,
            on_load=lambda _: None,
        )
        init_from_images: Any = getattr(model, "init_from_images", None)
        if init_from_images:
            init_from_images(next(iter(loader)).images.clone())
    return model


def weights_near(
    run: Path, segments: list[Segment], config: RunConfig, step: int
) -> Weights | None:
    """The weights of a run that are nearest to the beginning of a step.

    Args:
        run: The run folder.
        segments: The segments of the run.
        config: The settings of the run at that step.
        step: The step, counted from 1.

    Returns:
        Those of the newest checkpoint before the step; if there is none, those of the best epoch;
        if there are none, those before the first step. None: there are no weights at all.
        Files that are damaged or of another run are passed over.
    """
    model = net_of(run, config)
    for saved in load_all(run, lambda _: None):
        # Values of any type may be where others are expected.
        with suppress(AttributeError, KeyError, RuntimeError, TypeError, ValueError):
            done = int(saved["state"]["step"])
            if done < step:
                load_exactly(model, saved["state"]["model"])
                return Weights(model.eval(), f"the checkpoint after step {done}")
    with suppress(SlipformError):
        copy_weights(model, load_best(run, read_manifest(run).classes), run)
        return Weights(model.eval(), "the best epoch")
    with suppress(SlipformError):
        return Weights(first_net(segments[0]).eval(), "the beginning of the run")
    return None


@torch.inference_mode()
def predictions(model: nn.Module, config: RunConfig, batch: Batch, labels: Labels) -> Predictions:
    """Predictions and losses of the samples of a batch, computed in float32.

    Args:
        model: A net in evaluation mode, on the device of the batch.
        config: The settings of the run; its loss is used.
        batch: The batch.
        labels: The labels of the training images, for weights of classes.
    """
    logits = torch.cat([model(part.float()) for part in batch.images.split(128)])
    loss = make_loss(config.loss, labels, batch.images.device)
    losses = []
    for i in range(len(batch)):
        one, mix = slice(i, i + 1), batch.mix
        own = None if mix is None else Mix(mix.labels[one], mix.weight[one])
        losses.append(loss(logits[one], batch.labels[one], own))
    return Predictions(logits.argmax(1).cpu(), torch.stack(losses).cpu())
