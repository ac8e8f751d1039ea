"""The losses: `make_loss(config)` returns a function of logits, labels and the batch's mix.

In: logits [N, C] in any float dtype, labels int64 [N] with -100 for samples that do not count, Mix
or None. Out: the mean over the samples that count, float32, on the device of the logits; 0 if none
counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, Mix
from slipform.train.config.sections import CrossEntropy, LossConfig, MultiMargin

__all__ = ["LossFunction", "make_loss"]

LossFunction = Callable[[Tensor, Tensor, Mix | None], Tensor]
_PerSample = Callable[[Tensor, Tensor], Tensor]


def make_loss(config: LossConfig) -> LossFunction:
    """Make the loss function of a configuration.

    Args:
        config: The [loss] section.

    Returns:
        A function of logits, labels and mix; see the module's docstring.
    """
    per_sample: _PerSample
    if isinstance(config, CrossEntropy):
        per_sample = partial(
            F.cross_entropy,
            reduction="none",
            ignore_index=IGNORED_LABEL,
            label_smoothing=config.label_smoothing,
        )
    elif isinstance(config, MultiMargin):
        per_sample = partial(_multi_margin, margin=config.margin, power=config.power)
    else:
        assert_never(config)
    return partial(_mean, per_sample)


def _mean(per_sample: _PerSample, logits: Tensor, labels: Tensor, mix: Mix | None) -> Tensor:
    # A sum of exponentials over a thousand classes needs more than the 8 bits of bfloat16.
    logits = logits.float()
    losses = per_sample(logits, labels)
    if mix is not None:
        # The loss for the target w * a + (1 - w) * b. Cross entropy is linear in its target, so
        # this equals its loss for the soft target.
        losses = mix.weight * losses + (1 - mix.weight) * per_sample(logits, mix.labels)
    counts = labels != IGNORED_LABEL
    return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)


def _multi_margin(logits: Tensor, labels: Tensor, margin: float, power: int) -> Tensor:
    """torch's multi-margin loss for each sample; ignored labels are replaced by class 0."""
    return F.multi_margin_loss(
        logits, labels.clamp(min=0), p=power, margin=margin, reduction="none"
    )
