"""The losses: `make_loss(config)` returns a function of logits, labels and the batch's mix.

In: logits [N, C] in any float dtype; labels int64 [N] or float32 [N, C], -100 for samples that do
not count; Mix or None. Out: the mean over the samples that count, float32, on the device of the
logits; 0 if none counts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import IGNORED_LABEL, Mix, counted
from slipform.pipelines.errors import ConfigError
from slipform.train.config.losses import (
    Asymmetric,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LossConfig,
    MultiMargin,
)
from slipform.train.step.class_weights import Labels, class_factors, positive_factors

__all__ = ["LossFunction", "make_loss"]

LossFunction = Callable[[Tensor, Tensor, Mix | None], Tensor]
_PerSample = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # logits, labels, weights of classes


def make_loss(
    config: LossConfig, labels: Labels | None = None, device: torch.device | None = None
) -> LossFunction:
    """Make the loss function of a configuration.

    Args:
        config: The [loss] section.
        labels: The labels of the training images, for weights of classes. None: they are not
            known, and the loss has no weights.
        device: The device of the logits, for the weights. Default: the CPU.

    Returns:
        A function of logits, labels and mix; see the module's docstring.

    Raises:
        ConfigError: The loss cannot learn from such labels, a class with a weight does not exist,
            or the loss has weights and there are no labels.
    """
    weights: Tensor | None = None
    if labels is not None:
        labels.check(config)
        factors = positive_factors if isinstance(config, BinaryCrossEntropy) else class_factors
        weights = factors(config.weights, labels)
    elif config.weights != "none":
        raise ConfigError(
            f"loss.{config.weights_setting} needs the labels of the training images: give labels,"
            " or the loss without weights, config.unweighted()"
        )
    per_sample: _PerSample
    if isinstance(config, CrossEntropy):
        per_sample = partial(_cross_entropy, smoothing=config.label_smoothing)
    elif isinstance(config, Focal):
        per_sample = partial(_focal, gamma=config.gamma)
    elif isinstance(config, MultiMargin):
        per_sample = partial(_multi_margin, margin=config.margin, power=config.power)
    elif isinstance(config, BinaryCrossEntropy):
        per_sample = partial(_binary_cross_entropy, smoothing=config.label_smoothing)
    elif isinstance(config, Asymmetric):
        per_sample = partial(
            _asymmetric,
            gamma_negative=config.gamma_negative,
            gamma_positive=config.gamma_positive,
            clip=config.clip,
        )
    else:
        assert_never(config)
    return _Mean(per_sample, weights if weights is None else weights.to(device))


class _Mean:
    """The mean of a loss over the samples that count.

    Args:
        per_sample: The loss of each sample, float32 [N].
        weights: float32 [C]; None: there are no weights.
    """

    def __init__(self, per_sample: _PerSample, weights: Tensor | None) -> None:
        self._per_sample, self._weights = per_sample, weights

    def __call__(self, logits: Tensor, labels: Tensor, mix: Mix | None) -> Tensor:
        # A sum of exponentials over a thousand classes needs more than the 8 bits of bfloat16.
        logits, weights = logits.float(), self._weights
        losses = self._per_sample(logits, labels, weights)
        if mix is not None:
            # The loss for the target w * a + (1 - w) * b. Cross entropy is linear in its target,
            # so this equals its loss for the soft target.
            partners = self._per_sample(logits, mix.labels, weights)
            losses = mix.weight * losses + (1 - mix.weight) * partners
        counts = counted(labels)
        return torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)


def _cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    return F.cross_entropy(
        logits,
        labels if labels.ndim == 1 else labels.clamp(min=0),
        weight=weights,
        reduction="none",
        ignore_index=IGNORED_LABEL,  # no effect on float labels, which never reach it
        label_smoothing=smoothing,
    )


def _focal(logits: Tensor, labels: Tensor, weights: Tensor | None, gamma: float) -> Tensor:
    """The sum over the classes of target * (1 - p) ** gamma * -log(p)."""
    logs = F.log_softmax(logits, dim=1)
    losses = _power(1 - logs.exp(), gamma) * -logs
    if weights is not None:
        losses = losses * weights
    return (_targets(logits, labels) * losses).sum(1)


def _multi_margin(
    logits: Tensor, labels: Tensor, weights: Tensor | None, margin: float, power: int
) -> Tensor:
    """torch's multi-margin loss for each sample; ignored labels are replaced by class 0."""
    return F.multi_margin_loss(
        logits, labels.clamp(min=0), p=power, margin=margin, weight=weights, reduction="none"
    )


def _binary_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor | None, smoothing: float
) -> Tensor:
    targets = _targets(logits, labels) * (1 - smoothing) + smoothing / 2
    return F.binary_cross_entropy_with_logits(
        logits, targets, pos_weight=weights, reduction="none"
    ).mean(1)


def _asymmetric(
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    gamma_negative: float,
    gamma_positive: float,
    clip: float,
) -> Tensor:
    """Equations 6 and 7 of the paper for each class, and the sum over the classes."""
    targets = _targets(logits, labels)
    positive = logits.sigmoid()
    negative = (1 - positive + clip).clamp(max=1)  # 1 - p_m of the paper
    # Without clip, `negative` may be too small for float32.
    log_negative = negative.log() if clip else F.logsigmoid(-logits)
    losses = targets * _power(1 - positive, gamma_positive) * -F.logsigmoid(logits)
    losses = losses + (1 - targets) * _power(1 - negative, gamma_negative) * -log_negative
    return losses.sum(1)


def _power(base: Tensor, exponent: float) -> Tensor | float:
    """base ** exponent. The gradient at 0 is 0: for exponents below 1 it would be infinite."""
    return 1.0 if exponent == 0 else base.clamp(min=1e-8) ** exponent


def _targets(logits: Tensor, labels: Tensor) -> Tensor:
    """Labels as float32 [N, C] in 0..1; samples that do not count have any class."""
    if labels.ndim == 2:
        return labels.clamp(min=0)
    return F.one_hot(labels.clamp(min=0), logits.shape[1]).to(logits.dtype)
