"""`validate --suspects`: the samples whose observations are suspicious, in files and on sheets."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from click.testing import CliRunner
from scipy.stats import hypergeom

from slipform.bench.race.flipped import flip_labels
from slipform.models.weight_file import read_weights
from slipform.pipelines.manifest import read_manifest
from slipform.pipelines.samples import open_samples
from slipform.preprocess.verify import find_faults
from slipform.train.cli import validate
from slipform.train.commands import validate_suspects
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.answers import answers_of
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.suspects import KINDS, Found, suspects_of
from slipform.train.records.samples import FOLDER, write_epoch
from slipform.train.run.best import BEST, save_best
from slipform.train.run.identity import images_in
from slipform.train.run.loop import fit
from slipform.train.step.observe import encode
from tests.train.drawing import without_figures

Small = Callable[..., RunConfig]
EPOCHS = 3
HARD, FORGOTTEN = slice(0, 4), slice(4, 9)  # of the samples with right labels


@dataclass(frozen=True)
class Planted:
    """A run on a dataset with wrong labels, and observations that were chosen.

    Attributes:
        data: The dataset folder.
        run: The run folder.
        wrong: The samples with a wrong label, the lowest margin first. Another class wins on them
            by 8 or more in each epoch; each class wins on its own samples by 2 to 6. The model is
            almost undecided on all samples.
        hard: Samples with a right label that another class wins by less than 1 in each epoch, the
            lowest margin first.
        forgotten: Samples that are right in each epoch but the second one, the highest loss first.
    """

    data: Path
    run: Path
    wrong: list[int]
    hard: list[int]
    forgotten: list[int]


def _labels(data: Path) -> npt.NDArray[np.int64]:
    return open_samples(data, read_manifest(data), "train").beton.labels


@pytest.fixture(scope="module")
def planted(shapes: Path, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Planted:
    folder = tmp_path_factory.mktemp("suspects")
    data, run = folder / "data", folder / "run"
    wrong = flip_labels(shapes, data, 0.04, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        without_figures(patch)
        fit(small("train.epochs=1"), data, run, device="cpu", quiet=True)
    weights, metadata = read_weights(run / BEST)
    head = [name for name in weights if name.startswith("classifier")]
    save_best(
        run, {name: w * (1e-3 if name in head else 1) for name, w in weights.items()}, metadata
    )
    assert head
    manifest, labels = read_manifest(data), torch.from_numpy(_labels(data))
    draws = np.random.default_rng(0)
    right = draws.permutation(np.setdiff1d(np.arange(len(labels)), wrong))
    margins = np.tile(draws.uniform(2, 6, len(labels)), (EPOCHS, 1))
    margins[:, wrong] = -8 * 1.15 ** np.arange(len(wrong))
    margins[:, right[HARD]] = -0.9 + 0.2 * np.arange(4)
    margins[1, right[FORGOTTEN]] = -1.9 + 0.2 * np.arange(5)
    margins[::2, right[FORGOTTEN]] = 3.0
    for epoch, row in enumerate(margins, start=1):
        logits = torch.zeros(len(labels), manifest.num_classes, dtype=torch.float64)
        logits[range(len(labels)), labels] = torch.from_numpy(row)
        write_epoch(run, epoch, encode(logits, labels).numpy(), images_in(manifest, ["train"]))
    parts = (wrong[::-1], right[HARD], right[FORGOTTEN])
    return Planted(data, run, *([int(i) for i in part] for part in parts))


@pytest.fixture(scope="module")
def found(planted: Planted) -> Found:
    return suspects_of(Classifier.load(planted.run, "cpu"))


@pytest.mark.slow
def test_a_run_gives_wrong_labels_low_margins(
    shapes: Path, small: Small, tmp_path: Path, no_figures: None
) -> None:
    """More of the lowest margins have wrong labels than chance gives in one of a million runs."""
    wrong = flip_labels(shapes, tmp_path / "data", 0.1, seed=1)
    config = small("records.samples=true", "train.epochs=10", "train.batch_size=20")
    fit(config, tmp_path / "data", tmp_path / "run", device="cpu", quiet=True)
    found = suspects_of(Classifier.load(tmp_path / "run", "cpu"))
    lowest = np.argsort(found.suspects.scores.margins)[: len(wrong)]
    hits = len(np.intersect1d(lowest, wrong))
    assert hypergeom.sf(hits - 1, 240, len(wrong), len(wrong)) < 1e-6  # 12 or more of 24


def _words(run: Path, *more: str) -> list[str]:
    return [str(run), "--suspects", "--device", "cpu", *more]


def test_flipped_labels_are_the_only_change(planted: Planted, shapes: Path) -> None:
    data, wrong = planted.data, sorted(planted.wrong)
    before, after = (open_samples(x, read_manifest(x), "train").beton for x in (shapes, data))
    assert len(wrong) == 10
    assert np.flatnonzero(before.labels != after.labels).tolist() == wrong
    assert after.labels.min() >= 0
    assert all(np.array_equal(before.bytes_of(i), after.bytes_of(i)) for i in range(240))
    assert not list(find_faults(data, read_manifest(data)))


def test_the_rankings_have_the_planted_samples_and_no_others(
    planted: Planted, found: Found
) -> None:
    """Whatever the model suggests: every class wins on its own samples by less than 8."""
    assert found.ranking("mislabeled").tolist() == planted.wrong
    assert found.ranking("never_learned").tolist() == planted.wrong + planted.hard
    assert found.ranking("forgotten").tolist() == planted.forgotten
    assert found.history.epochs == (1, 2, 3)
    assert found.labels.tolist() == _labels(planted.data).tolist()


def test_the_suggestion_is_the_most_probable_other_class(planted: Planted, found: Found) -> None:
    answers = answers_of(Classifier.load(planted.run, "cpu"), None, "train")
    shares = torch.from_numpy(answers.logits).double().softmax(1).numpy()
    shares[np.arange(240), answers.labels] = 0
    assert found.suspects.suggested.tolist() == shares.argmax(1).tolist()
    np.testing.assert_allclose(found.suspects.probability, shares.max(1), rtol=1e-9)


def test_the_command(
    planted: Planted, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    words = _words(planted.run, "--figures", str(out))
    result = CliRunner().invoke(validate, words)
    assert result.exit_code == 0, result.output
    number = len(planted.wrong)
    said = f"{number} probably mislabeled, {number + 4} never learned, 5 forgotten"
    assert f"240 training images, {EPOCHS} epochs: {said}" in result.stdout
    with open(out / "suspects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == number + 4 + 5
    first = [int(row["index"]) for row in rows[:number]]
    assert first == planted.wrong
    assert [row["mislabeled"] for row in rows[:number]] == [str(k + 1) for k in range(number)]
    for row in rows:
        index = int(row["index"])
        assert row["label"] == found.classes[found.labels[index]]
        assert row["suggestion"] == found.classes[found.suspects.suggested[index]]
        assert row["suggestion_probability"] == str(round(found.suspects.probability[index], 4))
        assert int(row["epochs_right"]) == (2 if index in planted.forgotten else 0)
        assert int(row["times_forgotten"]) == (index in planted.forgotten)
    assert f"label {rows[0]['label']}, suggestion {rows[0]['suggestion']} (" in result.stdout
    sheets = sorted(path.name for path in out.glob("*.png"))
    assert sheets == sorted(f"suspects-{kind.replace('_', '-')}.png" for kind in KINDS)
    monkeypatch.setattr(validate_suspects, "draw_suspects", lambda *_: [])
    as_json = CliRunner().invoke(validate, [*words, "--json"])
    values = json.loads(as_json.stdout)
    assert values["mislabeled"] == number
    assert [row["index"] for row in values["suspects"]] == [int(row["index"]) for row in rows]


def test_more_wrong_labels_than_there_can_be_are_said(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 of 240 are no reason for it; more than a quarter are."""
    words, says = _words(planted.run, "--figures", str(tmp_path)), "labels would be wrong"
    monkeypatch.setattr(validate_suspects, "draw_suspects", lambda *_: [])
    assert says not in CliRunner().invoke(validate, words).stderr
    monkeypatch.setattr(validate_suspects, "_MANY", 9 / 240)
    assert f"10 of 240 {says}" in CliRunner().invoke(validate, words).stderr


