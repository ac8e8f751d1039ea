"""The `dali` executor makes a batch of large images in several runs, with the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from slipform.pipelines.executors import dali_feed
from slipform.pipelines.loader import Loader
from slipform.pipelines.plan.augmentation import Augmentation
from tests.pipelines import folders

AUGMENT = Augmentation(image_size=24, crop="random_resized", normalize="half")


def _batches(folder: Path, on_bad: str = "error") -> list[tuple[torch.Tensor, torch.Tensor]]:
    settings = {"augment": AUGMENT, "executor": "dali", "batch_size": 7, "threads": 2}
    with Loader(folder, **settings, on_bad=on_bad) as loader:
        return [(batch.images, batch.labels) for batch in loader]


@pytest.mark.parametrize("stored", ["jpeg", "raw"])
def test_several_runs_give_the_batch_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stored: str
) -> None:
    pixels = [folders.smooth(40 + i, 60 - i, seed=i) for i in range(23)]
    images: list[Any] = [folders.jpeg(one) if stored == "jpeg" else one for one in pixels]
    folder = folders.write_folder(tmp_path / "data", images)
    one = _batches(folder)
    monkeypatch.setattr(dali_feed, "_BYTES_PER_RUN", 3 * 50 * 50 * 3)  # three images
    several = _batches(folder)
    assert len(one) == len(several) == 3
    for (images_of_one, labels), (joined, same) in zip(one, several, strict=True):
        assert torch.equal(images_of_one, joined)
        assert torch.equal(labels, same)


def test_a_bad_sample_of_a_later_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = [folders.jpeg(folders.noise(50, 50, seed=i)) for i in range(14)]
    whole = _batches(folders.write_folder(tmp_path / "whole", images))
    images[5] = images[5][: len(images[5]) // 2]
    sizes = [(50, 50)] * 14
    folder = folders.write_folder(tmp_path / "data", images, sizes=sizes)
    monkeypatch.setattr(dali_feed, "_BYTES_PER_RUN", 3 * 50 * 50 * 3)
    found = _batches(folder, on_bad="skip")
    labels = torch.cat([labels for _, labels in found])
    assert (labels == -100).sum() == 1
    good = labels != -100
    pixels = torch.cat([images for images, _ in found])
    assert torch.equal(pixels[good], torch.cat([images for images, _ in whole])[good])
