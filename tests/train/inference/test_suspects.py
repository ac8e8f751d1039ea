"""`validate --suspects` finds labels that were flipped on purpose, as cleanlab does."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from sklearn.metrics import average_precision_score

from slipform.bench.race.flipped import flip_labels
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.preprocess.verify import find_faults
from slipform.train.cli import validate
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.suspects import KINDS, Found, suspects_of
from slipform.train.records.samples import FOLDER
from slipform.train.run.loop import fit

Small = Callable[..., RunConfig]
EPOCHS = 10


@pytest.fixture(scope="module")
def flipped(
    shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, npt.NDArray[np.int64], Path]:
    """A dataset with wrong labels, which labels are wrong, and a run on it."""
    folder = tmp_path_factory.mktemp("suspects")
    wrong = flip_labels(shapes, folder / "data", 0.04, seed=3)
    config = small("records.samples=true", f"train.epochs={EPOCHS}", "train.batch_size=20")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slipform.train.run.finish._draw", lambda *_: None)
        fit(config, folder / "data", folder / "run", device="cpu", quiet=True)
    return folder / "data", wrong, folder / "run"


@pytest.fixture(scope="module")
def found(flipped: tuple[Path, npt.NDArray[np.int64], Path]) -> Found:
    return suspects_of(Classifier.load(flipped[2], "cpu"))


def _is_wrong(flipped: tuple[Path, npt.NDArray[np.int64], Path]) -> npt.NDArray[np.bool_]:
    is_wrong = np.zeros(240, np.bool_)
    is_wrong[flipped[1]] = True
    return is_wrong


def test_flipped_labels_are_the_only_change(
    flipped: tuple[Path, npt.NDArray[np.int64], Path], shapes: Path
) -> None:
    data, wrong, _ = flipped
    before, after = (open_samples(x, read_manifest(x), "train").beton for x in (shapes, data))
    assert len(wrong) == 10
    assert np.flatnonzero(before.labels != after.labels).tolist() == wrong.tolist()
    assert after.labels.min() >= 0
    assert all(np.array_equal(before.bytes_of(i), after.bytes_of(i)) for i in range(240))
    assert not list(find_faults(data, read_manifest(data)))


def test_wrong_labels_have_the_lowest_margins(
    flipped: tuple[Path, npt.NDArray[np.int64], Path], found: Found
) -> None:
    """By chance the average precision would be 0.04."""
    is_wrong, margins = _is_wrong(flipped), found.suspects.scores.margins
    assert average_precision_score(is_wrong, -margins) > 0.8
    told = found.suspects.mislabeled
    assert is_wrong[told].sum() >= 5  # recall
    assert is_wrong[told].mean() > 0.2  # precision; 0.04 by chance
    assert found.labels.tolist() == open_labels(flipped[0])


def open_labels(data: Path) -> list[int]:
    """The labels of the training images."""
    return [int(x) for x in open_samples(data, read_manifest(data), "train").beton.labels]


def test_no_worse_than_cleanlab_on_the_same_predictions(
    flipped: tuple[Path, npt.NDArray[np.int64], Path],
    found: Found,
    needs: Callable[[str], None],
) -> None:
    needs("cleanlab")
    from cleanlab.rank import get_label_quality_scores

    answers, is_wrong = found.suspects.answers, _is_wrong(flipped)
    shares = np.exp(answers.log_probability(slice(None)))
    quality = get_label_quality_scores(answers.labels, shares / shares.sum(1, keepdims=True))
    theirs = average_precision_score(is_wrong, -quality)
    ours = average_precision_score(is_wrong, -found.suspects.scores.margins)
    assert ours > theirs - 0.1


def test_the_command(
    flipped: tuple[Path, npt.NDArray[np.int64], Path], found: Found, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = [str(flipped[2]), "--suspects", "--device", "cpu", "--figures", str(out)]
    result = CliRunner().invoke(validate, words)
    assert result.exit_code == 0, result.output
    number = len(found.suspects.mislabeled)
    assert f"240 training images, {EPOCHS} epochs: {number} probably mislabeled" in result.output
    with open(out / "suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(set().union(*(found.ranking(kind).tolist() for kind in KINDS)))
    first = [int(row["index"]) for row in rows[:number]]
    assert first == found.suspects.mislabeled.tolist()
    assert [row["mislabeled"] for row in rows[:number]] == [str(k + 1) for k in range(number)]
    for row in rows:
        index = int(row["index"])
        assert row["label"] == found.classes[found.labels[index]]
        assert row["suggestion"] != row["label"]
        assert int(row["epochs_right"]) == found.suspects.scores.right[index]
    sheets = sorted(path.name for path in out.glob("*.png"))
    assert "suspects-mislabeled.png" in sheets
    as_json = CliRunner().invoke(validate, [*words, "--json"])
    values = json.loads(as_json.stdout)
    assert values["mislabeled"] == number
    assert [row["index"] for row in values["suspects"]] == [int(row["index"]) for row in rows]


def test_a_run_without_observations(
    flipped: tuple[Path, npt.NDArray[np.int64], Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for path in flipped[2].iterdir():
        if path.is_file() and path.name != ".lock":
            (run / path.name).write_bytes(path.read_bytes())
    result = CliRunner().invoke(validate, [str(run), "--suspects", "--device", "cpu"])
    assert result.exit_code == 1
    assert "Train with --set records.samples=true" in result.output
    (run / FOLDER).mkdir()
    (run / FOLDER / "epoch-0001.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(validate, [str(run), "--suspects", "--device", "cpu"])
    assert "epoch 1 is left out" in result.output


def test_options_that_do_not_fit(flipped: tuple[Path, npt.NDArray[np.int64], Path]) -> None:
    for more in (["--split", "val"], ["--report", "page.html"]):
        result = CliRunner().invoke(validate, [str(flipped[2]), "--suspects", *more])
        assert result.exit_code == 2
        assert "remove --report and --split" in result.output
