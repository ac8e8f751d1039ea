"""Figures of nets: the first layer of every kind of net is drawn, with any class of layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from slipform.models import registry
from slipform.models.spec import ModelConfig
from slipform.train.figures import result as plots
from slipform.train.step.metrics import Evaluation

IMAGE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "name",
    [
        "cnn",
        "conv",
        "conv_blocks",
        "fast",
        "tiny",
        "resnet18",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("densenet121", "mobilenet_v3_small", "alexnet")
        ),
    ],
)
def test_first_layer_of_every_kind_of_net(name: str, tmp_path: Path) -> None:
    """The first layer of `fast` is not an nn.Conv2d."""
    small = {"small_input": True} if name == "alexnet" else {}
    model = registry.build(ModelConfig(name=name, **small), num_classes=5, image_size=32).eval()
    drawn = plots.first_layer(tmp_path, model, IMAGE)
    assert [path.name for path in drawn] == ["kernels.png", "first_outputs.png"]
    for path in drawn:
        assert np.asarray(Image.open(path).convert("L")).std() > 1
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["mlp_sigmoid", "fc"])
def test_nets_without_a_convolution_have_none(name: str, tmp_path: Path) -> None:
    model = registry.build(ModelConfig(name=name), num_classes=5, image_size=32).eval()
    assert plots.first_layer(tmp_path, model, IMAGE) == []
    assert not list(tmp_path.iterdir())


def test_the_layer_that_the_image_passes_first_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the layer that was declared first."""

    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.second, self.first = nn.Conv2d(7, 2, 1), nn.Conv2d(3, 7, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    shown: dict[str, torch.Tensor] = {}
    monkeypatch.setattr(
        plots, "_tiles", lambda out, images, name, title: shown.update({name: images})
    )
    model = Backwards()
    plots.first_layer(tmp_path, model, IMAGE)
    assert torch.equal(shown["kernels.png"], model.first.weight)
    torch.testing.assert_close(shown["first_outputs.png"][:, 0], model.first(IMAGE)[0])


def test_names_of_classes_are_drawn_literally(tmp_path: Path) -> None:
    """matplotlib parses text between two dollar signs as mathematics, and "_to_" in it is an
    error. It warns of each character that its font lacks, and warnings are errors here."""
    classes = ["$5_to_$10", r"$\frac{", "\x1b[31mred\n", "\udce9", "$$", "猫 🐈", "बिल्ली"]
    confusion = torch.eye(len(classes), dtype=torch.int64)
    result = Evaluation(0.0, 1.0, 1.0, confusion)
    for path in (
        plots.per_class(tmp_path, result, classes),
        *plots.confusion(tmp_path, result, classes),
    ):
        assert np.asarray(Image.open(path).convert("L")).std() > 1
    assert len(list(tmp_path.iterdir())) == 2
