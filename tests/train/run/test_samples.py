"""Runs with class weights, drawn samples and folds: what they see, and exact resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from slipform.models.weight_file import read_weights
from slipform.pipelines.errors import ConfigError, Interrupted
from slipform.pipelines.folds import Fold
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.evaluate import evaluate
from slipform.train.inference.judge import judge
from slipform.train.inference.pictures import pictures_of
from slipform.train.records import read_metrics
from slipform.train.run.loop import fit

BALANCED = ('data.sampling="balanced"', "loss.class_weights={disc=2.0}", 'data.fold="2/3"')


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return read_weights(run / "best.safetensors")[0]


def test_a_run_that_was_stopped_continues_exactly(
    shapes: Path,
    tmp_path: Path,
    small: Callable[..., RunConfig],
    no_figures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small(*BALANCED, "train.epochs=2", 'train.select="last"')
    fit(config, shapes, tmp_path / "whole", quiet=True)
    from slipform.train.run import loop

    after = loop._after_steps

    def stop(run: Any, images: Any, last: bool) -> None:
        if run.state.step == 3:
            run.stop_requested.set()
        after(run, images, last)

    monkeypatch.setattr(loop, "_after_steps", stop)
    with pytest.raises(Interrupted):
        fit(config, shapes, tmp_path / "stopped", quiet=True)
    monkeypatch.setattr(loop, "_after_steps", after)
    fit(config, shapes, tmp_path / "stopped", resume=True, quiet=True)
    whole, stopped = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    lines = [read_metrics(tmp_path / name, "epoch") for name in ("whole", "stopped")]
    keys = ("train_loss", "val_loss", "val_accuracy")
    assert [[line[key] for key in keys] for line in lines[0]] == [
        [line[key] for key in keys] for line in lines[1]
    ]
    for change in ('data.sampling="all"', 'data.fold="1/3"', "data.fold_seed=1"):
        other = small(*BALANCED, "train.epochs=3", 'train.select="last"', change)
        with pytest.raises(ConfigError, match="cannot continue with that change"):
            fit(other, shapes, tmp_path / "stopped", resume=True, quiet=True)


def test_validation_is_of_the_fold_and_of_each_image_once(
    shapes: Path,
    shapes_raw: Path,
    tmp_path: Path,
    small: Callable[..., RunConfig],
    no_figures: None,
) -> None:
    fit(small(*BALANCED, "train.epochs=1"), shapes, tmp_path / "run", quiet=True)
    (line,) = read_metrics(tmp_path / "run", "epoch")
    result = evaluate(tmp_path / "run", split="val", device="cpu")
    assert result.top1 == pytest.approx(line["val_accuracy"])
    with Loader(shapes, "val", batch_size=8, training=False, fold="2/3") as loader:
        assert result.num_images == loader.num_samples
    # The pictures of the report are those of the fold.
    judged = judge(tmp_path / "run", split="val", device="cpu")
    classifier = Classifier.load(tmp_path / "run", device="cpu")
    (picture,) = pictures_of(classifier, judged.answers, judged.split, judged.top_losses[:1])
    samples = open_samples(shapes, read_manifest(shapes), "val", Fold(2, 3))
    index = int(judged.answers.indices[judged.top_losses[0]])
    assert picture.name == (samples.names() or [])[index]
    assert picture.actual == judged.classes[samples.beton.labels[index]]
    assert not np.isnan(judge(tmp_path / "run", device="cpu").calibration.temperature)
    # The dataset of the run has its fold, also if it is given; another one has its own val split.
    again = evaluate(tmp_path / "run", data=shapes, split="val", device="cpu")
    assert again.num_images == result.num_images
    other = evaluate(tmp_path / "run", data=shapes_raw, split="val", device="cpu")
    with Loader(shapes_raw, "val", batch_size=8, training=False) as loader:
        assert other.num_images == loader.num_samples != result.num_images


def test_a_class_that_does_not_exist_is_named(
    shapes: Path, tmp_path: Path, small: Callable[..., RunConfig]
) -> None:
    for setting in ("data.sampling={disk=2.0}", "loss.class_weights={disk=2.0}"):
        with pytest.raises(ConfigError, match='Did you mean "disc"'):
            fit(small(setting), shapes, tmp_path / "run", quiet=True)
    with pytest.raises(ConfigError, match=r"data\.block = 0"):
        small('data.sampling="balanced"', "data.block=4")
    with pytest.raises(ConfigError, match="NUMBER/COUNT"):
        small('data.fold="5/2"')


@pytest.mark.usefixtures("no_figures")
def test_weights_and_sampling_together_are_said(
    shapes: Path,
    tmp_path: Path,
    small: Callable[..., RunConfig],
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = "train.epochs=1"
    for number, sets in enumerate(([*BALANCED, one], [BALANCED[0], one], [BALANCED[1], one])):
        fit(small(*sets), shapes, tmp_path / f"run-{number}")
        said = "".join(capsys.readouterr())
        assert ("loss.class_weights and data.sampling both make" in said) == (number == 0)
