"""The first loss of every net with a new head is about ln(classes), and a pretrained body can be
fine-tuned with it.

The first loss is computed without random labels: all classes have equal shares, and the loss is
averaged over heads whose weights have the magnitudes of the new head and random signs.
"""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from slipform.models import torchvision_nets
from slipform.models.heads import head_names
from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from tests.models.own_nets import OWN

CLASSES = 10
QUICK = {
    *("alexnet", "densenet121", "efficientnet_b0", "googlenet", "mobilenet_v3_small", "resnet18"),
    *("squeezenet1_1", "vit_b_32", *OWN),
}
SIZES = {"inception_v3": 96, "maxvit_t": 224}
# More than 500 million parameters, 2.5 GB. The smaller nets of the same families are tested.
HUGE = {"regnet_y_128gf", "vit_h_14"}
NUM_HEADS = 64
NETS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in (*OWN, *torchvision_nets.names())
    if name not in HUGE
]


def _images(size: int, count: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def first_loss(model: nn.Module, images: torch.Tensor) -> float:
    """The mean loss over labels of all classes and NUM_HEADS signs of the head, over ln(CLASSES).

    The images pass once through a head that is NUM_HEADS heads beside each other.
    """
    head = model.get_submodule(head_names(model)[0])
    last = list(head)[-1] if isinstance(head, nn.Sequential) else head
    built, generator = last.weight, torch.Generator().manual_seed(2)
    many = built.repeat(NUM_HEADS, *[1] * (built.ndim - 1))
    many *= torch.randint(2, many.shape, generator=generator) * 2 - 1
    last.weight = nn.Parameter(many)
    if last.bias is not None:
        last.bias = nn.Parameter(last.bias.repeat(NUM_HEADS))
    logits = model(images).reshape(len(images), NUM_HEADS, CLASSES)
    return float((logits.logsumexp(2) - logits.mean(2)).mean()) / math.log(CLASSES)


def assert_near_chance(share: float) -> None:
    assert 0.9 < share < 1.1


@pytest.mark.parametrize("name", NETS)
def test_the_first_loss_is_that_of_random_guesses(name: str) -> None:
    size = SIZES.get(name, 64)
    options = {"hidden": 256} if name in ("conv", "mlp_sigmoid") else {}  # quicker
    torch.manual_seed(0)
    model = build(ModelConfig(name, options=options), num_classes=CLASSES, image_size=size)
    images = _images(size)
    with torch.no_grad():
        logits = model.eval()(images[:2])
    assert logits.shape == (2, CLASSES)
    assert logits.isfinite().all()
    assert_near_chance(first_loss(model.train(), images))


def test_a_head_with_large_weights_fails_the_test_above() -> None:
    torch.manual_seed(0)
    model = build(ModelConfig("resnet18"), num_classes=CLASSES, image_size=64)
    with torch.no_grad():
        model.get_submodule("fc").weight.mul_(8)
    assert first_loss(model, _images(64)) > 1.2


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "squeezenet1_1"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("efficientnet_b0", "mnasnet0_5")),
    ],
)
def test_the_first_loss_of_an_mlp_head_is_that_of_random_guesses(name: str) -> None:
    torch.manual_seed(0)
    model = build(ModelConfig(name, head="mlp"), num_classes=CLASSES, image_size=64)
    assert_near_chance(first_loss(model, _images(64)))


@pytest.mark.parametrize(
    "name",
    [
        *("resnet18", "squeezenet1_1"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("efficientnet_b0", "inception_v3")),
        pytest.param("mnasnet0_5", marks=pytest.mark.slow),
    ],
)
def test_a_new_head_on_loaded_weights_also_starts_with_small_weights(
    name: str, tmp_path: Path
) -> None:
    size = SIZES.get(name, 64)
    body = build(ModelConfig(name), num_classes=1000, image_size=size)
    save_file(body.state_dict(), tmp_path / "body.safetensors")
    config = ModelConfig(name, weights=str(tmp_path / "body.safetensors"))
    torch.manual_seed(0)
    model = build(config, num_classes=CLASSES, image_size=size)
    assert_near_chance(first_loss(model, _images(size)))


def _fine_tuned(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Training accuracy after twenty steps of the head alone."""
    model.eval()
    head = model.get_submodule(head_names(model)[0])
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    with torch.no_grad():
        features = model.layers(images).mean((2, 3))
    for _ in range(20):
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features), labels).backward()
        optimizer.step()
    return float((head(features).argmax(1) == labels).float().mean())


def test_fine_tuning_succeeds_from_a_new_head_and_fails_from_a_large_one() -> None:
    """Images of four colors with noise, and MNASNet with random filters and the statistics of the
    images."""
    labels = torch.arange(64) % 4
    colors = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])[labels]
    images = _images(64, 64) + colors[:, :, None, None]
    torch.manual_seed(0)
    model = build(ModelConfig("mnasnet0_5"), num_classes=4, image_size=64).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the passes
    with torch.no_grad():
        for _ in range(3):
            model(images)
    assert _fine_tuned(model, images, labels) > 0.9
    head = model.get_submodule(head_names(model)[0])
    nn.init.kaiming_uniform_(head.weight, mode="fan_out", nonlinearity="sigmoid")  # MNASNet's rule
    nn.init.zeros_(head.bias)
    assert _fine_tuned(model, images, labels) < 0.7
