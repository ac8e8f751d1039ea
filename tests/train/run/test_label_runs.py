"""Images with several labels, from prep to predictions and exported files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn import metrics

from slipform.models.weight_file import read_weights
from slipform.pipelines.errors import ConfigError, DatasetError, Interrupted
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.loader import Loader
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, SampleSource
from slipform.train import cli
from slipform.train.config.resolve import resolve
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.records import read_metrics, read_summary
from slipform.train.run import checkpoint
from slipform.train.run.best import BEST
from slipform.train.run.loop import fit
from slipform.train.step.evaluate import recorded
from slipform.train.step.label_metrics import LabelEvaluation
from slipform.train.step.metrics import Totals
from tests.train.run.labeled import COLORS, SIZES, arrays_of, dataset_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset_of(tmp_path_factory.mktemp("labels") / "data", "multi")


slow = partial(pytest.param, marks=pytest.mark.slow)
SETS = ('loss.name="bce"', "train.epochs=3", 'augment.crop="center"', "optimizer.lr=0.1")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory, small: Callable[..., Any]) -> Path:
    out = tmp_path_factory.mktemp("labels") / "run"
    fit(small(*SETS), data, out, quiet=True)
    return out


def _logits(run: Path, data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of a split, image by image, from the stored pixels."""
    from slipform.pipelines.dataset import open_dataset

    dataset = open_dataset(data)
    images = [dataset.image(split, index) for index in range(SIZES[split])]
    labels = [dataset.targets(split, index) for index in range(SIZES[split])]
    logits = Classifier.load(run, "cpu").logits(images)
    return logits.double().sigmoid().numpy(), np.array(labels) > 0


def test_the_figures_are_those_of_scikit_learn(run: Path, data: Path) -> None:
    classifier = Classifier.load(run, "cpu")
    for split in ("val", "test"):
        result = classifier.evaluate(split=split)
        assert isinstance(result, LabelEvaluation)
        shares, labels = _logits(run, data, split)
        np.testing.assert_allclose(result.probabilities, shares, atol=1e-4)
        assert (result.positive == labels).all()
        shares = result.probabilities
        ap = metrics.average_precision_score(labels, shares, average=None)
        np.testing.assert_allclose(result.average_precision, ap)
        assert result.mean_average_precision == pytest.approx(ap.mean())
        auroc = metrics.roc_auc_score(labels, shares, average=None)
        np.testing.assert_allclose(result.auroc, auroc)
        chosen = shares >= np.array(classifier.thresholds)
        np.testing.assert_allclose(result.scores.f1, metrics.f1_score(labels, chosen, average=None))
        assert result.macro_f1 == pytest.approx(metrics.f1_score(labels, chosen, average="macro"))
        loss = np.mean(
            [metrics.log_loss(a, b, labels=[0, 1]) for a, b in zip(labels.T, shares.T, strict=True)]
        )
        assert result.loss == pytest.approx(loss, rel=1e-5)
    assert classifier.evaluate(split="test").headline > 0.9  # it has learned


def test_thresholds_have_the_best_f1_on_val(run: Path, data: Path) -> None:
    classifier = Classifier.load(run, "cpu")
    result = classifier.evaluate(split="val")
    assert isinstance(result, LabelEvaluation)
    assert classifier.thresholds == pytest.approx(result.best_thresholds, abs=1e-4)
    for c in range(3):
        precision, recall, _ = metrics.precision_recall_curve(
            result.positive[:, c], result.probabilities[:, c]
        )
        best = (2 * precision * recall / np.maximum(precision + recall, 1e-12)).max()
        assert result.scores.f1[c] == pytest.approx(best)
    summary = read_summary(run) or {}
    assert summary["thresholds"] == dict(zip(COLORS, classifier.thresholds or (), strict=True))
    assert summary["labels"] == "multi"


