"""Soft labels: shares of classes, from prep to figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.judge import judge
from slipform.train.run.loop import fit
from tests.train.run.labeled import SIZES, dataset_of


def test_soft_labels_are_learned_as_shares(
    small: Callable[..., RunConfig], tmp_path: Path, no_figures: None
) -> None:
    data = dataset_of(tmp_path / "soft", "soft")
    assert read_manifest(data).labels == "soft"
    config = small("train.epochs=4", 'augment.crop="center"', "augment.mixup=0.2")
    summary = fit(config, data, tmp_path / "run", quiet=True)
    classifier = Classifier.load(tmp_path / "run", "cpu")
    result, loss, right = classifier.evaluate(split="test"), 0.0, 0
    dataset = open_dataset(data)
    images = [dataset.image("test", index) for index in range(SIZES["test"])]
    logs = classifier.logits(images).double().log_softmax(1).numpy()
    for index, row in enumerate(logs):
        shares = dataset.targets("test", index)
        loss -= float((shares * row).sum()) / SIZES["test"]
        right += int(row.argmax() == shares.argmax())
    assert result.loss == pytest.approx(loss, rel=1e-3)
    assert summary["test_accuracy"] == result.headline == right / SIZES["test"]
    assert result.headline > 0.6
    judged = judge(tmp_path / "run", device="cpu")
    assert judged.figures["top1"].value == pytest.approx(result.headline)
