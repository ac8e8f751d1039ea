"""The samples of a Loader: the stored split, or a fold of the dataset, with all their labels.

In: a dataset folder, a split, a fold. Out: `Samples`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.dataset import open_split, open_table
from slipform.pipelines.decoding.preload import decode_one
from slipform.pipelines.folds import Fold
from slipform.pipelines.label_table import LabelTable
from slipform.pipelines.manifest import Manifest
from slipform.pipelines.mirror.folder import open_mirror
from slipform.pipelines.mirror.index import fetch_names
from slipform.pipelines.sample_names import read_names
from slipform.pipelines.sampling import Draws, Sampling, make_draws

__all__ = ["LabelArray", "Samples", "open_samples"]

LabelArray = npt.NDArray[np.int64] | npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """The samples of a split or of a fold.

    Attributes:
        beton: Their images, and one label each.
        table: Several labels for each sample, or shares of classes. None: `beton` has all labels.
        folder: The dataset folder.
        manifest: The manifest of the dataset.
        splits: The splits that they come from.
        chosen: int64 [N], which samples of the splits they are. None: all.
    """

    beton: Beton
    table: LabelTable | None
    folder: Path
    manifest: Manifest
    splits: tuple[str, ...]
    chosen: npt.NDArray[np.int64] | None = None

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

    def image(self, index: int) -> npt.NDArray[np.uint8]:
        """Decode the image of a sample.

        Args:
            index: The sample.

        Returns:
            uint8 [H, W, 3] RGB, a copy.

        Raises:
            SampleError: Its bytes are damaged.
        """
        return decode_one(self.beton, index)

    def names(self) -> list[str] | None:
        """The names of the samples, from the files that prep wrote.

        Returns:
            None: the dataset has no names.

        Raises:
            DatasetError: A file is missing, or is not the one that prep wrote.
        """
        found: list[str] = []
        mirror = open_mirror(self.folder, self.manifest)
        for split in self.splits:
            if mirror is not None:
                fetch_names(mirror, self.manifest.split(split).files)
            names = read_names(self.folder, self.manifest.split(split))
            if names is None:
                return None
            found += names
        return found if self.chosen is None else [found[index] for index in self.chosen]

    def draws(self, sampling: Sampling) -> Draws | None:
        """The draws of the samples of each epoch.

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
        return Samples(beton, table, folder, manifest, (split,))
    names = tuple(name for name in ("train", "val") if name in manifest.splits)
    beton, table = open_split(folder, manifest, *names), open_table(folder, manifest, *names)
    labels = beton.labels if table is None else table
    chosen = fold.samples(labels, training=split == "train")
    table = None if table is None else table.subset(chosen)
    return Samples(beton.subset(chosen), table, folder, manifest, names, chosen)
