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

REGNET = "regnet_y_400mf"
NETS = [name for name in names() if not name.startswith("regnet") or name == REGNET]


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
