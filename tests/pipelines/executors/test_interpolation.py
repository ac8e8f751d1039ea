"""Bicubic resizes through the Loader: the same pixels on the executors for CPU cores, and a clear
refusal by the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slipform.pipelines.dataset import open_dataset
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.executors import keeps, streaming
from slipform.pipelines.plan.augmentation import Augmentation
from slipform.pipelines.plan.policy import Policy
from slipform.pipelines.rendering.launch import check
from tests.pipelines.epochs import open_loader, read_epoch


@pytest.mark.parametrize("policy", ["none", "rand_augment"])
def test_all_executors_for_cpus_agree(raw: Path, jpegs: Path, policy: str) -> None:
    for folder in (raw, jpegs):
        spec = Augmentation(
            image_size=24, crop="random_resized", interpolation="bicubic",
            policy=Policy(policy),  # type: ignore[arg-type]
        )  # fmt: skip
        epochs = []
        for executor in ("resident", "host"):
            with open_loader(folder, executor, 5, augment=spec) as loader:
                epochs.append(read_epoch(loader))
        for index, (_, image) in epochs[0].items():
            off = np.abs(epochs[1][index][1] - image)
            assert off.max() == 0 or (folder == jpegs and off.mean() < 1e-3)


def test_who_cannot_says_who_can(raw: Path) -> None:
    beton = open_dataset(raw).beton("train")
    spec = Augmentation(interpolation="bicubic")
    assert spec.evaluation().interpolation == "bicubic"
    with pytest.raises(ConfigError, match=r'"stream" on a GPU cannot do augment.interpolation'):
        check(beton, spec, "stream")
    with pytest.raises(ConfigError, match=r'"dali" cannot do augment.interpolation = "bicubic"'):
        open_loader(raw, "dali", 5, augment=spec)
    assert streaming(beton, spec, "cuda") == ["host"]
    assert not keeps(beton, spec, "cuda")
    with pytest.raises(ConfigError, match='Did you mean "bicubic"'):
        Augmentation(interpolation="bicubik")  # type: ignore[arg-type]
