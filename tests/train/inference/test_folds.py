"""A run on a fold: `validate` and pictures with the dataset of the run, given or not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from slipform.pipelines.manifest import read_manifest, write_manifest
from slipform.train import cli
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.answers import answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.judge import judge_model
from slipform.train.inference.pictures import pictures_of
from slipform.train.run.loop import fit
from tests.train.drawing import without_figures


@pytest.fixture(scope="module")
def run(
    shapes: Path, small: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run on the first fold of a dataset that has train alone."""
    folder = tmp_path_factory.mktemp("fold")
    shutil.copytree(shapes, folder / "data")
    manifest = read_manifest(folder / "data")
    train = {"train": manifest.split("train")}
    write_manifest(folder / "data", manifest.model_copy(update={"splits": train}))
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        config = small("train.epochs=1", "data.fold=1/5")
        fit(config, folder / "data", folder / "run", device="cpu", quiet=True)
    return folder / "run"


@pytest.mark.parametrize("given", [False, True])
def test_val_is_the_fold(given: bool, run: Path) -> None:
    """It is judged where there is no test, with a temperature, and without notes."""
    data = [str(run.parent / "data")] if given else []
    result = CliRunner().invoke(cli.validate, [str(run), *data, "--json", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout)
    assert (values["split"], values["images"]) == ("val", 48)
    assert values["temperature"] > 0
    assert result.stderr == ""


def test_pictures_are_those_of_the_fold(run: Path) -> None:
    classifier, data = Classifier.load(run, "cpu"), run.parent / "data"
    answers = answers_of(classifier, data, "val")
    positions = range(0, len(answers.indices), 7)
    found, expected = (
        pictures_of(classifier, answers, "val", positions, at) for at in (data, None)
    )
    assert [one.name for one in found] == [one.name for one in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))
    own, other = (judge_model(classifier, at, "train").calibration for at in (None, data))
    assert own.temperature == other.temperature > 0


@pytest.mark.slow
def test_figures_show_an_image_of_the_fold(run: Path, tmp_path: Path) -> None:
    arguments = [str(run), "--no-untrained", "--out", str(tmp_path)]
    result = CliRunner().invoke(cli.figures, arguments)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "compared_first_layer.png").is_file()
