"""classes.csv: means over seeds. Runs and classes without a number are empty."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slipform.pipelines.manifest import read_manifest
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.run.loop import fit
from slipform.train.sweep.classes import write_classes

Small = Callable[..., RunConfig]


def test_means_over_seeds(tmp_path: Path) -> None:
    runs = {
        "a": [
            {"test_class_accuracy": {"cat, wild": 0.5, "dog": None}},
            {"test_class_accuracy": {"cat, wild": 1.0, "dog": 0.25}},
        ],
        "b": [{"test_class_accuracy": {"cat, wild": 0.0, "dog": None}}],
        "old": [{"test_accuracy": 0.5}],
        "none": [],
    }
    path = write_classes(tmp_path, runs)
    assert path is not None
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["class", "a", "b"], ["cat, wild", "0.75", "0.0"], ["dog", "0.25", ""]]
    assert write_classes(tmp_path / "empty", {"old": runs["old"], "none": []}) is None


@pytest.mark.usefixtures("no_figures")
def test_a_run_records_what_validate_measures(shapes: Path, small: Small, tmp_path: Path) -> None:
    fit(small("train.epochs=1"), shapes, tmp_path / "run", device="cpu", quiet=True)
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    classes = read_manifest(shapes).classes
    measured = Classifier.load(tmp_path / "run", "cpu").evaluate(split="test").per_class
    assert summary["test_class_accuracy"] == pytest.approx(
        dict(zip(classes, measured, strict=True)), abs=1e-5
    )
