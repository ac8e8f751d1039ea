"""The samples of a Loader: the stored split, or a fold of the dataset, with all their labels.

In: a dataset folder, a split, a fold. Out: `Samples`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_view import BetonView
from slipform.pipelines.dataset import open_split, open_table
from slipform.pipelines.folds import Fold
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.sampling import Draws, Sampling, make_draws

__all__ = ["LabelArray", "Samples", "open_samples"]

LabelArray = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """The samples of a split or of a fold.

    Attributes:
        beton: Their images, and one label each.
        table: Several labels for each sample, or shares of classes. None: `beton` has all labels.
        manifest: The manifest of the dataset.
    """

    beton: Beton
    table: LabelTable | None
    manifest: Manifest

    def labels(self, indices: npt.NDArray[np.int64]) -> LabelArray:
        """The labels of samples, in memory of their own.

        Args:
            indices: int64 [n], the samples.

        Returns:
            int64 [n]; with a table: float32 [n, C].
        """
        if self.table is None:
            return self.beton.labels[indices]
        return self.table.targets(indices, self.manifest.num_classes)

    @property
    def class_counts(self) -> list[int]:
        """The number of samples of each class; see `LabelTable.class_counts`."""
        if self.table is not None:
            return self.table.class_counts(self.manifest.num_classes)
        counts = np.bincount(self.beton.labels, minlength=self.manifest.num_classes)
        return [int(count) for count in counts]

    def draws(self, sampling: Sampling) -> Draws | None:
        """What draws the samples of an epoch.

        Args:
            sampling: See `make_draws`.

        Returns:
            None: an epoch has each sample once.

        Raises:
            ConfigError: There is no such sampling or class.
        """
        return make_draws(sampling, self.beton.labels, self.table, self.manifest.classes)


def open_samples(folder: Path, manifest: Manifest, split: str, fold: Fold | None = None) -> Samples:
    """Open the samples of a split, or of a fold.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
        split: "train", "val" or "test".
        fold: "val" is this fold of train and val together, and "train" the rest. "test" has no
            folds. None: the splits of prep.

    Returns:
        The samples. Those of a fold are numbered from 0, in the order of train and then val.

    Raises:
        DatasetError: There is no such split, or its files are damaged.
        ConfigError: There are more folds than samples.
    """
    if fold is None or split not in ("train", "val"):
        beton, table = open_split(folder, manifest, split), open_table(folder, manifest, split)
        return Samples(beton, table, manifest)
    names = [name for name in ("train", "val") if name in manifest.splits]
    betons = [open_split(folder, manifest, name) for name in names]
    tables = [one for name in names if (one := open_table(folder, manifest, name)) is not None]
    table = reduce(LabelTable.followed_by, tables) if tables else None
    labels = np.concatenate([beton.labels for beton in betons])
    strata = labels if table is None else table.strata()
    chosen = fold.samples(strata, training=split == "train")
    return Samples(BetonView(betons, chosen), table and table.subset(chosen), manifest)