def test_records_say_map_and_f1(run: Path) -> None:
    lines, summary = read_metrics(run, "epoch"), read_summary(run) or {}
    best = lines[summary["best_epoch"] - 1]
    assert summary["val_accuracy"] == best["val_accuracy"] == max(x["val_accuracy"] for x in lines)
    result = Classifier.load(run, "cpu").evaluate(split="test")
    assert isinstance(result, LabelEvaluation)
    assert summary["test_accuracy"] == pytest.approx(result.mean_average_precision, abs=1e-6)
    assert summary["test_f1"] == pytest.approx(result.macro_f1, abs=1e-6)
    per_class = dict(zip(COLORS, result.average_precision, strict=True))
    assert summary["test_class_accuracy"] == pytest.approx(per_class, abs=1e-5)
    assert (run / "figures/per_class.png").is_file()
    assert not (run / "figures/confusion.png").exists()
    assert 0.5 < lines[-1]["train_accuracy"] <= 1


def _invoke(command: Any, *arguments: object) -> str:
    result = CliRunner().invoke(command, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_commands(run: Path, data: Path, tmp_path: Path) -> None:
    text = _invoke(cli.validate, run, "--split", "val")
    assert "test: mAP" not in text
    assert "val: mAP" in text
    values = json.loads(_invoke(cli.validate, run, "--json"))
    assert set(values["classes"]) == set(COLORS)
    assert values["images"] == SIZES["test"]
    from PIL import Image

    pixels = np.full((36, 36, 3), 30, np.uint8)
    pixels[..., [0, 2]] = 180
    Image.fromarray(pixels).save(tmp_path / "both.png")
    (line,) = _invoke(cli.predict, run, tmp_path / "both.png", "--json").splitlines()
    found = json.loads(line)
    assert found["labels"] == ["red", "blue"]
    assert {one["class"] for one in found["classes"][:2]} == {"red", "blue"}
    text = _invoke(cli.predict, run, tmp_path / "both.png")
    assert "red* " in text
    assert "green " in text
    path = Classifier.load(run, "cpu").export("safetensors", tmp_path / "model.safetensors")
    _, metadata = read_weights(path)
    thresholds = Classifier.load(run, "cpu").thresholds
    assert tuple(json.loads(metadata["thresholds"])) == thresholds
    assert metadata["labels"] == "multi"


def test_a_run_that_was_stopped_continues_exactly(
    data: Path, run: Path, small: Callable[..., RunConfig], tmp_path: Path, no_figures: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from slipform.train.run import loop

    after = loop._after_steps

    def stop(run: Any, images: Any, last: bool) -> None:
        if run.state.step == 6:  # in the second epoch
            run.stop_requested.set()
        after(run, images, last)

    monkeypatch.setattr(loop, "_after_steps", stop)
    with pytest.raises(Interrupted):
        fit(small(*SETS), data, tmp_path / "run", quiet=True)
    monkeypatch.setattr(loop, "_after_steps", after)
    fit(small(*SETS), data, tmp_path / "run", resume=True, quiet=True)
    whole, again = (read_weights(x / "best.safetensors") for x in (run, tmp_path / "run"))
    assert all(torch.equal(whole[0][name], again[0][name]) for name in whole[0])
    assert whole[1] == again[1]
    assert Classifier.load(run, "cpu").thresholds == Classifier.load(tmp_path / "run").thresholds


def test_any_batch_size_gives_one_result(run: Path, data: Path) -> None:
    """And so does any number of processes: each adds its own rows."""
    from slipform.train.machine.distributed import Process
    from slipform.train.step.evaluate import totals_of
    from slipform.train.step.step import eval_step

    classifier = Classifier.load(run, "cpu")
    want = classifier.evaluate(split="test")
    assert isinstance(want, LabelEvaluation)
    both = []
    for rank in range(2):
        with Loader(
            data, "test", classifier.spec, batch_size=7, training=False, rank=rank, world_size=2,
            executor="host",
        ) as loader:  # fmt: skip
            totals = totals_of(loader, Process(torch.device("cpu")), 3, classifier.thresholds or ())
            for batch in loader:
                eval_step(classifier.functions, batch, totals)
            both.append(totals)
    for own, other in zip(both[0].tensors, both[1].tensors, strict=True):
        own += other  # what all_reduce does
    got = both[0].result()
    assert isinstance(got, LabelEvaluation)
    np.testing.assert_allclose(got.probabilities, want.probabilities, atol=1e-5)
    assert got.mean_average_precision == pytest.approx(want.mean_average_precision, abs=1e-6)


def test_a_split_without_images_has_the_figures_of_its_labels() -> None:
    """The records of a run have the same columns with and without val."""
    multi = LabelEvaluation.of(0.5, np.array([[0.7, 0.2]]), np.array([[True, False]]))
    single = Totals.zeros(3, torch.device("cpu")).result()
    for kind, result in (("multi", multi), ("single", single), ("soft", single)):
        missing = recorded("val", None, kind)  # type: ignore[arg-type]
        assert missing.keys() == recorded("val", result, kind).keys()  # type: ignore[arg-type]
        assert set(missing.values()) == {None}


def test_what_does_not_fit_is_refused(
    data: Path, run: Path, shapes: Path, small: Callable[..., RunConfig], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match='give "bce" or "asymmetric"'):
        fit(small(), data, tmp_path / "a", quiet=True)
    with pytest.raises(ConfigError, match="has one label for each image, and the run"):
        Classifier.load(run, "cpu").evaluate(shapes)
    assert resolve(manifest=read_manifest(data)).loss.name == "bce"
    other = dataset_of(tmp_path / "other", "multi")
    table = LabelTable.of_sets([[0]] * SIZES["train"])
    from slipform.pipelines.label_table import write_label_table
    from slipform.pipelines.manifest import write_manifest

    manifest = read_manifest(other)
    info = manifest.splits["train"].model_copy(
        update={
            "labels_sha256": write_label_table(other / "train.beton", table),
            "label_counts": table.class_counts(3),
        }
    )
    write_manifest(
        other, manifest.model_copy(update={"splits": {**manifest.splits, "train": info}})
    )
    with pytest.raises(ConfigError, match="train has other labels"):
        fit(small(*SETS), other, run, resume=True, quiet=True)
    empty = {
        name: Arrays(
            one.images, one.labels * 0, name, table=LabelTable.of_sets([[]] * len(one.labels))
        )
        for name in SIZES
        if (one := arrays_of(name, "multi", 0)) is not None
    }
    build_dataset(SampleSource("none", list(COLORS), empty, ""), tmp_path / "none")
    with pytest.raises(DatasetError, match="no image of val has a label"):
        fit(small(*SETS), tmp_path / "none", tmp_path / "b", quiet=True)


@pytest.mark.parametrize(
    "sets",
    [
        slow(('loss.name="asymmetric"', "augment.mixup=0.4")),
        ('loss.name="bce"', "loss.label_smoothing=0.1", "augment.cutmix=1.0"),
        ('loss.name="bce"', 'loss.positive_weights="balanced"', 'data.sampling="balanced"'),
        slow(('loss.name="bce"', 'data.fold="1/4"', "train.flip_test=true")),
    ],
)
def test_everything_works_with_several_labels(
    sets: tuple[str, ...], data: Path, small: Callable[..., RunConfig], tmp_path: Path,
    no_figures: None,
) -> None:  # fmt: skip
    summary = fit(small(*sets, "train.epochs=1"), data, tmp_path / "run", quiet=True)
    shares, labels = _logits(tmp_path / "run", data, "test")
    expected = metrics.average_precision_score(labels, shares, average="macro")
    assert expected > 0.7  # random scores: 0.38, the share of the positive labels
    assert summary["test_accuracy"] == pytest.approx(expected, abs=1e-3)


def test_thresholds_are_measured_again_when_other_weights_replace_the_best(
    data: Path, run: Path, small: Callable[..., RunConfig], tmp_path: Path, no_figures: None
) -> None:  # fmt: skip
    """best.safetensors is lost, and no checkpoint has the weights of the best epoch."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    newest, *older = sorted((again / "checkpoints").iterdir(), reverse=True)
    saved = torch.load(newest, weights_only=True)
    for path in (newest, *older, again / BEST):
        path.unlink()
    saved["state"]["best"] |= {"epoch": saved["state"]["epoch"] - 1, "thresholds": (0.9, 0.9, 0.9)}
    checkpoint.save(again, saved["state"]["step"], saved, keep=1)
    summary = fit(small(*SETS), data, again, resume=True, device="cpu", quiet=True)
    classifier = Classifier.load(again, "cpu")
    result = classifier.evaluate(split="val")
    assert isinstance(result, LabelEvaluation)
    assert classifier.thresholds == pytest.approx(result.best_thresholds, abs=1e-4)
    assert tuple(summary["thresholds"].values()) == classifier.thresholds
