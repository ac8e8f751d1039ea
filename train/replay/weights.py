"""The weights of a run near a step, from its files, and their predictions for a batch.

In: a run folder and a step. Out: a net in evaluation mode, and where its weights are from; the
prediction and the loss of each sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from slipform.models import registry
from slipform.models.weights import load_exactly
from slipform.pipelines.batch import Batch, Mix
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.run.best import copy_weights, load_best
from slipform.train.run.checkpoint import load_all
from slipform.train.step.loss import make_loss

__all__ = ["Answers", "Weights", "answers", "net_of", "weights_near"]


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
class Answers:
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


def weights_near(run: Path, config: RunConfig, step: int) -> Weights:
    """The weights of a run that are nearest to the beginning of a step.

    Args:
        run: The run folder.
        config: The settings of the run at that step.
        step: The step, counted from 1.

    Returns:
        Those of the newest checkpoint before the step; if there is none, those of the best epoch.

    Raises:
        SlipformError: The run has no weights, or they are damaged.
    """
    model = net_of(run, config)
    for saved in load_all(run, lambda _: None):
        done = int(saved["state"]["step"])
        if done < step:
            load_exactly(model, saved["state"]["model"])
            return Weights(model.eval(), f"the checkpoint after step {done}")
    copy_weights(model, load_best(run, read_manifest(run).classes), run)
    return Weights(model.eval(), "the best epoch")


@torch.inference_mode()
def answers(model: nn.Module, config: RunConfig, batch: Batch) -> Answers:
    """Predictions and losses of the samples of a batch, computed in float32.

    Args:
        model: A net in evaluation mode, on the device of the batch.
        config: The settings of the run; its loss is used.
        batch: The batch.
    """
    logits = torch.cat([model(part.float()) for part in batch.images.split(128)])
    loss = make_loss(config.loss)
    losses = []
    for i in range(len(batch)):
        one, mix = slice(i, i + 1), batch.mix
        own = None if mix is None else Mix(mix.labels[one], mix.weight[one])
        losses.append(loss(logits[one], batch.labels[one], own))
    return Answers(logits.argmax(1).cpu(), torch.stack(losses).cpu())
