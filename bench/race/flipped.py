"""A copy of a dataset in which some labels are wrong on purpose.

In: a dataset folder, a share of its training images. Out: another folder, whose manifest fits its
files, and the images with a wrong label.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from slipform.pipelines.beton import Beton
from slipform.pipelines.beton_format import DESCRIPTOR, HEADER, metadata_type
from slipform.pipelines.checksums import index_sha256
from slipform.pipelines.errors import ConfigError
from slipform.pipelines.manifest import FILE_NAME, read_manifest, write_manifest

__all__ = ["flip_labels"]


def flip_labels(data: Path, out: Path, share: float, seed: int = 0) -> npt.NDArray[np.int64]:
    """Copy a dataset, and give some training images the label of another class.

    The images, and the class that each of them gets, are drawn uniformly.

    Args:
        data: The dataset folder; its images have one label.
        out: The new folder; an older one is replaced.
        share: The share of the training images, 0..1.
        seed: The seed of the draws.

    Returns:
        int64 [n], the images with a wrong label, sorted.

    Raises:
        ConfigError: Images have several labels, there is one class only, the train split has
            shards, or the share is less than one image.
    """
    manifest = read_manifest(data)
    if manifest.labels != "single" or manifest.num_classes < 2:
        raise ConfigError(f"{data}: give a dataset with several classes and one label an image")
    info = manifest.split("train")
    if info.shards:
        raise ConfigError(
            f"{data} has {len(info.shards)} shards of train. Give a dataset that prep wrote"
            " without --shard."
        )
    count = round(share * info.num_samples)
    if not count:
        raise ConfigError(f"{share} of {info.num_samples} images is less than one: give more")
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(data, out)
    (out / FILE_NAME).unlink()  # the folder is a dataset again when it is complete
    path = out / info.file
    before = Beton(path)
    draws = np.random.default_rng(seed)
    wrong = np.sort(draws.choice(len(before), count, replace=False))
    labels = before.labels.copy()
    labels[wrong] += draws.integers(1, manifest.num_classes, len(wrong))
    labels %= manifest.num_classes
    crc32 = before.read_crc32()
    del before
    _write_labels(path, labels)
    assert np.array_equal(Beton(path).labels, labels)
    with open(path, "rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    changed = info.model_copy(
        update={
            "sha256": sha256,
            "index_sha256": index_sha256(labels, crc32),
            "counts": np.bincount(labels, minlength=manifest.num_classes).tolist(),
        }
    )
    splits = {**manifest.splits, "train": changed}
    write_manifest(out, manifest.model_copy(update={"splits": splits}))
    return wrong


def _write_labels(path: Path, labels: npt.NDArray[np.int64]) -> None:
    """Write labels into a beton, whose other bytes stay."""
    data = np.memmap(path, np.uint8, "r+")
    num_fields = int(data[: HEADER.itemsize].view(HEADER)[0]["num_fields"])
    start = HEADER.itemsize + num_fields * DESCRIPTOR.itemsize
    fields = [int(t) for t in data[HEADER.itemsize : start].view(DESCRIPTOR)["type_id"]]
    layout = metadata_type(fields)
    data[start : start + len(labels) * layout.itemsize].view(layout)["label"] = labels
    data.flush()
