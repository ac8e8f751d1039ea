"""Soft labels: shares of classes, from prep to figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import Interrupted
from slipform.pipelines.manifest import read_manifest
from slipform.preprocess.prep import prepare
from slipform.train.config.run_config import RunConfig
from slipform.train.inference.classifier import Classifier
from slipform.train.inference.judge import judge
from slipform.train.run.loop import fit
from tests.train.run.interrupted import Killed, assert_same, at_step, kill, terminate
from tests.train.run.labeled import COLORS, SIZES, arrays_of, dataset_of


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


def _list_of_photos(root: Path) -> Path:
    """Noise whose channels are bright in proportion to the shares in a CSV file."""
    lines = ["image,split,red,green,blue"]
    for seed, split in enumerate(SIZES):
        one = arrays_of(split, "soft", seed)
        assert one.table is not None
        shares = one.table.targets(range(SIZES[split]), 3)
        for index, row in enumerate(shares):
            name = f"{split}-{index:03d}.png"
            (root / "images").mkdir(parents=True, exist_ok=True)
            Image.fromarray(one.images[index]).save(root / "images" / name)
            lines.append(f"{name},{split}," + ",".join(f"{share:.6f}" for share in row))
    (root / "shares.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("listed")
    root = _list_of_photos(folder / "raw")
    prepare(
        "images", source=root, out=folder / "data", class_columns="red,green,blue", encoding="raw"
    )
    return folder / "data"


def test_shares_of_a_list_are_the_targets(listed: Path) -> None:
    manifest, dataset = read_manifest(listed), open_dataset(listed)
    assert (manifest.labels, manifest.classes) == ("soft", list(COLORS))
    for seed, split in enumerate(SIZES):
        table = arrays_of(split, "soft", seed).table
        assert table is not None
        got = [dataset.targets(split, index) for index in range(SIZES[split])]
        np.testing.assert_allclose(got, table.targets(range(SIZES[split]), 3), atol=1e-6)


SETS = ("train.epochs=2", "loss.label_smoothing=0.1", "augment.cutmix=1.0", 'data.fold="1/4"')


@pytest.mark.parametrize("how", [kill, terminate])
def test_a_run_from_a_list_continues_exactly(
    how: Callable[[], None], listed: Path, small: Callable[..., RunConfig], tmp_path: Path,
    no_figures: None, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = small(*SETS, "train.checkpoint_every_steps=1")
    fit(config, listed, tmp_path / "whole", quiet=True)
    at_step(monkeypatch, 5, how)
    with pytest.raises((Killed, Interrupted)):
        fit(config, listed, tmp_path / "parts", quiet=True)
    fit(config, listed, tmp_path / "parts", resume=True, quiet=True)
    assert_same(tmp_path / "whole", tmp_path / "parts")
