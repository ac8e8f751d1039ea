"""A file of weights of a net that is like the one to load, but of another depth."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from slipform.models.registry import build
from slipform.models.spec import ModelConfig
from slipform.models.weights import LoadReport

NET = partial(build, num_classes=5, image_size=32)


@pytest.mark.parametrize(("name", "other"), [("resnet18", "resnet34"), ("resnet34", "resnet18")])
def test_weights_of_a_net_of_another_depth_give_a_warning(
    name: str, other: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They fit where both nets have blocks, so they are not refused."""
    file = tmp_path / "weights.pth"
    torch.save(NET(ModelConfig(other)).state_dict(), file)
    NET(ModelConfig(name, weights=str(file)))
    found = [record.message for record in caplog.records if record.levelname == "WARNING"]
    blocks = "layer1.2, layer2.2, layer2.3, layer3.2, layer3.3 and 3 more"
    question = "are these the weights of another net?"
    if name == "resnet18":
        assert found == [f"{file} has {blocks}, which the net does not have: {question}"]
    else:
        assert found == [f"the net has {blocks}, which {file} does not have: {question}"]


@pytest.mark.parametrize(("head", "other"), [("linear", "mlp"), ("mlp", "linear")])
def test_another_head_gives_no_warning(head: str, other: str, tmp_path: Path) -> None:
    state, file = NET(ModelConfig("resnet18", head=other)).state_dict(), tmp_path / "weights.pth"
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, file)
    reports: list[LoadReport] = []
    NET(ModelConfig("resnet18", head=head, weights=str(file)), on_load=reports.append)
    assert reports[0].unexpected
    assert not reports[0].warnings
