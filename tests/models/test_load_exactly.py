"""Each net loads its own tensors from a file, which does not have the version numbers of modules.

The nets are on the meta device: only names, shapes and versions are compared. RegNets compute their
sizes with tensors, so only one of them is tested, on the CPU.
"""

from __future__ import annotations

import pytest
import torch

from slipform.models.registry import build, find, names
from slipform.models.spec import ModelConfig
from slipform.models.weights import load_exactly
from tests.models.own_nets import OWN

REGNET = "regnet_y_400mf"
# One net of each family by default. The others have the same modules, in other numbers.
QUICK = {
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s"),
    *("googlenet", "inception_v3", "maxvit_t", "mnasnet0_5", "mnasnet1_0", "mobilenet_v2"),
    *("mobilenet_v3_small", REGNET, "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5"),
    *("squeezenet1_0", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32"),
    *("wide_resnet50_2", *OWN),
}
NETS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
    for name in names()
    if not name.startswith("regnet") or name == REGNET
]


@pytest.mark.parametrize("name", NETS)
def test_every_net_loads_its_own_tensors(name: str) -> None:
    net = find(ModelConfig(name))
    with torch.device("cpu" if name == REGNET else "meta"):
        model = net.build(num_classes=3, image_size=224)
    load_exactly(model, dict(model.state_dict()))


def test_the_values_are_loaded() -> None:
    one, two = (build(ModelConfig("mnasnet0_5"), num_classes=3, image_size=32) for _ in range(2))
    tensors = {key: tensor.clone() for key, tensor in one.state_dict().items()}
    load_exactly(two, tensors)
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in two.state_dict().items())


def test_other_tensors_are_refused() -> None:
    model = build(ModelConfig("tiny"), num_classes=3, image_size=32)
    tensors = dict(model.state_dict())
    with pytest.raises(RuntimeError, match="Missing key"):
        load_exactly(model, dict(list(tensors.items())[1:]))
    with pytest.raises(RuntimeError, match="Unexpected key"):
        load_exactly(model, {**tensors, "more": torch.zeros(1)})
