"""Runs of timm's nets: stopped and resumed bit for bit, with drop path and layer-wise rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from slipform.pipelines.errors import ConfigError
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures
from tests.train.run.interrupted import Killed, assert_same, at_step, kill

pytestmark = pytest.mark.usefixtures("no_figures")
Small = Callable[..., RunConfig]
SETS = (
    "model.name=timm/test_vit",
    "model.options.drop_path_rate=0.2",
    "model.options.drop_rate=0.1",
    "optimizer.name=adamw",
    "optimizer.lr=0.003",
    "optimizer.weight_decay=0.05",
    "optimizer.decay_all=false",
    "optimizer.layer_decay=0.75",
    "train.ema=0.9",
    "augment.normalize=model",
)


@pytest.fixture(scope="module")
def whole(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("timm") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small(*SETS), shapes, run, quiet=True)
    return run


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    whole: Path, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(*SETS, "train.checkpoint_every_steps=1")
    at_step(monkeypatch, 8, kill)
    with pytest.raises(Killed):
        fit(config, shapes, tmp_path / "run", quiet=True)
    fit(config, shapes, tmp_path / "run", resume=True, quiet=True)
    assert_same(whole, tmp_path / "run")


def test_a_resumed_run_keeps_its_layer_decay(
    whole: Path, shapes: Path, small: Small, tmp_path: Path
) -> None:
    """The momenta are stored in the order of the groups."""
    fit(small(*SETS, "train.epochs=1"), shapes, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay was 0\.75, now it is 1\.0"):
        fit(
            small(*SETS, "optimizer.layer_decay=1.0"),
            shapes,
            tmp_path / "run",
            resume=True,
            quiet=True,
        )


def test_timm_opens_the_weights_and_we_open_the_run(whole: Path, shapes: Path) -> None:
    classifier = Classifier.load(whole, "cpu")
    model = timm.create_model("test_vit", num_classes=len(classifier.classes), img_size=32)
    timm.models.load_checkpoint(model, str(whole / "best.safetensors"))
    ours = classifier.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in model.state_dict().items())
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():  # the memory formats of the two differ
        torch.testing.assert_close(model.eval()(images), classifier.model(images))
    assert classifier.spec.normalize == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert int(classifier.evaluate(shapes).confusion.sum()) == 60
