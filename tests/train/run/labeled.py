"""Datasets of noise whose labels are bright channels: several labels an image, or shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slipform.pipelines.label_table import LabelTable
from slipform.preprocess.build import build_dataset
from slipform.preprocess.source import Arrays, SampleSource

COLORS = {"red": 0, "green": 1, "blue": 2}
SIZES = {"train": 160, "val": 40, "test": 48}


def arrays_of(name: str, kind: str, seed: int) -> Arrays:
    """Noise; a label is a bright channel. Soft: the channel in proportion."""
    draws, num = np.random.default_rng(seed), SIZES[name]
    shares = (draws.random((num, 3)) < 0.4).astype(float)
    if kind == "soft":
        shares = draws.dirichlet(np.ones(3) / 2, num)
    pixels = draws.integers(0, 60, (num, 36, 36, 3)) + (shares * 150)[:, None, None]
    if kind == "multi":
        table = LabelTable.of_sets([np.flatnonzero(row).tolist() for row in shares])
    else:
        table = LabelTable.of_shares([dict(enumerate(row)) for row in shares.tolist()])
    return Arrays(pixels.astype(np.uint8), table.first(), name, table=table)


def dataset_of(out: Path, kind: str) -> Path:
    splits = {name: arrays_of(name, kind, seed) for seed, name in enumerate(SIZES)}
    build_dataset(SampleSource("colors", list(COLORS), splits, ""), out)
    return out