def test_json_has_null_for_what_is_not_finite(
    planted: Planted, found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model with logits that are not finite."""
    broken = replace(found.suspects, probability=np.full(240, np.nan))
    monkeypatch.setattr(
        validate_suspects, "suspects_of", lambda *_: replace(found, suspects=broken)
    )
    monkeypatch.setattr(validate_suspects, "draw_suspects", lambda *_: [])
    words = _words(planted.run, "--figures", str(tmp_path), "--json")
    rows = json.loads(CliRunner().invoke(validate, words).stdout, parse_constant=pytest.fail)
    assert all(row["suggestion_probability"] is None for row in rows["suspects"])


@pytest.mark.slow
def test_a_sheet_without_samples_is_removed(planted: Planted, tmp_path: Path) -> None:
    """With one epoch nothing is forgotten, and a sheet of an earlier call does not stay."""
    run = tmp_path / "run"
    shutil.copytree(planted.run, run)
    for epoch in (2, 3):
        (run / FOLDER / f"epoch-000{epoch}.safetensors").unlink()
    (run / "figures").mkdir(exist_ok=True)
    (run / "figures/suspects-forgotten.png").write_bytes(b"old")
    result = CliRunner().invoke(validate, _words(run))
    assert result.exit_code == 0, result.output
    assert "the rankings are not reliable" in result.stderr
    assert not (run / "figures/suspects-forgotten.png").exists()
    assert (run / "figures/suspects-mislabeled.png").stat().st_size > 1000


def test_a_run_without_observations(planted: Planted, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(planted.run, run, ignore=shutil.ignore_patterns(FOLDER))
    result = CliRunner().invoke(validate, _words(run))
    assert result.exit_code == 1
    assert "Train with --set records.samples=true" in result.output
    (run / FOLDER).mkdir()
    (run / FOLDER / "epoch-0001.safetensors").write_bytes(b"damaged")
    result = CliRunner().invoke(validate, _words(run))
    assert "epoch 1 is left out" in result.output


def test_a_fold_of_a_dataset_that_was_moved(
    shapes: Path, small: Small, tmp_path: Path, no_figures: None
) -> None:
    data, moved, run = tmp_path / "data", tmp_path / "moved", tmp_path / "run"
    shutil.copytree(shapes, data)
    config = small("train.epochs=1", "data.fold=2/3", "records.samples=true")
    fit(config, data, run, device="cpu", quiet=True)
    before = suspects_of(Classifier.load(run, "cpu"))
    own = Classifier.load(run, "cpu").evaluate(split="val")
    data.rename(moved)
    classifier = Classifier.load(run, "cpu")
    after = suspects_of(classifier, moved)
    assert after.labels.tolist() == before.labels.tolist()
    assert len(after.labels) != read_manifest(moved).split("train").num_samples
    for kind in KINDS:
        assert after.ranking(kind).tolist() == before.ranking(kind).tolist()
    assert classifier.evaluate(moved, "val").top1 == own.top1
    other = tmp_path / "other"
    flip_labels(moved, other, 0.04, seed=3)
    with classifier.open_split(other, "train") as loader:  # other labels have other folds
        assert loader.num_samples == read_manifest(other).split("train").num_samples


def test_the_observations_of_other_images(planted: Planted, shapes: Path) -> None:
    """DATA has the same images with other labels."""
    result = CliRunner().invoke(validate, [str(planted.run), str(shapes), *_words(planted.run)[1:]])
    assert result.exit_code == 1
    assert "epoch 1 is left out" in result.output
    assert "Give the dataset of the run as DATA" in result.output


def test_options_that_do_not_fit(planted: Planted) -> None:
    for more in (["--split", "val"], ["--report", "page.html"]):
        result = CliRunner().invoke(validate, [str(planted.run), "--suspects", *more])
        assert result.exit_code == 2
        assert "remove --report and --split" in result.output
