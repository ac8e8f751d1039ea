"""The net of a run before its training.

In: the settings of a run. Out: a net with random weights.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from slipform.models import registry
from slipform.train.config.run_config import RunConfig

__all__ = ["untrained"]


def untrained(config: RunConfig, num_classes: int) -> nn.Module:
    """A net with random weights, in evaluation mode on the CPU.

    Args:
        config: The settings of a run; train.seed seeds the weights.
        num_classes: The number of classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        model = registry.build(
            replace(config.model, weights="none"),
            num_classes=num_classes,
            image_size=config.augment.image_size,
        )
    return model.eval().requires_grad_(False)
