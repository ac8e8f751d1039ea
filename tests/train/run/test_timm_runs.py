"""Runs of timm's nets: stopped and resumed bit for bit, with drop path and layer-wise rates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from slipform.models.weight_file import read_weights
from slipform.pipelines.errors import ConfigError
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_metrics
from slipform.train.run import steps
from slipform.train.run.loop import fit

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


class Killed(BaseException):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def whole(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("timm") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipform.train.figures.curves.draw_run", lambda *_: None)
        patch.setattr("slipform.train.figures.result.draw_result", lambda *_: None)
        fit(small(*SETS), shapes, run, quiet=True)
    return run


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    whole: Path, shapes: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = steps.train_step  # type: ignore[attr-defined]

    def dies(state, *args, **kwargs):  # type: ignore[no-untyped-def]
        result = original(state, *args, **kwargs)
        if state.step >= 8:
            raise Killed
        return result

    config = small(*SETS, "train.checkpoint_every_steps=1")
    monkeypatch.setattr(steps, "train_step", dies)
    with pytest.raises(Killed):
        fit(config, shapes, tmp_path / "run", quiet=True)
    monkeypatch.setattr(steps, "train_step", original)
    fit(config, shapes, tmp_path / "run", resume=True, quiet=True)
    for kind in ("step", "epoch"):
        keys = ("step", "loss", "lr", "val_loss", "train_loss")
        ours, theirs = (
            [[x.get(key) for key in keys] for x in read_metrics(run, kind)]
            for run in (tmp_path / "run", whole)
        )
        assert ours == theirs
    one, other = (read_weights(run / "best.safetensors")[0] for run in (whole, tmp_path / "run"))
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


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
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model.eval()(images), classifier.model(images))
    assert classifier.spec.normalize == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert int(classifier.evaluate(shapes).confusion.sum()) == 60
