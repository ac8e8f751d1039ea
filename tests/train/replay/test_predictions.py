"""The losses that replay prints are those of training: with the weights of classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from slipform.pipelines.batch import Batch
from slipform.train.config.run_config import RunConfig
from slipform.train.replay.weights import predictions
from slipform.train.step.class_weights import Labels

LABELS = Labels("single", ("a", "b", "c"), (10, 20, 30), 60)


def test_the_loss_of_an_image_has_the_factor_of_its_class(small: Callable[..., RunConfig]) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(9, 3, 4, 4, generator=generator)
    batch = Batch(images, torch.arange(9) % 3, torch.arange(9))
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 3))
    plain = predictions(model, small(), batch, LABELS)
    weighted = predictions(model, small("loss.class_weights={a=2.0, c=0.5}"), batch, LABELS)
    torch.testing.assert_close(weighted.losses, plain.losses * torch.tensor([2.0, 1.0, 0.5] * 3))
    assert torch.equal(weighted.predicted, plain.predicted)
