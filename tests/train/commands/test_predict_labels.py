"""The command `predict` on images with several labels: every label that it finds is shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from slipform.pipelines.manifest import read_manifest
from slipform.train import cli
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from tests.train.run.labeled import dataset_of

# Six classes in the order of the alphabet. Four reach their threshold; "e" is more probable than
# "b" and "d", but its threshold is higher.
SHARES = {"a": 0.2, "b": 0.5, "c": 0.9, "d": 0.4, "e": 0.7, "f": 0.6}
THRESHOLDS = (0.3, 0.5, 0.8, 0.1, 0.75, 0.2)
LABELS = ["c* 0.900", "f* 0.600", "b* 0.500", "d* 0.400"]


class _Constant(nn.Module):
    """The same logits for all images."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([*SHARES.values()], dtype=torch.float64).logit())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.expand(len(images), -1)


@pytest.fixture
def predict(
    small: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """predict("--top", 1): what the command prints about one image."""
    manifest = read_manifest(dataset_of(tmp_path / "data", "multi"))
    manifest = manifest.model_copy(update={"classes": list(SHARES)})
    config = small('loss.name="bce"')
    classifier = Classifier(_Constant(), config, manifest, tmp_path, "cpu", THRESHOLDS)
    monkeypatch.setattr(Classifier, "load", lambda *_: classifier)
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "x.png")

    def run(*options: object) -> str:
        arguments = [str(tmp_path), str(tmp_path / "x.png"), *map(str, options)]
        result = CliRunner().invoke(cli.predict, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.removesuffix("\n")

    return run


@pytest.mark.parametrize(
    ("top", "others"),
    [
        (1, []),
        (3, []),
        (4, []),
        (5, ["e 0.700"]),
        (6, ["e 0.700", "a 0.200"]),
        (9, ["e 0.700", "a 0.200"]),
    ],
)
def test_all_labels_are_shown_before_the_most_probable_others(
    top: int, others: list[str], predict: Callable[..., str]
) -> None:
    assert predict("--top", top).split("  ")[1:] == LABELS + others


def test_json_has_the_most_probable_classes_and_all_labels(predict: Callable[..., str]) -> None:
    found = json.loads(predict("--json", "--top", 2))
    assert [one["class"] for one in found["classes"]] == ["c", "e"]
    assert found["labels"] == ["b", "c", "d", "f"]
