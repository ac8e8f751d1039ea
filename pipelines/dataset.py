"""A dataset folder, open for reading: `open_dataset` for users, `open_split` for the loader.

In: a folder that `prep` wrote, here or in an object store. Out: its manifest, betons, decoded
images and labels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton, BetonFile
from slipform.pipelines.checksums import crc32_path, index_sha256
from slipform.pipelines.errors import DatasetError, SlipformError
from slipform.pipelines.label_table import LabelTable, read_label_table
from slipform.pipelines.manifest import BetonInfo, Manifest, read_manifest
from slipform.pipelines.mirror.beton import MirroredBeton
from slipform.pipelines.mirror.folder import local_folder, open_mirror

__all__ = ["Dataset", "open_dataset", "open_split", "open_table"]


def open_split(folder: Path, manifest: Manifest, *splits: str) -> Beton:
    """Open the stored samples of splits and check them against the manifest.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
        splits: Names of the splits, at least one. Their samples are numbered one split after
            another.

    Returns:
        The open beton.

    Raises:
        DatasetError: There is no such split, or a file of it is damaged or does not match the
            manifest.
    """
    files = [info for split in splits for info in manifest.split(split).files]
    mirror = open_mirror(folder, manifest)
    beton = (
        Beton(*(folder / info.file for info in files))
        if mirror is None
        else MirroredBeton(mirror, files)
    )
    for info, file in zip(files, beton.files(), strict=True):
        _check_labels(info, file, manifest.num_classes)
    for info, file, table in zip(files, beton.files(), beton.tables(), strict=True):
        if info.index_sha256 and index_sha256(file.labels, table) != info.index_sha256:
            raise DatasetError(
                f"{file.path} or {crc32_path(file.path).name} beside it is not the file that"
                " dataset.json describes: labels or checksums differ. Put the files of one prep"
                " together, or run prep again."
            )
    return beton


def _check_labels(info: BetonInfo, file: BetonFile, num_classes: int) -> None:
    path, labels = file.path, file.labels
    if len(labels) != info.num_samples:
        raise DatasetError(
            f"{path} has {len(labels)} samples, dataset.json says {info.num_samples}: they do not"
            " belong together. Run prep again."
        )
    if len(labels) and int(labels.max()) >= num_classes:
        index = int(labels.argmax())
        raise DatasetError(
            f"sample {index} of {path} has label {labels[index]}, but dataset.json names"
            f" {num_classes} classes (0 to {num_classes - 1}). Run prep again."
        )


def open_table(folder: Path, manifest: Manifest, *splits: str) -> LabelTable | None:
    """Read the label tables of splits.

    Args:
        folder: The dataset folder.
        manifest: Its manifest.
        splits: Names of the splits, at least one. Their samples are numbered one split after
            another.

    Returns:
        Several labels for each sample, or shares of classes. None: each sample has one label.

    Raises:
        DatasetError: There is no such split, or a table of it is missing or damaged.
    """
    tables = [
        read_label_table(
            folder / info.file,
            manifest.labels,
            info.labels_sha256,
            info.num_samples,
            manifest.num_classes,
        )
        for split in splits
        for info in manifest.split(split).files
    ]
    several = [table for table in tables if table is not None]
    return LabelTable.joined(several) if several else None


class Dataset:
    """A dataset folder, open for reading. `open_dataset` makes it.

    Args:
        folder: The dataset folder, or its URL in an object store.

    Attributes:
        folder: The dataset folder. For a URL, its mirror on this machine.
        manifest: What `prep` says about it.
        classes: Names of the classes. A label is a position in this list.
        splits: Names of the splits.

    Example:
        ```python
        import slipform as sf

        data = sf.open_dataset("data/shapes")
        assert len(data.beton("train")) == data.manifest.split("train").num_samples
        ```
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = local_folder(folder)
        self.manifest: Manifest = read_manifest(self.folder)
        self.classes, self.splits = list(self.manifest.classes), list(self.manifest.splits)
        self._betons: dict[str, Beton] = {}
        self._tables: dict[str, LabelTable | None] = {}

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name} {info.num_samples}" for name, info in self.manifest.splits.items()
        )
        return f'Dataset("{self.manifest.dataset}", {len(self.classes)} classes; {sizes})'

    def beton(self, split: str) -> Beton:
        """The beton of a split.

        Args:
            split: One of `splits`.

        Returns:
            The open beton. Each call returns the same one.

        Raises:
            DatasetError: There is no such split, or its beton is damaged.
        """
        if split not in self._betons:
            self._betons[split] = open_split(self.folder, self.manifest, split)
        return self._betons[split]

    def image(self, split: str, index: int) -> npt.NDArray[np.uint8]:
        """Decode one image.

        Args:
            split: One of `splits`.
            index: Position in the split, from 0.

        Returns:
            uint8 [H, W, 3] RGB, a copy.

        Raises:
            DatasetError: There is no such split.
            SlipformError: There is no such sample.
            SampleError: The bytes of the sample are damaged.
        """
        from slipform.pipelines.decoding.preload import decode_one

        return decode_one(self.beton(split), self._checked(split, index))

    def label(self, split: str, index: int) -> int:
        """The label of a sample, or one of its labels; see `targets`.

        Args:
            split: One of `splits`.
            index: Position in the split, from 0.

        Returns:
            A position in `classes`. With several labels: the first of them, or 0 if there is none.
            With shares of classes: the class with the largest share.

        Raises:
            DatasetError: There is no such split.
            SlipformError: There is no such sample.
        """
        return int(self.beton(split).labels[self._checked(split, index)])

    def targets(self, split: str, index: int) -> npt.NDArray[np.float32]:
        """The labels of a sample as numbers in 0..1.

        Args:
            split: One of `splits`.
            index: Position in the split, from 0.

        Returns:
            float32 [C]: 1 for each of its labels and 0 for other classes, or its shares.

        Raises:
            DatasetError: There is no such split, or its table of labels is damaged.
            SlipformError: There is no such sample.
        """
        index = self._checked(split, index)
        if split not in self._tables:
            self._tables[split] = open_table(self.folder, self.manifest, split)
        table = self._tables[split]
        if table is not None:
            return table.targets([index], len(self.classes))[0]
        out = np.zeros(len(self.classes), np.float32)
        out[self.label(split, index)] = 1
        return out

    def _checked(self, split: str, index: int) -> int:
        count = len(self.beton(split))
        if not 0 <= index < count:
            raise SlipformError(f'"{split}" has samples 0 to {count - 1}, there is no {index}')
        return int(index)


def open_dataset(folder: Path | str) -> Dataset:
    """Open a dataset folder that `prep` wrote.

    Args:
        folder: The dataset folder, or its URL in an object store: "s3://bucket/data".

    Returns:
        The Dataset: classes, splits, images and labels.

    Raises:
        DatasetError: The folder is not a dataset, or is damaged.
        StorageError: The object store cannot be read.

    Example:
        ```python
        import slipform as sf

        data = sf.open_dataset("data/shapes")
        image, label = data.image("train", 0), data.label("train", 0)
        assert image.dtype == "uint8" and image.ndim == 3
        print(data, data.classes[label])
        ```
    """
    return Dataset(folder)
