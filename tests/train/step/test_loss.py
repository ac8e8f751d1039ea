"""Losses compared with torch in float64, and with explicit soft targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from slipform.pipelines.batch import Mix
from slipform.train.config.losses import CrossEntropy, MultiMargin
from slipform.train.config.sections import VARIANTS
from slipform.train.step.loss import make_loss

N, C = 16, 7


def _data(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (torch.randn(N, C, generator=generator) * 5).to(dtype), torch.randint(
        C, (N,), generator=generator
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing: float, dtype: torch.dtype) -> None:
    logits, labels = _data(dtype)
    expected = F.cross_entropy(logits.double(), labels, label_smoothing=smoothing)
    loss = make_loss(CrossEntropy(label_smoothing=smoothing))(logits, labels, None)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"margin": 0.5, "power": 2}])
def test_multi_margin(settings: dict[str, Any]) -> None:
    logits, labels = _data()
    expected = F.multi_margin_loss(
        logits.double(), labels, p=settings.get("power", 1), margin=settings.get("margin", 1.0)
    )
    assert float(make_loss(MultiMargin(**settings))(logits, labels, None)) == pytest.approx(
        float(expected), rel=1e-6
    )


@pytest.mark.parametrize("name", ["cross_entropy", "multi_margin"])
def test_masked_samples_do_not_count(name: str) -> None:
    logits, labels = _data()
    loss = make_loss(VARIANTS["loss"][name]())
    some = labels.clone()
    some[10:] = -100
    expected = float(loss(logits[:10], labels[:10], None))
    masked = loss(logits.requires_grad_(), some, None)
    assert float(masked.detach()) == pytest.approx(expected, rel=1e-6)
    (gradient,) = torch.autograd.grad(masked, logits)
    assert gradient[10:].abs().max() == 0
    assert gradient[:10].abs().max() > 0
    assert float(loss(logits.detach(), torch.full((N,), -100), None)) == 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_mixed_labels_are_soft_targets(smoothing: float) -> None:
    logits, labels = _data()
    partners, weight = labels.roll(1), torch.linspace(0, 1, N)
    target = weight[:, None] * F.one_hot(labels, C) + (1 - weight[:, None]) * F.one_hot(partners, C)
    expected = F.cross_entropy(logits.double(), target.double(), label_smoothing=smoothing)
    loss = make_loss(CrossEntropy(label_smoothing=smoothing))(logits, labels, Mix(partners, weight))
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
